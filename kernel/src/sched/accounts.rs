//! Processor time: what a task has used up to this moment, and what each CPU's tasks have.
//!
//! Tasks count in cycles of the time-stamp counter, at every change between user mode and kernel.
//! A CPU adds up what its tasks used when it switches; a task that runs on since is added by the
//! reader. What tasks did not use the CPU was idle.

use super::{cpu, running_on};
use crate::task::{Task, TaskRef};
use ::sched::{Class, Nice, Params};
use core::sync::atomic::{AtomicU64, Ordering};
use numa::CpuId;

/// What tasks have used of one CPU up to its last switch, in cycles. Written by that CPU only.
pub struct Accounts {
    user: AtomicU64,
    /// User time of tasks with a nice value above 0.
    nice: AtomicU64,
    system: AtomicU64,
    /// What the running task had used before it was switched to.
    before: [AtomicU64; 2],
}

/// A CPU's time since boot, in cycles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub user: u64,
    pub nice: u64,
    pub system: u64,
    pub idle: u64,
}

/// True for a fair task that gives way to others.
pub fn is_nice(params: &Params) -> bool {
    matches!(params.class, Class::Fair { nice, .. } if nice > Nice::default())
}

fn add(counter: &AtomicU64, cycles: u64) {
    // One writer: no locked instruction is needed.
    counter.store(counter.load(Ordering::Relaxed) + cycles, Ordering::Relaxed);
}

fn counted(task: &Task) -> [u64; 2] {
    let counters = &task.counters;
    [&counters.user, &counters.system].map(|c| c.load(Ordering::Relaxed))
}

impl Accounts {
    pub(super) const fn new() -> Self {
        Self {
            user: AtomicU64::new(0),
            nice: AtomicU64::new(0),
            system: AtomicU64::new(0),
            before: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// The CPU goes from `prev` (whose time is charged) to `next`; `count`: `prev` is no idle task.
    pub(super) fn switched(&self, prev: &Task, count: bool, is_nice: bool, next: &Task) {
        if count {
            let [user, system] = counted(prev);
            let [user_before, system_before] = self.before();
            let to = if is_nice { &self.nice } else { &self.user };
            add(to, user.saturating_sub(user_before));
            add(&self.system, system.saturating_sub(system_before));
        }
        for (cell, now) in self.before.iter().zip(counted(next)) {
            cell.store(now, Ordering::Relaxed);
        }
    }

    fn before(&self) -> [u64; 2] {
        [0, 1].map(|i: usize| self.before[i].load(Ordering::Relaxed))
    }
}

/// User and system time of a task up to now, in cycles.
pub fn of_task(task: &Task) -> (u64, u64) {
    let mut found = (0, 0);
    // A task that changes mode while it is read is read again, a few times at most.
    for _ in 0..4 {
        let stamp = task.stamp.load(Ordering::Acquire);
        let [mut user, mut system] = counted(task);
        if !task.run_state.is_off_cpu() {
            let since = hal::cpu::rdtsc().saturating_sub(stamp);
            if stamp & IN_USER != 0 {
                user += since;
            } else {
                system += since;
            }
        }
        found = (user, system);
        if task.stamp.load(Ordering::Acquire) == stamp {
            break;
        }
    }
    found
}

/// A CPU's time since boot.
pub fn of_cpu(id: CpuId) -> Times {
    let Some(here) = cpu(id) else { return Times::default() };
    let accounts = &here.accounts;
    let running: Option<TaskRef> = running_on(id);
    let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
    let mut times = Times {
        user: get(&accounts.user),
        nice: get(&accounts.nice),
        system: get(&accounts.system),
        idle: 0,
    };
    if let Some(task) = running {
        let (user, system) = of_task(&task);
        let [user_before, system_before] = accounts.before();
        times.user += user.saturating_sub(user_before);
        times.system += system.saturating_sub(system_before);
    }
    let since_boot = hal::cpu::rdtsc().saturating_sub(hal::time::first_tsc());
    times.idle = since_boot.saturating_sub(times.user + times.nice + times.system);
    times
}

/// Bit of a task's stamp: since then it runs in user mode.
pub(crate) const IN_USER: u64 = 1;

/// Counts the time of the running task up to now, as user or kernel time by its stamp; `mode` is
/// how it goes on. Interrupts are off: nobody else writes these.
#[inline]
fn charge(task: &Task, mode: u64) {
    let now = hal::cpu::rdtsc();
    let since = task.stamp.load(Ordering::Relaxed);
    task.stamp.store(now & !IN_USER | mode, Ordering::Relaxed);
    let counters = &task.counters;
    let counter = if since & IN_USER != 0 { &counters.user } else { &counters.system };
    let sum = counter.load(Ordering::Relaxed) + now.saturating_sub(since);
    counter.store(sum, Ordering::Relaxed);
}

/// Counts the time of the running task up to now; it goes on in the kernel.
#[inline]
pub fn charge_kernel(task: &Task) {
    charge(task, 0);
}

/// As [`charge_kernel`]: the task is about to enter user mode.
#[inline]
pub fn charge_return(task: &Task) {
    charge(task, IN_USER);
}
