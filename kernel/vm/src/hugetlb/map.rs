//! Areas of huge pages: reserving, fork, giving back.

use super::HugeArea;
use super::object::making;
use crate::batch::Batch;
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags};
use crate::{HUGE, MemObject, PAGE, tlb};
use abi::{Errno, Result};
use alloc::sync::Arc;
use frames::Page;
use frames::fallible::arc;
use frames::hugetlb::{reserve, subpool, unreserve};
use frames::meta::flag;
use hal::paging::Pte;

impl Mm {
    /// Reserves what a new area of `pages` pages of `object`, from `pgoff` on, may come to need:
    /// the area's part of it if it is private. ENOMEM.
    pub(crate) fn reserve_huge(
        object: &MemObject,
        (pgoff, pages): (u64, u64),
        flags: VmaFlags,
    ) -> Result<Option<Arc<HugeArea>>> {
        let huge = object.huge().ok_or(Errno::EINVAL)?;
        let counts = !flags.contains(VmaFlags::NO_RESERVE);
        if flags.contains(VmaFlags::SHARED) {
            if counts {
                huge.reserve(pgoff, pgoff + pages)?;
            }
            return Ok(None);
        }
        if !counts {
            return arc(HugeArea::default()).map(Some);
        }
        let area = arc(HugeArea::reserved())?;
        let wanted = pages / super::FRAMES;
        let own = subpool::take(huge.share(), wanted).ok_or(Errno::ENOMEM)?;
        if reserve(own, super::reservable()) {
            return Ok(Some(area));
        }
        unreserve(subpool::put(huge.share(), wanted).saturating_sub(own));
        Err(Errno::ENOMEM)
    }

    /// Gives back what is reserved for an area that goes and was not used.
    #[cold]
    pub(crate) fn unreserve_area(vma: &Vma) {
        let (Some(area), Some(object)) = (&vma.hugetlb, vma.object()) else { return };
        let unused = area.unused(vma.pgoff, vma.pgoff + vma.pages());
        let share = object.huge().map_or(0, super::HugePages::share);
        unreserve(subpool::put(share, unused));
    }

    /// Shares the private huge pages of `vma` with the child, write-protected in both; the range of
    /// what was protected grows by them. ENOMEM.
    pub(crate) fn share_huge(
        &self,
        child: &Self,
        vma: &Vma,
        protected: &mut (u64, u64),
    ) -> Result<()> {
        let mut outcome = Ok(());
        table::for_each(self.root(), vma.start, vma.end, |addr, slot| {
            let target = match child.huge_slot(addr) {
                Ok(target) => target,
                Err(error) => {
                    outcome = Err(error);
                    return false;
                }
            };
            let _lock = self.pt_lock(addr);
            let State::Page(pfn) = table::state(slot.load()) else { return true };
            let Some(page) = Page::try_from_pfn(pfn) else { return true };
            let was = slot.swap(Pte::EMPTY);
            slot.store(was.without(Pte::WRITABLE));
            if was.has(Pte::WRITABLE) {
                protected.0 = protected.0.min(addr);
                protected.1 = protected.1.max(addr + HUGE);
            }
            page.frame().add_map();
            child.count_mapped(page.into_raw(), 1);
            target.store(was.without(Pte::WRITABLE));
            true
        });
        outcome
    }

    /// Unmaps and frees the huge pages of `[start, end)`, which lies in `vma` and which it goes on
    /// mapping: what was reserved for them is reserved again. The area tree is read-locked.
    pub(crate) fn zap_huge(&self, vma: &Vma, start: u64, end: u64) {
        let owned = vma.hugetlb.as_ref().filter(|area| area.is_owner());
        let (Some(area), Some(object)) = (owned, vma.object()) else {
            return self.zap(start, end);
        };
        let mut at = start;
        while at < end {
            let index = vma.index(at);
            let _making = making(object, index);
            let mut gone = Batch::new();
            if self.take_pages(at, at + HUGE, &mut gone).0 {
                tlb::shootdown(self, at, at + PAGE, false);
            }
            gone.empty(|pfn| {
                let page = Page::from_raw(pfn);
                // As on Linux not while there are surplus pages: those are to go.
                let last = page.frame().refs() == 1 && page.frame().has(flag::PRIVATE);
                if last && frames::hugetlb::counts().surplus == 0 && area.restore(index) {
                    page.frame().set(flag::RESTORE);
                }
            });
            at = table::next_table(self.root(), at + HUGE, end);
        }
    }
}
