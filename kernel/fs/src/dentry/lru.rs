//! Entries that may be forgotten while their file system is in use (Linux: `dentry_lru`).

use super::Dentry;
use abi::Result;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use frames::fallible::TryQueue;
use sync::{Mutex, MutexGuard};

/// Entries whose names can be looked up again, in the order in which they came.
///
/// It holds none of them. What somebody uses (an open file, a mapping, a mount, an entry below) is
/// passed over and has its turn again later. How often an entry was used counts for nothing.
pub struct Lru(Mutex<VecDeque<Weak<Dentry>>>);

impl Lru {
    /// An empty one.
    #[allow(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Notes an entry that its directory's cache holds. ENOMEM: it stays as long as its file system.
    pub(super) fn add(&self, entry: &Arc<Dentry>) -> Result<()> {
        self.0.lock().try_push_back(Arc::downgrade(entry))
    }

    /// Forgets entries that nobody uses until there are `enough`, or `most` were looked at. Waits for
    /// whoever does the same.
    pub fn shrink(&self, most: u64, enough: &dyn Fn() -> bool) {
        Self::go_through(self.0.lock(), most, enough);
    }

    /// As [`Lru::shrink`], for who must not wait: nothing happens while another one is at it. True if
    /// entries were forgotten.
    pub fn try_shrink(&self, most: u64, enough: &dyn Fn() -> bool) -> bool {
        self.0.try_lock().is_some_and(|entries| Self::go_through(entries, most, enough))
    }

    fn go_through(
        mut entries: MutexGuard<'_, VecDeque<Weak<Dentry>>>,
        most: u64,
        enough: &dyn Fn() -> bool,
    ) -> bool {
        let mut gone = false;
        for _ in 0..most.min(entries.len() as u64) {
            if enough() {
                break;
            }
            let Some(oldest) = entries.pop_front() else { break };
            match oldest.upgrade() {
                Some(entry) if !entry.forget_unused() => entries.push_back(oldest),
                _ => gone = true,
            }
        }
        gone
    }
}

impl Dentry {
    /// Takes an entry out of its directory's cache, if only that and the caller know it.
    fn forget_unused(self: &Arc<Self>) -> bool {
        /// The cache's, and the caller's.
        const UNUSED: usize = 2;
        let (Some(parent), name) = self.position() else { return false };
        let Some(dir) = &parent.dir else { return false };
        let mut children = dir.children.lock();
        // Who looks it up takes this lock: it does not come into use meanwhile.
        if Arc::strong_count(self) != UNUSED
            || !children.get(&name).is_some_and(|entry| Arc::ptr_eq(entry, self))
        {
            return false;
        }
        let cached = children.remove(&name);
        drop(children);
        drop(cached);
        true
    }
}
