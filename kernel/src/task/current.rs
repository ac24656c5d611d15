//! The running task, and data that only the running task touches.
#![allow(unsafe_code, reason = "the per-CPU pointer and the single-owner cell; see SAFETY")]

use super::{Task, TaskRef};
use alloc::sync::Arc;
use core::cell::{Ref, RefCell, RefMut};
use core::marker::PhantomData;
use core::ops::Deref;
use vm::Mm;

/// Proof that this is the running task; cannot leave its context.
#[derive(Clone, Copy)]
pub struct Current {
    task: &'static Task,
    _stays: PhantomData<*const ()>,
}

/// The running task.
#[inline(always)]
pub fn current() -> Current {
    // SAFETY: the scheduler sets the pointer to the task it switches to, and holds a reference to
    // it until it has switched away; `Current` cannot be sent elsewhere, so it ends before.
    let task = unsafe { &*(hal::percpu::current() as *const Task) };
    Current { task, _stays: PhantomData }
}

/// Makes `task` the running one on this CPU.
pub(crate) fn set_current(task: &TaskRef) {
    // SAFETY: called by the scheduler with interrupts off, right before it switches to the task's
    // stack (or, for an idle task, while it runs on its own).
    unsafe { hal::percpu::set_current(Arc::as_ptr(&task.0) as u64, task.stack_top()) };
}

impl Current {
    /// A counted pointer to the task (which runs, so there is one).
    pub fn handle(self) -> TaskRef {
        // SAFETY: the pointer came from an `Arc` that the scheduler keeps; one count is added.
        unsafe {
            Arc::increment_strong_count(self.task);
            TaskRef(Arc::from_raw(self.task))
        }
    }

    /// Its address space; None for a task of the kernel.
    #[inline]
    pub fn mm(&self) -> Option<Ref<'_, Arc<Mm>>> {
        Ref::filter_map(self.task.own_mm.0.borrow(), Option::as_ref).ok()
    }

    /// Replaces its address space; the old one.
    pub fn set_mm(self, mm: Option<Arc<Mm>>) -> Option<Arc<Mm>> {
        // A switch, which looks at it, must not come in the middle.
        let _irq = hal::irq::IrqOff::new();
        self.task.own_mm.0.replace(mm)
    }

    /// Its saved vector state (stale while it runs in user mode).
    pub fn fpu(&self) -> RefMut<'_, hal::fpu::FpuState> {
        self.task.fpu.0.borrow_mut()
    }
}

impl Deref for Current {
    type Target = Task;
    #[inline(always)]
    fn deref(&self) -> &Task {
        self.task
    }
}

/// A value that only its task touches, while it runs, or the scheduler for it while it does not.
pub struct Own<T>(RefCell<T>);

// SAFETY: accessed through `Current` (by the one running context of the task) and by the scheduler
// between the task's runs, which the run-queue lock and `on_cpu` order after one another.
unsafe impl<T: Send> Sync for Own<T> {}

impl<T> Own<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// For the scheduler: the task is being switched to or from on this CPU.
    pub(crate) fn switching(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }
}

impl Task {
    /// For the scheduler: the address space of the task that is being switched to.
    pub(crate) fn switching_mm(&self) -> Ref<'_, Option<Arc<Mm>>> {
        self.own_mm.0.borrow()
    }
}
