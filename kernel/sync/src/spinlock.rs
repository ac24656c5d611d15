//! Spinning locks.
//!
//! Test-and-set with PAUSE rather than tickets: critical sections are short, and under a
//! hypervisor a queue of tickets would wait for virtual CPUs that are not running.

use core::ops::{Deref, DerefMut};
use hal::preempt::PreemptGuard;
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A lock for task context: preemption is off while it is held.
pub struct SpinLock<T: ?Sized>(SpinMutex<T>);

/// Holds a [`SpinLock`]. Fields drop in order: first the lock, then preemption returns.
pub struct SpinGuard<'a, T: ?Sized> {
    inner: SpinMutexGuard<'a, T>,
    _preempt: PreemptGuard,
}

impl<T> SpinLock<T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// The value, when nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Spins until the lock is free and takes it.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let preempt = PreemptGuard::new();
        SpinGuard { inner: self.0.lock(), _preempt: preempt }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let preempt = PreemptGuard::new();
        Some(SpinGuard { inner: self.0.try_lock()?, _preempt: preempt })
    }

    /// The value, through exclusive access.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A lock that interrupt handlers take too: interrupts are off while it is held.
pub struct IrqLock<T: ?Sized>(SpinMutex<T>);

/// Holds an [`IrqLock`]. Fields drop in order: first the lock, then interrupts return.
pub struct IrqGuard<'a, T: ?Sized> {
    inner: SpinMutexGuard<'a, T>,
    _irq: hal::irq::IrqOff,
}

impl<T> IrqLock<T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }
}

impl<T: ?Sized> IrqLock<T> {
    /// Spins until the lock is free and takes it.
    ///
    /// While it waits, interrupts are as they were: a CPU that spins here still answers flush
    /// requests, so a holder that waits for such an answer does not wait for ever.
    #[inline]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        loop {
            let irq = hal::irq::IrqOff::new();
            if let Some(inner) = self.0.try_lock() {
                return IrqGuard { inner, _irq: irq };
            }
            drop(irq);
            while self.0.is_locked() {
                core::hint::spin_loop();
            }
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let irq = hal::irq::IrqOff::new();
        Some(IrqGuard { inner: self.0.try_lock()?, _irq: irq })
    }
}

impl<T: ?Sized> Deref for IrqGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for IrqGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
