//! What a lock knows of its class: where it was made, in kernels that check the order of locks, and
//! nothing otherwise.

#[cfg(feature = "order")]
use core::panic::Location;

/// A lock's class.
#[derive(Clone, Copy)]
pub(crate) struct Class {
    #[cfg(feature = "order")]
    place: &'static Location<'static>,
}

impl Class {
    /// The class of locks that are made where the caller is called.
    #[track_caller]
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            #[cfg(feature = "order")]
            place: Location::caller(),
        }
    }

    /// Somebody is about to wait for the lock, which interrupt handlers do not take.
    #[inline(always)]
    pub(crate) fn waits(self) {
        #[cfg(feature = "order")]
        crate::order::waits(self.place, false);
    }

    /// Somebody is about to wait for the lock, which interrupt handlers take, too.
    #[inline(always)]
    pub(crate) fn waits_irq(self) {
        #[cfg(feature = "order")]
        crate::order::waits(self.place, true);
    }

    /// The lock at `address` was taken.
    #[inline(always)]
    pub(crate) fn acquired(self, _address: usize) {
        #[cfg(feature = "order")]
        crate::order::acquired(self.place, _address);
    }
}

/// Says, when it is dropped, that the lock was let go of.
pub(crate) struct Release {
    #[cfg(feature = "order")]
    address: usize,
}

impl Release {
    #[inline(always)]
    pub(crate) fn of(_address: usize) -> Self {
        Self {
            #[cfg(feature = "order")]
            address: _address,
        }
    }
}

#[cfg(feature = "order")]
impl Drop for Release {
    fn drop(&mut self) {
        crate::order::released(self.address);
    }
}
