//! System calls without a library between: words in, the raw result (minus an errno) out.
//!
//! Safe to name although they reach the whole machine: a fuzzer's process is made to be damaged.

use std::arch::asm;

/// `sys!(number, arguments...)`: the raw call, each argument as a machine word.
macro_rules! sys {
    ($nr:expr $(, $arg:expr)* $(,)?) => {
        $crate::sys::call_with($nr as i64, &[$($crate::sys::Word::word($arg)),*])
    };
}
pub(crate) use sys;

/// What goes into a register: integers with their sign, pointers as addresses.
pub trait Word {
    fn word(self) -> u64;
}

macro_rules! words {
    ($($kind:ty),*) => { $(impl Word for $kind {
        fn word(self) -> u64 {
            self as u64
        }
    })* };
}
words!(i32, u32, i64, u64, usize);

impl<T> Word for *const T {
    fn word(self) -> u64 {
        self.expose_provenance() as u64
    }
}

impl<T> Word for *mut T {
    fn word(self) -> u64 {
        self.expose_provenance() as u64
    }
}

pub fn call_with(nr: i64, words: &[u64]) -> i64 {
    let mut registers = [0; 6];
    registers[..words.len()].copy_from_slice(words);
    call(nr, registers)
}

pub fn call(nr: i64, w: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11. What the call does to memory is
    // the caller's affair, see the module's first lines.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => result,
            in("rdi") w[0], in("rsi") w[1], in("rdx") w[2],
            in("r10") w[3], in("r8") w[4], in("r9") w[5],
            out("rcx") _, out("r11") _,
            options(nostack)
        );
    }
    result
}

/// True for what stands for an errno.
pub fn failed(result: i64) -> bool {
    (-4095..0).contains(&result)
}

pub fn exit_group(code: i32) -> ! {
    loop {
        sys!(libc::SYS_exit_group, code);
    }
}

/// Waits while `*word == value`, at most `millis`.
pub fn futex_wait(word: &std::sync::atomic::AtomicU32, value: u32, millis: u64) -> i64 {
    let time = libc::timespec {
        tv_sec: (millis / 1000) as i64,
        tv_nsec: (millis % 1000 * 1_000_000) as i64,
    };
    sys!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time, 0, 0)
}

pub fn futex_wake(word: &std::sync::atomic::AtomicU32) {
    sys!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX, 0, 0, 0);
}

/// Restricts a thread (0: the caller) to one CPU.
pub fn pin(tid: i32, cpu: u64) -> i64 {
    let mut mask = [0u64; 16];
    if cpu >= 1024 {
        return -i64::from(libc::EINVAL);
    }
    mask[(cpu / 64) as usize] = 1 << (cpu % 64);
    sys!(libc::SYS_sched_setaffinity, tid, size_of_val(&mask), mask.as_ptr())
}

/// A child that shares nothing, and is the caller's parent's where `sibling`; 0 in the child.
pub fn fork(sibling: bool) -> i64 {
    let flags = libc::SIGCHLD | if sibling { libc::CLONE_PARENT } else { 0 };
    sys!(libc::SYS_clone, flags, 0, 0, 0, 0)
}
