//! The one place of this crate with `unsafe`: a cell whose exclusion a sleeping lock guarantees.
#![allow(unsafe_code, reason = "the cell under the sleeping locks; see each SAFETY comment")]

use core::cell::UnsafeCell;

/// A value that is accessed only while the lock around it is held.
pub(crate) struct LockedCell<T: ?Sized>(UnsafeCell<T>);

// SAFETY: the locks built on this cell hand out references under reader/writer exclusion, so
// sharing it needs only that the value may move between threads (and be shared, for readers: the
// reader-writer lock asks for `Sync` itself).
unsafe impl<T: ?Sized + Send> Sync for LockedCell<T> {}

impl<T> LockedCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
}

impl<T: ?Sized> LockedCell<T> {
    /// Shared access; called only by a guard that holds the lock (shared or exclusive).
    #[inline(always)]
    pub(crate) fn shared(&self) -> &T {
        // SAFETY: the guard's lock keeps writers out.
        unsafe { &*self.0.get() }
    }

    /// Exclusive access; called only through `&mut` of a guard that holds the lock exclusively.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "exclusion comes from the lock, not from the borrow")]
    pub(crate) fn exclusive(&self) -> &mut T {
        // SAFETY: the guard's lock keeps everyone else out.
        unsafe { &mut *self.0.get() }
    }
}
