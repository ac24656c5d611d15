//! Signals.

use crate::task::{Process, Task, current};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::trap::TrapFrame;

/// A task's own signal state.
#[derive(Default)]
pub struct TaskSignals {
    /// Something is to be looked at before user mode is entered again.
    pub attention: AtomicBool,
}

/// A process's signal state.
#[derive(Default)]
pub struct ProcessSignals {}

/// True when a sleep of `task` should end: a signal is pending that is not blocked.
pub fn interrupts(task: &Task) -> bool {
    task.signals.attention.load(Ordering::Acquire)
}

/// The signal that a fault raises: number, code, address.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
    pub addr: u64,
}

/// Raises a fault's signal in the running task: it cannot be ignored or blocked away.
pub fn fault(_frame: &TrapFrame, fault: Fault) {
    crate::exit::exit_group(fault.signal | 0x80);
}

/// Delivers what is pending, before user mode (interrupts are on).
pub fn deliver(_frame: &mut TrapFrame) {}

/// Sends a signal of the kernel to a process.
pub fn send_kernel(_process: &Arc<Process>, _signal: i32) {}

/// The process group is ending: its threads leave at the next look.
pub fn kill_threads(process: &Process) {
    for thread in process.threads() {
        if !core::ptr::eq(&*thread, &*current()) {
            thread.signals.attention.store(true, Ordering::Release);
        }
    }
}

/// The process is about to become a zombie (session leaders hang up their terminal).
pub fn on_process_end(_process: &Arc<Process>) {}

/// SIGCHLD is ignored, or has SA_NOCLDWAIT: children are reaped at once.
pub fn ignores_children(_process: &Process) -> bool {
    false
}

/// The signal is ignored.
pub fn is_ignored(_process: &Process, _signal: i32) -> bool {
    false
}

/// Sends the parent what happened to its child.
pub fn send_child_event(
    _parent: &Arc<Process>,
    _child: &Arc<Process>,
    _signal: i32,
    _event: crate::task::process::Event,
) {
}

impl TaskSignals {
    /// The state of a new task: mask inherited, nothing pending. `keep_stack`: the child gets no
    /// alternate stack when it shares memory without vfork.
    pub fn inherit(_parent: &Task, _thread: bool, _drop_stack: bool) -> Self {
        Self::default()
    }
}

impl ProcessSignals {
    /// A new process takes its parent's actions over: a copy, or shared with CLONE_SIGHAND.
    pub fn inherit(&self, _parent: &Self, _clone_flags: u64) {}
}

/// exec: ends the other threads of the group and waits for them. EINTR when the group is ending.
pub fn end_other_threads() -> abi::Result<()> {
    Ok(())
}

/// exec: handlers go back to default, the alternate stack is forgotten, a shared table is copied.
pub fn on_exec() {}
