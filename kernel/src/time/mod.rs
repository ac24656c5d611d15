//! Clocks and the timers of processes.

pub mod worker;

use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::timer::{TimerHandle, TimerService};
use crate::sched::timers::{self, Action, TimerId};
use sync::Notify;

/// Timers of setitimer, timer_create and alarm.
#[derive(Default)]
pub struct ProcessTimers {}

/// One-shot timers whose targets are notified by the worker.
struct Service;

struct Handle(TimerId);

impl TimerHandle for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        timers::cancel(self.0);
    }
}

impl TimerService for Service {
    fn arm(&self, deadline: u64, target: Arc<dyn Notify>) -> Box<dyn TimerHandle> {
        Box::new(Handle(timers::arm(deadline, Action::Notify(target))))
    }
}

/// Registers what the layers below ask of this one, once, when the scheduler runs.
pub fn start() {
    fs::timer::register(&Service);
    crate::signal::fd::register();
    crate::signal::tty::register();
}
