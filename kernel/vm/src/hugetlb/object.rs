//! Objects of huge pages: files of hugetlbfs, memfds, segments and anonymous mappings.

use super::{FRAMES, reservable, take};
use crate::HUGE;
use crate::PAGE;
use crate::object::{MemObject, ObjectKind};
use crate::place::{self, At};
use abi::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use frames::Page;
use frames::fallible::{TryMap, TryVec};
use frames::hugetlb::{From, reserve, subpool, unreserve};
use numa::policy::{Placement, Policy};
use sync::{Mutex, MutexGuard, SpinLock};

/// What an object of huge pages has beside its pages.
pub struct HugePages {
    /// The file system's share of the pool that its pages count in.
    share: u64,
    /// Indices of the pages that are reserved or there.
    reserved: SpinLock<BTreeSet<u64>>,
}

/// Held while a page is made, by its object and index: of two who want the last one, the second
/// finds what the first has made.
static MAKING: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

/// The lock over the making of page `index` of `object`.
pub(super) fn making(object: &MemObject, index: u64) -> MutexGuard<'static, ()> {
    let spread = object.id().wrapping_mul(0x9e37_79b9).wrapping_add(index / FRAMES);
    MAKING[spread as usize % MAKING.len()].lock()
}

/// Where a page of huge pages goes: under `policy`, else the running task's.
pub(super) fn placement(policy: Option<&Policy>, index: u64) -> Placement<'static> {
    place::placement(policy, At::Offset(index / FRAMES))
}

/// A huge page that counts in `share`. `reserved`: a reservation stands for it, and the caller notes
/// that it is used. What the share keeps in reserve serves if `owner`. None (SIGBUS) when there is
/// none.
pub(super) fn take_counted(
    to: &Placement<'_>,
    share: u64,
    reserved: bool,
    owner: bool,
) -> Option<Page> {
    let backed = reserved || subpool::take(share, 1)? == 0;
    let from = if owner && backed { From::Reservation } else { From::Rest };
    let page = take(to, from, share);
    if page.is_none() && !reserved {
        unreserve_but(subpool::put(share, 1), u64::from(!backed));
    }
    page
}

/// Gives reservations back to the pool, of which `unmade` were never made.
fn unreserve_but(back: u64, unmade: u64) {
    unreserve(back.saturating_sub(unmade));
}

impl HugePages {
    /// Without pages.
    pub fn new(share: u64) -> Self {
        Self { share, reserved: SpinLock::default() }
    }

    /// The file system's share of the pool.
    pub fn share(&self) -> u64 {
        self.share
    }

    /// Reserves the pages `[start, end)`. ENOMEM when they cannot be had.
    pub fn reserve(&self, start: u64, end: u64) -> Result<()> {
        let mut new = alloc::vec::Vec::new();
        let outcome = self.note(start, end, &mut new).and_then(|()| {
            let pages = subpool::take(self.share, new.len() as u64).ok_or(Errno::ENOMEM)?;
            if reserve(pages, reservable()) {
                return Ok(());
            }
            unreserve_but(subpool::put(self.share, new.len() as u64), pages);
            Err(Errno::ENOMEM)
        });
        if outcome.is_err() {
            let mut reserved = self.reserved.lock();
            new.iter().for_each(|index| _ = reserved.remove(index));
        }
        outcome
    }

    fn note(&self, start: u64, end: u64, new: &mut alloc::vec::Vec<u64>) -> Result<()> {
        // More than all pages there are cannot be reserved: the list stays as short as the pool.
        let most = frames::hugetlb::counts().total + frames::hugetlb::overcommit();
        for index in (start..end).step_by(FRAMES as usize) {
            if self.reserved.lock().contains(&index) {
                continue;
            }
            if new.len() as u64 >= most {
                return Err(Errno::ENOMEM);
            }
            new.try_push(index)?;
            self.reserved.lock().try_insert_in(index, ())?;
        }
        Ok(())
    }

    /// True if the page at `index` is reserved or there.
    pub fn has(&self, index: u64) -> bool {
        self.reserved.lock().contains(&index)
    }

