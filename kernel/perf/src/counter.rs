//! The arithmetic of an event: its states and times, its period, its frequency, its throttling.
//!
//! Clocks are nanoseconds and given by the caller; an event of a task is given its task's own
//! clock, which stands still while the task does not run.

/// What an event is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its task is gone.
    Exit,
    /// Pinned, and could not be on the hardware: reads give 0 bytes.
    Error,
    /// Disabled.
    Off,
    /// Enabled, and waits for its task, its CPU or a counter.
    Inactive,
    /// Counts.
    Active,
}

/// State, and how long it was enabled and counting.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    state: State,
    enabled: u64,
    running: u64,
    stamp: u64,
}

impl Times {
    /// An event made at `now`.
    pub const fn new(state: State, now: u64) -> Self {
        Self { state, enabled: 0, running: 0, stamp: now }
    }

    /// What it is doing.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// Counts the time up to `now`. `with_leader`: false while the group's leader is disabled,
    /// which a member then is too.
    pub fn update(&mut self, now: u64, with_leader: bool) {
        let passed = now.saturating_sub(self.stamp);
        self.stamp = self.stamp.max(now);
        if self.state >= State::Inactive && with_leader {
            self.enabled += passed;
            if self.state == State::Active {
                self.running += passed;
            }
        }
    }

    /// Changes the state at `now`.
    pub fn set_state(&mut self, state: State, now: u64, with_leader: bool) {
        self.update(now, with_leader);
        self.state = state;
    }

    /// Nanoseconds enabled and nanoseconds counting, as of the last update.
    pub fn totals(&self) -> (u64, u64) {
        (self.enabled, self.running)
    }
}

/// When the next sample is due, in events.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// Events between samples.
    pub period: u64,
    /// The period that is running out.
    pub last: u64,
    /// Counts up from minus the period; a sample is due at 0.
    left: i64,
}

impl Period {
    /// The first sample comes after `period` events (at least 1).
    pub fn new(period: u64) -> Self {
        let period = period.max(1);
        Self { period, last: period, left: -(period.min(i64::MAX as u64) as i64) }
    }

    /// Starts over with another period.
    pub fn restart(&mut self, period: u64) {
        *self = Self::new(period);
    }

    /// Counts `n` events; how many periods ran out.
    pub fn add(&mut self, n: u64) -> u64 {
        self.left = self.left.saturating_add(n.min(i64::MAX as u64) as i64);
        if self.left < 0 {
            return 0;
        }
        self.last = self.period;
        let over = (self.left as u64) / self.period + 1;
        let back = over.saturating_mul(self.period).min(i64::MAX as u64) as i64;
        self.left -= back;
        over
    }

    /// Events until the next sample.
    pub fn remaining(&self) -> u64 {
        self.left.unsigned_abs()
    }

    /// Moves the period one step towards `frequency` samples a second, after `count` events in
    /// `ns` nanoseconds. A period that is far too long is cut short.
    pub fn adapt(&mut self, frequency: u64, count: u64, ns: u64) {
        let wanted = wanted_period(frequency, count, ns) as i128;
        let delta = wanted - self.period as i128;
        // An eighth of the way, rounded away from zero, so that it arrives.
        let step = (delta + 7 * delta.signum()) / 8;
        self.period = (self.period as i128 + step).clamp(1, i64::MAX as i128) as u64;
        if self.remaining() > self.period.saturating_mul(8) {
            self.left = -(self.period as i64);
        }
    }
}

/// The period at which `count` events in `ns` nanoseconds give `frequency` samples a second.
pub fn wanted_period(frequency: u64, count: u64, ns: u64) -> u64 {
    let samples = u128::from(ns.max(1)) * u128::from(frequency.max(1));
    let period = u128::from(count) * 1_000_000_000 / samples;
    period.clamp(1, i64::MAX as u128) as u64
}

/// Keeps the rate of samples below a limit, window by window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    window: u64,
    samples: u64,
    throttled: bool,
}

/// What a sample means for the throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Take it.
    Go,
    /// Take it: the event was throttled until now.
    Resume,
    /// Take it; it is the last of this window.
    Stop,
    /// Do not take it.
    Skip,
}

