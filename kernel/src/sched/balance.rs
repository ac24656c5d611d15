//! Evening out: who takes work from whom, at the tick and when a CPU falls idle.

use super::wake::{enqueue, preferred, wish};
use super::{Hints, IDLE_MASKS, Queue, cpu, domains, reschedule, timers};
use crate::task::{Task, TaskRef, current};
use ::sched::idle_masks::Flags;
use ::sched::{Enqueue, Loads, Params, Wish};
use hal::irq::IrqOff;
use hal::percpu;
use numa::{CpuId, CpuMask};

/// Nanoseconds between looks at the balance, on a busy CPU.
pub(super) const BALANCE: u64 = 8_000_000;

/// Takes a task from the nearest CPU that has one too many, and from a much busier one.
pub(super) fn pull_work(id: CpuId, now: u64) {
    let Some(here) = cpu(id) else { return };
    let idle = here.queue.lock().ready.is_empty();
    let may = |task: &TaskRef| task.affinity.lock().contains(id) && task.run_state.is_off_cpu();
    let take = |from: CpuId, may: &mut dyn FnMut(&TaskRef, &Params) -> bool| {
        let there = cpu(from)?;
        // An idle CPU has the time to wait; the other lets go soon, whoever has it.
        let mut queue = if idle { there.queue.lock() } else { there.queue.try_lock()? };
        let got = queue.ready.steal(now, |t, p| may(t, p));
        there.publish(&queue);
        got
    };
    let got = if idle {
        let mut victims = domains().victims(&Hints, id);
        victims.find_map(|from| Some((from, take(from, &mut |t, _| may(t))?)))
    } else {
        domains().balance(&Hints, id).find_map(|pull| {
            let mut may = |t: &TaskRef, p: &Params| may(t) && pull.improves(p.weight());
            Some((pull.from, take(pull.from, &mut may)?))
        })
    };
    if let Some((from, (task, entity))) = got {
        enqueue(id, task, entity, Enqueue::Move);
        // This one is not idle any more. What goes on waiting there is for the next.
        offer_from(from);
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
    let next = queue.next_tick(now);
    let helper = if offers && queue.ready.waiting() > 0 { offer(&mut queue, now) } else { None };
    if offers && queue.off_preferred {
        queue.leaves = queue
            .ready
            .current_params()
            .is_some_and(|params| domains().for_home(&Hints, &wish(&current(), params)).is_some());
    }
    let over = over || queue.leaves;
    drop(queue);
    if let Some(helper) = helper {
        reschedule(helper);
    }
    timers::arm_tick(next, now);
    if over {
        percpu::set_need_resched();
    }
}

impl Queue {
    /// In how many nanoseconds the CPU should look again: for its queue's sake, or whether there is
    /// room now where the running task's memory is.
    #[inline]
    pub(super) fn next_tick(&self, now: u64) -> Option<u64> {
        let own = self.ready.next_tick(now);
        if self.off_preferred { Some(own.map_or(BALANCE, |own| own.min(BALANCE))) } else { own }
    }
}

/// Whether `task`, which is to run here, would be nearer to its memory on another node.
#[inline]
pub(super) fn is_off_preferred(task: &Task) -> bool {
    let here = percpu::node();
    preferred(task)
        .filter(|node| *node != here)
        .is_some_and(|node| domains().is_off_preferred(here, node, &task.affinity.lock()))
}

/// execve(2): the running task, which leaves its memory behind, goes to another CPU if others wait
/// for this one.
pub fn on_exec() {
    let leaves = {
        let _irq = IrqOff::new();
        let Some(here) = cpu(percpu::cpu()) else { return };
        let mut queue = here.queue.lock();
        queue.leaves = queue.ready.waiting() > 0
            && queue.ready.current_params().is_some_and(|params| {
                domains().for_exec(&Hints, &Wish { preferred: None, ..wish(&current(), params) })
            });
        queue.leaves
    };
    if leaves {
        super::schedule();
    }
}

/// A CPU that should take one of the tasks that wait on `queue`: an idle one whenever there is one,
/// and one that only has less to do every [`BALANCE`]. The caller reschedules it when it has let
/// go of the queue.
fn offer(queue: &mut Queue, now: u64) -> Option<CpuId> {
    let from = queue.ready.cpu();
    let ready = &queue.ready;
    // Where any of those that wait may go; once that is every idle CPU it is enough.
    let idle = Hints.idle().without(from);
    let mut wanted = CpuMask::EMPTY;
    ready.any_waiting(|task, _| {
        if task.run_state.is_off_cpu() {
            wanted |= *task.affinity.lock();
        }
        !idle.is_empty() && idle.is_subset(&wanted)
    });
    wanted.remove(from);
    if wanted.is_empty() {
        return None;
    }
    let mut to = domains().idle_helpers(&Hints, from, &wanted).next();
    if to.is_none() && now >= queue.offer_at {
        let may = |to: CpuId, gap: u64| {
            wanted.contains(to)
                && ready.any_waiting(|task, params| {
                    params.weight() < gap
                        && task.run_state.is_off_cpu()
                        && task.affinity.lock().contains(to)
                })
        };
        let load = ready.load();
        to = domains().helpers(&Hints, from, load).find(|(to, gap)| may(*to, *gap)).map(|h| h.0);
        queue.offer_at = now + BALANCE;
    }
    to
}

/// A task that waits on `id` may use more CPUs than before: one that idles takes it.
#[inline]
pub(super) fn offer_from(id: CpuId) {
    if IDLE_MASKS.overloaded().has(id) {
        offer_to_idle(id);
    }
}

#[cold]
fn offer_to_idle(id: CpuId) {
    if !IDLE_MASKS.idle_now().is_empty()
        && let Some(there) = cpu(id)
    {
        let helper = offer(&mut there.queue.lock(), hal::time::now());
        if let Some(helper) = helper {
            reschedule(helper);
        }
    }
}
