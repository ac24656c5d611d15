//! Changes that those who poll a file are told of (POLLERR and POLLPRI, as on Linux).

use crate::poll::{PollMask, PollTable};
use abi::Result;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use frames::fallible::arc;
use sync::{Once, WaitQueue};

/// How often something has changed, and who waits for that.
pub struct News {
    count: AtomicU64,
    waiters: Once<Arc<WaitQueue>>,
}

impl News {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: AtomicU64::new(0), waiters: Once::new() }
    }

    /// It has changed.
    pub fn tell(&self) {
        self.count.fetch_add(1, AcqRel);
        if let Some(waiters) = self.waiters.get() {
            waiters.wake_all();
        }
    }

    /// What has been seen by whoever opens the file now.
    pub fn seen(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// Has whoever polls told of changes.
    pub fn watch(&self, table: &mut PollTable) {
        match self.waiters.get_or_try_init(|| -> Result<_> { arc(WaitQueue::new()) }) {
            Ok(waiters) => table.watch(waiters),
            Err(_) => table.refuse(),
        }
    }

    /// Whether it has changed since `seen`, which is then up to date.
    pub(super) fn poll(&self, seen: &AtomicU64, table: Option<&mut PollTable>) -> Option<PollMask> {
        if let Some(table) = table {
            self.watch(table);
        }
        let now = self.seen();
        (seen.swap(now, AcqRel) != now).then_some(PollMask::ERR | PollMask::PRI)
    }
}

impl core::fmt::Debug for News {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "News({})", self.seen())
    }
}

impl Default for News {
    fn default() -> Self {
        Self::new()
    }
}
