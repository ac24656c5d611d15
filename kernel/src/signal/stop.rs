//! Job control: stopping a process and letting it go on.
//!
//! The thread that takes a stop signal asks all others to stop; each does on its way to user mode.
//! The last one tells the parent.

use super::attention::{KILL, STOP};
use super::pending::Queued;
use super::set::{STOPS, SigSet, bit, sig};
use super::{Group, send};
use crate::task::process::Event;
use crate::task::{Process, State, Task, TaskRef, Threads, current};
use crate::{ptrace, sched};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use hal::trap::TrapFrame;

/// How far a stop has come.
#[derive(Default)]
pub struct Stop {
    /// Threads that have not stopped yet.
    running: usize,
    /// All have.
    complete: bool,
    /// A stop signal was taken from the queue and no SIGCONT was sent since.
    dequeued: bool,
}

/// Stopped processes: while there are none, nobody looks for orphaned groups of them.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// True when some process is stopped.
pub fn any_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed) > 0
}

/// The process is stopped, or about to be.
pub fn is_stopping(process: &Process) -> bool {
    process.signals.stopping.load(Ordering::SeqCst) != 0
}

/// Takes the running task's next signal of `open`, and notes a stop signal under the lock under
/// which SIGCONT is sent: one that is sent from now on cancels the stop, though the signal is in no
/// queue any more.
pub fn dequeue(open: SigSet) -> Option<Queued> {
    let task = current();
    let signals = &task.process.signals;
    let mut group = signals.group.lock();
    let entry = task.signals.pending.take(open).or_else(|| signals.pending.take(open))?;
    group.stop.dequeued |= STOPS & bit(entry.signal()) != 0;
    Some(entry)
}

/// Asks all threads of the running task's process to stop on account of `signal`, which came from
/// [`dequeue`].
pub fn begin(signal: i32) {
    let process = &current().process;
    let mut group = process.signals.group.lock();
    // A SIGCONT or the end may have come since the signal was taken.
    if process.exiting.load(Ordering::Acquire) || !group.stop.dequeued {
        return;
    }
    if process.signals.stopping.load(Ordering::Relaxed) != 0 {
        // A tracee that was let go on while its process is stopped stops again.
        if current().trace.is_traced() {
            process.signals.stopping.store(signal, Ordering::SeqCst);
            rejoin(process, &mut group, &current().handle());
        }
        return;
    }
    process.signals.stopping.store(signal, Ordering::SeqCst);
    let place = process.place.lock();
    group.stop = Stop::default();
    for thread in &place.threads {
        if thread.signals.attention.load(Ordering::SeqCst) & KILL == 0 {
            group.stop.running += 1;
            thread.signals.ask(STOP);
            send::nudge(thread);
            ptrace::stop::group_changed(thread);
        }
    }
}

/// Counts one thread less that has to stop; the event to tell when it was the last.
fn one_less(process: &Process, group: &mut Group) -> Option<Event> {
    group.stop.running = group.stop.running.saturating_sub(1);
    if group.stop.running > 0 || group.stop.complete {
        return None;
    }
    group.stop.complete = true;
    STOPPED.fetch_add(1, Ordering::Relaxed);
    let event = Event::Stopped(process.signals.stopping.load(Ordering::Relaxed));
    *process.change.lock() = Some(event);
    Some(event)
}

/// The signal that stops the process, or is about to; 0 for none.
pub fn stopping(process: &Process) -> i32 {
    process.signals.stopping.load(Ordering::SeqCst)
}

/// A tracer may make a stop signal of what the running task takes: from now on a SIGCONT cancels it.
pub fn note_dequeued(process: &Process) {
    process.signals.group.lock().stop.dequeued = true;
}

/// Does something with the process's group locked.
pub fn with_group<R>(process: &Process, work: impl FnOnce(&mut Group) -> R) -> R {
    work(&mut process.signals.group.lock())
}

/// A thread that does not stand still stops with its stopped process.
pub fn rejoin(process: &Process, group: &mut Group, thread: &TaskRef) {
    if process.signals.stopping.load(Ordering::SeqCst) != 0 && thread.signals.ask(STOP) {
        group.stop.running += usize::from(!group.stop.complete);
        send::nudge(thread);
    }
}

/// A thread that is stopped with its process traps for its new tracer; true if it does.
pub fn trap_if_stopped(task: &TaskRef) -> bool {
    let _group = task.process.signals.group.lock();
    if task.state() != State::Stopped {
        return false;
    }
    sched::wake_if(task, |state| state == State::Stopped);
    true
}

/// The running task was asked to stop: it does, until SIGCONT or its end. A tracee does as its tracer
/// says.
pub fn take_part(frame: &mut TrapFrame) {
    let task = current();
    let process = &task.process;
    let event = {
        let mut group = process.signals.group.lock();
        if task.signals.attention.fetch_and(!STOP, Ordering::SeqCst) & STOP == 0
            || process.signals.stopping.load(Ordering::Relaxed) == 0
        {
            return;
        }
        one_less(process, &mut group)
    };
    if let Some(event) = event
        && !is_told_as_tracer(process)
    {
        tell_parent(process, event);
    }
    loop {
        task.run_state.set_state(State::Stopped);
        let go_on = process.signals.stopping.load(Ordering::SeqCst) == 0
            || task.signals.attention.load(Ordering::SeqCst) & KILL != 0;
        if go_on {
            break;
        }
        if task.trace.is_traced() {
            // A tracee, be it that it has become one in here, stops for its tracer.
            task.run_state.set_runnable();
            if ptrace::stop::group_stop(frame, stopping(process)) {
                return;
            }
            continue;
        }
        sched::schedule();
    }
    task.run_state.set_runnable();
}

