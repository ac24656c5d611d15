//! The sleeping reader-writer lock: many readers or one writer; a waiting writer keeps new readers
//! from joining those who read, so that writers are not starved by a stream of page faults. When a
//! writer is done, those who wait to read have their turn before the next one.
//!
//! Readers and writers wait apart: whoever ends a turn wakes those alone who may have the next. Until
//! they run, whoever does run may have the lock: kept for a sleeper, it would do nothing, and all who
//! come meanwhile would have to sleep too, for ever in a convoy. A writer that was woken in vain
//! twice does not let others in any more.

use crate::WaitQueue;
use crate::cell::LockedCell;
use crate::class::{Class, Release};
use crate::contention::{Kind, waiting};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// State word: number of readers, or this bit for a writer.
const WRITER: u32 = 1 << 31;
/// Set while a writer waits that nobody has woken.
const WANTED: u32 = 1 << 30;
/// Set with [`WANTED`], which then stays, by a writer that was woken in vain.
const INSISTS: u32 = 1 << 29;
/// Attempts of a writer before it insists: as it comes, in the queue, and woken.
const VAIN: u32 = 3;

/// A reader-writer lock whose waiters sleep.
pub struct RwLock<T: ?Sized> {
    class: Class,
    state: AtomicU32,
    readers: WaitQueue,
    writers: WaitQueue,
    value: LockedCell<T>,
}

/// Holds an [`RwLock`] for reading.
pub struct ReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _release: Release,
}
/// Holds an [`RwLock`] for writing.
pub struct WriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _release: Release,
}

impl<T> RwLock<T> {
    /// An open lock around `value`.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Self {
            class: Class::new(),
            state: AtomicU32::new(0),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            value: LockedCell::new(value),
        }
    }
}

impl<T: ?Sized + Sync> RwLock<T> {
    /// Sleeps until no writer holds or wants the lock, and reads.
    #[inline]
    #[cfg_attr(feature = "order", track_caller)]
    pub fn read(&self) -> ReadGuard<'_, T> {
        crate::might_sleep();
        self.class.waits();
        match self.try_read() {
            Some(guard) => guard,
            None => waiting::<T, _>(Kind::Read, || self.readers.wait_until(|| self.try_read())),
        }
    }

    /// Reads if no writer holds or wants the lock.
    #[inline]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | WANTED) == 0 {
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(ReadGuard { lock: self, _release: self.taken() }),
                Err(now) => state = now,
            }
        }
        None
    }

    /// Sleeps until nobody holds the lock, and writes.
    #[inline]
    #[cfg_attr(feature = "order", track_caller)]
    pub fn write(&self) -> WriteGuard<'_, T> {
        crate::might_sleep();
        self.class.waits();
        if self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return WriteGuard { lock: self, _release: self.taken() };
        }
        waiting::<T, _>(Kind::Write, || self.wait_to_write())
    }

    #[inline(always)]
    fn taken(&self) -> Release {
        let address = core::ptr::from_ref(self).cast::<()>().addr();
        self.class.acquired(address);
        Release::of(address)
    }

    fn wait_to_write(&self) -> WriteGuard<'_, T> {
        // One writer at a time: all of them would find it taken, each for every turn. Whoever is
        // woken and finds it so sets WANTED again.
        let mut attempts = 0;
        self.writers.wait_until_exclusive(|| {
            attempts += 1;
            let says = if attempts > VAIN { WANTED | INSISTS } else { WANTED };
            let mut state = self.state.load(Ordering::Relaxed);
            loop {
                // WANTED is cleared by whoever wakes a writer and by the one that gets in; the one
                // that is woken sets it again.
                let won = state & !(WANTED | INSISTS) == 0;
                let new = if won { WRITER } else { state | says };
                match self.state.compare_exchange_weak(
                    state,
                    new,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return won.then(|| WriteGuard { lock: self, _release: self.taken() }),
                    Err(now) => state = now,
                }
            }
        })
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let before = self.lock.state.fetch_sub(1, Ordering::Release);
        // Without WANTED no writer sleeps, or one that was woken is on its way and will set it.
        if before & !INSISTS == WANTED | 1 {
            if before & INSISTS == 0 {
                self.lock.state.fetch_and(!WANTED, Ordering::Relaxed);
            }
            self.lock.writers.wake_one();
        }
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.state.store(0, Ordering::Release);
        self.lock.readers.wake_all();
        self.lock.writers.wake_one();
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.lock.value.shared()
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.lock.value.shared()
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
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
    fn readers_never_see_half_of_a_write() {
        let pair = Arc::new(RwLock::new((0u64, 0u64)));
        let writers = (0..2).map(|_| {
            let pair = pair.clone();
            thread::spawn(move || {
                for _ in 0..10_000 {
                    let mut both = pair.write();
                    both.0 += 1;
                    core::hint::spin_loop();
                    both.1 += 1;
                }
            })
        });
        let readers = (0..2).map(|_| {
            let pair = pair.clone();
            thread::spawn(move || {
                for _ in 0..10_000 {
                    let both = pair.read();
                    let (first, second) = *both;
                    assert_eq!(first, second);
                }
            })
        });
        let all: std::vec::Vec<_> = writers.chain(readers).collect();
        for thread in all {
            thread.join().expect("no panic");
        }
        let both = *pair.read();
        assert_eq!(both, (20_000, 20_000));
    }

    #[test]
    fn a_waiting_writer_keeps_new_readers_out_and_is_followed_by_them() {
        let lock = Arc::new(RwLock::new(0));
        let held = lock.read();
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || *lock.write() += 1)
        };
        while !lock.writers.has_waiters() {
            thread::yield_now();
        }
        assert!(lock.try_read().is_none());
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || *lock.read())
        };
        while !lock.readers.has_waiters() {
            thread::yield_now();
        }
        drop(held);
        assert_eq!(reader.join().expect("no panic"), 1);
        writer.join().expect("no panic");
        assert_eq!(lock.state.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_free_lock_is_not_kept_for_a_sleeper_unless_it_insists() {
        let lock = RwLock::new(());
        for (before, after) in [(WANTED, 0), (WANTED | INSISTS, WANTED | INSISTS)] {
            let held = lock.read();
            lock.state.fetch_or(before, Ordering::Relaxed);
            drop(held);
            assert_eq!(lock.state.load(Ordering::Relaxed), after);
        }
        // A writer that comes is not kept out, and has no reason to keep others out.
        drop(lock.write());
        assert_eq!(lock.state.load(Ordering::Relaxed), 0);
    }
}
