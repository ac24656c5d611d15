//! The one place of this crate with `unsafe`: cells whose exclusion a sleeping lock, or the protocol
//! of a call, guarantees.
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

    /// The value, through exclusive access to the cell.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// Exclusive access; called only through `&mut` of a guard that holds the lock exclusively.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "exclusion comes from the lock, not from the borrow")]
    pub(crate) fn exclusive(&self) -> &mut T {
        // SAFETY: the guard's lock keeps everyone else out.
        unsafe { &mut *self.0.get() }
    }
}

#[cfg(not(loom))]
type Shared<T> = UnsafeCell<T>;
#[cfg(loom)]
type Shared<T> = loom::cell::UnsafeCell<T>;

/// A value that its owner sets while nobody looks, then shows to others, who say when they have
/// looked. The words around it, which say when, are the caller's: see `call`.
pub(crate) struct PostedCell<T>(Shared<T>);

// SAFETY: between a `set` and the next one the value is only read, and copies go to the readers;
// the protocol around it orders the two (release when it is shown, and when it was looked at).
unsafe impl<T: Copy + Send> Sync for PostedCell<T> {}

impl<T: Copy> PostedCell<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> Self {
        Self(Shared::new(value))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self(Shared::new(value))
    }

    /// By its owner, while nobody may look.
    pub(crate) fn set(&self, value: T) {
        #[cfg(not(loom))]
        // SAFETY: nobody else has access now, as the caller's words say.
        unsafe {
            *self.0.get() = value;
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.0.with_mut(|at| unsafe { *at = value });
    }

    /// By those it is shown to, until they say that they have looked.
    pub(crate) fn get(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the owner does not set it before everybody has looked.
        return unsafe { *self.0.get() };
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        return self.0.with(|at| unsafe { *at });
    }
}
