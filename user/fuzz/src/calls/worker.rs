//! A worker's life: descriptors and memory to work on, then call after call.

use std::arch::asm;
use std::sync::atomic::Ordering::Relaxed;

use super::maker::{BUFFER, Maker};
use super::{Counter, LIFE};
use crate::arena::{self, PAGE};
use crate::random::Random;
use crate::sys::{self, sys};

/// Where the descriptor of [`Failing`] is: calls are given small ones.
const HIGH: i64 = 1000;
/// Allocations of a call that fail in turn, at most: more are rarely made.
const LAST: u64 = 24;

/// A worker's life. `failing`: each call's allocations fail in turn.
pub fn work(seed: u64, counter: &Counter, null: i32, failing: bool) -> ! {
    sys!(libc::SYS_setsid);
    sys!(libc::SYS_chdir, c"/tmp/f".as_ptr());
    for fd in 0..3 {
        sys!(libc::SYS_dup2, null, fd);
    }
    let mut random = Random::new(seed);
    random.word();
    let buffer = vec![0u64; BUFFER / 8].into_boxed_slice().try_into();
    let Ok(buffer) = buffer else { sys::exit_group(1) };
    let own = sys!(libc::SYS_getpid) as u64;
    let tracee = tracee();
    let mut maker = Maker { random, buffer, own, tracee };
    furnish(&mut maker.random);
    let failing = failing.then(Failing::open);
    for call in 0..LIFE {
        if call % 256 == 0 {
            maker.refill();
        }
        let (number, words) = maker.call();
        let Some(failing) = &failing else {
            counter.made.fetch_add(1, Relaxed);
            one(number, words);
            continue;
        };
        // The same call again for as long as it comes to one more allocation.
        for nth in 1..=LAST {
            counter.made.fetch_add(1, Relaxed);
            failing.arm(nth);
            one(number, words);
            if !failing.has_failed() {
                break;
            }
            counter.failed.fetch_add(1, Relaxed);
        }
    }
    sys::exit_group(0)
}

/// The worker's own file of fault injection, as long as no call has closed it.
struct Failing(i64);

impl Failing {
    fn open() -> Self {
        let name = c"/proc/thread-self/fail-nth";
        let fd = sys!(libc::SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDWR);
        let high = sys!(libc::SYS_fcntl, fd, libc::F_DUPFD, HIGH);
        sys!(libc::SYS_close, fd);
        Self(high)
    }

    /// Makes the `nth` allocation from now on fail.
    fn arm(&self, nth: u64) {
        let digits = [b'0' + (nth / 10) as u8, b'0' + (nth % 10) as u8];
        sys!(libc::SYS_pwrite64, self.0, digits.as_ptr(), digits.len(), 0);
    }

    /// Says whether the allocation has been made, and has failed.
    fn has_failed(&self) -> bool {
        let mut text = *b"\0\0\0\0";
        let length = sys!(libc::SYS_pread64, self.0, text.as_mut_ptr(), text.len(), 0);
        length > 0 && text[0] == b'0'
    }
}

/// Descriptors and memory to work on, and now and then no privilege.
fn furnish(random: &mut Random) {
    let mut pair = [0i32; 2];
    sys!(libc::SYS_pipe2, pair.as_mut_ptr(), libc::O_NONBLOCK);
    sys!(libc::SYS_socketpair, 1, 1 | libc::SOCK_NONBLOCK, 0, pair.as_mut_ptr());
    connection(&mut pair);
    sys!(libc::SYS_socket, libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0);
    sys!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0);
    sys!(libc::SYS_eventfd2, 0, libc::EFD_NONBLOCK);
    sys!(libc::SYS_epoll_create1, 0);
    sys!(libc::SYS_timerfd_create, 1, libc::O_NONBLOCK);
    sys!(libc::SYS_memfd_create, c"calls".as_ptr(), 2);
    let flags = libc::O_RDWR | libc::O_CREAT;
    sys!(libc::SYS_openat, libc::AT_FDCWD, c"/tmp/f/a".as_ptr(), flags, 0o666);
    sys!(libc::SYS_openat, libc::AT_FDCWD, c"/tmp/f".as_ptr(), libc::O_RDONLY, 0);
    for region in 0..4 {
        let kind = if region % 2 == 0 { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
        let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        sys!(libc::SYS_mmap, arena::at(region, 0), 32 * PAGE, 3, flags, -1, 0);
    }
    if random.chance(1, 3) {
        sys!(libc::SYS_setresgid, 1000, 1000, 1000);
        sys!(libc::SYS_setresuid, 1000, 1000, 1000);
    }
}

/// A child that this worker traces, in its first stop. It makes no call of its own: whatever its
/// registers are set to, it traps.
fn tracee() -> u64 {
    let pid = sys::fork(false);
    if pid == 0 {
        sys!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0);
        loop {
            // SAFETY: a trap, for the tracer or as the child's end.
            unsafe { asm!("int3") };
        }
    }
    if pid < 0 {
        return 0;
    }
    sys!(libc::SYS_wait4, pid, 0, libc::__WALL, 0);
    sys!(libc::SYS_ptrace, libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL);
    pid as u64
}

/// A listener of the loopback with a connection that it has accepted: three descriptors.
fn connection(scratch: &mut [i32; 2]) {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    let listener = sys!(libc::SYS_socket, libc::AF_INET, kind, 0);
    sys!(libc::SYS_listen, listener, 4);
    // `struct sockaddr_in`: what the kernel has chosen.
    let mut address = [0u32; 4];
    scratch[0] = 16;
    sys!(libc::SYS_getsockname, listener, address.as_mut_ptr(), scratch.as_mut_ptr());
    let client = sys!(libc::SYS_socket, libc::AF_INET, kind, 0);
    sys!(libc::SYS_connect, client, address.as_ptr(), 16);
    sys!(libc::SYS_accept4, listener, 0, 0, libc::SOCK_NONBLOCK);
}

/// The call; a child or thread that it makes ends at once, on whatever stack it was given.
fn one(number: u64, w: [u64; 6]) {
    // SAFETY: none: the worker is made to be damaged. The stack is not touched between the call and
    // the end of a child.
    unsafe {
        asm!(
            "mov r12, rax",
            "syscall",
            "test rax, rax",
            "jnz 3f",
            // clone, fork, vfork, clone3.
            "cmp r12, 56",
            "je 2f",
            "cmp r12, 57",
            "je 2f",
            "cmp r12, 58",
            "je 2f",
            "cmp r12, 435",
            "jne 3f",
            "2:",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "3:",
            inlateout("rax") number => _,
            inlateout("rdi") w[0] => _, in("rsi") w[1], in("rdx") w[2],
            in("r10") w[3], in("r8") w[4], in("r9") w[5],
            out("rcx") _, out("r11") _, out("r12") _,
            options(nostack)
        );
    }
}
