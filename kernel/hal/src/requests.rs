//! What other CPUs ask of one: bits of a word, so that nothing is lost when interrupts merge.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

/// A CPU's pending requests.
#[derive(Debug)]
pub struct Requests(AtomicU64);

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Requests {
    /// None.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// None.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Asks for number `what`. True when nothing was pending: then the caller sends the interrupt;
    /// whoever found the word empty before has sent one that is still to be taken.
    #[inline]
    pub fn ask(&self, what: u64) -> bool {
        self.0.fetch_or(1 << what, Ordering::AcqRel) == 0
    }

    /// In the interrupt: all that is pending, a bit for each number.
    #[inline]
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::AcqRel)
    }
}
