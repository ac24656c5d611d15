//! Tracees at the begin and the end of a system call.

use super::stop::{Outcome, stand, trap_info};
use crate::signal::attention::TRACE_EXIT;
use crate::signal::{SigInfo, send, sig};
use crate::task::current;
use abi::Errno;
use core::sync::atomic::Ordering;
use hal::trap::TrapFrame;
use ptrace::{Call, Mode};

/// TRAP_BRKPT.
const TRAP_BRKPT: i32 = 1;
/// PTRACE_EVENTMSG_SYSCALL_ENTRY and PTRACE_EVENTMSG_SYSCALL_EXIT.
const MESSAGES: [u64; 2] = [1, 2];

/// How far the running task goes; None if it is not traced.
fn mode() -> Option<Mode> {
    let task = current();
    if !task.trace.is_traced() {
        return None;
    }
    task.trace.lock().now.as_ref().map(|traced| traced.state.mode())
}

/// Stops at a system call; what the tracer gives is sent.
fn stop_at(frame: &mut TrapFrame, at: Call) -> Outcome {
    let task = current();
    let kind = task.trace.lock().now.as_ref().map(|traced| traced.state.call_stop(at));
    let Some(kind) = kind else { return Outcome::default() };
    let outcome = stand(frame, kind, MESSAGES[at as usize], trap_info(kind));
    if outcome.signal != 0 {
        // Unless there are too many of it already.
        let _ = send::to_thread(&task, SigInfo::kernel(outcome.signal).into());
    }
    outcome
}

/// A tracee makes a system call: false if nothing becomes of it. `frame` has the number and the
/// arguments that count, or what the program gets instead.
pub fn at_entry(frame: &mut TrapFrame) -> bool {
    let task = current();
    if let Some(mode) = mode().filter(|mode| mode.stops_at_entry()) {
        frame.rax = Errno::ENOSYS.to_ret();
        stop_at(frame, Call::Entry);
        let skipped = frame.error as i32 == -1 || mode.skips_calls();
        if crate::signal::killed(&task) || skipped {
            note_exit();
            return false;
        }
        frame.rax = frame.error;
    }
    true
}

/// The tracer may want to hear of the end of the system call under way.
pub fn note_exit() {
    let task = current();
    if mode().is_some_and(Mode::looks_at_exit) {
        task.signals.ask(TRACE_EXIT);
    } else {
        task.signals.attention.fetch_and(!TRACE_EXIT, Ordering::SeqCst);
    }
}

/// A tracee's system call has ended: a stop, or the end of a single step.
pub fn at_exit(frame: &mut TrapFrame) {
    let task = current();
    task.signals.attention.fetch_and(!TRACE_EXIT, Ordering::SeqCst);
    match mode() {
        Some(Mode::Syscall) => {
            stop_at(frame, Call::Exit);
        }
        Some(Mode::Step) => send::force(SigInfo::fault(sig::TRAP, TRAP_BRKPT, frame.rip), false),
        _ => {}
    }
}
