//! Child processes and threads of tests, pinned where wanted, in lock step where wanted.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use crate::memory::{map_shared, word};
use crate::sys::{self, sys};

/// Forks, runs `body` in the child, and gives its pid. The child ends with code 0.
#[track_caller]
pub fn spawn(body: impl FnOnce()) -> i32 {
    match sys::fork().unwrap() {
        0 => {
            body();
            sys::exit_group(0)
        }
        pid => pid,
    }
}

/// How a child ended: an exit code, or 128 + the signal that killed it.
#[track_caller]
pub fn join(pid: i32) -> i32 {
    let status = sys::wait_for(pid).unwrap();
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Runs `body` in a forked child and asserts that it ends well.
#[track_caller]
pub fn run(body: impl FnOnce()) {
    let code = join(spawn(body));
    assert_eq!(code, 0, "the child's end");
}

/// Runs `body` in a forked child; its end as [`join`] gives it.
#[track_caller]
pub fn end_of(body: impl FnOnce()) -> i32 {
    join(spawn(body))
}

/// Runs `body` in a child that answers in a word.
#[track_caller]
pub fn ask(body: impl FnOnce() -> u32) -> u32 {
    let answer = map_shared(1);
    run(|| word(answer).store(body(), SeqCst));
    word(answer).load(SeqCst)
}

/// A counter in shared memory by which processes and threads keep step.
#[derive(Clone, Copy)]
pub struct Steps(usize);

impl Steps {
    pub fn new() -> Self {
        Self(map_shared(1))
    }

    /// Declares step `n` reached.
    pub fn reach(self, n: u32) {
        word(self.0).store(n, SeqCst);
        let _ = sys!(libc::SYS_futex, self.0, libc::FUTEX_WAKE, i32::MAX, 0, 0, 0);
    }

    /// Waits until step `n` has been reached.
    pub fn await_(self, n: u32) {
        loop {
            let now = word(self.0).load(SeqCst);
            if now >= n {
                return;
            }
            let _ = sys!(libc::SYS_futex, self.0, libc::FUTEX_WAIT, now, 0, 0, 0);
        }
    }

    pub fn now(self) -> u32 {
        word(self.0).load(SeqCst)
    }
}

/// Restricts the calling thread to one CPU.
#[track_caller]
pub fn pin(cpu: usize) {
    let mut mask = [0u64; 16];
    mask[cpu / 64] = 1 << (cpu % 64);
    set_affinity(0, &mask).unwrap();
}

pub fn set_affinity(tid: i32, mask: &[u64]) -> sys::Result<usize> {
    sys!(libc::SYS_sched_setaffinity, tid, mask.len() * 8, mask.as_ptr())
}

/// The CPUs a thread may use.
#[track_caller]
pub fn affinity(tid: i32) -> Vec<usize> {
    let mut mask = [0u64; 128];
    let bytes = sys!(libc::SYS_sched_getaffinity, tid, size_of_val(&mask), mask.as_mut_ptr());
    let bits = bytes.unwrap() * 8;
    (0..bits).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect()
}

/// The CPU and node of the calling thread, by the system call.
pub fn getcpu() -> (usize, usize) {
    let (mut cpu, mut node) = (0u32, 0u32);
    sys!(libc::SYS_getcpu, &raw mut cpu, &raw mut node, 0).unwrap();
    (cpu as usize, node as usize)
}

/// Runs `body` on a thread that is pinned to a CPU.
pub fn on_cpu<T: Send>(cpu: usize, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            pin(cpu);
            body()
        });
        thread.join().expect("the thread ends well")
    })
}

/// The state letter of a process or thread, `None` when it is gone.
pub fn state_of(tid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    text[text.rfind(')')? + 1..].trim_start().chars().next()
}

/// Waits until another task sleeps in the kernel.
pub fn until_asleep(tid: i32) {
    while state_of(tid) != Some('S') {
        thread::yield_now();
    }
}
