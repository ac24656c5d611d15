//! What is counted for each real user id: queued signals, which RLIMIT_SIGPENDING bounds, and the
//! buffers of performance events.
//!
//! Credentials hold their user, so counting is one atomic step; only a change of user looks it up.

use abi::Result;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::fallible::{TryMap, ready_arc};
use sync::SpinLock;

/// A real user id that somebody has, or has signals queued for.
#[derive(Debug)]
pub struct User {
    pub uid: u32,
    queued: AtomicU64,
    /// Pages of its buffers of performance events.
    pub buffer_pages: AtomicU64,
}

static USERS: SpinLock<BTreeMap<u32, Weak<User>>> = SpinLock::new(BTreeMap::new());

impl User {
    /// The one with this id, made if need be. ENOMEM.
    pub fn of(uid: u32) -> Result<Arc<Self>> {
        ready_arc::<Self>()?;
        let mut users = USERS.lock();
        if let Some(user) = users.get(&uid).and_then(Weak::upgrade) {
            return Ok(user);
        }
        let user =
            Arc::new(Self { uid, queued: AtomicU64::new(0), buffer_pages: AtomicU64::new(0) });
        if let Err(error) = users.try_insert_in(uid, Arc::downgrade(&user)) {
            // Its end looks into the table.
            drop(users);
            return Err(error);
        }
        Ok(user)
    }

    /// One more queued signal; None when there are `limit` already.
    pub fn queue(self: &Arc<Self>, limit: u64) -> Option<Account> {
        if self.queued.fetch_add(1, Relaxed) < limit {
            return Some(Account(self.clone()));
        }
        self.queued.fetch_sub(1, Relaxed);
        None
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        // Unless the id is in use again already.
        if users.get(&self.uid).is_some_and(|user| user.strong_count() == 0) {
            users.remove(&self.uid);
        }
    }
}

/// One queued signal, until it is dropped.
pub struct Account(Arc<User>);

impl Drop for Account {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
    }
}

/// Signals that user `uid` has queued (SigQ of /proc/PID/status).
pub fn queued_by(uid: u32) -> u64 {
    let user = USERS.lock().get(&uid).and_then(Weak::upgrade);
    user.map_or(0, |user| user.queued.load(Relaxed))
}
