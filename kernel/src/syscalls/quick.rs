//! Quick system calls: functions of their arguments and the running task alone, called straight
//! from the entry (`hal::syscall`).
//!
//! What they save is the accounting of kernel time at every call (it counts as user time unless
//! something is pending) and the general way in and out. They may fault on user memory, sleep and
//! be preempted like any call; they may not look at the frame, and they are never restarted.

use super::{IntoRet, numa, process};
use crate::task::{Current, current};
use abi::Result;
use abi::raw::general as g;
use core::sync::atomic::Ordering;
use hal::VirtAddr;
use hal::syscall::{Answer, set_quick};

/// What the program gets, with interrupts off from here to user mode unless something is pending.
#[inline(always)]
fn answer<T: IntoRet>(task: Current, result: Result<T>) -> Answer {
    let value = match result {
        Ok(value) => value.into_ret(),
        Err(error) => error.to_ret(),
    };
    hal::irq::disable();
    let attention = task.signals.attention.load(Ordering::Acquire) != 0;
    let pending = attention || hal::percpu::preempt_state().1;
    if pending {
        crate::sched::charge_kernel(&task);
    }
    Answer { value, pending: u64::from(pending) }
}

/// `quick!(number: task, a, b => expression)` makes the call with the first arguments as named.
macro_rules! quick {
    ($number:ident: $task:ident => $body:expr) => {
        quick!($number: $task, _a, _b, _c, _d, _e => $body)
    };
    ($number:ident: $task:ident, $a:pat, $b:pat, $c:pat, $d:pat, $e:pat => $body:expr) => {{
        extern "C" fn call(a: u64, b: u64, c: u64, d: u64, e: u64, _f: u64) -> Answer {
            let $task = current();
            let ($a, $b, $c, $d, $e) = (a, b, c, d, e);
            answer($task, $body)
        }
        set_quick(g::$number as usize, call);
    }};
}

/// Registers them.
pub fn init() {
    quick!(__NR_getpid: task => Ok(task.pid()));
    quick!(__NR_gettid: task => Ok(task.tid()));
    quick!(__NR_getppid: task => Ok(task.process.ppid()));
    quick!(__NR_getuid: task => Ok(task.creds.lock().uid));
    quick!(__NR_geteuid: task => Ok(task.creds.lock().euid));
    quick!(__NR_getgid: task => Ok(task.creds.lock().gid));
    quick!(__NR_getegid: task => Ok(task.creds.lock().egid));
    quick!(__NR_getcpu: task, cpu, node, _, _, _ =>
        process::tell_cpu(VirtAddr::new(cpu), VirtAddr::new(node)));
    quick!(__NR_get_mempolicy: task, policy, mask, maxnode, addr, flags =>
        numa::tell_policy(task, VirtAddr::new(policy), VirtAddr::new(mask), maxnode, addr, flags));
}
