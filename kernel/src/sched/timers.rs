//! One-shot timers: per CPU, ordered by deadline, on top of the CPU's one hardware timer.
//!
//! An idle CPU without timers takes no timer interrupt at all. What is to be done in task context
//! stays in its CPU's tree until the worker takes it from there, so that any number of timers that
//! expire at one moment need no other list.

use crate::task::TaskRef;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::percpu;
use numa::{CpuId, MAX_CPUS};
use sync::{IrqLock, Notify};

/// What happens when a timer expires (in interrupt context).
pub enum Action {
    Wake(TaskRef),
    /// A sample of a performance event's clock is due.
    Perf(Arc<crate::perf::event::Event>),
    /// Groups of performance events take turns.
    PerfTick,
    /// A counter of the software model may have overflowed.
    Model,
}

/// Names a timer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    cpu: CpuId,
    deadline: u64,
    serial: u64,
    deferred: bool,
}

#[repr(align(64))]
struct PerCpu {
    queue: IrqLock<Queue>,
}

/// By deadline, and by number among those of one.
type Tree<T> = BTreeMap<(u64, u64), T>;

struct Queue {
    timers: Tree<Action>,
    /// What the worker does.
    deferred: Tree<Arc<dyn Notify>>,
    /// The first deadline there of which the worker is not told yet; u64::MAX for none.
    next_deferred: u64,
    /// When the scheduler wants to look, in monotonic nanoseconds.
    tick: u64,
    /// What the hardware is set to; u64::MAX for nothing.
    armed: u64,
}

static CPUS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        queue: IrqLock::new(Queue {
            timers: BTreeMap::new(),
            deferred: BTreeMap::new(),
            next_deferred: u64::MAX,
            tick: u64::MAX,
            armed: u64::MAX,
        }),
    }
}; MAX_CPUS];
static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Queue {
    fn first_timer(&self) -> u64 {
        self.timers.keys().next().map_or(u64::MAX, |key| key.0)
    }

    /// True when the worker is to be told that some are due.
    fn tells_worker(&mut self, now: u64) -> bool {
        let due = self.next_deferred <= now;
        if due {
            let mut later = self.deferred.range((now + 1, 0)..);
            self.next_deferred = later.next().map_or(u64::MAX, |(key, _)| key.0);
        }
        due
    }

    fn program(&mut self, now: u64) {
        let first = self.first_timer().min(self.next_deferred).min(self.tick);
        if first == self.armed {
            return;
        }
        self.armed = first;
        if first == u64::MAX {
            hal::apic::disarm_timer();
        } else {
            hal::apic::arm_timer(hal::time::tsc_at(first), first.saturating_sub(now));
        }
    }
}

/// What a CPU's clock is set to, in monotonic nanoseconds; u64::MAX for nothing.
pub struct State {
    pub timers: usize,
    pub first: u64,
    pub tick: u64,
    pub armed: u64,
}

/// Looks at a CPU's timers; None while somebody holds them.
pub fn state(cpu: CpuId) -> Option<State> {
    let queue = CPUS[cpu.index()].queue.try_lock()?;
    Some(State {
        timers: queue.timers.len() + queue.deferred.len(),
        first: queue.first_timer().min(queue.next_deferred),
        tick: queue.tick,
        armed: queue.armed,
    })
}

/// Sets a timer of this CPU: `enter` puts it into the queue.
#[inline(always)]
fn set(deadline: u64, deferred: bool, enter: impl FnOnce(&mut Queue, (u64, u64))) -> TimerId {
    let _stay = hal::preempt::PreemptGuard::new();
    let cpu = percpu::cpu();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut queue = CPUS[cpu.index()].queue.lock();
    enter(&mut queue, (deadline, serial));
    queue.program(hal::time::now());
    TimerId { cpu, deadline, serial, deferred }
}

/// Sets a timer of this CPU for monotonic time `deadline` (ns).
pub fn arm(deadline: u64, action: Action) -> TimerId {
    set(deadline, false, |queue, key| drop(queue.timers.insert(key, action)))
}

/// As [`arm`], for `target`, which the worker notifies.
pub fn arm_deferred(deadline: u64, target: Arc<dyn Notify>) -> TimerId {
    set(deadline, true, |queue, key| {
        queue.deferred.insert(key, target);
        queue.next_deferred = queue.next_deferred.min(deadline);
    })
}

/// Cancels a timer; true when it had not expired yet.
pub fn cancel(timer: TimerId) -> bool {
    // Its CPU finds nothing to do when the hardware fires; programming another CPU's hardware is
    // not possible from here.
    let mut queue = CPUS[timer.cpu.index()].queue.lock();
    let key = (timer.deadline, timer.serial);
    if timer.deferred {
        let removed = queue.deferred.remove(&key);
        drop(queue);
        removed.is_some()
    } else {
        let removed = queue.timers.remove(&key);
        drop(queue);
        removed.is_some()
    }
}

/// Takes one that is due on `cpu`, for the worker.
pub fn take_due(cpu: CpuId) -> Option<Arc<dyn Notify>> {
    let now = hal::time::now();
    let mut queue = CPUS[cpu.index()].queue.lock();
    queue.deferred.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove())
}

/// The scheduler wants a tick `after` nanoseconds from `now` (None: not at all).
pub fn arm_tick(after: Option<u64>, now: u64) {
    let mut queue = CPUS[percpu::cpu().index()].queue.lock();
    queue.tick = after.map_or(u64::MAX, |ns| now.saturating_add(ns));
    queue.program(now);
}

/// The hardware timer fired (interrupts off).
pub fn on_interrupt() {
    let cpu = percpu::cpu();
    let now = hal::time::now();
    loop {
        let due = {
            let mut queue = CPUS[cpu.index()].queue.lock();
            queue.armed = u64::MAX;
            let first = queue.timers.first_entry().filter(|e| e.key().0 <= now).map(|e| e.remove());
            if first.is_none() {
                let tick = queue.tick <= now;
                if tick {
                    queue.tick = u64::MAX;
                }
                let deferred = queue.tells_worker(now);
                queue.program(now);
                drop(queue);
                if deferred {
                    crate::time::worker::timers_due(cpu);
                }
                if tick {
                    super::tick();
                }
                return;
            }
            first
        };
        match due {
            Some(Action::Wake(task)) => {
                super::wake(&task);
            }
            Some(Action::Perf(event)) => crate::perf::context::timer_fired(&event),
            Some(Action::PerfTick) => crate::perf::tick(),
            Some(Action::Model) => crate::perf::model::timer_fired(),
            None => {}
        }
    }
}
