//! A file system's share of the pool: the most that its files may have, and what is reserved for
//! them all the time.

use super::{reserve, unreserve};
use crate::fallible::TryMap;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use numa::NodeMask;
use sync::IrqLock;

/// The share of who has none: no limit, nothing reserved.
pub const NONE: u64 = 0;

/// All shares by number.
static ALL: IrqLock<BTreeMap<u64, Share>> = IrqLock::new(BTreeMap::new());

/// A share's numbers, in huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// None: as many as there are.
    most: Option<u64>,
    /// Used or reserved, of the most.
    used: u64,
    least: Option<u64>,
    /// Of the least, those that nobody has yet.
    kept: u64,
}

impl Share {
    /// Takes `pages`: how many of them the pool must still give. None when the share has no more.
    fn take(&mut self, pages: u64) -> Option<u64> {
        if let Some(most) = self.most {
            self.used = (self.used + pages <= most).then(|| self.used + pages)?;
        }
        let own = pages.min(self.kept);
        self.kept -= own;
        Some(pages - own)
    }

    /// Puts `pages` back: how many of them go back to the pool.
    fn put(&mut self, pages: u64) -> u64 {
        if self.most.is_some() {
            self.used = self.used.saturating_sub(pages);
        }
        match self.least {
            Some(least) if self.used < least => {
                let back = (self.kept + pages).saturating_sub(least);
                self.kept = (self.kept + pages).min(least);
                back
            }
            _ => pages,
        }
    }
}

/// A new share, whose least is reserved from now on. ENOMEM when it cannot be.
pub fn open(most: Option<u64>, least: Option<u64>, allowed: NodeMask) -> Result<u64> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if most.is_none() && least.is_none() {
        return Ok(NONE);
    }
    if !reserve(least.unwrap_or(0), allowed) {
        return Err(Errno::ENOMEM);
    }
    let id = NEXT.fetch_add(1, Relaxed);
    let share = Share { most, used: 0, least, kept: least.unwrap_or(0) };
    let added = ALL.lock().try_insert_in(id, share);
    if let Err(error) = added {
        unreserve(least.unwrap_or(0));
        return Err(error);
    }
    Ok(id)
}

/// Ends a share: what is reserved for it is reserved no more.
pub fn close(id: u64) {
    // Pages that are still in use find no share, and go to the pool.
    let share = ALL.lock().remove(&id);
    unreserve(share.map_or(0, |share| share.kept));
}

/// Takes `pages` of a share: how many of them the pool must still reserve or give. None when the
/// share has no more.
pub fn take(id: u64, pages: u64) -> Option<u64> {
    if id == NONE {
        return Some(pages);
    }
    ALL.lock().get_mut(&id).map_or(Some(pages), |share| share.take(pages))
}

/// Puts `pages` back into a share: how many of them are the pool's again.
pub fn put(id: u64, pages: u64) -> u64 {
    if id == NONE {
        return pages;
    }
    ALL.lock().get_mut(&id).map_or(pages, |share| share.put(pages))
}

/// Puts a page back that becomes free: true when it stays reserved for the share.
pub(super) fn put_page(id: u64) -> bool {
    id != NONE && put(id, 1) == 0
}

/// The most and what is left of it, for statfs(2).
pub fn room(id: u64) -> Option<(u64, u64)> {
    let all = ALL.lock();
    let share = all.get(&id)?;
    let most = share.most?;
    Some((most, most - share.used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_gives_no_more_than_its_most() {
        let mut share = Share { most: Some(3), used: 0, least: None, kept: 0 };
        assert_eq!(share.take(2), Some(2));
        assert_eq!(share.take(2), None);
        assert_eq!(share.take(1), Some(1));
        assert_eq!(share.put(2), 2);
        assert_eq!(share.take(2), Some(2));
    }

    #[test]
    fn the_least_comes_from_what_is_kept_and_goes_back_there() {
        let mut share = Share { most: None, used: 0, least: Some(2), kept: 2 };
        assert_eq!(share.take(1), Some(0), "kept for it");
        assert_eq!(share.take(3), Some(2), "one was kept, the pool gives two");
        assert_eq!(share.put(1), 0, "kept again");
        assert_eq!(share.put(3), 2, "one is kept, two are the pool's");
        assert_eq!(share.kept, 2);
    }
}
