//! Huge pages in an object: 512 of its pages on frames that lie together.

use super::{Account, MemObject, ObjectKind};
use crate::place::At;
use crate::transparent::shared::{self, Huge, Wish};
use abi::Result;
use alloc::collections::BTreeMap;
use core::sync::atomic::Ordering;
use frames::compound::{self, FRAMES};
use frames::fallible::TryMap;
use frames::meta::flag;
use frames::{Kind, Page, frame};

/// Page `index` has another frame than `old` now: the huge page that this was a part of is one no more.
pub(super) fn parted(pages: &BTreeMap<u64, Page>, index: u64, old: hal::Pfn) {
    let first = index & !(FRAMES - 1);
    let head = if index == first { Some(old) } else { pages.get(&first).map(Page::pfn) };
    if let Some(head) = head {
        compound::part_shared(head, true);
    }
}

impl MemObject {
    /// Page `index` is about to leave: the huge page that it is a part of is one no more. `wholly`: all
    /// of it leaves.
    pub(super) fn part(&self, pages: &BTreeMap<u64, Page>, index: u64, wholly: bool) {
        if self.groups.load(Ordering::Relaxed)
            && let Some(first) = pages.get(&(index & !(FRAMES - 1)))
        {
            compound::part_shared(first.pfn(), !wholly);
        }
    }

    /// What its mount says of huge pages; None if it never has any.
    fn mount_says(&self) -> Option<Huge> {
        match (&self.mount, self.kind) {
            _ if self.account == Account::Never => None,
            (Some(mount), _) => Some(mount.huge.get()),
            (None, ObjectKind::Tmpfs | ObjectKind::Hugetlbfs) => None,
            (None, _) => Some(shared::internal()),
        }
    }

    /// Whether page `index` may be a part of a huge page.
    pub fn may_be_huge(&self, index: u64, wish: &Wish) -> bool {
        let nameless = matches!(self.kind, ObjectKind::SharedAnon | ObjectKind::Memfd);
        let anonymous = nameless && wish.mapped;
        self.mount_says().is_some_and(|mount| shared::may_be_huge(mount, anonymous, index, wish))
    }

