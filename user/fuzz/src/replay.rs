//! The coordinator: starts the first worker, lays the operations down, waits until all are carried
//! out, and collects the lines. It has the turn itself where a worker has ended in its operation.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::block::{self, BATCH, shared, slot};
use crate::ops::{Kind, Op};
use crate::probe;
use crate::relay::{self, Turn};
use crate::sys::{self, failed, sys};
use crate::worker;

/// No operation takes this long.
const LIMIT: Duration = Duration::from_secs(30);
/// SIGCHLD alone, as a signal mask.
const CHILD: u64 = 1 << (libc::SIGCHLD - 1);

/// Has khugepaged sleep, which would make huge pages at a time of its own. It looks once more at once,
/// at what there is to look at: this process, before the first sequence.
fn quiet() {
    let sleep = "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs";
    let _ = std::fs::write(sleep, "4294967295");
    let bytes = 4 << 20;
    let at = sys!(libc::SYS_mmap, 0, bytes, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
    if !failed(at) {
        sys!(libc::SYS_madvise, at, bytes, libc::MADV_HUGEPAGE);
        sys!(libc::SYS_madvise, at, bytes, libc::MADV_POPULATE_WRITE);
        sys!(libc::SYS_munmap, at, bytes);
    }
}

/// Prepares the machine and this process; once, before the first sequence.
pub fn prepare() -> Result<(), String> {
    quiet();
    // One page is one page, unless a sequence says otherwise, and stays where it was put.
    sys!(libc::SYS_prctl, libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    let _ = std::fs::write("/proc/sys/kernel/numa_balancing", "0");
    if !block::create() {
        return Err("cannot make the block that workers share".into());
    }
    let result = sys::pin(0, 0);
    if failed(result) {
        return Err(format!("cannot use CPU 0: {}", crate::trace::Errno(result)));
    }
    probe::install();
    // It is waited for, never delivered.
    let child = CHILD;
    sys!(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const child, 0, 8);
    Ok(())
}

/// Carries out a sequence; `heard` gets each operation's line.
pub fn run(ops: &[Op], heard: &mut dyn FnMut(usize, &str)) {
    block::clear();
    let pid = sys::fork(false);
    if pid == 0 {
        worker::serve(0);
    }
    if !failed(pid) {
        relay::welcome(0, pid as i32);
    }
    for (batch, part) in ops.chunks(BATCH).enumerate() {
        block::lay(part);
        let over = matches!(relay::next(None), Turn::Over) || wait();
        let done = shared().at.load(SeqCst) as usize;
        (0..done).for_each(|at| heard(batch * BATCH + at, &block::line(at)));
        if !over {
            heard(batch * BATCH + done, "does not end");
            break;
        }
    }
    end();
}

/// Until all that was laid down is carried out; false when an operation does not end.
fn wait() -> bool {
    let mut at = shared().at.load(SeqCst);
    let mut since = Instant::now();
    loop {
        let time = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        let child = CHILD;
        sys!(libc::SYS_rt_sigtimedwait, &raw const child, 0, &raw const time, 8);
        let mut status = 0i32;
        loop {
            let pid = sys!(libc::SYS_wait4, -1, &raw mut status, libc::WNOHANG, 0);
            if pid <= 0 {
                break;
            }
            gone(pid as i32, status);
        }
        let now = shared().at.load(SeqCst);
        if now == shared().count.load(SeqCst) {
            return true;
        }
        if now != at {
            (at, since) = (now, Instant::now());
        } else if since.elapsed() > LIMIT {
            return false;
        }
    }
}

/// A process has ended: if it had the turn, that is its operation's line.
fn gone(pid: i32, status: i32) {
    let op = block::current().filter(|op| slot(op.worker as usize).process.load(SeqCst) == pid);
    relay::forget(pid);
    let Some(op) = op else { return };
    match (op.kind, status) {
        (Kind::Exit, 0) => relay::put("ok"),
        (_, status) if libc::WIFSIGNALED(status) => {
            relay::put(&format!("killed by signal {}", libc::WTERMSIG(status)));
        }
        (_, status) => relay::put(&format!("ended with {}", libc::WEXITSTATUS(status))),
    }
    relay::next(None);
}

fn end() {
    for slot in &shared().slots {
        match slot.process.load(SeqCst) {
            0 => {}
            pid => _ = sys!(libc::SYS_kill, pid, libc::SIGKILL),
        }
    }
    while sys!(libc::SYS_wait4, -1, 0, 0, 0) > 0 {}
    block::clear();
}

/// Splits a file of sequences: `seq NAME` begins one, operations follow a line each.
pub fn parse(text: &str) -> Result<Vec<(String, Vec<Op>)>, String> {
    let mut all: Vec<(String, Vec<Op>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix("seq ") {
            Some(name) => all.push((name.to_string(), Vec::new())),
            None => match all.last_mut() {
                Some((_, ops)) => ops.push(Op::parse(line)?),
                None => return Err(format!("{line:?} stands before the first seq line")),
            },
        }
    }
    Ok(all)
}
