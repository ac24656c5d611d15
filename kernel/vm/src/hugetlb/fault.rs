//! Faults on huge pages.

use super::object::{making, placement, take_counted};
use crate::fault::{FaultError, Wait, entry_bits};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags};
use crate::{HUGE, MemObject, PAGE, VmaTree, tlb};
use abi::Errno;
use core::sync::atomic::Ordering;
use frames::meta::flag;
use frames::{Page, frame};
use hal::paging::{Pte, Slot};
use hal::{Pfn, VirtAddr};

/// The bits of the entry of a huge page in `vma` that may not be written yet.
fn huge_bits(vma: &Vma) -> u64 {
    entry_bits(vma) | Pte::ACCESSED | Pte::LARGE
}

/// The bits that a store adds.
fn written(vma: &Vma) -> u64 {
    let writable = if vma.flags.contains(VmaFlags::WRITE) { Pte::WRITABLE } else { 0 };
    writable | Pte::DIRTY
}

/// How a fault was served.
enum Served {
    Done,
    /// Not yet: the page is under migration.
    Moving(Pfn),
    /// Not yet: there is no page for a copy, but whoever has the reservation need not share this.
    Starved(Page),
}

impl Mm {
    /// The slot of the second level of `addr`, with tables made as needed. ENOMEM.
    pub(crate) fn huge_slot(&self, addr: u64) -> abi::Result<Slot> {
        table::huge_slot(self.root(), addr, || {
            self.tables.fetch_add(1, Ordering::Relaxed);
        })
        .ok_or(Errno::ENOMEM)
    }

    /// Serves an allowed fault in an area of huge pages; what to wait for first, if anything. The area tree is read-locked.
    #[cold]
    #[inline(never)]
    pub(crate) fn fault_huge(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        addr: u64,
        write: bool,
    ) -> Result<Option<Wait>, FaultError> {
        let addr = addr & !(HUGE - 1);
        let object = vma.object().ok_or(FaultError::NoArea)?;
        let index = vma.index(addr);
        let slot = self.huge_slot(addr).map_err(|_| FaultError::NoMemory)?;
        loop {
            let served = {
                let _making = making(object, index);
                self.serve_huge(vmas, vma, object, (addr, slot), write)?
            };
            match served {
                Served::Done => return Ok(None),
                Served::Moving(pfn) => return Ok(Some(Wait::Migration(pfn))),
                Served::Starved(page) if self.take_from_children(object, index, &page) => {}
                Served::Starved(_) => return Err(FaultError::BeyondEnd),
            }
        }
    }

    fn serve_huge(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        object: &MemObject,
        (addr, slot): (u64, Slot),
        write: bool,
    ) -> Result<Served, FaultError> {
        let pte = slot.load();
        match table::state(pte) {
            State::Empty => self.huge_missing(vmas, vma, object, (addr, slot), write),
            State::Migrating(pfn) => Ok(Served::Moving(pfn)),
            State::Page(_) | State::Special(_) if write && !pte.has(Pte::WRITABLE) => {
                self.huge_write(vmas, vma, object, (addr, slot))
            }
            // Somebody else was quicker, or this CPU's translation is stale.
            State::Page(_) | State::Special(_) => {
                hal::paging::flush_page(VirtAddr::new(addr));
                Ok(Served::Done)
            }
        }
    }

    /// A page that is not there.
    fn huge_missing(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        object: &MemObject,
        (addr, slot): (u64, Slot),
        write: bool,
    ) -> Result<Served, FaultError> {
        if vma.hugetlb.as_ref().is_some_and(|area| area.has_lost()) {
            return Err(FaultError::BeyondEnd);
        }
        let index = vma.index(addr);
        if index >= object.len() / PAGE {
            return Err(FaultError::BeyondEnd);
        }
        let bits = huge_bits(vma);
        if vma.shared() {
            let policy = vma.policy.as_deref();
            let page = object.get_huge(index, policy).map_err(|error| match error {
                Errno::ENOSPC => FaultError::BeyondEnd,
                _ => FaultError::NoMemory,
            })?;
            // Written or not, it is the object's to keep.
            let may = if vma.flags.contains(VmaFlags::WRITE) { written(vma) } else { 0 };
            self.install_of(object, index, (addr, slot), page, bits | may);
            return Ok(Served::Done);
        }
        if let Some(page) = object.lookup(index) {
            self.install_of(object, index, (addr, slot), page, bits);
            return match write {
                true => self.huge_write(vmas, vma, object, (addr, slot)),
                false => Ok(Served::Done),
            };
        }
        let page = self.huge_copy(vmas, vma, object, index, false)?;
        page.zero();
        self.install_huge(addr, slot, page, bits | if write { written(vma) } else { 0 });
        Ok(Served::Done)
    }

    /// Stores an entry for `page`, whose reference goes with it, if the slot is still empty.
    fn install_huge(&self, addr: u64, slot: Slot, page: Page, bits: u64) {
        let lock = self.pt_lock(addr);
        if slot.load().0 != 0 {
            drop(lock);
            return drop(page);
        }
        page.frame().add_map();
        self.count_mapped(page.pfn(), 1);
        slot.store(Pte::new(page.into_raw(), bits));
    }