    /// The pages `[start, end)` are gone, of which `freed` were there: the others' reservations go.
    pub(crate) fn forget(&self, start: u64, end: u64, freed: u64) {
        let mut gone = 0;
        {
            let mut reserved = self.reserved.lock();
            while let Some(&index) = reserved.range(start..end).next() {
                reserved.remove(&index);
                gone += 1;
            }
        }
        unreserve(subpool::put(self.share, u64::saturating_sub(gone, freed)));
    }
}

impl MemObject {
    /// An object of huge pages and of `len` bytes, which count in `share`. ENOMEM.
    pub fn of_huge_pages(kind: ObjectKind, share: u64, len: u64) -> Result<Arc<Self>> {
        let object = Self::build_huge(kind, HugePages::new(share))?;
        object.set_len(len)?;
        Ok(object)
    }

    /// The page at `index`, made (zeroed) under `policy` if it is not there. The caller holds
    /// [`making`]. ENOSPC when there is none, ENOMEM.
    pub(super) fn get_huge(&self, index: u64, policy: Option<&Policy>) -> Result<Page> {
        if let Some(page) = self.lookup(index) {
            return Ok(page);
        }
        let huge = self.huge().ok_or(Errno::EINVAL)?;
        let reserved = huge.has(index);
        let to = placement(policy, index);
        let page = take_counted(&to, huge.share, reserved, true).ok_or(Errno::ENOSPC)?;
        page.zero();
        huge.reserved.lock().try_insert_in(index, ())?;
        if let Err(error) = self.add_page(index, &page) {
            if !reserved {
                huge.reserved.lock().remove(&index);
            }
            return Err(error);
        }
        page.frame().clear(frames::meta::flag::RESTORE);
        page.frame().set(frames::meta::flag::DIRTY);
        Ok(page)
    }

    /// As fallocate(2) makes the pages of `[off, off + len)`: under the running task's policy, one
    /// after the other. ENOSPC, EINTR.
    pub fn fill_huge(&self, off: u64, len: u64) -> Result<()> {
        let end = off.checked_add(len).ok_or(Errno::EFBIG)?;
        let (first, last) = (off / HUGE * FRAMES, end.div_ceil(HUGE) * FRAMES);
        for index in (first..last).step_by(FRAMES as usize) {
            if crate::env::killed() {
                return Err(Errno::EINTR);
            }
            let _making = making(self, index);
            self.get_huge(index, None)?;
        }
        Ok(())
    }

    /// The huge page of byte `at`, and where in it that is.
    pub(crate) fn lookup_huge(&self, at: u64) -> (Option<Page>, u64) {
        (self.lookup(at / HUGE * FRAMES), at % HUGE)
    }

    /// Unmaps and frees the pages `[start, end)`, with their reservations. Of those that are not there
    /// the reservations go, too, when the object ends before them (`truncates`), but not for a hole.
    pub(crate) fn drop_huge(&self, huge: &HugePages, (start, end): (u64, u64), truncates: bool) {
        let mut at = start;
        while let Some((index, _page)) = self.remove_next(at, end) {
            // Out of the object first, so that a fault meanwhile makes a fresh page (or SIGBUS).
            self.unmap(index, index + FRAMES, truncates);
            huge.forget(index, index + 1, 1);
            at = index + FRAMES;
        }
        self.unmap(start, end, truncates);
        if truncates {
            huge.forget(start, end, 0);
        }
    }

    /// Frees the whole huge pages inside `[off, off + len)` and zeroes the rest of it.
    pub(crate) fn punch_huge(&self, off: u64, end: u64) {
        let (first, last) = (off.div_ceil(HUGE), end / HUGE);
        if first < last {
            self.drop_pages(first * FRAMES, last * FRAMES, false);
        }
        let (head, tail) = (end.min(first.saturating_mul(HUGE)), off.max(last * HUGE));
        self.zero_in_huge(off, head);
        self.zero_in_huge(tail, end);
    }

    /// Zeroes `[start, end)`, which lies in one huge page, if that page is there.
    fn zero_in_huge(&self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let Some(page) = self.lookup(start / HUGE * FRAMES) else { return };
        let mut at = start;
        while at < end {
            let stop = end.min((at & !(PAGE - 1)) + PAGE);
            page.bytes_at_mut(at % HUGE)[..(stop - at) as usize].fill(0);
            at = stop;
        }
    }
}
