//! References to a frame: a count that a migration can freeze.
//!
//! Over any kind of atomic word, so that the crates above check their protocols under loom with the
//! very code that counts frames.

use core::sync::atomic::{AtomicU32, Ordering};

/// An atomic word.
pub trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    /// Adds; the value before.
    fn add(&self, by: u32, order: Ordering) -> u32;
    /// Subtracts; the value before.
    fn sub(&self, by: u32, order: Ordering) -> u32;
    /// Replaces `old`, with acquire and release; the value that was there otherwise.
    fn exchange(&self, old: u32, new: u32) -> Result<u32, u32>;
}

impl Word for AtomicU32 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }
    #[inline(always)]
    fn store(&self, value: u32, order: Ordering) {
        self.store(value, order);
    }
    #[inline(always)]
    fn add(&self, by: u32, order: Ordering) -> u32 {
        self.fetch_add(by, order)
    }
    #[inline(always)]
    fn sub(&self, by: u32, order: Ordering) -> u32 {
        self.fetch_sub(by, order)
    }
    #[inline(always)]
    fn exchange(&self, old: u32, new: u32) -> Result<u32, u32> {
        self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
    }
}

/// The count.
#[derive(Debug)]
#[repr(transparent)]
pub struct Refs<W = AtomicU32>(W);

impl<W: Word> Refs<W> {
    /// Around a word that holds the number.
    pub const fn new(word: W) -> Self {
        Self(word)
    }

    /// How many there are.
    #[inline(always)]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the number, by the only one who knows the frame.
    #[inline(always)]
    pub fn set(&self, n: u32) {
        self.0.store(n, Ordering::Release);
    }

    /// One more; the caller has one already.
    #[inline(always)]
    pub fn get(&self) {
        self.0.add(1, Ordering::Relaxed);
    }

    /// One more unless there is none (free, or frozen by a migration).
    #[inline(always)]
    pub fn try_get(&self) -> bool {
        let mut n = self.0.load(Ordering::Relaxed);
        while n > 0 {
            match self.0.exchange(n, n + 1) {
                Ok(_) => return true,
                Err(now) => n = now,
            }
        }
        false
    }

    /// One less; true when it was the last.
    #[inline(always)]
    pub fn put(&self) -> bool {
        self.0.sub(1, Ordering::AcqRel) == 1
    }

    /// Takes all away at once if there are exactly `expected`: nobody else can gain one until
    /// [`Refs::unfreeze`].
    #[inline(always)]
    pub fn freeze(&self, expected: u32) -> bool {
        self.0.exchange(expected, 0).is_ok()
    }

    /// Gives `n` back after [`Refs::freeze`].
    #[inline(always)]
    pub fn unfreeze(&self, n: u32) {
        self.set(n);
    }
}
