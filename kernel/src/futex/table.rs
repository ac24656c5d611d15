//! Who waits: a hash table of buckets, as many as the machine has use for.

use super::key::Key;
use crate::task::{TaskRef, current};
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use frames::fallible::{Grow, arc};
use sync::{Once, SpinGuard, SpinLock};

/// Buckets for each CPU.
const PER_CPU: usize = 64;

/// A thread that waits for one word.
pub struct Waiter {
    pub task: TaskRef,
    /// FUTEX_WAIT_BITSET.
    pub bits: u32,
    /// Waits for a PI lock: it owns it when it is woken.
    pub pi: bool,
    /// Taken off the table by whoever woke it.
    pub woken: AtomicBool,
    /// A PI lock's former owner died.
    pub inherited: AtomicBool,
    bucket: AtomicUsize,
}

impl Waiter {
    /// The running thread, not waiting yet.
    /// ENOMEM.
    pub fn new(bits: u32, pi: bool) -> Result<Arc<Self>> {
        arc(Self {
            task: current().handle(),
            bits,
            pi,
            woken: AtomicBool::new(false),
            inherited: AtomicBool::new(false),
            bucket: AtomicUsize::new(0),
        })
    }

    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Wakes its thread. It is off the table.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        crate::sched::wake(&self.task);
    }
}

/// Entries in the order in which they came.
pub type List = Vec<(Key, Arc<Waiter>)>;

#[repr(align(64))]
struct Bucket {
    /// Entries, and threads about to make one: a waker that sees 0 need not take the lock.
    waiters: AtomicUsize,
    list: SpinLock<List>,
}

static TABLE: Once<Vec<Bucket>> = Once::new();

#[inline(always)]
fn table() -> &'static [Bucket] {
    match TABLE.get() {
        Some(table) => table,
        None => make(),
    }
}

#[cold]
fn make() -> &'static [Bucket] {
    TABLE.get_or_init(|| {
        let count = (PER_CPU * crate::boot::cpus::online().count()).next_power_of_two();
        (0..count)
            .map(|_| Bucket { waiters: AtomicUsize::new(0), list: SpinLock::new(Vec::new()) })
            .collect()
    })
}

fn index(key: &Key) -> usize {
    key.hash() & (table().len() - 1)
}

/// A key's bucket, locked.
pub struct Locked {
    at: usize,
    list: SpinGuard<'static, List>,
}

/// Locks the bucket of `key`.
pub fn lock(key: &Key) -> Locked {
    let at = index(key);
    Locked { at, list: table()[at].list.lock() }
}

/// Locks the buckets of two keys; one guard when they share a bucket.
pub fn lock_both(a: &Key, b: &Key) -> (Locked, Option<Locked>) {
    let (ia, ib) = (index(a), index(b));
    if ia == ib {
        return (lock(a), None);
    }
    // Always in rising order.
    if ia < ib {
        let first = lock(a);
        (first, Some(lock(b)))
    } else {
        let second = lock(b);
        (lock(a), Some(second))
    }
}

/// True when somebody may wait for `key`. The word was changed before.
pub fn may_have_waiters(key: &Key) -> bool {
    fence(Ordering::SeqCst);
    table()[index(key)].waiters.load(Ordering::SeqCst) > 0
}

/// Counts a waiter of `key` before the word is looked at; [`Promise::keep`] enters it.
pub struct Promise(usize);

impl Promise {
    pub fn new(key: &Key) -> Self {
        let at = index(key);
        table()[at].waiters.fetch_add(1, Ordering::SeqCst);
        Self(at)
    }

    /// Enters the waiter: the count stays until it is taken off.
    /// ENOMEM.
    pub fn keep(self, list: &mut Locked, key: Key, waiter: &Arc<Waiter>) -> Result<()> {
        list.list.room_for(1)?;
        waiter.bucket.store(list.at, Ordering::Relaxed);
        list.list.push((key, waiter.clone()));
        core::mem::forget(self);
        Ok(())
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        table()[self.0].waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Locked {
    /// The entries.
    pub fn entries(&self) -> &[(Key, Arc<Waiter>)] {
        &self.list
    }

    /// Takes the entry at `at` off.
    pub fn take(&mut self, at: usize) -> Arc<Waiter> {
        table()[self.at].waiters.fetch_sub(1, Ordering::SeqCst);
        self.list.remove(at).1
    }

    /// Moves the entry at `at` to `key`, in `other` or in this bucket itself.
    /// ENOMEM: it is still where it was.
    pub fn requeue(&mut self, at: usize, key: Key, mut other: Option<&mut Self>) -> Result<()> {
        if let Some(other) = &mut other {
            other.list.room_for(1)?;
        }
        let (_, waiter) = self.list.remove(at);
        match other {
            None => self.list.push((key, waiter)),
            Some(other) => {
                table()[self.at].waiters.fetch_sub(1, Ordering::SeqCst);
                table()[other.at].waiters.fetch_add(1, Ordering::SeqCst);
                waiter.bucket.store(other.at, Ordering::Release);
                other.list.push((key, waiter));
            }
        }
        Ok(())
    }

    /// The PI waiter of `key` that comes first: highest real-time priority, then the oldest.
    pub fn first_pi(&self, key: &Key) -> Option<usize> {
        let mut best: Option<(usize, u8)> = None;
        for (at, (k, waiter)) in self.list.iter().enumerate() {
            if k != key || !waiter.pi {
                continue;
            }
            let priority = super::pi::priority(&waiter.task);
            if best.is_none_or(|(_, p)| priority > p) {
                best = Some((at, priority));
            }
        }
        best.map(|(at, _)| at)
    }
}

/// Takes a waiter off wherever it is now; false when somebody has woken it.
pub fn remove(waiter: &Arc<Waiter>) -> bool {
    loop {
        let at = waiter.bucket.load(Ordering::Acquire);
        let mut locked = Locked { at, list: table()[at].list.lock() };
        if waiter.is_woken() {
            return false;
        }
        if let Some(place) = locked.list.iter().position(|(_, w)| Arc::ptr_eq(w, waiter)) {
            locked.take(place);
            return true;
        }
        // It was moved between the two looks.
    }
}
