//! What waiting needs from a scheduler: the kernel registers one at boot, tests use threads.

use crate::Once;
use alloc::sync::Arc;

/// Something that can be woken: a task.
pub trait Park: Send + Sync {
    /// Makes the task runnable if it is parked (or keeps it from parking if it is about to); false
    /// when it was neither.
    fn unpark(&self) -> bool;
}

/// The scheduler as seen by this crate.
pub trait Scheduler: Sync {
    /// The running task's handle.
    fn current(&self) -> Arc<dyn Park>;
    /// Announces that the running task will park: an `unpark` from here on makes the next `park`
    /// return at once. `interruptible`: a signal unparks it as well.
    fn prepare(&self, interruptible: bool);
    /// Sleeps until unparked or until `deadline` (nanoseconds of [`Scheduler::now`]).
    fn park(&self, deadline: Option<u64>);
    /// Takes the announcement of `prepare` back.
    fn finish(&self);
    /// True when the running task has a signal to handle.
    fn interrupted(&self) -> bool;
    /// Monotonic time in nanoseconds.
    fn now(&self) -> u64;
    /// Tells whether who runs may sleep: a task that holds no spinning lock.
    #[cfg(feature = "order")]
    fn may_sleep(&self) -> bool;
    /// The locks that the running task holds.
    #[cfg(feature = "order")]
    fn held(&self, look: &mut dyn FnMut(&crate::order::Held));
}

static SCHEDULER: Once<&'static dyn Scheduler> = Once::new();

/// Registers the kernel's scheduler, once, before anything waits.
pub fn register(scheduler: &'static dyn Scheduler) {
    SCHEDULER.get_or_init(|| scheduler);
}

#[cfg(target_os = "none")]
#[inline]
pub(crate) fn scheduler() -> &'static dyn Scheduler {
    *SCHEDULER.get().expect("waiting before the scheduler is registered")
}

#[cfg(not(target_os = "none"))]
pub(crate) fn scheduler() -> &'static dyn Scheduler {
    *SCHEDULER.get_or_init(|| &threads::Threads)
}

/// Panics in a checked kernel if who runs must not sleep (Linux: `might_sleep()`), also where it would
/// not have to this time. Does nothing in other kernels.
#[track_caller]
#[inline(always)]
pub fn might_sleep() {
    #[cfg(feature = "order")]
    if let Some(scheduler) = SCHEDULER.get() {
        assert!(scheduler.may_sleep(), "might sleep while a spinning lock is held");
    }
}

/// The running task's locks; of nobody before there are tasks.
#[cfg(feature = "order")]
pub(crate) fn with_held(look: &mut dyn FnMut(&crate::order::Held)) {
    if let Some(scheduler) = SCHEDULER.get() {
        scheduler.held(look);
    }
}

/// Monotonic time in nanoseconds.
pub fn now() -> u64 {
    scheduler().now()
}

/// Host threads as tasks.
#[cfg(not(target_os = "none"))]
mod threads {
    use super::{Arc, Park, Scheduler};
    use std::thread::{self, Thread};
    use std::time::{Duration, Instant};

    pub(super) struct Threads;

    struct Handle(Thread);

    impl Park for Handle {
        fn unpark(&self) -> bool {
            self.0.unpark();
            true
        }
    }

    impl Scheduler for Threads {
        fn current(&self) -> Arc<dyn Park> {
            Arc::new(Handle(thread::current()))
        }
        fn prepare(&self, _interruptible: bool) {}
        fn park(&self, deadline: Option<u64>) {
            match deadline {
                None => thread::park(),
                Some(at) => {
                    thread::park_timeout(Duration::from_nanos(at.saturating_sub(self.now())));
                }
            }
        }
        fn finish(&self) {}
        fn interrupted(&self) -> bool {
            false
        }
        fn now(&self) -> u64 {
            static START: crate::Once<Instant> = crate::Once::new();
            START.get_or_init(Instant::now).elapsed().as_nanos() as u64
        }
        #[cfg(feature = "order")]
        fn held(&self, look: &mut dyn FnMut(&crate::order::Held)) {
            std::thread_local! {
                static HELD: crate::order::Held = const { crate::order::Held::new() };
            }
            HELD.with(|held| look(held));
        }
    }
}
