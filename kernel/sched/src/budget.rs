//! How much of a CPU real-time tasks may take while fair ones wait.
//!
//! 950 ms of each second, as in Linux: a runaway FIFO task leaves enough to kill it.

/// Nanoseconds of a period.
const PERIOD: u64 = 1_000_000_000;

/// Nanoseconds that real-time tasks may have in a period.
const SHARE: u64 = 950_000_000;

/// What real-time tasks have had in the present period.
pub(crate) struct Budget {
    since: u64,
    used: u64,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { since: 0, used: 0 }
    }

    /// Counts `time` of real-time tasks that ended at `now`.
    pub(crate) fn charge(&mut self, time: u64, now: u64) {
        if now.saturating_sub(self.since) >= PERIOD {
            self.since = now - now.saturating_sub(self.since) % PERIOD;
            self.used = 0;
        }
        // What came over from the period before is counted there. Another CPU may have charged up to a
        // later moment already: then there is nothing to count.
        self.used += time.min(now.saturating_sub(self.since));
    }

    /// How much longer real-time tasks may run now; 0 when they have had their share.
    pub(crate) fn left(&self, now: u64) -> u64 {
        if now.saturating_sub(self.since) >= PERIOD {
            SHARE
        } else {
            SHARE.saturating_sub(self.used)
        }
    }

    /// How long until the next period begins.
    pub(crate) fn until_next(&self, now: u64) -> u64 {
        PERIOD.saturating_sub(now.saturating_sub(self.since))
    }
}
