//! fork(2)'s copy of an address space: areas are cloned, private pages shared until written.

use crate::hugetlb::HugeArea;
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::{Vma, VmaFlags, new_group};
use crate::{PAGE, tlb};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::fallible::arc;
use frames::{Page, frame};
use hal::paging::Pte;

impl Mm {
    /// A copy of this address space. ENOMEM without memory for its tables, and
    /// when so much may not be promised twice.
    pub fn fork(&self) -> Result<Arc<Self>> {
        // Write-locked: no fault changes entries while they are copied, and a migration sees
        // either none or all of the child's.
        let vmas = self.vmas.write();
        let child = Self::new(Some(self.family.clone()))?;
        let disabled = self.no_huge_pages.load(Ordering::Relaxed);
        child.no_huge_pages.store(disabled, Ordering::Relaxed);
        if self.offered.load(Ordering::Relaxed) {
            child.offer_to_khugepaged();
        }
        let mut protected = (u64::MAX, 0);
        let mut outcome = Ok(());
        {
            let mut new = child.vmas.write();
            for vma in vmas.iter() {
                if vma.flags.contains(VmaFlags::DONT_FORK) {
                    continue;
                }
                let mut copy = vma.clone();
                copy.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
                let wipe = copy.flags.contains(VmaFlags::WIPE_ON_FORK);
                if wipe {
                    copy.anon = AtomicU64::new(0);
                }
                // The child's pages are a group of its own, which knows where it comes from.
                if copy.hugetlb.is_some() {
                    // What is reserved stays the parent's.
                    match arc(HugeArea::default()) {
                        Ok(area) => copy.hugetlb = Some(area),
                        Err(error) => {
                            outcome = Err(error);
                            break;
                        }
                    }
                }
                copy.inherited = copy.group() != 0;
                if copy.inherited {
                    copy.anon = AtomicU64::new(new_group());
                }
                match self.promise(copy.flags, copy.len()) {
                    Ok(promise) => promise.keep(),
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
                child.note_area(&copy);
                if !wipe && !vma.shared() && vma.group() != 0 {
                    outcome = if vma.is_huge() {
                        self.share_huge(&child, vma, &mut protected)
                    } else {
                        self.copy_entries(&child, vma, &mut protected)
                    };
                }
                new.insert_apart(copy);
                if outcome.is_err() {
                    break;
                }
            }
        }
        *child.layout.lock() = self.layout.lock().clone();
        for (to, from) in [
            (&child.limits.stack, &self.limits.stack),
            (&child.limits.address_space, &self.limits.address_space),
            (&child.limits.data, &self.limits.data),
            (&child.limits.data_hard, &self.limits.data_hard),
            (&child.limits.locked, &self.limits.locked),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if protected.0 < protected.1 {
            tlb::shootdown(self, protected.0, protected.1, false);
        }
        drop(vmas);
        child.note_peak();
        outcome.map(|()| child)
    }

    /// Shares the private pages of `vma` with the child, write-protected in both.
    fn copy_entries(&self, child: &Self, vma: &Vma, protected: &mut (u64, u64)) -> Result<()> {
        let mut outcome = Ok(());
        let mut at = table::next_table(self.root(), vma.start, vma.end);
        while at < vma.end && outcome.is_ok() {
            let stop = vma.end.min((at & !((1 << 21) - 1)) + (1 << 21));
            let _lock = self.pt_lock(at);
            let next = table::for_each_in_turns(self.root(), at, stop, |addr, slot| {
                let old = slot.load();
                if crate::transparent::is_shared(old) {
                    // The child's faults find it in the object.
                    return true;
                }
                if table::is_huge(old) {
                    outcome = self.copy_huge(child, addr, (slot, old), protected);
                    return outcome.is_ok();
                }
                let pfn = match table::state(old) {
                    State::Empty => return true,
                    // The zero page is nobody's: its entry is copied as it is.
                    State::Special(_) => {
                        match child.slot(addr) {
                            Ok(target) => target.store(old),
                            Err(error) => outcome = Err(error),
                        }
                        return outcome.is_ok();
                    }
                    State::Page(pfn) | State::Migrating(pfn) => pfn,
                };
                let target = match child.slot(addr) {
                    Ok(slot) => slot,
                    Err(error) => {
                        outcome = Err(error);
                        return false;
                    }
                };
                let entry = if old.has(Pte::WRITABLE) && old.present() {
                    let was = slot.swap(Pte(old.0 & !Pte::WRITABLE));
                    // What the hardware noted meanwhile stays noted.
                    let noted = was.0 & (Pte::ACCESSED | Pte::DIRTY);
                    slot.store(slot.load().with(noted));
                    protected.0 = protected.0.min(addr);
                    protected.1 = protected.1.max(addr + PAGE);
                    was.without(Pte::WRITABLE)
                } else {
                    old.without(Pte::WRITABLE)
                };
                let Some(page) = Page::try_from_pfn(pfn) else {
                    // A migration holds the tree read-locked while its entries stand: not seen here.
                    outcome = Err(Errno::EAGAIN);
                    return false;
                };
                frame(pfn).add_map();
                child.count_mapped(page.into_raw(), 1);
                target.store(entry);
                true
            });
            at = table::next_table(self.root(), next, vma.end);
        }
        outcome
    }
}
