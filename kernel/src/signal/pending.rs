//! Signals that were sent and not yet delivered: a set, and a queue of what came with them.

use super::info::{SigInfo, code};
use super::set::{FIRST_RT, SigSet, bit, lowest};
use super::user::{Account, User};
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::fallible::Grow;
use sync::SpinLock;

/// Told when the signal of a timer is taken, so that it can say what was missed and go on.
pub trait Timer: Send + Sync {
    /// Fills in the overrun count and arms the next expiration. No lock is held.
    fn taken(&self, info: &mut SigInfo);
}

/// A signal with what it tells.
pub struct Queued {
    pub info: SigInfo,
    pub timer: Option<Arc<dyn Timer>>,
    account: Option<Account>,
}

impl From<SigInfo> for Queued {
    fn from(info: SigInfo) -> Self {
        Self { info, timer: None, account: None }
    }
}

impl Queued {
    /// A timer's signal.
    pub fn of_timer(info: SigInfo, timer: Arc<dyn Timer>) -> Self {
        Self { info, timer: Some(timer), account: None }
    }

    pub fn signal(&self) -> i32 {
        self.info.signal()
    }

    fn is_of(&self, timer: &Arc<dyn Timer>) -> bool {
        self.timer.as_ref().is_some_and(|own| Arc::ptr_eq(own, timer))
    }

    /// What is left of it once it was taken.
    pub fn deliver(mut self) -> SigInfo {
        if let Some(timer) = self.timer.take() {
            timer.taken(&mut self.info);
        }
        self.info
    }
}

/// Whom a queued signal is counted for, and how many they may have: the receiver's user, and its
/// RLIMIT_SIGPENDING.
#[derive(Clone, Copy)]
pub struct Receiver<'a> {
    pub user: &'a Arc<User>,
    pub limit: u64,
}

/// What [`Pending::push`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    New,
    /// It is pending already; those below 32 are not counted.
    Merged,
}

/// A task's or a process's pending signals. The set can be read without the lock.
#[derive(Default)]
pub struct Pending {
    set: AtomicU64,
    queue: SpinLock<VecDeque<Queued>>,
}

impl Pending {
    /// The pending signals.
    #[inline]
    pub fn set(&self) -> SigSet {
        self.set.load(Ordering::SeqCst)
    }

    /// Adds a signal. EAGAIN when a signal that must not lose what it tells finds the queue full;
    /// others become pending bare. Those below the real-time ones that kill(2) or the kernel sends
    /// are always queued.
    pub fn push(&self, mut entry: Queued, receiver: Receiver<'_>) -> Result<Pushed> {
        let signal = entry.signal();
        let mut queue = self.queue.lock();
        // A timer's signal is queued beside one that others sent, so that taking it tells the timer.
        let merges = match &entry.timer {
            Some(timer) => queue.iter().any(|q| q.is_of(timer)),
            None => signal < FIRST_RT && self.set() & bit(signal) != 0,
        };
        if merges {
            return Ok(Pushed::Merged);
        }
        // A timer's signal was counted when the timer was made.
        if entry.timer.is_none() {
            let always = signal < FIRST_RT && entry.info.code() >= code::USER;
            let limit = if always { u64::MAX } else { receiver.limit };
            match receiver.user.queue(limit) {
                Some(account) => entry.account = Some(account),
                None if signal >= FIRST_RT && entry.info.code() != code::USER => {
                    return Err(Errno::EAGAIN);
                }
                None => {
                    self.set.fetch_or(bit(signal), Ordering::SeqCst);
                    return Ok(Pushed::New);
                }
            }
        }
        // As above: without memory a signal that must come comes without its details.
        if queue.room_for(1).is_ok() {
            queue.push_back(entry);
        } else if signal >= FIRST_RT && entry.info.code() != code::USER {
            return Err(Errno::EAGAIN);
        }
        self.set.fetch_or(bit(signal), Ordering::SeqCst);
        Ok(Pushed::New)
    }

    /// Takes the lowest signal of `wanted`, the oldest if there are several of it.
    pub fn take(&self, wanted: SigSet) -> Option<Queued> {
        if self.set() & wanted == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let ready = self.set() & wanted;
        if ready == 0 {
            return None;
        }
        let signal = lowest(ready);
        let at = queue.iter().position(|q| q.signal() == signal);
        let entry = at.and_then(|at| queue.remove(at));
        if !queue.iter().any(|q| q.signal() == signal) {
            self.set.fetch_and(!bit(signal), Ordering::SeqCst);
        }
        // What it told was lost for want of room.
        Some(entry.unwrap_or_else(|| SigInfo::from_process(signal, code::USER, 0, 0).into()))
    }

    /// What the `n`th queued one tells.
    pub fn peek(&self, n: usize) -> Option<SigInfo> {
        self.queue.lock().get(n).map(|entry| entry.info)
    }

    /// Forgets the signals of `which`.
    pub fn flush(&self, which: SigSet) {
        if self.set() & which == 0 {
            return;
        }
        let gone: VecDeque<Queued> = {
            let mut queue = self.queue.lock();
            self.set.fetch_and(!which, Ordering::SeqCst);
            let (gone, kept) = core::mem::take(&mut *queue)
                .into_iter()
                .partition(|q| which & bit(q.signal()) != 0);
            *queue = kept;
            gone
        };
        drop(gone);
    }
}
