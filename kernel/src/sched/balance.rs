//! Evening out: who takes work from whom, at the tick and when a CPU falls idle.

use super::wake::enqueue;
use super::{Hints, IDLE, OVERLOADED, Queue, cpu, domains, reschedule, timers};
use crate::task::TaskRef;
use ::sched::{Enqueue, Params};
use core::sync::atomic::Ordering;
use hal::percpu;
use numa::CpuId;

/// Nanoseconds between looks at the balance, on a busy CPU.
pub(super) const BALANCE: u64 = 8_000_000;

/// Takes a task from the nearest CPU that has one too many, and from a much busier one.
pub(super) fn pull_work(id: CpuId, now: u64) {
    let Some(here) = cpu(id) else { return };
    let idle = here.queue.lock().ready.is_empty();
    let may =
        |task: &TaskRef| task.affinity.lock().contains(id) && !task.on_cpu.load(Ordering::Acquire);
    let take = |from: CpuId, may: &mut dyn FnMut(&TaskRef, &Params) -> bool| {
        let there = cpu(from)?;
        // An idle CPU has the time to wait; the other lets go soon, whoever has it.
        let mut queue = if idle { there.queue.lock() } else { there.queue.try_lock()? };
        let got = queue.ready.steal(now, |t, p| may(t, p));
        there.publish(&queue);
        got
    };
    let got = if idle {
        domains().victims(&Hints, id).find_map(|from| take(from, &mut |t, _| may(t)))
    } else {
        domains()
            .balance(&Hints, id)
            .find_map(|pull| take(pull.from, &mut |t, p| may(t) && pull.improves(p.weight())))
    };
    if let Some((task, entity)) = got {
        enqueue(id, task, entity, Enqueue::Move);
    }
}

/// The timer's tick: has another task run when the running one has had its slice, and other CPUs
/// take what waits here for too long.
pub fn tick() {
    look(true);
}

/// The run queue changed under the running task: as [`tick`], but what waits here just came, and
/// was not wanted elsewhere.
pub fn look_again() {
    look(false);
}

fn look(offers: bool) {
    let Some(here) = cpu(percpu::cpu()) else { return };
    let now = hal::time::now();
    let mut queue = here.queue.lock();
    let over = queue.ready.tick(now);
    let next = queue.ready.next_tick(now);
    let helper = if offers && queue.ready.waiting() > 0 { offer(&mut queue, now) } else { None };
    drop(queue);
    if let Some(helper) = helper {
        reschedule(helper);
    }
    timers::arm_tick(next, now);
    if over {
        percpu::set_need_resched();
    }
}

/// A CPU that should take one of the tasks that wait on `queue`: an idle one whenever there is one,
/// and one that only has less to do every [`BALANCE`]. The caller reschedules it when it has let
/// go of the queue.
fn offer(queue: &mut Queue, now: u64) -> Option<CpuId> {
    let from = queue.ready.cpu();
    let ready = &queue.ready;
    let may = |to: CpuId, gap: u64| {
        ready.any_waiting(|task, params| {
            params.weight() < gap
                && !task.on_cpu.load(Ordering::Relaxed)
                && task.affinity.lock().contains(to)
        })
    };
    let mut to = domains().idle_helpers(&Hints, from).find(|to| may(*to, u64::MAX));
    if to.is_none() && now >= queue.offer_at {
        let load = queue.ready.load();
        to = domains().helpers(&Hints, from, load).find(|(to, gap)| may(*to, *gap)).map(|h| h.0);
        queue.offer_at = now + BALANCE;
    }
    to
}

/// A task that waits on `id` may use more CPUs than before: one that idles takes it.
#[inline]
pub(super) fn offer_from(id: CpuId) {
    if OVERLOADED.test(id, Ordering::Relaxed) {
        offer_to_idle(id);
    }
}

#[cold]
fn offer_to_idle(id: CpuId) {
    if !IDLE.load(Ordering::Relaxed).is_empty()
        && let Some(there) = cpu(id)
    {
        let helper = offer(&mut there.queue.lock(), hal::time::now());
        if let Some(helper) = helper {
            reschedule(helper);
        }
    }
}
