//! The kernel's worker: what interrupts leave to task context, above all expired timers.
//!
//! Interrupts say what there is to do, one kernel thread does it. They find no memory for that: timers
//! stay in their CPU's queue, events are chained through themselves, and of terminals there are few.

use crate::chain::Chain;
use crate::perf::event::{Event, Telling};
use crate::sched::timers;
use crate::task::TaskRef;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use fs::tty::Tty;
use numa::{AtomicCpuMask, CpuId};
use sync::{IrqLock, Notify, Once, WaitQueue};

/// Something to do in task context.
enum Work {
    /// Timers of a CPU are due.
    Timers(CpuId),
    /// A signal of a performance event is to be sent.
    Event(Arc<Event>),
    Input(Arc<Tty>),
}

static DUE: AtomicCpuMask = AtomicCpuMask::new();
static EVENTS: IrqLock<Chain<Event, Telling>> = IrqLock::new(Chain::new());
static TTYS: IrqLock<VecDeque<Arc<Tty>>> = IrqLock::new(VecDeque::new());
static WAITING: WaitQueue = WaitQueue::new();
static WORKER: Once<TaskRef> = Once::new();

/// Timers of `cpu` are due.
pub fn timers_due(cpu: CpuId) {
    DUE.set(cpu, Ordering::AcqRel);
    WAITING.wake_one();
}

/// Has a performance event notified in task context. It is not being notified already.
pub fn push_event(event: Arc<Event>) {
    EVENTS.lock().push(event);
    WAITING.wake_one();
}

/// Has the terminal look at what it received.
pub fn push_tty(tty: &Arc<Tty>) {
    {
        let mut ttys = TTYS.lock();
        if ttys.iter().any(|waiting| Arc::ptr_eq(waiting, tty)) {
            return;
        }
        ttys.push_back(tty.clone());
    }
    WAITING.wake_one();
}

/// What is to be done next.
fn next() -> Option<Work> {
    if let Some(cpu) = DUE.load(Ordering::Acquire).iter().next() {
        // Cleared first: what is due from now on is told anew.
        DUE.clear(cpu, Ordering::AcqRel);
        return Some(Work::Timers(cpu));
    }
    if let Some(event) = EVENTS.lock().pop() {
        return Some(Work::Event(event));
    }
    TTYS.lock().pop_front().map(Work::Input)
}

extern "C" fn run(_: u64) -> ! {
    crate::sched::first_run();
    loop {
        match WAITING.wait_until(next) {
            Work::Timers(cpu) => {
                while let Some(target) = timers::take_due(cpu) {
                    target.notify();
                }
            }
            Work::Event(event) => event.notify(),
            Work::Input(tty) => tty.process_input(),
        }
    }
}

/// Starts it, once, after the first process was made (which has id 1).
pub fn start() {
    WORKER.get_or_init(|| {
        let everywhere = crate::boot::cpus::online();
        crate::clone::spawn_kernel("kworker", everywhere, run, 0)
            .expect("no memory for the kernel's worker")
    });
}
