//! setitimer(2), alarm(2): the timers that every process has, and its limit of processor time.

use super::clock::{Counted, process_time};
use super::cpu_timer::{self, LOOK};
use super::{Armed, arm};
use crate::signal::{SigInfo, send, sig};
use crate::task::process::limit;
use crate::task::{Process, TaskRef};
use alloc::sync::{Arc, Weak};
use sync::{Notify, SpinLock};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// A periodic timer sends no more often than this, ns: its signals merge anyway.
const SHORTEST: u64 = 50_000;

/// Time to the next expiration (0: none) and between those after it, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    pub value: u64,
    pub interval: u64,
}

/// One timer: when it expires next by its clock.
#[derive(Clone, Copy, Default)]
struct Interval {
    next: Option<u64>,
    interval: u64,
}

impl Interval {
    fn remaining(&self, now: u64) -> Setting {
        // What is due but not sent yet shows as the least there is, a microsecond.
        let value = self.next.map_or(0, |next| next.saturating_sub(now).max(1000));
        Setting { value, interval: self.interval }
    }

    fn set(&mut self, new: Setting, now: u64) {
        self.next = (new.value > 0).then(|| now.saturating_add(new.value));
        self.interval = new.interval;
    }

    /// True when it has expired; moves on.
    fn expire(&mut self, now: u64) -> bool {
        let Some(next) = self.next.filter(|&next| next <= now) else { return false };
        self.next = (self.interval > 0).then(|| {
            let missed = (now - next) / self.interval;
            next.saturating_add((missed + 1).saturating_mul(self.interval))
        });
        true
    }
}

/// The timers of one process.
#[derive(Default)]
pub struct Timers {
    real: SpinLock<(Interval, Armed)>,
    cpu: SpinLock<Cpu>,
}

#[derive(Default)]
struct Cpu {
    user: Interval,
    all: Interval,
    /// Seconds at which SIGXCPU is sent next; 0 while there is no limit.
    limit: u64,
    armed: Armed,
}

struct RealDue(Weak<Process>);

impl Notify for RealDue {
    fn notify(&self) {
        let Some(process) = self.0.upgrade() else { return };
        let due = process.timers.interval.real.lock().0.expire(hal::time::now());
        if due {
            send::send_kernel(&process, sig::ALRM);
        }
        arm_real(&process, hal::time::now() + SHORTEST);
    }
}

fn arm_real(process: &Arc<Process>, earliest: u64) {
    let next = process.timers.interval.real.lock().0.next;
    let armed = next.map(|at| arm(at.max(earliest), Arc::new(RealDue(Arc::downgrade(process)))));
    let old = core::mem::replace(&mut process.timers.interval.real.lock().1, armed);
    drop(old);
}

/// ITIMER_REAL: the former setting.
pub fn set_real(process: &Arc<Process>, new: Setting) -> Setting {
    let now = hal::time::now();
    let old = {
        let mut real = process.timers.interval.real.lock();
        let old = real.0.remaining(now);
        real.0.set(new, now);
        old
    };
    arm_real(process, 0);
    old
}

/// ITIMER_REAL.
pub fn real(process: &Process) -> Setting {
    process.timers.interval.real.lock().0.remaining(hal::time::now())
}

/// ITIMER_VIRTUAL (user time) and ITIMER_PROF (all): the former setting.
pub fn set_cpu(process: &Arc<Process>, counted: Counted, new: Setting) -> Setting {
    let now = process_time(process, counted);
    let old = {
        let mut cpu = process.timers.interval.cpu.lock();
        let timer = if counted == Counted::User { &mut cpu.user } else { &mut cpu.all };
        let old = timer.remaining(now);
        timer.set(new, now);
        old
    };
    arm_cpu(process);
    old
}

/// ITIMER_VIRTUAL and ITIMER_PROF.
pub fn cpu(process: &Process, counted: Counted) -> Setting {
    let now = process_time(process, counted);
    let cpu = process.timers.interval.cpu.lock();
    if counted == Counted::User { cpu.user.remaining(now) } else { cpu.all.remaining(now) }
}

/// RLIMIT_CPU was set (or inherited): `seconds`, or u64::MAX for none.
pub fn limit_cpu(process: &Arc<Process>, seconds: u64) {
    process.timers.interval.cpu.lock().limit = if seconds == u64::MAX { 0 } else { seconds.max(1) };
    arm_cpu(process);
}

struct CpuDue(Weak<Process>);

impl Notify for CpuDue {
    fn notify(&self) {
        let Some(process) = self.0.upgrade() else { return };
        let user = process_time(&process, Counted::User);
        let all = process_time(&process, Counted::All);
        let hard = process.limits.lock()[limit::CPU].1;
        let (virtual_due, prof_due, over) = {
            let mut cpu = process.timers.interval.cpu.lock();
            let over = cpu.limit > 0 && all >= cpu.limit.saturating_mul(SECOND);
            if over {
                cpu.limit = all / SECOND + 1;
            }
            (cpu.user.expire(user), cpu.all.expire(all), over)
        };
        let over_signal = if all / SECOND >= hard { sig::KILL } else { sig::XCPU };
        for (due, signal) in
            [(virtual_due, sig::VTALRM), (prof_due, sig::PROF), (over, over_signal)]
        {
            if due {
                // Signals of the kernel are never refused.
                let _ = cpu_timer::send(&process, SigInfo::kernel(signal).into());
            }
        }
        arm_cpu(&process);
    }
}

/// Has the process looked at when the nearest of its processor times can have come.
fn arm_cpu(process: &Arc<Process>) {
    let (user_at, all_at) = {
        let cpu = process.timers.interval.cpu.lock();
        let limit = if cpu.limit > 0 { cpu.limit.saturating_mul(SECOND) } else { u64::MAX };
        (cpu.user.next.unwrap_or(u64::MAX), cpu.all.next.unwrap_or(u64::MAX).min(limit))
    };
    let armed = if user_at == u64::MAX && all_at == u64::MAX {
        None
    } else {
        let left = user_at
            .saturating_sub(process_time(process, Counted::User))
            .min(all_at.saturating_sub(process_time(process, Counted::All)));
        let threads = process.place.lock().threads.len().max(1) as u64;
        let at = hal::time::now().saturating_add((left / threads).max(LOOK));
        Some(arm(at, Arc::new(CpuDue(Arc::downgrade(process)))))
    };
    let old = core::mem::replace(&mut process.timers.interval.cpu.lock().armed, armed);
    drop(old);
}

/// A new process: the limit of processor time holds from its first moment on.
pub fn on_start(first: &TaskRef) {
    let seconds = first.process.soft_limit(limit::CPU);
    if seconds != u64::MAX {
        limit_cpu(&first.process, seconds);
    }
}

/// The process ends: nothing expires any more.
pub fn forget(process: &Process) {
    let real = core::mem::take(&mut *process.timers.interval.real.lock());
    let cpu = core::mem::take(&mut *process.timers.interval.cpu.lock());
    drop((real.1, cpu.armed));
}
