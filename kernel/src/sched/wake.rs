//! Waking, starting and placing tasks: from "should run" to a place on a CPU's queue.

use super::balance::offer_from;
use super::{Hints, IDLE_MASKS, cpu, domains, look_again, reschedule};
use crate::task::{State, Task, TaskRef};
use ::sched::{Enqueue, Entity, Params, Woken};
use core::sync::atomic::Ordering;
use hal::apic::Ipi;
use hal::{cpu_area, percpu};
use numa::{CpuId, CpuMask, NodeId};

/// Puts a task on a CPU's queue; on another one's if it may not use that one any more.
pub(super) fn enqueue(first: CpuId, task: TaskRef, entity: Entity<TaskRef>, why: Enqueue) {
    let before = task.run_state.cpu();
    let mut affinity = CpuMask::default();
    let (id, (cpu, mut queue)) = task.run_state.lock_allowed_queue(
        first,
        |id| {
            let cpu = cpu(id).expect("tasks go to CPUs that were started");
            (cpu, cpu.queue.lock())
        },
        |id| {
            affinity = *task.affinity.lock();
            affinity.contains(id)
        },
        || domains().for_forced_migration(&Hints, &wish(&task, entity.params())),
    );
    let now = hal::time::now();
    if before != id {
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
            hal::apic::send_ipi(area, Ipi::Look);
        }
        // When this CPU was chosen none was idle that it may use; one may have become so since,
        // and have looked for work before it was here.
        if !(IDLE_MASKS.idle_now().load(Ordering::Relaxed) & affinity).is_empty() {
            offer_from(id);
        }
    }
}

/// What a task wants that runs here, or that the caller has in hand.
pub(super) fn wish(task: &Task, params: &Params) -> ::sched::Wish {
    let affinity = *task.affinity.lock();
    ::sched::Wish {
        allowed: affinity & crate::boot::cpus::online(),
        last: task.last_cpu(),
        preferred: preferred(task),
        weight: params.weight(),
        priority: params.class.rt_priority().unwrap_or(0),
    }
}

/// The node where the memory of a task lies that runs here, or that the caller has in hand.
#[inline]
pub(super) fn preferred(task: &Task) -> Option<NodeId> {
    task.switching_mm().as_ref().and_then(|mm| mm.home())
}

/// Starts a new task.
pub fn start(task: &TaskRef) {
    let mut slot = task.entity.lock();
    let Some(entity) = slot.take() else { return };
    task.run_state.set_runnable();
    let id = domains().for_new(&Hints, &wish(task, entity.params()));
    enqueue(id, task.clone(), entity, Enqueue::New);
}

/// Wakes a sleeping task whose state `wakes` accepts; true when it did.
pub fn wake_if(task: &TaskRef, wakes: impl Fn(State) -> bool) -> bool {
    let mut slot = task.entity.lock();
    match task.run_state.wake(&mut slot, wakes, core::hint::spin_loop) {
        Woken::No => return false,
        Woken::Awake => {}
        Woken::Asleep(entity) => {
            let id = domains().for_wakeup(&Hints, &wish(task, entity.params()), None);
            enqueue(id, task.clone(), entity, Enqueue::Wakeup);
        }
    }
    true
}

/// Wakes a task that sleeps on a condition.
pub fn wake(task: &TaskRef) -> bool {
    wake_if(task, |s| matches!(s, State::Interruptible | State::Uninterruptible))
}