/// The running task's tracer, which hears of each stop of it, is in the parent.
fn is_told_as_tracer(process: &Process) -> bool {
    let Some(tracer) = current().trace.tracer() else { return false };
    let parent = process.place.lock().parent.upgrade();
    parent.is_some_and(|parent| Arc::ptr_eq(&parent, &tracer.process))
}

/// The running thread ends: a stop does not wait for it.
pub fn leave() {
    let task = current();
    let process = &task.process;
    let event = {
        let mut group = process.signals.group.lock();
        if task.signals.attention.fetch_and(!STOP, Ordering::SeqCst) & STOP == 0 {
            return;
        }
        one_less(process, &mut group)
    };
    if let Some(event) = event {
        tell_parent(process, event);
    }
}

/// What sending `signal` does to a stop, whatever becomes of the signal: SIGCONT ends it and
/// forgets stop signals, stop signals forget SIGCONT. The event to tell the parent, if any.
pub fn before_send(process: &Process, group: &mut Group, signal: i32) -> Option<Event> {
    if signal != sig::CONT && STOPS & bit(signal) == 0 {
        return None;
    }
    let forget = if signal == sig::CONT { STOPS } else { bit(sig::CONT) };
    process.signals.pending.flush(forget);
    let place = process.place.lock();
    for thread in &place.threads {
        thread.signals.pending.flush(forget);
    }
    if signal != sig::CONT {
        return None;
    }
    resume(process, group, &place.threads)
}

fn resume(process: &Process, group: &mut Group, threads: &Threads) -> Option<Event> {
    let was_complete = core::mem::take(&mut group.stop).complete;
    let signal = process.signals.stopping.swap(0, Ordering::SeqCst);
    if signal == 0 {
        return None;
    }
    *process.change.lock() = Some(Event::Continued);
    for thread in threads {
        thread.signals.attention.fetch_and(!STOP, Ordering::SeqCst);
        sched::wake_if(thread, |state| state == State::Stopped);
        ptrace::stop::group_changed(thread);
    }
    if was_complete {
        STOPPED.fetch_sub(1, Ordering::Relaxed);
        return Some(Event::Continued);
    }
    // wait(2) reports that it went on; the signal tells of the stop that was under way.
    Some(Event::Stopped(signal))
}

/// The process ends while it is stopped.
pub fn forget(process: &Process) {
    let mut group = process.signals.group.lock();
    if core::mem::take(&mut group.stop).complete {
        STOPPED.fetch_sub(1, Ordering::Relaxed);
    }
    process.signals.stopping.store(0, Ordering::SeqCst);
}

/// Tells the parent of a stop or of its end: SIGCHLD, unless SA_NOCLDSTOP, and a wake-up of wait(2),
/// which finds the event in `change`.
pub fn tell_parent(process: &Process, event: Event) {
    let parent = process.place.lock().parent.upgrade();
    let Some(parent) = parent else { return };
    if wants_stops(&parent) {
        let info = send::child_info(process, sig::CHLD, event);
        // SIGCHLD is never refused.
        let _ = send::to_process(&parent, info.into());
    }
    parent.child_events.wake_all();
}

/// The process gets a SIGCHLD for stops.
fn wants_stops(process: &Process) -> bool {
    let action = process.signals.action(sig::CHLD);
    action.handler != super::action::IGNORE && !action.has(super::action::flag::NOCLDSTOP)
}

/// Sends the process that traces `task` a SIGCHLD for what happened to it, if it wants one.
pub fn tell_of_thread(tracer: &Process, task: &Task, event: Event) {
    let ends = matches!(event, Event::Exited(_) | Event::Killed { .. });
    if ends || wants_stops(tracer) {
        let info = send::thread_info(task, event);
        // SIGCHLD is never refused.
        let _ = send::to_process(tracer, info.into());
    }
}

/// True when the process group has no member whose parent is in another group of its session:
/// nobody could make it go on.
pub fn is_orphaned(pgid: i32) -> bool {
    is_orphaned_when(pgid, |_| false)
}

/// As [`is_orphaned`], when `leaving` is gone, as a member and as a parent.
pub fn is_orphaned_without(pgid: i32, leaving: &Arc<Process>) -> bool {
    is_orphaned_when(pgid, |p| Arc::ptr_eq(p, leaving))
}

fn is_orphaned_when(pgid: i32, gone: impl Fn(&Arc<Process>) -> bool) -> bool {
    crate::task::table::group(pgid).all(|member| {
        if gone(&member) || member.zombie.load(Ordering::Acquire) {
            return true;
        }
        let (sid, parent) = {
            let place = member.place.lock();
            (place.sid, place.parent.upgrade())
        };
        let Some(parent) = parent else { return true };
        if parent.pid == 1 || gone(&parent) {
            return true;
        }
        let theirs = parent.place.lock();
        theirs.pgid == pgid || theirs.sid != sid
    })
}

/// True when the group has a stopped member.
pub fn has_stopped_member(pgid: i32) -> bool {
    crate::task::table::group(pgid).any(|p| is_stopping(&p))
}

/// The group lost its last outside parent with stopped members: SIGHUP, SIGCONT.
pub fn hang_up_group(pgid: i32) {
    for signal in [sig::HUP, sig::CONT] {
        send::kernel_to_group(pgid, signal);
    }
}
