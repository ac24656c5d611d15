//! System calls without a library between: numbers and words in, words or errno out.
//!
//! The functions are safe to name but reach the whole machine: a wrong address given to the kernel
//! damages only the forked child in which a test runs, and that is a failed test.

use std::arch::asm;
use std::ffi::CString;
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

pub type Result<T> = std::result::Result<T, Errno>;

/// `sys!(number, arguments...)`: the raw call, each argument as a machine word.
macro_rules! sys {
    ($nr:expr $(, $arg:expr)* $(,)?) => {
        $crate::sys::call_with($nr as i64, &[$($crate::sys::Word::word($arg)),*])
    };
}
pub(crate) use sys;

/// What goes into a register: integers with their sign, pointers as addresses.
pub trait Word {
    fn word(self) -> usize;
}

macro_rules! words {
    ($($kind:ty),*) => { $(impl Word for $kind {
        fn word(self) -> usize {
            self as usize
        }
    })* };
}
words!(i32, u32, i64, u64, usize);

impl<T> Word for *const T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Word for *mut T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

pub fn call_with(nr: i64, words: &[usize]) -> Result<usize> {
    let mut registers = [0; 6];
    registers[..words.len()].copy_from_slice(words);
    call(nr, registers)
}

pub fn call(nr: i64, w: [usize; 6]) -> Result<usize> {
    let result: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11. What the call does to memory is
    // the caller's affair, see the module's first lines.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr as isize => result,
            in("rdi") w[0], in("rsi") w[1], in("rdx") w[2],
            in("r10") w[3], in("r8") w[4], in("r9") w[5],
            out("rcx") _, out("r11") _,
            options(nostack)
        );
    }
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// Asserts that a call fails, and how.
#[track_caller]
pub fn fails<T: fmt::Debug>(result: Result<T>, errno: i32) {
    match result {
        Ok(value) => panic!("{value:?} instead of {}", Errno(errno)),
        Err(error) => assert!(error.0 == errno, "{error} instead of {}", Errno(errno)),
    }
}

pub fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL in the text")
}

/// The library's fork, which keeps its own state in order; 0 in the child.
pub fn fork() -> Result<i32> {
    // SAFETY: children of tests use nothing that another thread could hold.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(last()) } else { Ok(pid) }
}

pub fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

pub fn exit_group(code: i32) -> ! {
    loop {
        let _ = sys!(libc::SYS_exit_group, code);
    }
}

/// The status word of one child.
pub fn wait_for(pid: i32) -> Result<i32> {
    let mut status = 0i32;
    sys!(libc::SYS_wait4, pid, &raw mut status, 0, 0).map(|_| status)
}

pub fn pipe() -> Result<(i32, i32)> {
    pipe_with(0)
}

pub fn pipe_with(flags: i32) -> Result<(i32, i32)> {
    let mut ends = [0i32; 2];
    sys!(libc::SYS_pipe2, ends.as_mut_ptr(), flags).map(|_| (ends[0], ends[1]))
}

pub fn read(fd: i32, to: &mut [u8]) -> Result<usize> {
    sys!(libc::SYS_read, fd, to.as_mut_ptr(), to.len())
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    sys!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len())
}

pub fn close(fd: i32) {
    sys!(libc::SYS_close, fd).unwrap();
}

pub fn open(path: &str, flags: i32, mode: u32) -> Result<i32> {
    let path = c(path);
    sys!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode).map(|fd| fd as i32)
}

pub fn getpid() -> i32 {
    sys!(libc::SYS_getpid).unwrap() as i32
}

pub fn gettid() -> i32 {
    sys!(libc::SYS_gettid).unwrap() as i32
}

pub fn kill(pid: i32, signal: i32) -> Result<usize> {
    sys!(libc::SYS_kill, pid, signal)
}

/// A handler without SA_RESTART.
pub fn on_signal(signal: i32, handler: extern "C" fn(i32)) {
    on_signal_with(signal, handler as *const () as usize, 0);
}

pub fn on_signal_with(signal: i32, handler: usize, flags: i32) {
    // SAFETY: all zeroes is a valid sigaction, and the library adds the restorer.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    assert_eq!(result, 0, "sigaction({signal}): {}", last());
}

/// A plain structure of the ABI, all zeroes.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: used for C structures of integers and pointers only, for which zeroes are valid.
    unsafe { std::mem::zeroed() }
}

/// Nanoseconds of a clock.
pub fn clock(id: i32) -> u64 {
    let mut time: libc::timespec = zeroed();
    sys!(libc::SYS_clock_gettime, id, &raw mut time).unwrap();
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

pub fn timespec(nanos: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}
