//! Clocks and the timers of processes.
//!
//! * [`clock`]: clocks by id; [`refine`]: made better after boot. [`sleep`]: waiting for a time of one.
//! * [`itimer`], [`posix`]: timers that send signals; [`cpu_timer`]: to whom, where processor time is
//!   counted. [`worker`]: where they run.

pub mod clock;
mod cpu_timer;
pub mod itimer;
pub mod posix;
mod refine;
pub mod sleep;
pub mod worker;

use crate::sched::timers::{self, TimerId};
use crate::task::Process;
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::timer::{TimerHandle, TimerService};
use sync::Notify;

/// Timers of setitimer, timer_create and alarm.
#[derive(Default)]
pub struct ProcessTimers {
    pub interval: itimer::Timers,
    pub posix: posix::Timers,
}

/// A timer that is armed; dropping it cancels.
pub type Armed = Option<Handle>;

/// An armed timer.
pub struct Handle(TimerId);

impl TimerHandle for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        timers::cancel(self.0);
    }
}

/// Has `target` notified by the worker at monotonic time `deadline`.
pub fn arm(deadline: u64, target: Arc<dyn Notify>) -> Handle {
    Handle(timers::arm_deferred(deadline, target))
}

/// One-shot timers whose targets are notified by the worker.
struct Service;

impl TimerService for Service {
    fn arm(&self, deadline: u64, target: Arc<dyn Notify>) -> Box<dyn TimerHandle> {
        Box::new(arm(deadline, target))
    }
}

/// Registers what the layers below ask of this one, once, when the scheduler runs.
pub fn start() {
    fs::timer::register(&Service);
    crate::signal::fd::register();
    crate::signal::tty::register();
    refine::start();
}

/// The process ends: its timers go.
pub fn on_process_end(process: &Process) {
    itimer::forget(process);
    posix::forget(process);
}
