//! The switch: the running task gives the CPU to the one that should have it.

use super::accounts::{self, IN_USER, charge_kernel};
use super::balance::{self, BALANCE, offer_from, pull_work};
use super::wake::{enqueue, wish};
use super::{Hints, IDLE_MASKS, cpu, domains, timers};
use crate::ptrace::special;
use crate::task::current::set_current;
use crate::task::{State, Task, TaskRef, current};
use ::sched::{Dequeue, Enqueue};
use core::sync::atomic::Ordering;
use hal::irq::IrqOff;
use hal::percpu;

/// Gives the CPU to whoever should have it: returns when this task has it again.
///
/// The task's state says whether it sleeps. Not while spinning locks are held.
pub fn schedule() {
    assert!(
        percpu::preempt_state().0 == 0 && !percpu::in_interrupt(),
        "sleeping while a spinning lock is held"
    );
    switch(false);
}

/// As [`schedule`], for a task that did not ask for it: it stays ready whatever its state says.
pub fn preempt() {
    // The flag may have been cleared by a switch in between.
    if percpu::preempt_state() == (0, true) {
        switch(true);
    }
}

/// The switch.
fn switch(preempted: bool) {
    let irq = IrqOff::new();
    percpu::preempt_disable();
    let id = percpu::cpu();
    let here = cpu(id).expect("scheduling on a CPU that was not started");
    let task = current();
    let now = hal::time::now();
    percpu::clear_need_resched();

    let mut slot = task.entity.lock();
    let mut queue = here.queue.lock();
    let is_idle = core::ptr::eq(&*task, &*queue.idle.0);
    let leaves = core::mem::take(&mut queue.leaves);
    let is_nice = queue.ready.current_params().is_some_and(accounts::is_nice);
    debug_assert!(!preempted || task.state() != State::Dead, "a dead task is preempted");
    let sleeps = !preempted && task.state() != State::Runnable;
    // Dequeueing lets go of the queue's reference, which is a dead task's last one.
    let prev = task.handle();
    if !is_idle {
        if sleeps {
            if let Some((_, entity)) = queue.ready.dequeue_current(Dequeue::Sleep, now) {
                *slot = Some(entity);
            }
        } else if (leaves || !task.affinity.lock().contains(id))
            && let Some((_, entity)) = queue.ready.dequeue_current(Dequeue::Move, now)
        {
            queue.forced_out = Some(entity);
        }
    }
    drop(slot);
    if queue.ready.is_empty() || now >= queue.balance_at {
        queue.balance_at = now + BALANCE;
        drop(queue);
        pull_work(id, now);
        queue = here.queue.lock();
    }
    if queue.ready.is_empty() && !is_idle {
        here.publish(&queue);
        if IDLE_MASKS.is_overloaded() {
            // Since the look for work another CPU may have got too much without knowing that this
            // one idles. It does now: whoever comes after this look tells us.
            drop(queue);
            pull_work(id, now);
            queue = here.queue.lock();
        }
    }
    let next = match queue.ready.pick_next(now) {
        Some(next) => next.clone(),
        None => queue.idle.clone(),
    };
    here.publish(&queue);
    queue.off_preferred = balance::is_off_preferred(&next);
    timers::arm_tick(queue.next_tick(now), now);
    if core::ptr::eq(Arc_ptr(&next), &*task) {
        drop(queue);
        percpu::preempt_enable_no_resched();
        drop(irq);
        return;
    }
    let counter = if preempted { &task.counters.involuntary } else { &task.counters.voluntary };
    counter.fetch_add(1, Ordering::Relaxed);
    here.switches.fetch_add(1, Ordering::Relaxed);
    // Before anybody can take it for running: what it has used is counted from the stamp on.
    next.stamp.store(hal::cpu::rdtsc() & !IN_USER, Ordering::Relaxed);
    next.run_state.set_on_cpu();
    let save = hal::switch::SaveSlot::of(&prev.saved_sp);
    queue.before = Some(prev.clone());
    charge_kernel(&prev);
    here.accounts.switched(&prev, !is_idle, is_nice, &next);
    drop(queue);
    crate::perf::leaves(&prev, &next, preempted);

    if !prev.kernel_thread {
        crate::rseq::note_switch(&prev);
        prev.fpu.switching().save();
        *prev.bases.switching() = hal::switch::read_user_bases();
    }
    vm::tlb::switch(next.switching_mm().as_ref());
    if !next.kernel_thread {
        next.fpu.switching().restore();
        let (fs, gs) = *next.bases.switching();
        hal::switch::load_user_bases(fs, gs);
    }
    let loaded = here.special.load(Ordering::Relaxed);
    if loaded | next.trace.special.load(Ordering::Relaxed) != 0 {
        here.special.store(special::load(&next, loaded), Ordering::Relaxed);
    }
    set_current(&next);
    crate::traffic::switched(&next);
    let to = next.saved_sp.load(Ordering::Relaxed);
    // The queue keeps both alive: the next as its running task, the previous as `before`.
    drop(next);
    drop(prev);
    hal::switch::switch_to(save, to);
    finish_switch();
    percpu::preempt_enable_no_resched();
    drop(irq);
}

#[allow(non_snake_case, reason = "reads as what it is: the address in the counted pointer")]
fn Arc_ptr(task: &TaskRef) -> *const Task {
    alloc::sync::Arc::as_ptr(&task.0)
}

/// What is left to do on the new task's stack: the previous one is off its own now.
fn finish_switch() {
    let here = cpu(percpu::cpu()).expect("this CPU was started");
    let (before, forced_out) = {
        let mut queue = here.queue.lock();
        (queue.before.take(), queue.forced_out.take())
    };
    let Some(before) = before else { return };
    crate::perf::enters(&before);
    let left = before.run_state.clear_on_cpu();
    if here.priority.load(Ordering::Relaxed) > 0 {
        // A real-time task may keep the CPU for long, without any tick. Now that nobody stands on
        // its stack any more, another CPU may take the one that gave way.
        offer_from(percpu::cpu());
    }
    if let Some(entity) = forced_out {
        let id = domains().for_forced_migration(&Hints, &wish(&before, entity.params()));
        enqueue(id, before, entity, Enqueue::Move);
    } else if left == State::Dead {
        // The last reference may go here, with the stack it ran on; frames are freed with
        // interrupts on by the idle loop's or this task's own exit path.
        crate::exit::delayed_put_task(before);
    }
}

/// The first lines of a new task, after its first switch: `hal` calls its entry with this done.
pub fn first_run() {
    finish_switch();
    percpu::preempt_enable_no_resched();
    hal::irq::allow();
}

/// sched_yield(2).
pub fn yield_now() {
    {
        let _irq = IrqOff::new();
        if let Some(here) = cpu(percpu::cpu()) {
            here.queue.lock().ready.yield_current(hal::time::now());
        }
    }
    schedule();
}
