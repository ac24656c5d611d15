//! The sleeping mutex.

use crate::WaitQueue;
use crate::cell::LockedCell;
use crate::class::{Class, Release};
use crate::contention::{Kind, waiting};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A mutual-exclusion lock whose waiters sleep. Not for interrupt context.
pub struct Mutex<T: ?Sized> {
    class: Class,
    locked: AtomicBool,
    waiters: WaitQueue,
    value: LockedCell<T>,
}

/// Holds a [`Mutex`].
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    _release: Release,
}

impl<T> Mutex<T> {
    /// An open mutex around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            class: Class::new(),
            locked: AtomicBool::new(false),
            waiters: WaitQueue::new(),
            value: LockedCell::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Sleeps until the mutex is free and takes it.
    #[inline]
    #[cfg_attr(feature = "order", track_caller)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        crate::might_sleep();
        self.class.waits();
        match self.try_lock() {
            Some(guard) => guard,
            None => waiting::<T, _>(Kind::Mutex, || {
                // One at a time: all of them would find it taken, each for every turn.
                self.waiters.wait_until_exclusive(|| self.try_lock())
            }),
        }
    }

    /// The value, through exclusive access to the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Takes the mutex if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| {
                let address = core::ptr::from_ref(self).cast::<()>().addr();
                self.class.acquired(address);
                MutexGuard { lock: self, _release: Release::of(address) }
            })
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
        self.lock.waiters.wake_one();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.lock.value.shared()
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.lock.value.exclusive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn contended_increments_are_not_lost() {
        let counter = Arc::new(Mutex::new(0u64));
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                let counter = counter.clone();
                thread::spawn(move || {
                    for _ in 0..20_000 {
                        let mut guard = counter.lock();
                        let seen = *guard;
                        core::hint::spin_loop();
                        *guard = seen + 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(*counter.lock(), 80_000);
    }
}
