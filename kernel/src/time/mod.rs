//! Clocks and the timers of processes.

/// Timers of setitimer, timer_create and alarm.
#[derive(Default)]
pub struct ProcessTimers {}
