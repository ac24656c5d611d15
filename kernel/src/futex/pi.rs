//! Locks with priority inheritance: the word holds the owner's thread id.
//!
//! Unlocking hands the lock to the first waiter: highest real-time priority, then the oldest. While
//! somebody waits, the owner runs with the highest real-time priority among its waiters, and so do
//! the owners that it waits for in turn.

use super::key::{self, Key};
use super::table::{self, Promise, Waiter};
use super::{OWNER_DIED, TID_MASK, WAITERS, wait};
use crate::task::{Task, TaskRef, current, table as tasks};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hal::VirtAddr;
use sched::{Class, Params};
use sync::SpinLock;

/// Owners of owners that inherit: a longer chain than that is a ring.
const MAX_CHAIN: usize = 32;

/// What a task has to do with PI locks.
#[derive(Default)]
pub struct PiState {
    inner: SpinLock<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Its own parameters while it runs with inherited ones.
    own: Option<Params>,
    /// Locks that it holds and others wait for.
    held: Vec<Key>,
    /// The owner of the lock that it waits for.
    waits_for: Option<TaskRef>,
}

impl PiState {
    /// Its own parameters while it runs with inherited ones.
    pub fn own_params(&self) -> Option<Params> {
        self.inner.lock().own
    }

    /// The program sets its parameters while it runs with inherited ones: they count later.
    pub fn set_own_params(&self, params: Params) -> bool {
        let mut inner = self.inner.lock();
        if inner.own.is_some() {
            inner.own = Some(params);
        }
        inner.own.is_some()
    }
}

/// Real-time priority; 0 for the fair class.
pub fn priority(task: &TaskRef) -> u8 {
    let (_, params) = crate::sched::stats_of(task);
    params.class.rt_priority().unwrap_or(0)
}

/// Serializes changes of inherited priorities. Taken before buckets.
static CHAINS: SpinLock<()> = SpinLock::new(());

/// Has the owner that `waiter` waits for inherit its priority, and whom that one waits for too.
fn boost_chain(waiter: &TaskRef) {
    let _chains = CHAINS.lock();
    let mut next = waiter.pi.inner.lock().waits_for.clone();
    for _ in 0..MAX_CHAIN {
        let Some(owner) = next else { return };
        if !adjust(&owner) {
            return;
        }
        next = owner.pi.inner.lock().waits_for.clone();
    }
}

/// Has `task` inherit from the waiters of the locks that it holds now.
fn settle(task: &TaskRef) {
    let _chains = CHAINS.lock();
    adjust(task);
}

/// Sets what `task` should run with; true when that changed.
fn adjust(task: &TaskRef) -> bool {
    let held = task.pi.inner.lock().held.clone();
    let mut highest = 0;
    for key in held {
        let list = table::lock(&key);
        if let Some(at) = list.first_pi(&key) {
            highest = highest.max(priority(&list.entries()[at].1.task));
        }
    }
    let (_, present) = crate::sched::stats_of(task);
    let mut inner = task.pi.inner.lock();
    let own = inner.own.unwrap_or(present);
    let inherits = highest > own.class.rt_priority().unwrap_or(0);
    inner.own = inherits.then_some(own);
    drop(inner);
    let class = if inherits { Class::Fifo { priority: highest } } else { own.class };
    let wanted = Params { class, ..own };
    if wanted == present {
        return false;
    }
    crate::sched::set_params(task, wanted);
    true
}

fn add_held(task: &Task, key: Key) {
    let mut inner = task.pi.inner.lock();
    if !inner.held.contains(&key) {
        inner.held.push(key);
    }
}

fn drop_held(task: &Task, key: &Key) {
    task.pi.inner.lock().held.retain(|k| k != key);
}

/// What one look at the word came to.
enum Look {
    Acquired,
    /// Entered.
    Queued,
    /// The page is missing, or the word changed: again.
    Again,
}

fn look(
    addr: VirtAddr,
    key: Key,
    waiter: &alloc::sync::Arc<Waiter>,
    only_try: bool,
) -> Result<Look> {
    let tid = current().tid() as u32;
    let promise = Promise::new(&key);
    let mut list = table::lock(&key);
    let Some(word) = key::peek(addr) else { return Ok(Look::Again) };
    let owner = word & TID_MASK;
    if owner == tid {
        return Err(Errno::EDEADLK);
    }
    let has_waiters = list.first_pi(&key).is_some();
    if owner == 0 && !has_waiters {
        let new = word & OWNER_DIED | tid;
        return match key::exchange(addr, word, new) {
            Some(seen) if seen == word => Ok(Look::Acquired),
            _ => Ok(Look::Again),
        };
    }
    if only_try {
        return Err(Errno::EAGAIN);
    }
    let holder = tasks::task(owner as i32);
    if word & WAITERS == 0 {
        match key::exchange(addr, word, word | WAITERS) {
            Some(seen) if seen == word => {}
            _ => return Ok(Look::Again),
        }
    }
    let Some(holder) = holder else {
        // The owner is gone. If it is handing over just now, the word changes.
        return if has_waiters { Ok(Look::Again) } else { Err(Errno::ESRCH) };
    };
    if holder.kernel_thread {
        return Err(Errno::EPERM);
    }
    add_held(&holder, key);
    current().pi.inner.lock().waits_for = Some(holder);
    promise.keep(&mut list, key, waiter)?;
    Ok(Look::Queued)
}

/// FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_TRYLOCK_PI. EDEADLK, EAGAIN, ESRCH, EPERM, ETIMEDOUT.
pub fn lock(addr: VirtAddr, shared: bool, deadline: Option<u64>, only_try: bool) -> Result<()> {
    let key = Key::of(addr, shared)?;
    let task = current();
    let waiter = Waiter::new(super::ANY, true)?;
    loop {
        match look(addr, key, &waiter, only_try)? {
            Look::Acquired => return Ok(()),
            Look::Queued => break,
            Look::Again => {
                key::make_present(addr, true)?;
                if crate::signal::interrupts(&task) {
                    return Err(Errno::ERESTARTNOINTR);
                }
                crate::sched::yield_now();
            }
        }
    }
    boost_chain(&task.handle());
    let outcome = wait::sleep(core::slice::from_ref(&waiter), deadline);
    let owner = task.pi.inner.lock().waits_for.take();
    match outcome {
        Ok(_) => {
            if waiter.inherited.load(Ordering::Relaxed) {
                take_over(addr)?;
            }
            // The waiters that are left lend us their priority.
            settle(&task.handle());
            Ok(())
        }
        Err(error) => {
            if let Some(owner) = owner {
                if table::lock(&key).first_pi(&key).is_none() {
                    drop_held(&owner, &key);
                }
                settle(&owner);
            }
            Err(if error == Errno::ERESTARTSYS { Errno::ERESTARTNOINTR } else { error })
        }
    }
}

/// The former owner died: the word is made ours, with the mark that says so.
fn take_over(addr: VirtAddr) -> Result<()> {
    let tid = current().tid() as u32;
    hal::usercopy::update_u32(addr, |old| tid | OWNER_DIED | old & WAITERS).map(|_| ())
}

/// FUTEX_UNLOCK_PI. EPERM when the caller is not the owner.
pub fn unlock(addr: VirtAddr, shared: bool) -> Result<()> {
    let key = Key::of(addr, shared)?;
    let task = current();
    loop {
        let mut list = table::lock(&key);
        let Some(word) = key::peek(addr) else {
            drop(list);
            key::make_present(addr, true)?;
            continue;
        };
        if word & TID_MASK != task.tid() as u32 {
            return Err(Errno::EPERM);
        }
        let first = list.first_pi(&key);
        let new = match first {
            None => 0,
            Some(at) => {
                let next = list.entries()[at].1.task.tid() as u32;
                let more = list.entries().iter().filter(|(k, w)| *k == key && w.pi).count() > 1;
                if more { next | WAITERS } else { next }
            }
        };
        match key::exchange(addr, word, new) {
            Some(seen) if seen == word => {}
            Some(_) => continue,
            None => {
                drop(list);
                key::make_present(addr, true)?;
                continue;
            }
        }
        drop_held(&task, &key);
        if let Some(at) = first {
            let next = list.take(at);
            hand_over(&mut list, &key, &next);
        }
        drop(list);
        settle(&task.handle());
        return Ok(());
    }
}

/// `next` owns the lock now: the others wait for it.
fn hand_over(list: &mut table::Locked, key: &Key, next: &Waiter) {
    next.task.pi.inner.lock().waits_for = None;
    let others = list.entries().iter().filter(|(k, w)| k == key && w.pi);
    let mut any = false;
    for (_, other) in others {
        other.task.pi.inner.lock().waits_for = Some(next.task.clone());
        any = true;
    }
    if any {
        add_held(&next.task, *key);
    }
    next.wake();
}

/// The running thread ends: locks that others wait for go to the first of them.
pub fn on_exit() {
    let task = current();
    let held = core::mem::take(&mut task.pi.inner.lock().held);
    for key in held {
        let mut list = table::lock(&key);
        let Some(at) = list.first_pi(&key) else { continue };
        let next = list.take(at);
        next.inherited.store(true, Ordering::Relaxed);
        hand_over(&mut list, &key, &next);
    }
}
