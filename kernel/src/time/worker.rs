//! The kernel's worker: what interrupts leave to task context, above all expired timers.
//!
//! Interrupts push, one kernel thread takes. A push is a few instructions under an interrupt lock.

use crate::task::TaskRef;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use fs::tty::Tty;
use sync::{IrqLock, Notify, Once, WaitQueue};

/// Something to do in task context.
enum Work {
    Notify(Arc<dyn Notify>),
    Input(Arc<Tty>),
}

static QUEUE: IrqLock<VecDeque<Work>> = IrqLock::new(VecDeque::new());
static WAITING: WaitQueue = WaitQueue::new();
static WORKER: Once<TaskRef> = Once::new();

fn push(work: Work) {
    QUEUE.lock().push_back(work);
    WAITING.wake_one();
}

/// Has `target` notified in task context.
pub fn push_notify(target: Arc<dyn Notify>) {
    push(Work::Notify(target));
}

/// Has the terminal look at what it received.
pub fn push_tty(tty: &Arc<Tty>) {
    {
        let mut queue = QUEUE.lock();
        let waits = queue.iter().any(|w| matches!(w, Work::Input(t) if Arc::ptr_eq(t, tty)));
        if waits {
            return;
        }
        queue.push_back(Work::Input(tty.clone()));
    }
    WAITING.wake_one();
}

extern "C" fn run(_: u64) -> ! {
    crate::sched::first_run();
    loop {
        let work = WAITING.wait_until(|| QUEUE.lock().pop_front());
        match work {
            Work::Notify(target) => target.notify(),
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
