//! Waking, starting and placing tasks: from "should run" to a place on a CPU's queue.

use super::{Hints, cpu, domains, look_again, reschedule};
use crate::task::{State, Task, TaskRef};
use ::sched::{Enqueue, Entity, Params};
use core::sync::atomic::Ordering;
use hal::apic::Ipi;
use hal::{cpu_area, percpu};
use numa::CpuId;

/// Puts a task on a CPU's queue; on another one's if it may not use that one any more.
pub(super) fn enqueue(mut id: CpuId, task: TaskRef, entity: Entity<TaskRef>, why: Enqueue) {
    let (cpu, mut queue, before) = loop {
        let Some(cpu) = cpu(id) else { return };
        let queue = cpu.queue.lock();
        let before = task.cpu.swap(id.index() as u32, Ordering::Relaxed);
        // The CPU is named before the mask is looked at, and sched_setaffinity writes the mask
        // before it looks where the task is: one of the two sees the other. The mask's lock
        // orders them.
        if task.affinity.lock().contains(id) {
            break (cpu, queue, before);
        }
        drop(queue);
        id = domains().for_exile(&Hints, &wish(&task, entity.params()));
    };
    let now = hal::time::now();
    if before != id.index() as u32 {
        task.counters.migrations.fetch_add(1, Ordering::Relaxed);
    }
    let preempts = queue.ready.enqueue(task, entity, why, now);
    // A running task whose slice nobody watched so far has competition now.
    let watch = queue.ready.waiting() == 1;
    cpu.publish(&queue);
    drop(queue);
    if preempts {
        reschedule(id);
    } else if watch {
        if id == percpu::cpu() {
            look_again();
        } else if let Some(area) = cpu_area::of(id) {
            hal::apic::send_ipi(area, Ipi::Reschedule);
        }
    }
}

pub(super) fn wish(task: &Task, params: &Params) -> ::sched::Wish {
    ::sched::Wish {
        allowed: *task.affinity.lock() & crate::boot::cpus::online(),
        last: task.last_cpu(),
        home: None,
        weight: params.weight(),
        priority: params.class.rt_priority().unwrap_or(0),
    }
}

/// Starts a new task.
pub fn start(task: &TaskRef) {
    let mut slot = task.entity.lock();
    let Some(entity) = slot.take() else { return };
    task.set_state(State::Runnable);
    let id = domains().for_new(&Hints, &wish(task, entity.params()));
    enqueue(id, task.clone(), entity, Enqueue::New);
}

/// Wakes a sleeping task whose state `wakes` accepts; true when it did.
pub fn wake_if(task: &TaskRef, wakes: impl Fn(State) -> bool) -> bool {
    let mut slot = task.entity.lock();
    if !task.make_runnable(wakes) {
        return false;
    }
    // Without its entity it is still on its queue: it has not slept yet, and will not.
    if let Some(entity) = slot.take() {
        while task.on_cpu.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let id = domains().for_wakeup(&Hints, &wish(task, entity.params()), None);
        enqueue(id, task.clone(), entity, Enqueue::Wakeup);
    }
    true
}

/// Wakes a task that sleeps on a condition.
pub fn wake(task: &TaskRef) -> bool {
    wake_if(task, |s| matches!(s, State::Interruptible | State::Uninterruptible))
}
