//! An event in its context: its times, its period, its clock's timer, its counter.

use super::counters::HwIndex;
use super::event::{Event, Source};
use crate::sched::timers::{self, Action, TimerId};
use ::perf::attr::flag;
use ::perf::counter::{Period, State, Throttle, Times};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

/// The shortest time between two samples of a clock (Linux: 10 us).
const SHORTEST: u64 = 10_000;

/// An event in its context.
pub struct Slot {
    pub event: Arc<Event>,
    /// The group's leader; itself when it leads.
    pub leader: u64,
    pub times: Times,
    pub period: Period,
    pub throttle: Throttle,
    /// A clock event has counted up to here.
    pub counted: u64,
    pub timer: Option<(TimerId, u64)>,
    /// What was left of the period when the clock was stopped.
    pub left: Option<u64>,
    /// enable_on_exec was not used up.
    pub waits_for_exec: bool,
    /// When the frequency was adapted last.
    pub adapted: u64,
    /// Its group, which needs counters, has them.
    pub placed: bool,
    /// The counter of the hardware that counts it.
    pub hw: Option<HwIndex>,
    /// Periods of the hardware that ran out and are not sampled yet.
    pub due: u64,
    /// Count and time at which the frequency of the hardware was looked at last.
    pub mark: (u64, u64),
}

impl Slot {
    /// `time`: of its context.
    pub fn new(event: &Arc<Event>, time: u64) -> Self {
        let attr = &event.attr;
        let state = if attr.has(flag::DISABLED) { State::Off } else { State::Inactive };
        let rate = event.rate.load(Relaxed);
        let period = if attr.has(flag::FREQ) && event.source != Source::Clock { 1 } else { rate };
        Self {
            event: event.clone(),
            leader: event.leader_id(),
            times: Times::new(state, time),
            period: Period::new(period),
            throttle: Throttle::default(),
            counted: 0,
            timer: None,
            left: None,
            waits_for_exec: attr.has(flag::ENABLE_ON_EXEC),
            adapted: 0,
            placed: false,
            hw: None,
            due: 0,
            mark: (0, 0),
        }
    }

    /// The unit's code of an event of the hardware.
    pub fn code(&self) -> Option<u64> {
        self.event.source.code()
    }

    /// Enabled, and the leader of its group.
    pub fn leads(&self) -> bool {
        self.leader == self.event.id && self.times.state() >= State::Inactive
    }

    /// It is a clock that takes samples.
    pub fn wants_timer(&self) -> bool {
        self.event.attr.is_sampling() && self.event.source == Source::Clock
    }

    /// Nanoseconds between samples of a clock.
    pub fn interval(&self) -> u64 {
        let rate = self.event.rate.load(Relaxed).max(1);
        let ns = if self.event.attr.has(flag::FREQ) { 1_000_000_000 / rate } else { rate };
        ns.max(SHORTEST)
    }

    /// The clock goes on, on this CPU.
    pub fn start_timer(&mut self, now: u64) {
        let left = self.left.take().unwrap_or_else(|| self.interval());
        self.arm(now + left.max(SHORTEST));
    }

    /// The next sample of the clock is at `deadline`.
    pub fn arm(&mut self, deadline: u64) {
        let timer = timers::arm(deadline, Action::Perf(self.event.clone()));
        self.timer = Some((timer, deadline));
    }

    /// The clock stands still.
    pub fn stop_timer(&mut self) {
        if let Some((timer, deadline)) = self.timer.take() {
            timers::cancel(timer);
            self.left = Some(deadline.saturating_sub(hal::time::now()));
        }
    }
}
