//! The way back to user mode: handlers, default actions, and the restart of interrupted calls.

use super::action::{self, Action, flag};
use super::attention::{
    FREEZE, INTERRUPTS, KILL, MEMORY, RESTORE_MASK, RSEQ, SIGNAL, STOP, TRACE, TRACE_EXIT,
};
use super::info::SigInfo;
use super::pending::Queued;
use super::set::{HARMLESS, STOPS, SYNCHRONOUS, SigSet, bit, sig};
use super::{LastTrap, frame, mask, send, stop};
use crate::ptrace;
use crate::task::{Current, current};
use abi::Errno;
use core::sync::atomic::Ordering;
use hal::trap::{SYSCALL, TrapFrame, vector};

/// `vector` of a frame whose registers are no longer as the system call left them: it is left by
/// the full path, and no call is restarted from it.
pub const REWRITTEN: u64 = 0x101;

/// Number of restart_syscall.
const RESTART_SYSCALL: u64 = 219;

/// The signal that a fault raises: number, code, address.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
    pub addr: u64,
}

/// Raises a fault's signal in the running task: it cannot be ignored or blocked away.
pub fn fault(frame: &TrapFrame, fault: Fault) {
    let task = current();
    {
        let mut last = task.signals.last_trap.lock();
        let addr = if frame.vector == vector::PAGE_FAULT { fault.addr } else { last.addr };
        *last = LastTrap { vector: frame.vector, error: frame.error, addr };
    }
    send::force(SigInfo::fault(fault.signal, fault.code, fault.addr), false);
}

/// Takes a pending signal of `wanted` from the running task or its process.
pub fn take(wanted: SigSet) -> Option<SigInfo> {
    let task = current();
    let entry =
        task.signals.pending.take(wanted).or_else(|| task.process.signals.pending.take(wanted))?;
    Some(entry.deliver())
}

/// Takes the next signal that is not blocked: first those that an instruction has caused.
fn take_deliverable(task: &Current) -> Option<SigInfo> {
    let open = !task.signals.blocked();
    if let Some(entry) = task.signals.pending.take(SYNCHRONOUS & open) {
        return Some(entry.deliver());
    }
    let pending = task.signals.pending.set() | task.process.signals.pending.set();
    if pending & open & STOPS != 0 {
        return stop::dequeue(open).map(Queued::deliver);
    }
    // One that arrives only now is taken at the next look.
    take(open & !STOPS)
}

/// The running thread was told to end.
fn end() -> ! {
    let process = &current().process;
    crate::exit::exit_thread(process.exit_status.load(Ordering::Acquire))
}

/// The next signal with a handler; carries default actions out on the way.
fn next_handled(frame: &mut TrapFrame) -> Option<(SigInfo, Action)> {
    let task = current();
    loop {
        let bits = task.signals.attention.load(Ordering::SeqCst);
        if bits & KILL != 0 {
            end();
        }
        if bits & STOP != 0 {
            stop::take_part(frame);
            continue;
        }
        if bits & TRACE != 0 {
            ptrace::stop::trap(frame);
            continue;
        }
        if bits & FREEZE != 0 {
            crate::cgroup::freeze::take_part();
            continue;
        }
        let Some(info) = take_deliverable(&task) else {
            mask::recalculate(&task);
            if task.signals.attention.load(Ordering::SeqCst) & SIGNAL == 0 {
                return None;
            }
            continue;
        };
        let Some(info) = ptrace::stop::signal(frame, info) else { continue };
        let signal = info.signal();
        let action = {
            let group = task.process.signals.group.lock();
            let mut actions = group.actions.lock();
            let action = actions.get(signal);
            if action.handler > action::IGNORE && action.has(flag::RESETHAND) {
                actions.set(signal, Action { handler: action::DEFAULT, ..action });
            }
            action
        };
        match action.handler {
            action::IGNORE => {}
            action::DEFAULT => default_action(frame, &info),
            _ => return Some((info, action)),
        }
    }
}

