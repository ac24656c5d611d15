//! Mapping huge pages of shared memory, and what is done to their entries.
//!
//! An entry of the second level holds a reference to each of the 512 frames. It is made with the object
//! locked, so that a part which leaves the object afterwards is unmapped here, too. Where an area, or what
//! is done to it, ends within the page, the entry goes as a whole and is made anew, in parts, by faults.

use super::SPLIT;
use super::shared::{MAPPED, Wish};
use crate::fault::{entry_bits, written};
use crate::mm::Mm;
use crate::object::MemObject;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags};
use crate::{HUGE, PAGE};
use core::sync::atomic::Ordering::Relaxed;
use frames::compound::{self, FRAMES};
use frames::frame;
use hal::VirtAddr;
use hal::paging::{Pte, Slot};

/// True for the entry of a huge page of shared memory.
pub(crate) fn is_shared(pte: Pte) -> bool {
    let of_object = |pfn| frame(pfn).kind().is_shared();
    table::is_huge(pte) && matches!(table::state(pte), State::Page(pfn) if of_object(pfn))
}

/// Whether `vma` maps at `start` a huge page of its object, all of it.
fn fits(vma: &Vma, start: u64) -> bool {
    start >= vma.start && start + HUGE <= vma.end && vma.index(start).is_multiple_of(FRAMES)
}

impl Mm {
    /// What an access by `vma` to `addr` wishes of its object's pages: a huge page only where it could
    /// be mapped as such.
    pub(crate) fn wish(&self, vma: &Vma, addr: u64) -> Wish {
        let barred = vma.flags.contains(VmaFlags::NO_HUGE) || self.no_huge_pages.load(Relaxed);
        Wish {
            mapped: true,
            advised: vma.flags.contains(VmaFlags::HUGE),
            barred: barred || !fits(vma, addr & !(HUGE - 1)),
            ..Wish::default()
        }
    }

    /// Serves a fault at `addr` in an area of `object`, which has no table of small pages yet, by a huge
    /// page of the object: true when that was done. The area tree is read-locked.
    #[cold]
    #[inline(never)]
    pub(super) fn fault_in_shared(
        &self,
        vma: &Vma,
        object: &MemObject,
        addr: u64,
        write: bool,
    ) -> bool {
        if !super::shared::ever_wanted() || vma.flags.contains(VmaFlags::PFN_MAP) {
            return false;
        }
        if super::is_eligible(vma, self.no_huge_pages.load(Relaxed)) {
            self.offer_to_khugepaged();
        }
        let index = vma.index(addr);
        let wish = self.wish(vma, addr);
        // Beyond the end, and without memory, the small page says so.
        if index >= object.len().div_ceil(PAGE) || object.get_wishing(index, &wish).is_err() {
            return false;
        }
        // A private area's write is to a copy, which is a small page.
        if wish.barred || write && !vma.shared() {
            return false;
        }
        self.map_shared(vma, object, addr & !(HUGE - 1), write)
    }

    /// Maps the huge page of `object` at `start`, if there is one and `vma` has room for it.
    pub(super) fn map_shared(
        &self,
        vma: &Vma,
        object: &MemObject,
        start: u64,
        write: bool,
    ) -> bool {
        if !fits(vma, start) {
            return false;
        }
        let index = vma.index(start);
        let Ok(slot) = self.huge_slot(start) else { return false };
        let noted = if write { written(vma) } else { 0 };
        let may_write = vma.shared() && vma.flags.contains(VmaFlags::WRITE);
        let writable = if may_write { Pte::WRITABLE } else { 0 };
        let bits = entry_bits(vma) | Pte::ACCESSED | Pte::LARGE | noted | writable;
        let _lock = self.pt_lock(start);
        let now = slot.load();
        if now.0 != 0 {
            return table::is_huge(now);
        }
        let mapped = object.with_huge(index, |head| {
            compound::enter(head);
            self.count_transparent(head, 1);
            slot.store(Pte::new(head, bits));
        });
        if mapped.is_some() {
            MAPPED.fetch_add(1, Relaxed);
        }
        mapped.is_some()
    }

    /// Serves a write to a huge page of shared memory by an entry that does not allow it yet.
    pub(super) fn write_shared(&self, vma: &Vma, addr: u64, (slot, pte): (Slot, Pte)) {
        let _lock = self.pt_lock(addr);
        if slot.load() == pte {
            let bits = entry_bits(vma) | Pte::ACCESSED | Pte::LARGE | written(vma);
            slot.store(Pte::new(pte.frame(), bits));
            hal::paging::flush_page(VirtAddr::new(addr));
        }
    }

    /// Unmaps the huge page of shared memory at `addr`, if there is one. The area tree is locked.
    pub(crate) fn unmap_shared(&self, addr: u64) {
        let start = addr & !(HUGE - 1);
        if table::find(self.root(), start).is_some_and(|(_, pte)| is_shared(pte)) {
            SPLIT.fetch_add(1, Relaxed);
            self.zap(start, start + HUGE);
        }
    }
}
