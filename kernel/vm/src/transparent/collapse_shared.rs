//! Collapsing shared memory: the pages of an object become one huge page, for all who map them.
//!
//! # Protocol
//!
//! A block is taken as for private memory. Then each page is changed for its part of the block by itself,
//! with the object locked: its references are frozen when the object has the only one, it is copied, and
//! the object has the part. So at every moment every page of the object has exactly one frame, and whoever
//! comes between finds either. Before, pages are unmapped everywhere; who maps one again meanwhile has it
//! unmapped again, a few times. When a page does not come free, those that have been changed stay so, which
//! nobody can see but by asking for their frames. Only when all are there are holes filled, and the 512
//! become a huge page, if they still are the block's.
//!
//! At last the asking address space maps it by one entry, with its tree write-locked, in the place of its
//! table of small pages. Other ones do so when they have no such table.

use super::khugepaged::{COLLAPSED, NO_BLOCK, TOO_EMPTY};
use super::scan::{Refusal, Rules, Seen, SeenPage, Tally};
use crate::mm::Mm;
use crate::object::MemObject;
use crate::table::{self, State};
use crate::{HUGE, env};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use frames::compound::{self, FRAMES};
use frames::meta::{Reason, Why};
use frames::{Page, frame};
use hal::Pfn;

/// The node to go to, and those that are as good.
fn look(
    object: &MemObject,
    first: u64,
    rules: &Rules,
) -> Result<(numa::NodeId, numa::NodeMask), Refusal> {
    let mut tally = Tally::default();
    for index in first..first + FRAMES {
        let seen = object.lookup(index).map_or(Seen::Nothing, |page| {
            let meta = page.frame();
            // The object's, ours, and those of entries.
            let held = meta.refs() > meta.maps() + 2;
            let node = meta.node();
            Seen::Page(SeenPage { node, shared: false, held, used: true, writable: true })
        });
        tally.add(seen, rules).inspect_err(|refusal| {
            TOO_EMPTY.fetch_add(u64::from(*refusal == Refusal::TooEmpty), Relaxed);
        })?;
    }
    tally.target(rules)
}

/// A block whose frames are single ones yet; the first.
fn take((first, nodes): (numa::NodeId, numa::NodeMask), rules: &Rules) -> Option<Pfn> {
    if frames::faults::should_fail(frames::faults::Want::Frame) {
        return None;
    }
    let allowed = env::with_numa(|task| task.allowed);
    let order = env::machine().fallback(first);
    super::make_block_for(first, rules);
    let head = order.within(nodes & allowed).find_map(compound::alloc_shared)?;
    compound::part_shared(head, false);
    frames::node::account(first, frame(head).node(), false);
    for i in 0..FRAMES {
        frame(Pfn::new(head.raw() + i)).set_why(Why::new(Reason::Collapsed));
    }
    Some(head)
}

/// A block that is being filled; what nobody has taken of it is freed.
struct Block {
    head: Pfn,
    taken: [u64; (FRAMES / 64) as usize],
}

impl Block {
    fn part(&self, i: u64) -> Pfn {
        Pfn::new(self.head.raw() + i)
    }
    fn is_taken(&self, i: u64) -> bool {
        self.taken[i as usize / 64] >> (i % 64) & 1 == 1
    }
    fn take(&mut self, i: u64) -> Page {
        self.taken[i as usize / 64] |= 1 << (i % 64);
        Page::from_raw(self.part(i))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        for i in (0..FRAMES).filter(|i| !self.is_taken(*i)) {
            drop(Page::from_raw(self.part(i)));
        }
    }
}

impl Block {
    /// Takes the place of the object's page at `first + i`, if there is one. Refused while somebody
    /// else has hold of it.
    fn change(&mut self, object: &MemObject, first: u64, i: u64) -> Result<(), Refusal> {
        const TRIES: u32 = 10;
        for _ in 0..TRIES {
            let Some(pfn) = object.lookup(first + i).map(|page| page.pfn()) else { return Ok(()) };
            let new = Page::from_raw(self.part(i));
            let done = object.replace(first + i, pfn, &new, || {
                let frozen = frame(pfn).freeze(1);
                if frozen {
                    hal::phys::copy(new.pfn(), pfn);
                    let (owner, index) = frame(pfn).owner();
                    new.frame().set_owner(owner, index);
                    new.frame().set(frame(pfn).flags());
                }
                frozen
            });
            // The block's own reference goes, too, when the object has one.
            let _block = new.into_raw();
            if done {
                drop(self.take(i));
                frame(pfn).unfreeze(1);
                drop(Page::from_raw(pfn));
                return Ok(());
            }
            object.unmap_pages(first + i, first + i + 1);
        }
        Err(Refusal::Held)
    }
}

impl MemObject {
    /// Gathers the pages from `first` on into a huge page. The tree of no address space is locked.
    fn gather(&self, first: u64, mut block: Block) -> Result<(), Refusal> {
        self.unmap_pages(first, first + FRAMES);
        for i in 0..FRAMES {
            block.change(self, first, i)?;
        }
        let missing = (0..FRAMES).filter(|i| !block.is_taken(*i)).count() as u64;
        self.fill_from(first, missing, |i| {
            (!block.is_taken(i)).then(|| {
                hal::phys::zero(block.part(i));
                block.take(i)
            })
        })
        .map_err(|error| match error {
            abi::Errno::EINVAL => Refusal::Untouched,
            _ => Refusal::NoMemory,
        })?;
        if self.join(first, block.head) { Ok(()) } else { Err(Refusal::Held) }
    }
}

impl Mm {
    /// As [`Mm::collapse`], of shared memory: page `first` of `object` is mapped at `addr`.
    pub(super) fn collapse_shared(
        &self,
        object: &Arc<MemObject>,
        (addr, first): (u64, u64),
        rules: &Rules,
    ) -> Result<bool, Refusal> {
        let there = object.with_huge(first, |_| ()).is_some();
        if !there {
            let to = look(object, first, rules)?;
            let Some(head) = take(to, rules) else {
                NO_BLOCK.fetch_add(1, Relaxed);
                return Err(Refusal::NoMemory);
            };
            COLLAPSED.fetch_add(1, Relaxed);
            super::shared::want();
            object.gather(first, Block { head, taken: [0; (FRAMES / 64) as usize] })?;
        } else if self.is_mapped_huge(addr) {
            return Ok(false);
        }
        self.map_instead(object, (addr, first), rules)?;
        Ok(!there)
    }

    fn is_mapped_huge(&self, addr: u64) -> bool {
        let _vmas = self.vmas.read();
        table::is_huge_at(self.root(), addr)
    }

    /// Maps the huge page by one entry, in the place of a table of small pages.
    fn map_instead(
        &self,
        object: &Arc<MemObject>,
        (addr, first): (u64, u64),
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let vmas = self.vmas.write();
        let vma = self.area_for(&vmas, addr, rules)?;
        let same = vma.object().is_some_and(|mapped| Arc::ptr_eq(mapped, object));
        if !same || vma.index(addr) != first {
            return Err(Refusal::NoArea);
        }
        let mut copied = false;
        table::for_each_entry(self.root(), addr, addr + HUGE, |_, pte| {
            copied |= matches!(table::state(pte), State::Page(pfn) if frame(pfn).is_private());
            !copied
        });
        // A private area's own copies stay, as small pages.
        if !copied {
            self.zap(addr, addr + HUGE);
            self.free_tables(addr, addr + HUGE, addr, addr + HUGE);
            self.map_shared(vma, object, addr, false);
        }
        Ok(())
    }
}
