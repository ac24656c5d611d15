//! The tracee stands still.

use super::state::{TRAP_FLAG, wake};
use crate::signal::attention::{KILL, TRACE};
use crate::signal::{SigInfo, send, sig, stop};
use crate::task::process::Event as ChildEvent;
use crate::task::{State, Task, TaskRef, current};
use core::sync::atomic::Ordering;
use hal::gdt::{USER_CODE, USER_DATA};
use hal::irq::IrqOff;
use hal::trap::TrapFrame;
use hal::user::USER_END;
use ptrace::{Kind, Stop};

/// How a stop ended.
#[derive(Default)]
pub struct Outcome {
    /// The signal that the tracer gives; 0 for none.
    pub signal: i32,
    /// What the signal tells, as the tracer left it.
    pub info: Option<SigInfo>,
}

/// The running task stands still as `kind` says, if it is traced, and its tracer may change `frame`.
/// Returns once that lets it go on, or ends, or the task is to end.
pub fn stand(frame: &mut TrapFrame, kind: Kind, message: u64, info: Option<SigInfo>) -> Outcome {
    let task = current();
    if !task.trace.is_traced() || crate::signal::killed(&task) {
        return Outcome::default();
    }
    let tracer = {
        let mut inner = task.trace.lock();
        let Some(traced) = inner.now.as_mut() else { return Outcome::default() };
        traced.frame = *frame;
        traced.state.enter(Stop::new(kind, message, info));
        traced.tracer.clone()
    };
    tell(&tracer, &task, kind);
    let mut told = false;
    loop {
        // Who is woken by the news gets this CPU at the earliest when the task is asleep.
        let _irq = IrqOff::new();
        task.run_state.set_state(State::Traced);
        if has_ended(&task) {
            break;
        }
        if !core::mem::replace(&mut told, true) {
            tracer.process.child_events.wake_all();
        }
        crate::sched::schedule();
    }
    task.run_state.set_runnable();
    take_up(&task, frame)
}

/// The stop of the running task is over; one that is to be broken off is.
fn has_ended(task: &Task) -> bool {
    let mut inner = task.trace.lock();
    if inner.left.is_some() {
        return true;
    }
    let Some(traced) = inner.now.as_mut() else { return true };
    let state = &mut traced.state;
    if crate::signal::killed(task) || state.listens() && state.trap_is_due() {
        state.break_off();
    }
    !state.stands()
}

/// Goes on from a stop as its end says.
fn take_up(task: &Task, frame: &mut TrapFrame) -> Outcome {
    let mut inner = task.trace.lock();
    let left = inner.left.take();
    let Some(traced) = left.as_deref().or(inner.now.as_deref()) else {
        return Outcome::default();
    };
    *frame = traced.frame;
    let (signal, info) = match (left, inner.now.as_mut()) {
        (Some(mut left), _) => (left.state.take_signal(), left.state.take_info()),
        (None, Some(now)) => (now.state.take_signal(), now.state.take_info()),
        (None, None) => return Outcome::default(),
    };
    drop(inner);
    mend(frame);
    Outcome { signal, info }
}

/// What a CPU could not load becomes a SIGSEGV, as where it would have failed.
fn mend(frame: &mut TrapFrame) {
    let (code, data) = (u64::from(USER_CODE), u64::from(USER_DATA));
    if frame.cs != code || frame.ss != data || frame.rip >= USER_END {
        (frame.cs, frame.ss) = (code, data);
        send::force(SigInfo::kernel(sig::SEGV), false);
    }
}

/// Sends the tracer its SIGCHLD, unless it does not want any of stops.
fn tell(tracer: &TaskRef, task: &Task, kind: Kind) {
    let code = kind.code() & 0x7f;
    let event = if kind.is_group_stop() || kind == Kind::Interrupt {
        ChildEvent::Stopped(code)
    } else {
        ChildEvent::Trapped(code)
    };
    stop::tell_of_thread(&tracer.process, task, event);
}

