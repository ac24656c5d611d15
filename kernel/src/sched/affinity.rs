//! sched_setaffinity(2): the mask, and making it true before the call returns.

use super::wake::{enqueue, wish};
use super::{Hints, balance, cpu, domains, reschedule};
use crate::task::{TaskRef, current};
use ::sched::{Enqueue, Evicted};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::preempt::PreemptGuard;
use numa::CpuMask;

/// The CPUs that `task` may use.
pub fn get(task: &TaskRef) -> CpuMask {
    *task.affinity.lock()
}

/// sched_setaffinity(2): restricts `task` to those CPUs of `mask` that its cpuset has (EINVAL when it
/// has none of them). The mask is remembered: it counts again when the cpuset changes.
pub fn set_asked(task: &TaskRef, mask: CpuMask) -> Result<()> {
    if task.cgroup.load(Ordering::Relaxed) == ::cgroup::ROOT {
        set(task, mask)?;
        *task.asked_affinity.lock() = Some(mask);
        // Unless it was moved meanwhile: whoever moved it has not seen this mask.
        if task.cgroup.load(Ordering::Relaxed) == ::cgroup::ROOT {
            return Ok(());
        }
    }
    let mut allowed = crate::cgroup::cpuset::cpus_allowed(task);
    loop {
        let within = allowed.map_or(mask, |allowed| mask & allowed);
        let present = crate::boot::cpus::online();
        if !within.intersects(&present) {
            return Err(Errno::EINVAL);
        }
        *task.asked_affinity.lock() = Some(mask);
        set(task, within)?;
        // The cpuset may have changed since: whoever changed it has not seen this mask.
        let now = crate::cgroup::cpuset::cpus_allowed(task);
        if now == allowed {
            return Ok(());
        }
        allowed = now;
        if let Some(cpus) = now
            && !mask.intersects(&cpus)
        {
            set(task, cpus)?;
            return Err(Errno::EINVAL);
        }
    }
}

/// Restricts `task` to its cpuset's `cpus`, and among them to those that its user asked for, if there
/// is any.
pub fn confine(task: &TaskRef, cpus: CpuMask) {
    let asked = *task.asked_affinity.lock();
    let within = asked.map(|asked| asked & cpus).filter(|mask| !mask.is_empty());
    // A cpuset has at least one CPU that is there.
    let _done = set(task, within.unwrap_or(cpus));
}

/// Restricts `task` to `mask`, of which only CPUs that are there count (EINVAL when none is). When
/// this returns the task runs, or waits, on a CPU of the mask, unless another call has replaced it.
pub fn set(task: &TaskRef, mask: CpuMask) -> Result<()> {
    let mask = mask & crate::boot::cpus::online();
    if mask.is_empty() {
        return Err(Errno::EINVAL);
    }
    // Before the look at where it is, see `RunState::lock_allowed_queue`.
    let before = core::mem::replace(&mut *task.affinity.lock(), mask);
    let myself = core::ptr::eq(&*current(), &**task);
    let mut stayed = true;
    loop {
        // While it is in this task's hands it is on no queue: whoever looks for it spins until it is
        // on one, and must not do so on this CPU in this task's place.
        let hands = PreemptGuard::new();
        let take = |at, off: &dyn Fn() -> bool| {
            let there = cpu(at).filter(|_| !myself)?;
            let mut queue = there.queue.lock();
            let taken = if off() { queue.ready.remove(task, hal::time::now()) } else { None }?;
            there.publish(&queue);
            Some(taken)
        };
        let asleep = || !myself && task.entity.lock().is_some();
        let evicted = task.run_state.evict(|at| mask.contains(at), take, asleep);
        if let Evicted::Taken((task, entity)) = evicted {
            let id = domains().for_forced_migration(&Hints, &wish(&task, entity.params()));
            enqueue(id, task, entity, Enqueue::Move);
            return Ok(());
        }
        drop(hands);
        match evicted {
            Evicted::There(at) => {
                balance::offer_from(at);
                if stayed && !(mask - before).is_empty() {
                    // It may be allowed now to go where its memory is: the switch looks.
                    reschedule(at);
                }
                return Ok(());
            }
            Evicted::Asleep | Evicted::Taken(_) => return Ok(()),
            Evicted::NotYet(_) if *task.affinity.lock() != mask => {
                // Another call came after this one, and sees to it that its own mask is obeyed.
                return Ok(());
            }
            Evicted::NotYet(_) if myself => {
                // The switch sends a task away that may not stay.
                super::schedule();
                stayed = false;
            }
            Evicted::NotYet(at) => {
                stayed = false;
                // It runs there: have it switch, and see it gone.
                reschedule(at);
                core::hint::spin_loop();
                super::yield_now();
            }
        }
    }
}