fn default_action(frame: &TrapFrame, info: &SigInfo) {
    let task = current();
    let signal = info.signal();
    if HARMLESS & bit(signal) != 0 {
        return;
    }
    // What the first process did not ask for does not stop or end it, its own faults excepted.
    if task.pid() == 1 && info.is_from_user() {
        return;
    }
    if STOPS & bit(signal) != 0 {
        let pgid = task.process.place.lock().pgid;
        if signal == sig::STOP || !stop::is_orphaned(pgid) {
            stop::begin(signal);
        }
        return;
    }
    if SYNCHRONOUS & bit(signal) != 0 && !info.is_from_user() {
        log::info!(
            "{}[{}]: signal {signal} at {:#x} ip {:#x} sp {:#x}",
            task.name(),
            task.pid(),
            info.addr(),
            frame.rip,
            frame.rsp,
        );
    }
    crate::exit::exit_group(signal)
}

/// The call that `frame` returns from was interrupted: its code, if it may be restarted.
fn interrupted(frame: &TrapFrame) -> Option<Errno> {
    if frame.vector != SYSCALL {
        return None;
    }
    let value = frame.rax as i64;
    [Errno::ERESTARTSYS, Errno::ERESTARTNOINTR, Errno::ERESTARTNOHAND, Errno::ERESTART_RESTARTBLOCK]
        .into_iter()
        .find(|code| value == -i64::from(code.code()))
}

/// Goes back to the SYSCALL instruction, with number `nr`.
fn restart(frame: &mut TrapFrame, nr: u64) {
    frame.rax = nr;
    frame.rip -= 2;
}

/// Delivers what is pending, before user mode (interrupts are on).
pub fn deliver(frame: &mut TrapFrame) {
    let task = current();
    if task.signals.attention.load(Ordering::SeqCst) & TRACE_EXIT != 0 {
        ptrace::call::at_exit(frame);
    }
    if task.signals.attention.load(Ordering::SeqCst) & MEMORY != 0 {
        crate::oom::refill_reserve();
    }
    if task.signals.attention.load(Ordering::SeqCst) & RSEQ != 0 {
        crate::rseq::on_return(frame);
    }
    if task.signals.attention.load(Ordering::SeqCst) & (INTERRUPTS | RESTORE_MASK) == 0 {
        return;
    }
    let handled = next_handled(frame);
    let code = interrupted(frame);
    match &handled {
        None => {
            if let Some(code) = code {
                let block = code == Errno::ERESTART_RESTARTBLOCK;
                let nr = if block { RESTART_SYSCALL } else { frame.error };
                restart(frame, nr);
            }
        }
        Some((_, action)) => {
            if let Some(code) = code {
                let again = code == Errno::ERESTARTNOINTR
                    || code == Errno::ERESTARTSYS && action.has(flag::RESTART);
                if again {
                    restart(frame, frame.error);
                } else {
                    frame.rax = Errno::EINTR.to_ret();
                }
            }
        }
    }
    let saved = task.signals.take_saved();
    let Some((info, action)) = handled else {
        if code.is_some() {
            frame.vector = REWRITTEN;
        }
        if let Some(old) = saved {
            mask::set_blocked(old);
        }
        return;
    };
    // What was to go on after an interruption is not gone on with after a handler.
    *task.restart.lock() = None;
    crate::rseq::on_signal(frame);
    let blocked = task.signals.blocked();
    let signal = info.signal();
    let steps = ptrace::stop::steps_into_handler(frame);
    if frame::push(frame, &info, &action, saved.unwrap_or(blocked)).is_err() {
        if let Some(old) = saved {
            mask::set_blocked(old);
        }
        send::force(SigInfo::kernel(sig::SEGV), signal == sig::SEGV);
        return;
    }
    frame.vector = REWRITTEN;
    let own = if action.has(flag::NODEFER) { 0 } else { bit(signal) };
    mask::set_blocked(blocked | action.mask | own);
    if steps {
        ptrace::stop::in_handler(frame);
    }
}
