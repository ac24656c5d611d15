//! Faults in memory that may have huge pages.

use super::shared_fault::is_shared;
use super::{ALLOCATED, FELL_BACK, USE_ZERO_PAGE, ZERO_PAGES, ZERO_PAGES_REFUSED, defrag};
use super::{has_room, may_have, position};
use crate::fault::{Access, FaultError, Wait, begin_private, entry_bits, written};
use crate::mm::Mm;
use crate::place::{self, At};
use crate::table::{self, SPECIAL, State};
use crate::vma::{Backing, Vma, VmaFlags};
use crate::{HUGE, VmaTree};
use core::sync::atomic::{AtomicU64, Ordering};
use frames::meta::flag;
use frames::{Kind, Page, Usage, compound, frame};
use hal::paging::{Pte, Slot};
use hal::{Pfn, VirtAddr};
use numa::NodeId;
use numa::policy::Placement;

/// The head of the huge page of zeroes; 0 while there is none.
static ZERO: AtomicU64 = AtomicU64::new(0);

/// The huge page of zeroes, behind private memory that was only read: made by the first who needs it,
/// and then kept. None without memory.
fn zero_page() -> Option<Pfn> {
    let there = ZERO.load(Ordering::Acquire);
    if there != 0 {
        return Some(Pfn::new(there));
    }
    if frames::faults::should_fail(frames::faults::Want::Frame) {
        return None;
    }
    let nodes = place::placement(None, At::Turn).nodes();
    let mut blocks =
        nodes.filter_map(|node| frames::alloc(node, compound::ORDER, Kind::Kernel, Usage::User));
    let Some(head) = blocks.next() else {
        ZERO_PAGES_REFUSED.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    hal::phys::zero_frames(head, compound::FRAMES);
    match ZERO.compare_exchange(0, head.raw(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            ZERO_PAGES.fetch_add(1, Ordering::Relaxed);
            Some(head)
        }
        Err(first) => {
            frames::free(head);
            Some(Pfn::new(first))
        }
    }
}

/// True for the frame of a zero page: the huge one's head or the small one.
pub(crate) fn is_zero(pfn: Pfn) -> bool {
    pfn == crate::fault::zero_page() || pfn.raw() == ZERO.load(Ordering::Relaxed)
}

/// A whole block from the first of `nodes` that has one, contents undefined.
fn take(placement: &Placement<'_>, nodes: impl Iterator<Item = NodeId>) -> Option<Page> {
    if frames::faults::should_fail(frames::faults::Want::Frame) {
        return None;
    }
    let page = nodes.into_iter().find_map(compound::alloc)?;
    place::note(&page, placement);
    Some(page)
}

/// A block for a fault. When the first node has none, who waits is to wait for compaction there before
/// others are asked: that node.
fn take_first(placement: &Placement<'_>, waits: bool) -> Result<Page, Option<NodeId>> {
    let nodes = placement.nodes_for_huge(waits);
    let mut first = nodes.clone().take(1);
    if let Some(node) = first.next().filter(|_| waits)
        && !frames::node(node).is_some_and(|node| node.has_block(compound::ORDER))
        && crate::compact::is_promising(node)
    {
        return Err(Some(node));
    }
    take(placement, nodes).ok_or(None)
}

/// What became of a first touch that may have a huge page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Huge {
    /// It is there.
    Done,
    /// There is none: a small one will do.
    None,
    /// Not yet: memory of the node is to be compacted first.
    Wait(NodeId),
}

impl Huge {
    fn if_done(done: bool) -> Self {
        if done { Self::Done } else { Self::None }
    }
}

/// A block to move to: of what the policy allows, as by a caller that would wait for memory.
#[cold]
#[inline(never)]
pub(crate) fn take_for_migration(placement: &Placement<'_>) -> Option<Page> {
    take(placement, placement.nodes_for_huge(true))
}

