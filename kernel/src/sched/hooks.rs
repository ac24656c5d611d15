//! The scheduler as the `sync` crate sees it: parking and unparking.

use super::timers::{self, Action};
use crate::task::{State, Task, current};
use alloc::sync::Arc;
use sync::hooks::{Park, Scheduler};

/// Registered once at boot.
pub struct Hooks;

impl Park for Task {
    fn unpark(&self) -> bool {
        self.handle().is_some_and(|task| super::wake(&task))
    }
}

impl Scheduler for Hooks {
    fn current(&self) -> Arc<dyn Park> {
        current().handle().0
    }
    fn prepare(&self, interruptible: bool) {
        let state = if interruptible { State::Interruptible } else { State::Uninterruptible };
        current().run_state.set_state(state);
    }
    fn park(&self, deadline: Option<u64>) {
        match deadline {
            None => super::schedule(),
            Some(at) => {
                let timer = timers::arm(at, Action::Wake(current().handle()));
                super::schedule();
                timers::cancel(timer);
            }
        }
    }
    fn finish(&self) {
        current().run_state.set_runnable();
    }
    fn interrupted(&self) -> bool {
        crate::signal::interrupts(&current())
    }
    fn now(&self) -> u64 {
        hal::time::now()
    }
    #[cfg(feature = "checks")]
    fn may_sleep(&self) -> bool {
        hal::percpu::current() == 0
            || hal::percpu::preempt_state().0 == 0 && !hal::percpu::in_interrupt()
    }
    #[cfg(feature = "checks")]
    fn held(&self, look: &mut dyn FnMut(&sync::order::Held)) {
        // Scheduling begins before the first task is named.
        if hal::percpu::current() != 0 {
            look(&current().held);
        }
    }
}
