//! What tracees stop for beside signals and system calls: PTRACE_EVENT_*.

use super::call;
use super::stop::{stand, trap_info};
use crate::signal::attention::KILL;
use crate::signal::info::code;
use crate::signal::{SigInfo, send, sig};
use crate::task::current;
use abi::raw::general as g;
use core::sync::atomic::Ordering;
use hal::trap::TrapFrame;
use ptrace::{Event, Kind};

/// The running task is traced, and stops for `event`.
fn wants(event: Event) -> bool {
    let task = current();
    task.trace.is_traced()
        && task.trace.lock().now.as_ref().is_some_and(|traced| traced.state.wants(event))
}

/// Something happened in a system call of the running task.
pub fn report(frame: &mut TrapFrame, event: Event, message: i32) {
    if wants(event) {
        let kind = Kind::Event(event);
        stand(frame, kind, message as u64, trap_info(kind));
        call::note_exit();
    }
}

/// What a clone is to its maker's tracer, if that wants to hear of it.
pub fn of_clone(flags: u64, exit_signal: i32) -> Option<Event> {
    if flags & u64::from(g::CLONE_UNTRACED) != 0 {
        return None;
    }
    let event = if flags & u64::from(g::CLONE_VFORK) != 0 {
        Event::Vfork
    } else if exit_signal == sig::CHLD {
        Event::Fork
    } else {
        Event::Clone
    };
    wants(event).then_some(event)
}

/// A program was executed, by the thread that was `old` before. A tracer that was not asked for events
/// gets a SIGTRAP instead.
pub fn executed(frame: &mut TrapFrame, old: i32) {
    let task = current();
    if !task.trace.is_traced() {
        return;
    }
    if wants(Event::Exec) {
        return report(frame, Event::Exec, old);
    }
    let seized = task.trace.lock().now.as_ref().is_none_or(|traced| traced.state.is_seized());
    if !seized {
        let uid = task.creds.lock().uid;
        let info = SigInfo::from_process(sig::TRAP, code::USER, task.tid(), uid);
        // Below 32: never refused.
        let _ = send::to_thread(&task, info.into());
    }
}

/// The running thread begins to end, with a status as wait(2) reports it. Its memory is still there.
pub fn exiting(status: i32) {
    if !wants(Event::Exit) {
        return;
    }
    let task = current();
    // Who was killed stops all the same; the next one to kill it ends the stop.
    let killed = task.signals.attention.fetch_and(!KILL, Ordering::SeqCst) & KILL;
    let mut frame = hal::switch::user_frame(task.stack_top());
    let kind = Kind::Event(Event::Exit);
    stand(&mut frame, kind, status as u32 as u64, trap_info(kind));
    task.signals.ask(killed);
}
