//! Scheduling by its effects: who runs, where, for how long, and what the kernel counts of it.
//! What single calls answer is in `task::scheduling`, affinity has a suite of its own.

mod balance;
mod calls;
mod counters;
mod home;
mod latency;
mod places;
mod sharing;
mod storm;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use libc::{SCHED_FIFO, SCHED_OTHER};

use crate::harness::Test;
use crate::sys::{self, sys};

pub const GROUPS: &[&[Test]] = &[
    calls::TESTS,
    sharing::TESTS,
    balance::TESTS,
    places::TESTS,
    home::TESTS,
    counters::TESTS,
    latency::TESTS,
    storm::TESTS,
];

/// Gives a task a policy and priority.
pub fn set_class(pid: i32, class: i32, priority: i32) -> sys::Result<usize> {
    sys!(libc::SYS_sched_setscheduler, pid, class, &raw const priority)
}

/// Above everything that a test starts: what it is to decide waits for nobody.
fn take_charge() {
    set_class(0, SCHED_FIFO, 90).unwrap();
}

/// Undoes [`take_charge`].
fn be_ordinary() {
    set_class(0, SCHED_OTHER, 0).unwrap();
}

fn sleep(nanos: u64) {
    let pause = sys::timespec(nanos);
    let _ = sys!(libc::SYS_nanosleep, &raw const pause, 0);
}

/// Spins until a word has this value.
fn spin_until(word: &AtomicU32, value: u32) {
    while word.load(SeqCst) != value {
        std::hint::spin_loop();
    }
}