/// Nanoseconds of a window (Linux: a tick).
pub const WINDOW: u64 = 4_000_000;

impl Throttle {
    /// A sample is due at `now`; `max_rate` samples a second are allowed.
    pub fn sample(&mut self, now: u64, max_rate: u64) -> Pace {
        let limit = (max_rate * WINDOW).div_ceil(1_000_000_000).max(1);
        let window = now / WINDOW;
        if window != self.window {
            self.window = window;
            self.samples = 1;
            return if core::mem::take(&mut self.throttled) { Pace::Resume } else { Pace::Go };
        }
        if self.throttled {
            return Pace::Skip;
        }
        self.samples += 1;
        if self.samples > limit {
            self.throttled = true;
            return Pace::Stop;
        }
        Pace::Go
    }

    /// When a throttled event may go on; None when it is not throttled.
    pub fn until(&self) -> Option<u64> {
        self.throttled.then(|| (self.window + 1) * WINDOW)
    }

    /// True when a throttled event goes on from `now` on, though no sample is due.
    pub fn resume(&mut self, now: u64) -> bool {
        let over = self.until().is_some_and(|until| now >= until);
        self.throttled &= !over;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_count_by_state() {
        let mut t = Times::new(State::Off, 100);
        t.update(200, true);
        assert_eq!(t.totals(), (0, 0));
        t.set_state(State::Inactive, 300, true);
        t.set_state(State::Active, 400, true);
        t.update(1000, true);
        assert_eq!(t.totals(), (700, 600));
        t.update(1100, false);
        assert_eq!(t.totals(), (700, 600));
        t.set_state(State::Off, 1200, true);
        t.update(5000, true);
        assert_eq!(t.totals(), (800, 700));
    }

    #[test]
    fn a_frequency_is_reached() {
        // 1e6 events a second at 1000 samples a second: a period of 1000.
        let mut p = Period::new(1);
        for _ in 0..200 {
            let count = p.period;
            p.adapt(1000, count, count * 1000);
        }
        assert!((990..=1010).contains(&p.period), "{}", p.period);
        // The source becomes a hundred times slower.
        for _ in 0..200 {
            let count = p.period;
            p.adapt(1000, count, count * 100_000);
        }
        assert!((9..=11).contains(&p.period), "{}", p.period);
        assert!(p.remaining() <= p.period * 8);
    }

    #[test]
    fn the_throttle_stops_and_goes_on() {
        let mut t = Throttle::default();
        let start = 7 * WINDOW;
        assert_eq!(t.sample(start, 1000), Pace::Go);
        for _ in 0..3 {
            assert_eq!(t.sample(start + 1, 1000), Pace::Go);
        }
        assert_eq!(t.sample(start + 2, 1000), Pace::Stop);
        assert_eq!(t.until(), Some(8 * WINDOW));
        assert_eq!(t.sample(start + 3, 1000), Pace::Skip);
        assert_eq!(t.sample(8 * WINDOW, 1000), Pace::Resume);
        assert_eq!(t.until(), None);
        // A counter that stands still has no sample to come back with.
        while t.sample(9 * WINDOW, 1000) != Pace::Stop {}
        assert!(!t.resume(9 * WINDOW + 1) && t.resume(10 * WINDOW) && !t.resume(10 * WINDOW));
        assert_eq!(t.sample(10 * WINDOW, 1000), Pace::Go);
    }

    proptest! {
        #[test]
        fn samples_are_events_by_period(period in 1u64..1000, steps in proptest::collection::vec(1u64..5000, 1..50)) {
            let mut p = Period::new(period);
            let total: u64 = steps.iter().sum();
            let over: u64 = steps.iter().map(|&n| p.add(n)).sum();
            prop_assert_eq!(over, total / period);
            prop_assert!(p.remaining() >= 1 && p.remaining() <= period);
        }

        #[test]
        fn adaptation_never_leaves_its_range(f in 0u64..1_000_000, count: u64, ns: u64, start in 1u64..u64::MAX / 2) {
            let mut p = Period::new(start);
            p.adapt(f, count, ns);
            prop_assert!(p.period >= 1 && p.period <= i64::MAX as u64);
        }
    }
}
