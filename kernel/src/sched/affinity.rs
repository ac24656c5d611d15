//! sched_setaffinity(2): the mask, and making it true before the call returns.

use super::wake::{enqueue, wish};
use super::{Hints, balance, cpu, domains, reschedule};
use crate::task::{TaskRef, current};
use ::sched::Enqueue;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use numa::CpuMask;

/// The CPUs that `task` may use.
pub fn get(task: &TaskRef) -> CpuMask {
    *task.affinity.lock()
}

/// Restricts `task` to `mask`, of which only CPUs that are there count (EINVAL when none is). When
/// this returns the task runs, or waits, on a CPU of the mask, unless another call has replaced it.
pub fn set(task: &TaskRef, mask: CpuMask) -> Result<()> {
    let mask = mask & crate::boot::cpus::online();
    if mask.is_empty() {
        return Err(Errno::EINVAL);
    }
    // Before the look at where it is, see `enqueue`.
    *task.affinity.lock() = mask;
    loop {
        let at = task.last_cpu();
        if mask.contains(at) {
            balance::offer_from(at);
            return Ok(());
        }
        if *task.affinity.lock() != mask {
            // Another call came after this one, and sees to it that its own mask is obeyed.
            return Ok(());
        }
        if core::ptr::eq(&*current(), &**task) {
            // The switch sends a task away that may not stay.
            super::schedule();
            continue;
        }
        if let Some(there) = cpu(at) {
            let mut queue = there.queue.lock();
            // One that was preempted waits already while its CPU still stands on its stack: it
            // must not come to another queue before that is over.
            if !task.on_cpu.load(Ordering::Acquire)
                && let Some((task, entity)) = queue.ready.remove(task, hal::time::now())
            {
                there.publish(&queue);
                drop(queue);
                let id = domains().for_exile(&Hints, &wish(&task, entity.params()));
                enqueue(id, task, entity, Enqueue::Move);
                return Ok(());
            }
        }
        if task.entity.lock().is_some() && !task.on_cpu.load(Ordering::Acquire) {
            // Asleep: it wakes on a CPU of the mask.
            return Ok(());
        }
        // It runs there: have it switch, and see it gone.
        reschedule(at);
        core::hint::spin_loop();
        super::yield_now();
    }
}
