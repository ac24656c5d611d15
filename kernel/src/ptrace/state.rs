//! What a task keeps as a tracee, and a process as a tracer.

use crate::signal::SigInfo;
use crate::task::{Creds, State, Task, TaskRef};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use hal::trap::TrapFrame;
use ptrace::{Tracee, debug};
use sync::{SpinGuard, SpinLock};

/// RFLAGS.TF.
pub const TRAP_FLAG: u64 = 0x100;

/// A task that is traced.
pub struct Traced {
    pub state: Tracee<SigInfo>,
    pub tracer: TaskRef,
    /// The tracer's credentials when it attached: what they allow counts at an exec.
    pub creds: Arc<Creds>,
    /// The tracee's registers, in a stop.
    pub frame: TrapFrame,
    /// The trap flag in them is its tracer's (PTRACE_SINGLESTEP), not the program's own.
    pub forced_step: bool,
}

impl Traced {
    /// A task that `tracer` traces from now on.
    pub fn new(state: Tracee<SigInfo>, tracer: TaskRef, creds: Arc<Creds>) -> Self {
        Self { state, tracer, creds, frame: TrapFrame::default(), forced_step: false }
    }

    /// Has the tracee go by one instruction, or no more.
    pub fn set_step(&mut self, steps: bool) {
        if steps && self.frame.rflags & TRAP_FLAG == 0 {
            self.frame.rflags |= TRAP_FLAG;
            self.forced_step = true;
        } else if !steps && core::mem::take(&mut self.forced_step) {
            self.frame.rflags &= !TRAP_FLAG;
        }
    }
}

/// Under the tracee's lock.
#[derive(Default)]
pub struct Inner {
    /// As it is traced now.
    pub now: Option<Box<Traced>>,
    /// As it was traced by who let it go: what the tracee takes out of the stop that this ended.
    pub left: Option<Box<Traced>>,
}

/// A task's side of being traced.
#[derive(Default)]
pub struct TaskTrace {
    /// It has a tracer: for who asks without the lock.
    traced: AtomicBool,
    inner: SpinLock<Inner>,
    /// What a CPU has to load for it: bits of [`super::special`].
    pub special: AtomicU32,
    /// Its debug registers.
    pub debug: SpinLock<debug::Registers>,
    /// Of those what the switch loads: four addresses and DR7.
    pub armed: [AtomicU64; 5],
}

impl TaskTrace {
    /// It has a tracer.
    #[inline]
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Acquire)
    }

    /// Locks it.
    pub fn lock(&self) -> SpinGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Notes whether it has a tracer, as its locked state says.
    pub fn publish(&self, inner: &Inner) {
        self.traced.store(inner.now.is_some(), Ordering::Release);
    }

    /// The id of the thread that traces it; 0 for none.
    pub fn tracer_tid(&self) -> i32 {
        if !self.is_traced() {
            return 0;
        }
        self.lock().now.as_ref().map_or(0, |traced| traced.tracer.tid())
    }

    /// The thread that traces it.
    pub fn tracer(&self) -> Option<TaskRef> {
        if !self.is_traced() {
            return None;
        }
        self.lock().now.as_ref().map(|traced| traced.tracer.clone())
    }
}

/// Wakes a task that stands in a stop, to look whether that has ended. Its trace is locked.
pub fn wake(task: &TaskRef) {
    crate::sched::wake_if(task, |state| state == State::Traced);
}

/// A task sleeps in its stop, and nobody wakes it as long as its trace is locked, as it is.
pub fn is_asleep(task: &Task) -> bool {
    let slot = task.entity.lock();
    task.state() == State::Traced && slot.is_some() && task.run_state.is_off_cpu()
}

/// One of a process's tracees.
pub struct Entry {
    pub task: TaskRef,
    /// It has ended: what is left waits for wait(2).
    pub ended: bool,
}

/// The tracees of a process's threads, by their ids. Changed with `table::TREE` locked.
#[derive(Default)]
pub struct Tracees(pub SpinLock<BTreeMap<i32, Entry>>);

impl Tracees {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The first with an id above `after`, and whether it has ended.
    pub fn next(&self, after: i32) -> Option<(i32, TaskRef, bool)> {
        let entries = self.0.lock();
        let (&tid, entry) = entries.range(after.saturating_add(1)..).next()?;
        Some((tid, entry.task.clone(), entry.ended))
    }

    /// The one with this id, and whether it has ended.
    pub fn get(&self, tid: i32) -> Option<(TaskRef, bool)> {
        self.0.lock().get(&tid).map(|entry| (entry.task.clone(), entry.ended))
    }

    /// Takes the one with this id out.
    pub fn remove(&self, tid: i32) -> Option<Entry> {
        self.0.lock().remove(&tid)
    }
}
