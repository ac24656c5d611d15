//! Spinning locks.
//!
//! Test-and-set with PAUSE rather than tickets: critical sections are short, and under a
//! hypervisor a queue of tickets would wait for virtual CPUs that are not running.

use crate::class::{Class, Release};
use crate::contention::{Kind, waiting};
use core::ops::{Deref, DerefMut};
use hal::irq::IrqOff;
use hal::preempt::PreemptGuard;
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// A lock for task context: preemption is off while it is held.
pub struct SpinLock<T: ?Sized> {
    class: Class,
    inner: SpinMutex<T>,
}

/// Holds a [`SpinLock`]. Fields drop in order: first the lock, then preemption returns.
pub struct SpinGuard<'a, T: ?Sized> {
    _release: Release,
    inner: SpinMutexGuard<'a, T>,
    _preempt: PreemptGuard,
}

impl<T> SpinLock<T> {
    /// An open lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self { class: Class::new(), inner: SpinMutex::new(value) }
    }

    /// The value, when nobody can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Spins until the lock is free and takes it.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        let preempt = PreemptGuard::new();
        self.class.waits();
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.contended(),
        };
        self.guard(inner, preempt)
    }

    #[cold]
    #[inline(never)]
    fn contended(&self) -> SpinMutexGuard<'_, T> {
        waiting::<T, _>(Kind::Spin, || self.inner.lock())
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let preempt = PreemptGuard::new();
        Some(self.guard(self.inner.try_lock()?, preempt))
    }

    #[inline(always)]
    fn guard<'a>(
        &'a self,
        inner: SpinMutexGuard<'a, T>,
        preempt: PreemptGuard,
    ) -> SpinGuard<'a, T> {
        let address = core::ptr::from_ref(self).cast::<()>().addr();
        self.class.acquired(address);
        SpinGuard { _release: Release::of(address), inner, _preempt: preempt }
    }

    /// The value, through exclusive access.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    #[track_caller]
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
pub struct IrqLock<T: ?Sized> {
    class: Class,
    inner: SpinMutex<T>,
}

/// Holds an [`IrqLock`]. Fields drop in order: first the lock, then interrupts return.
pub struct IrqGuard<'a, T: ?Sized> {
    _release: Release,
    inner: SpinMutexGuard<'a, T>,
    _irq: IrqOff,
}

impl<T> IrqLock<T> {
    /// An open lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self { class: Class::new(), inner: SpinMutex::new(value) }
    }
}

impl<T: ?Sized> IrqLock<T> {
    /// Spins until the lock is free and takes it.
    ///
    /// While it waits, interrupts are as they were: a CPU that spins here still answers flush
    /// requests, so a holder that waits for such an answer does not wait for ever.
    #[inline]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        self.class.waits_irq();
        let irq = IrqOff::new();
        match self.inner.try_lock() {
            Some(inner) => self.guard(inner, irq),
            None => {
                drop(irq);
                self.contended()
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn contended(&self) -> IrqGuard<'_, T> {
        waiting::<T, _>(Kind::Irq, || self.wait())
    }

    fn wait(&self) -> IrqGuard<'_, T> {
        loop {
            while self.inner.is_locked() {
                core::hint::spin_loop();
            }
            let irq = IrqOff::new();
            if let Some(inner) = self.inner.try_lock() {
                return self.guard(inner, irq);
            }
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let irq = IrqOff::new();
        Some(self.guard(self.inner.try_lock()?, irq))
    }

    #[inline(always)]
    fn guard<'a>(&'a self, inner: SpinMutexGuard<'a, T>, irq: IrqOff) -> IrqGuard<'a, T> {
        let address = core::ptr::from_ref(self).cast::<()>().addr();
        self.class.acquired(address);
        IrqGuard { _release: Release::of(address), inner, _irq: irq }
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
