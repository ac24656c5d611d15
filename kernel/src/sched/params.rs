//! A task's scheduling parameters and what was counted for it, wherever it is.

use super::{cpu, reschedule};
use crate::task::TaskRef;
use ::sched::Params;
use core::sync::atomic::Ordering;

/// A task's parameters and what was counted for it.
pub fn stats_of(task: &TaskRef) -> (::sched::Stats, Params) {
    loop {
        {
            let slot = task.entity.lock();
            if let Some(entity) = &*slot {
                return (entity.stats(), *entity.params());
            }
        }
        if let Some(here) = cpu(task.last_cpu()) {
            let mut queue = here.queue.lock();
            queue.ready.charge(hal::time::now());
            if let Some(found) = queue.ready.stats(task) {
                return found;
            }
        }
        core::hint::spin_loop();
    }
}

/// Gives a task other scheduling parameters.
pub fn set_params(task: &TaskRef, params: Params) {
    // As Linux: real-time tasks sleep exactly, others within 50 us.
    if params.class.rt_priority().is_some() {
        task.timer_slack.store(0, Ordering::Relaxed);
    } else if task.timer_slack.load(Ordering::Relaxed) == 0 {
        task.timer_slack.store(50_000, Ordering::Relaxed);
    }
    loop {
        {
            let mut slot = task.entity.lock();
            if let Some(entity) = &mut *slot {
                entity.set_params(params);
                return;
            }
        }
        let id = task.last_cpu();
        if let Some(here) = cpu(id) {
            let mut queue = here.queue.lock();
            let done = queue.ready.set_params(task, params, hal::time::now());
            here.publish(&queue);
            drop(queue);
            match done {
                Some(true) => return reschedule(id),
                Some(false) => return,
                None => {}
            }
        }
        core::hint::spin_loop();
    }
}
