//! Waiting and waking.

use super::key::{self, Key};
use super::table::{self, Promise, Waiter};
use crate::sched::hooks::Hooks;
use crate::signal;
use crate::task::current;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::TryVec;
use hal::VirtAddr;
use sync::hooks::Scheduler;

/// Enters `waiter` if the word at `addr` is `value`. EAGAIN when it is not, EFAULT.
pub fn enqueue(addr: VirtAddr, key: Key, value: u32, waiter: &Arc<Waiter>) -> Result<()> {
    loop {
        let promise = Promise::new(&key);
        let mut list = table::lock(&key);
        match key::peek(addr) {
            Some(now) if now == value => {
                promise.keep(&mut list, key, waiter)?;
                return Ok(());
            }
            Some(_) => return Err(Errno::EAGAIN),
            None => {}
        }
        drop(list);
        drop(promise);
        key::make_present(addr, false)?;
    }
}

/// Sleeps until one of `waiters` is woken, a signal comes (ERESTARTSYS) or the deadline passes
/// (ETIMEDOUT). All are off the table afterwards. The index of the last that was woken.
pub fn sleep(waiters: &[Arc<Waiter>], deadline: Option<u64>) -> Result<usize> {
    let why = loop {
        Hooks.prepare(true);
        if waiters.iter().any(|w| w.is_woken()) {
            break Errno::EAGAIN;
        }
        if signal::interrupts(&current()) {
            break Errno::ERESTARTSYS;
        }
        if deadline.is_some_and(|at| hal::time::now() >= at) {
            break Errno::ETIMEDOUT;
        }
        Hooks.park(deadline);
    };
    Hooks.finish();
    leave(waiters).ok_or(why)
}

/// Takes all off the table; the index of the last that had been woken.
pub fn leave(waiters: &[Arc<Waiter>]) -> Option<usize> {
    let mut woken = None;
    for (i, waiter) in waiters.iter().enumerate() {
        if waiter.is_woken() || !table::remove(waiter) {
            woken = Some(i);
        }
    }
    woken
}

/// FUTEX_WAIT and FUTEX_WAIT_BITSET until `deadline` (monotonic ns). EAGAIN, ETIMEDOUT, EFAULT,
/// ERESTARTSYS.
pub fn wait(
    addr: VirtAddr,
    value: u32,
    bits: u32,
    shared: bool,
    deadline: Option<u64>,
) -> Result<()> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(addr, shared)?;
    let waiter = Waiter::new(bits, false)?;
    enqueue(addr, key, value, &waiter)?;
    sleep(&[waiter], deadline).map(|_| ())
}

/// A word that futex_waitv(2) waits for.
pub struct Word {
    pub addr: VirtAddr,
    pub value: u32,
    pub shared: bool,
}

/// futex_waitv(2): the index of a word that was woken.
pub fn wait_any(words: &[Word], deadline: Option<u64>) -> Result<usize> {
    let mut keys = Vec::with_room(words.len())?;
    for word in words {
        keys.push(Key::of(word.addr, word.shared)?);
    }
    let mut waiters = Vec::with_room(words.len())?;
    for (word, key) in words.iter().zip(keys) {
        let entered = Waiter::new(super::ANY, false).and_then(|waiter| {
            enqueue(word.addr, key, word.value, &waiter)?;
            Ok(waiter)
        });
        match entered {
            Ok(waiter) => waiters.push(waiter),
            // One that was woken meanwhile counts more than a word that has changed.
            Err(error) => return leave(&waiters).ok_or(error),
        }
    }
    sleep(&waiters, deadline)
}

/// FUTEX_WAKE and FUTEX_WAKE_BITSET: how many were woken, at most `count`. EINVAL for a PI lock.
pub fn wake(addr: VirtAddr, count: i32, bits: u32, shared: bool) -> Result<i32> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(addr, shared)?;
    wake_key(&key, count, bits)
}

/// As [`wake`].
pub fn wake_key(key: &Key, count: i32, bits: u32) -> Result<i32> {
    if !table::may_have_waiters(key) {
        return Ok(0);
    }
    let mut list = table::lock(key);
    wake_in(&mut list, key, count, bits)
}

/// Wakes waiters of `key` in its locked bucket; one at least, as on Linux, if there is any.
pub fn wake_in(list: &mut table::Locked, key: &Key, count: i32, bits: u32) -> Result<i32> {
    let mut woken = 0;
    let mut at = 0;
    while let Some((k, waiter)) = list.entries().get(at) {
        if k != key || waiter.bits & bits == 0 {
            at += 1;
            continue;
        }
        if waiter.pi {
            return Err(Errno::EINVAL);
        }
        list.take(at).wake();
        woken += 1;
        if woken >= count {
            break;
        }
    }
    Ok(woken)
}