impl Mm {
    /// Serves a first touch of `addr`, which has no table of small pages yet, with a huge page, if it
    /// can. The area tree is read-locked.
    #[cold]
    #[inline(never)]
    pub(crate) fn fault_in_huge(&self, vmas: &VmaTree, vma: &Vma, addr: u64, write: bool) -> Huge {
        if let Backing::Object { object, .. } = &vma.backing {
            return Huge::if_done(self.fault_in_shared(vma, object, addr, write));
        }
        if !may_have(vma, self.no_huge_pages.load(Ordering::Relaxed)) {
            return Huge::None;
        }
        let start = addr & !(HUGE - 1);
        let fits = start >= vma.start && start + HUGE <= vma.end;
        if fits || has_room(vma) {
            self.offer_to_khugepaged();
        }
        if !fits {
            return Huge::None;
        }
        // Without memory for a table there will be none for the small page either: it will say so.
        let Ok(slot) = self.huge_slot(start) else { return Huge::None };
        if slot.load().0 != 0 {
            return Huge::if_done(table::is_huge(slot.load()));
        }
        begin_private(vmas, vma);
        let bits = entry_bits(vma) | Pte::ACCESSED | Pte::LARGE;
        if !write && USE_ZERO_PAGE.load(Ordering::Relaxed) {
            let Some(zero) = zero_page() else {
                FELL_BACK.fetch_add(1, Ordering::Relaxed);
                return Huge::None;
            };
            let _lock = self.pt_lock(start);
            let new = Pte::new(zero, bits | SPECIAL);
            let there = slot.replace(Pte::EMPTY, new).map_or_else(table::is_huge, |()| true);
            return Huge::if_done(there);
        }
        let placement = place::placement(vma.policy.as_deref(), At::Offset(position(vma, start)));
        let waits = defrag().waits(vma.flags.contains(VmaFlags::HUGE));
        let page = match take_first(&placement, waits) {
            Ok(page) => page,
            Err(Some(node)) => return Huge::Wait(node),
            Err(None) => {
                FELL_BACK.fetch_add(1, Ordering::Relaxed);
                return Huge::None;
            }
        };
        page.frame().set_owner(self.id(), vma.index(start));
        page.zero();
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        let _lock = self.pt_lock(start);
        let now = slot.load();
        if now.0 != 0 {
            return Huge::if_done(table::is_huge(now));
        }
        page.frame().add_map();
        self.count_transparent(page.pfn(), 1);
        // Dirty and as writable as the area, whatever the access was, as on Linux.
        slot.store(Pte::new(page.into_raw(), bits | written(vma)));
        Huge::Done
    }

    /// Serves a fault at `addr`, which lies in a huge page whose entry was `pte`; what it answers is
    /// [`Mm::fault_in`]'s. The area tree is read-locked.
    #[cold]
    #[inline(never)]
    pub(crate) fn fault_on_huge(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        addr: u64,
        access: Access,
        (slot, pte): (Slot, Pte),
    ) -> Result<Option<Wait>, FaultError> {
        let pfn = match table::state(pte) {
            State::Migrating(pfn) => return Ok(Some(Wait::Migration(pfn))),
            State::Page(_) if access.write && !pte.has(Pte::WRITABLE) && is_shared(pte) => {
                if vma.shared() {
                    self.write_shared(vma, addr, (slot, pte));
                    return Ok(None);
                }
                // The copy is a small page, and is made at once: an instruction that reads before it
                // writes would bring the huge page back.
                self.unmap_shared(addr);
                let slot = match self.slot(addr) {
                    Ok(slot) => slot,
                    // Another thread was quicker.
                    Err(_) if table::is_huge_at(self.root(), addr) => return Ok(None),
                    Err(_) => return Err(FaultError::NoMemory),
                };
                return self.fault_on_small(vmas, vma, addr, access, (slot, slot.load()));
            }
            State::Page(pfn) if access.write && !pte.has(Pte::WRITABLE) => pfn,
            State::Special(_) if access.write => {
                return self.write_small(vmas, vma, addr, access);
            }
            // Somebody else was quicker, is splitting it, or this CPU's translation is stale.
            _ => {
                hal::paging::flush_page(VirtAddr::new(addr));
                return Ok(None);
            }
        };
        {
            let _lock = self.pt_lock(addr);
            if slot.load() != pte {
                return Ok(None);
            }
            if compound::is_alone(pfn) {
                frame(pfn).clear(flag::FORKED);
                let bits = entry_bits(vma) | Pte::ACCESSED | Pte::LARGE | written(vma);
                slot.store(Pte::new(pfn, bits));
                hal::paging::flush_page(VirtAddr::new(addr));
                return Ok(None);
            }
        }
        self.write_small(vmas, vma, addr, access)
    }

    /// Splits the huge page that others share, too, and serves the write by a small page.
    fn write_small(
        &self,
        vmas: &VmaTree,
        vma: &Vma,
        addr: u64,
        access: Access,
    ) -> Result<Option<Wait>, FaultError> {
        match self.split_huge(addr) {
            Ok(()) => {}
            // It is under migration: the access is repeated, and waits.
            Err(abi::Errno::EAGAIN) => return Ok(None),
            Err(_) => return Err(FaultError::NoMemory),
        }
        let Some((slot, pte)) = table::find(self.root(), addr) else { return Ok(None) };
        if table::is_huge(pte) {
            return Ok(None);
        }
        self.fault_on_small(vmas, vma, addr, access, (slot, pte))
    }
}