/// What the kernel's own stops tell.
pub fn trap_info(kind: Kind) -> Option<SigInfo> {
    if kind.is_plain_group_stop() {
        return None;
    }
    let task = current();
    let (signal, code) = kind.trap_info();
    let uid = task.creds.lock().uid;
    Some(SigInfo::from_process(signal, code, task.tid(), uid))
}

/// The running task's group is stopped by `signal`: a tracee tells that to its tracer instead of
/// stopping with the others. False if it is none.
pub fn group_stop(frame: &mut TrapFrame, signal: i32) -> bool {
    let task = current();
    if !task.trace.is_traced() {
        return false;
    }
    let Some(kind) = task.trace.lock().now.as_ref().map(|traced| traced.state.group_stop(signal))
    else {
        return false;
    };
    stand(frame, kind, 0, trap_info(kind));
    true
}

/// A trap may be due in the running task.
pub fn trap(frame: &mut TrapFrame) {
    let task = current();
    task.signals.attention.fetch_and(!TRACE, Ordering::SeqCst);
    let group = stop::stopping(&task.process);
    let kind = {
        let inner = task.trace.lock();
        let due = inner.now.as_ref().filter(|traced| traced.state.trap_is_due());
        due.map(|traced| traced.state.trap_stop(group))
    };
    if let Some(kind) = kind {
        stand(frame, kind, 0, trap_info(kind));
    }
}

/// A signal is about to be delivered to the running task: what its tracer makes of it.
pub fn signal(frame: &mut TrapFrame, info: SigInfo) -> Option<SigInfo> {
    let task = current();
    if !task.trace.is_traced() {
        return Some(info);
    }
    stop::note_dequeued(&task.process);
    let outcome = stand(frame, Kind::Signal(info.signal()), 0, Some(info));
    let given = outcome.signal;
    if given == 0 {
        return None;
    }
    let info = outcome.info.filter(|info| info.signal() == given).unwrap_or_else(|| {
        let (pid, uid) = task.trace.tracer().map_or((0, 0), |tracer| {
            let uid = tracer.creds.lock().uid;
            (tracer.pid(), uid)
        });
        SigInfo::from_process(given, crate::signal::info::code::USER, pid, uid)
    });
    if task.signals.blocked() & crate::signal::set::bit(given) != 0 {
        // It waits like any other that is blocked; below 32, or the tracer's own affair.
        let _ = send::to_thread(&task, info.into());
        return None;
    }
    Some(info)
}

/// A trap is due in `task`, whose trace is locked; `wakes`: out of its stop, too.
pub fn look_at_trap(task: &TaskRef, wakes: bool) {
    task.signals.ask(TRACE);
    if wakes {
        wake(task);
    }
    send::nudge(task);
}

/// `task`'s group was stopped or goes on: it tells its tracer, if that has seized it.
pub fn group_changed(task: &TaskRef) {
    if !task.trace.is_traced() {
        return;
    }
    let mut inner = task.trace.lock();
    let Some(traced) = inner.now.as_mut().filter(|traced| traced.state.is_seized()) else { return };
    let wakes = traced.state.group_changed();
    look_at_trap(task, wakes);
}

/// `task` is to end: it does not stand still any more.
pub fn end(task: &TaskRef) {
    debug_assert!(task.signals.attention.load(Ordering::SeqCst) & KILL != 0);
    if task.trace.is_traced() {
        let _inner = task.trace.lock();
        wake(task);
    }
}

/// A handler is about to be entered: whether the running task goes by single steps, of which the way
/// into the handler is one. The trap flag of its tracer is not what the handler returns to.
pub fn steps_into_handler(frame: &mut TrapFrame) -> bool {
    let task = current();
    if !task.trace.is_traced() {
        return false;
    }
    let mut inner = task.trace.lock();
    let Some(traced) = inner.now.as_mut() else { return false };
    if core::mem::take(&mut traced.forced_step) {
        frame.rflags &= !TRAP_FLAG;
    }
    traced.state.mode().steps()
}

/// The first instruction of a handler: the end of a step.
pub fn in_handler(frame: &mut TrapFrame) {
    stand(frame, Kind::Handler, 0, trap_info(Kind::Handler));
}
