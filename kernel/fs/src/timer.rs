//! The timer service: how descriptors learn that a moment has come.
//!
//! The kernel registers one; on the host threads stand in. `notify` is called where spinlocks of
//! task context may be taken (a kernel thread, or the way out of an interrupt), not in the
//! interrupt itself.

use alloc::boxed::Box;
use alloc::sync::Arc;
use sync::{Notify, Once};

/// An armed timer. Dropping it cancels: after that no new notification begins.
pub trait TimerHandle: Send + Sync {}

/// One-shot timers on the monotonic clock.
pub trait TimerService: Sync {
    /// Has `target` notified at or after `deadline` (ns of [`sync::hooks::now`]), once.
    fn arm(&self, deadline: u64, target: Arc<dyn Notify>) -> Box<dyn TimerHandle>;
}

static SERVICE: Once<&'static dyn TimerService> = Once::new();

/// Registers the kernel's timers, once.
pub fn register(service: &'static dyn TimerService) {
    SERVICE.get_or_init(|| service);
}

/// Arms a timer. Without a service (too early in boot) nothing would ever come: that is a bug.
#[cfg(target_os = "none")]
pub fn arm(deadline: u64, target: Arc<dyn Notify>) -> Box<dyn TimerHandle> {
    SERVICE.get().expect("timer before the timer service is registered").arm(deadline, target)
}

/// Arms a timer, on the host by a thread when no service is registered.
#[cfg(not(target_os = "none"))]
pub fn arm(deadline: u64, target: Arc<dyn Notify>) -> Box<dyn TimerHandle> {
    SERVICE.get_or_init(|| &host::Threads).arm(deadline, target)
}

#[cfg(not(target_os = "none"))]
mod host {
    use super::{Arc, Box, Notify, TimerHandle, TimerService};
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    /// A thread per timer.
    pub(super) struct Threads;

    struct Handle {
        cancelled: Arc<AtomicBool>,
        thread: thread::Thread,
    }

    impl TimerHandle for Handle {}
    impl Drop for Handle {
        fn drop(&mut self) {
            self.cancelled.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }

    impl TimerService for Threads {
        fn arm(&self, deadline: u64, target: Arc<dyn Notify>) -> Box<dyn TimerHandle> {
            let cancelled = Arc::new(AtomicBool::new(false));
            let seen = cancelled.clone();
            let thread = thread::spawn(move || {
                loop {
                    let left = deadline.saturating_sub(sync::hooks::now());
                    if seen.load(Ordering::Acquire) {
                        return;
                    }
                    if left == 0 {
                        return target.notify();
                    }
                    thread::park_timeout(Duration::from_nanos(left));
                }
            });
            Box::new(Handle { cancelled, thread: thread.thread().clone() })
        }
    }
}