    /// Makes the huge page that `index` is a part of; that part. None where it may not be, a part is
    /// there already, or there is no room: then there are small pages.
    #[cold]
    #[inline(never)]
    pub(super) fn make_huge(&self, index: u64, wish: &Wish) -> Option<Page> {
        let first = index & !(FRAMES - 1);
        let wish = Wish { len: wish.len.max(self.len()), ..*wish };
        let empty =
            |pages: &BTreeMap<u64, Page>| pages.range(first..first + FRAMES).next().is_none();
        if !self.may_be_huge(index, &wish) || !empty(&self.pages.lock()) {
            return None;
        }
        if self.mount.as_ref().is_some_and(|mount| mount.pages_left() < FRAMES) {
            return None;
        }
        let promise = self.promise_pages(FRAMES).ok()?;
        let policy = self.policy_at(first);
        let at = At::Offset((first / FRAMES).wrapping_add(self.number()));
        let Some(head) = crate::transparent::take_shared(policy.as_deref(), at, wish.advised)
        else {
            shared::FELL_BACK.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        hal::phys::zero_frames(head, FRAMES);
        let mut pages = self.pages.lock();
        if !empty(&pages) || self.add_group(&mut pages, first, head, wish.reserved).is_err() {
            drop(pages);
            compound::part_shared(head, false);
            (0..FRAMES).for_each(|i| drop(Page::from_raw(hal::Pfn::new(head.raw() + i))));
            return None;
        }
        promise.keep();
        self.groups.store(true, Ordering::Relaxed);
        shared::ALLOCATED.fetch_add(1, Ordering::Relaxed);
        pages.get(&index).cloned()
    }

    /// Puts the frames from `head` on into the pages from `first` on: all, with their references, or
    /// none. ENOMEM.
    fn add_group(
        &self,
        pages: &mut BTreeMap<u64, Page>,
        first: u64,
        head: hal::Pfn,
        reserved: bool,
    ) -> Result<()> {
        for i in 0..FRAMES {
            let pfn = hal::Pfn::new(head.raw() + i);
            let made = pages.room_for_one();
            if made.is_err() {
                (first..first + i).filter_map(|index| pages.remove(&index)).for_each(|page| {
                    // The caller has the references.
                    let _kept = page.into_raw();
                });
                return made;
            }
            frame(pfn).set_owner(self.id, first + i);
            if reserved {
                frame(pfn).set(flag::RESERVED);
            }
            pages.insert(first + i, Page::from_raw(pfn));
        }
        Ok(())
    }

    /// Unmaps the pages `[start, end)` in shared mappings, and where they are mapped as they are in
    /// private ones.
    #[cfg(target_os = "none")]
    pub(crate) fn unmap_pages(&self, start: u64, end: u64) {
        self.unmap(start, end, false);
    }

    /// Adds those of the pages from `first` on that `page` gives, by their distance; they are
    /// `missing` at most. ENOMEM, ENOSPC; EINVAL when the object has come to end before `first`.
    #[cfg(target_os = "none")]
    pub(crate) fn fill_from(
        &self,
        first: u64,
        missing: u64,
        mut page: impl FnMut(u64) -> Option<Page>,
    ) -> Result<()> {
        self.promise_pages(missing)?.keep();
        let mut added = 0;
        let outcome = {
            let mut pages = self.pages.lock();
            // Who shortens it sets the length first, and takes this lock then.
            let is_behind = first >= self.len().div_ceil(crate::PAGE);
            (0..FRAMES).try_for_each(|i| {
                if is_behind {
                    return Err(abi::Errno::EINVAL);
                }
                pages.room_for_one()?;
                if !pages.contains_key(&(first + i))
                    && let Some(page) = page(i)
                {
                    page.frame().set_owner(self.id, first + i);
                    pages.insert(first + i, page);
                    added += 1;
                }
                Ok(())
            })
        };
        self.give_back_promise((missing - added) as usize);
        outcome
    }

    /// Makes the 512 pages from `first` on a huge page, if their frames are those from `head` on.
    #[cfg(target_os = "none")]
    pub(crate) fn join(&self, first: u64, head: hal::Pfn) -> bool {
        let pages = self.pages.lock();
        let mut expected = head.raw();
        for (_, page) in pages.range(first..first + FRAMES) {
            if page.pfn().raw() != expected {
                return false;
            }
            expected += 1;
        }
        let whole = expected == head.raw() + FRAMES;
        if whole {
            compound::join_shared(head);
            self.groups.store(true, Ordering::Relaxed);
        }
        whole
    }

    /// Calls `f` with the first frame of the huge page at `index`, which is a multiple of its size, while
    /// no part of it can leave the object. None if there is no huge page.
    pub fn with_huge<R>(&self, index: u64, f: impl FnOnce(hal::Pfn) -> R) -> Option<R> {
        if !self.groups.load(Ordering::Relaxed) {
            return None;
        }
        let pages = self.pages.lock();
        let first = pages.get(&index).filter(|page| page.frame().kind() == Kind::SharedHuge)?;
        Some(f(first.pfn()))
    }

    /// Replaces the huge page at `index`, whose first frame is `old`, by that at `new`, as
    /// [`MemObject::replace`] does. The new frames' references become the object's.
    pub fn replace_huge(
        &self,
        index: u64,
        old: hal::Pfn,
        new: hal::Pfn,
        frozen: impl FnOnce() -> bool,
    ) -> bool {
        let mut pages = self.pages.lock();
        let first = pages.get(&index).filter(|page| page.pfn() == old);
        if first.is_none_or(|page| page.frame().kind() != Kind::SharedHuge) || !frozen() {
            return false;
        }
        for (i, (_, slot)) in pages.range_mut(index..index + FRAMES).enumerate() {
            let new = Page::from_raw(hal::Pfn::new(new.raw() + i as u64));
            // The object's references to the old frames were frozen away with the others.
            let _frozen = core::mem::replace(slot, new).into_raw();
        }
        true
    }
}
