//! Performance events: perf_event_open(2) over the running kernel.
//!
//! The rules and the formats are the `perf` crate's. Here are the events ([`event`]), the contexts
//! that hold them, one for each observed task and one for each CPU ([`context`]), the hardware's
//! counters ([`hw`], `counters`), the samples ([`sample`]), the records beside them ([`sideband`]), the buffers ([`buffer`]) and descriptors
//! ([`file`]).
//!
//! The rest of the kernel calls the hooks below. With no event open a hook is one relaxed load of a
//! word that nobody writes. Locks: a context's, then a buffer's; both are leaves under the
//! scheduler's, so readers are woken from an interrupt that the CPU sends to itself.

pub mod buffer;
pub mod context;
mod counters;
pub mod event;
pub mod file;
pub mod hw;
pub mod model;
pub mod notify;
pub mod numa;
pub mod open;
pub mod sample;
pub mod settings;
pub mod sideband;
mod slot;

use crate::task::{Task, TaskRef};
use ::perf::attr::software;
use abi::Result;
use alloc::sync::Arc;
use context::Context;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use event::Source;
use frames::fallible::ready_arc;
use hal::trap::TrapFrame;
use sample::Regs;
use sync::IrqLock;

/// Open events of any kind.
pub static EVENTS: AtomicU32 = AtomicU32::new(0);
/// Open events of the hardware.
pub static HARDWARE: AtomicU32 = AtomicU32::new(0);
/// Open software events, by number.
static SOFT: [AtomicU32; software::MAX as usize] =
    [const { AtomicU32::new(0) }; software::MAX as usize];
/// Open events that want records beside samples.
pub static SIDE: AtomicU32 = AtomicU32::new(0);

/// What a task keeps for its events.
#[derive(Default)]
pub struct TaskPerf {
    context: IrqLockedContext,
    /// There is a context: looked at without the lock.
    has: AtomicBool,
    /// Migrations that were counted already.
    migrations: AtomicU64,
    /// Address of the page fault that is being served, for events on pages.
    pub fault: AtomicU64,
}

struct IrqLockedContext(IrqLock<Option<Arc<Context>>>);

impl Default for IrqLockedContext {
    fn default() -> Self {
        Self(IrqLock::new(None))
    }
}

impl TaskPerf {
    /// The task's context, if it ever had an event.
    pub fn context(&self) -> Option<Arc<Context>> {
        if self.has.load(Relaxed) { self.context.0.lock().clone() } else { None }
    }

    /// Takes the context away from a task that ends.
    fn take(&self) -> Option<Arc<Context>> {
        self.has.store(false, Relaxed);
        self.context.0.lock().take()
    }

    /// The task's context, made if need be. ENOMEM.
    pub fn context_or_new(&self, task: &TaskRef) -> Result<Arc<Context>> {
        ready_arc::<Context>()?;
        let mut slot = self.context.0.lock();
        let context = slot.get_or_insert_with(|| Context::of_task(task));
        self.has.store(true, Relaxed);
        Ok(context.clone())
    }
}

/// True when any event is open.
#[inline(always)]
pub fn any() -> bool {
    EVENTS.load(Relaxed) != 0
}

/// True when records beside samples are wanted.
#[inline(always)]
pub fn wants_side() -> bool {
    SIDE.load(Relaxed) != 0
}

/// A software event happened `n` times in the running task. `frame`: the registers that it is
/// about; none when it is about its caller in the kernel.
#[inline(always)]
pub fn software(number: u64, n: u64, frame: Option<&TrapFrame>, addr: u64) {
    if SOFT[number as usize].load(Relaxed) != 0 {
        happened(Source::Soft(number), n, frame, addr);
    }
}

#[cold]
#[inline(never)]
fn happened(source: Source, n: u64, frame: Option<&TrapFrame>, addr: u64) {
    let task = crate::task::current();
    let regs = Regs::of(frame);
    context::count(&task, source, n, &regs, &sample::Extra { addr, ..Default::default() });
}

/// A page fault begins: events on pages learn the address.
#[inline(always)]
pub fn fault_begins(task: &Task, addr: u64) {
    if any() {
        task.perf.fault.store(addr, Relaxed);
    }
}

/// A page fault is over; `served`: there is a page now.
#[inline(always)]
pub fn fault_ends(task: &Task, frame: &TrapFrame, addr: u64, served: bool) {
    if any() {
        task.perf.fault.store(0, Relaxed);
        software(software::PAGE_FAULTS, 1, Some(frame), addr);
        if served {
            software(software::PAGE_FAULTS_MIN, 1, Some(frame), addr);
        }
    }
}

/// `prev` gives the CPU to `next`. Interrupts are off, `prev` is still the running task.
#[inline(always)]
pub fn leaves(prev: &Task, next: &Task, preempted: bool) {
    if any() {
        context::task_leaves(prev, next, preempted);
    }
}

/// `next` has the CPU now and runs on its own stack. Interrupts are off.
#[inline(always)]
pub fn enters(prev: &Task) {
    if any() {
        context::task_enters(prev);
    }
}

/// See `counters`.
pub fn tick() {
    counters::tick();
}

/// Remembers what an interrupt interrupted, for the timers that it may fire.
#[inline(always)]
pub fn interrupted(frame: &TrapFrame) {
    if any() {
        sample::remember(frame);
    }
}

/// The running task's events that are inherited begin in `child` too, which has not run yet. ENOMEM.
#[inline(always)]
pub fn on_clone(child: &TaskRef, thread: bool) -> Result<()> {
    if any() { event::inherit(child, thread) } else { Ok(()) }
}

/// `child` will never run.
pub fn on_abandon(child: &TaskRef) {
    if any() {
        event::abandon(child);
    }
}

/// `child` was made and may run from now on.
#[inline(always)]
pub fn on_fork(child: &TaskRef) {
    if wants_side() {
        sideband::task(child, false);
    }
}

/// The running task ends.
pub fn on_exit() {
    let task = crate::task::current();
    if wants_side() {
        sideband::task(&task.handle(), true);
    }
    if any()
        && let Some(context) = task.perf.take()
    {
        event::task_ends(&task, &context);
    }
}

/// The running task executes another program, which is mapped already.
pub fn on_exec() {
    if any() {
        let task = crate::task::current();
        if let Some(context) = task.perf.context() {
            event::enable_on_exec(&context);
        }
        sideband::comm(&task, true);
        sideband::whole_map();
    }
}

/// Takes the running task's events away: it became what their owner may not look into.
pub fn forget() {
    let task = crate::task::current();
    if any()
        && let Some(context) = task.perf.take()
    {
        event::task_ends(&task, &context);
    }
}

/// A task's name changed.
#[inline]
pub fn on_rename(task: &Task) {
    if wants_side() {
        sideband::comm(task, false);
    }
}

/// Something was mapped at `addr`, or its access changed.
#[inline]
pub fn on_map(addr: u64) {
    if wants_side() {
        sideband::mapped(addr);
    }
}

fn tally(source: &Source, by: i32) {
    let add = |cell: &AtomicU32| {
        if by > 0 {
            cell.fetch_add(1, Relaxed)
        } else {
            cell.fetch_sub(1, Relaxed)
        };
    };
    match *source {
        Source::Soft(number) => add(&SOFT[number as usize]),
        Source::Numa(which) => numa::tally(which, &add),
        Source::Hardware(_) => add(&HARDWARE),
        _ => {}
    }
}