    /// Stores an entry for page `index` of the object. Who takes the page out of the object unmaps it
    /// afterwards, and would not come again: so the page is looked for once more.
    fn install_of(
        &self,
        object: &MemObject,
        index: u64,
        (addr, slot): (u64, Slot),
        page: Page,
        bits: u64,
    ) {
        let pfn = page.pfn();
        self.install_huge(addr, slot, page, bits);
        if object.lookup(index).is_none_or(|page| page.pfn() != pfn) {
            self.zap_if(addr, addr + HUGE, |mapped| mapped == pfn);
        }
    }

    /// A huge page of the area's own for page `index`, contents undefined: out of the area's
    /// reservation, or (`spare`) beside it.
    fn huge_copy(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        object: &MemObject,
        index: u64,
        spare: bool,
    ) -> Result<Page, FaultError> {
        vmas.begin_group(vma);
        let share = object.huge().map_or(0, super::HugePages::share);
        let area = vma.hugetlb.as_deref();
        let reserved = !spare && area.is_some_and(|area| area.has(index));
        let owner = !spare && area.is_some_and(super::HugeArea::is_owner);
        let to = placement(vma.policy.as_deref(), index);
        let page = take_counted(&to, share, reserved, owner).ok_or(FaultError::BeyondEnd)?;
        if let Some(area) = area {
            area.consume(index).map_err(|_| FaultError::NoMemory)?;
        }
        page.frame().clear(flag::RESTORE);
        page.frame().set(flag::PRIVATE);
        Ok(page)
    }

    /// A write to a page that is mapped read-only in an area that may be written.
    fn huge_write(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        object: &MemObject,
        (addr, slot): (u64, Slot),
    ) -> Result<Served, FaultError> {
        let bits = huge_bits(vma) | written(vma);
        let source = {
            let _lock = self.pt_lock(addr);
            // It may have begun to move, or be gone: then the program tries again.
            let State::Page(pfn) = table::state(slot.load()) else { return Ok(Served::Done) };
            if vma.shared() || frame(pfn).is_private() && frame(pfn).maps() == 1 {
                slot.store(Pte::new(pfn, bits));
                hal::paging::flush_page(VirtAddr::new(addr));
                return Ok(Served::Done);
            }
            match Page::try_from_pfn(pfn) {
                Some(page) => page,
                None => return Ok(Served::Done),
            }
        };
        // Whoever has the reservation keeps the page; those who share it since a fork get copies
        // while there are pages for them.
        let owner =
            source.frame().is_private() && vma.hugetlb.as_ref().is_some_and(|area| area.is_owner());
        let copy = match self.huge_copy(vmas, vma, object, vma.index(addr), owner) {
            Ok(copy) => copy,
            Err(FaultError::BeyondEnd) if owner => return Ok(Served::Starved(source)),
            Err(error) => return Err(error),
        };
        let mut why = copy.frame().why();
        why.cow = true;
        copy.frame().set_why(why);
        copy.copy_from(source.pfn());
        self.replace_huge((addr, slot), &source, copy, bits);
        Ok(Served::Done)
    }

    /// Replaces the entry of `old` by one of `new` if it is still there, and flushes.
    fn replace_huge(&self, (addr, slot): (u64, Slot), old: &Page, new: Page, bits: u64) {
        let gone = {
            let _lock = self.pt_lock(addr);
            if table::state(slot.load()) != State::Page(old.pfn()) {
                return;
            }
            new.frame().add_map();
            self.count_mapped(new.pfn(), 1);
            let was = slot.swap(Pte::new(new.into_raw(), bits));
            self.release(was)
        };
        tlb::shootdown(self, addr, addr + PAGE, false);
        drop(gone);
    }

    /// Unmaps `page` wherever it is mapped without a reservation: those who lose it find SIGBUS
    /// there. True when somebody has lost it. Children are younger than who has the reservation, so
    /// their trees are locked in the order of the ids.
    fn take_from_children(&self, object: &MemObject, index: u64, page: &Page) -> bool {
        let mut taken = false;
        let mut last = self.id();
        while let Some((id, mapper)) = object.next_mapper(last) {
            last = id;
            let Ok(mm) = mapper.into_any().downcast::<Mm>() else { continue };
            let vmas = mm.vmas.read();
            for vma in vmas.iter() {
                let Some(area) = &vma.hugetlb else { continue };
                let here = vma.object().is_some_and(|mapped| mapped.id() == object.id());
                if !here || area.is_owner() {
                    continue;
                }
                let Some(addr) = vma.address_of(index) else { continue };
                taken |= mm.zap_if(addr, addr + HUGE, |pfn| {
                    let hit = pfn == page.pfn();
                    if hit {
                        area.lose();
                    }
                    hit
                });
            }
        }
        taken
    }
}
