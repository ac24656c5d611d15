//! Collapsing: a table of small pages becomes one huge page, of a block that the pages are copied to.
//!
//! # Protocol
//!
//! 1. The area tree is read-locked: may the area have a huge page, and do the table's pages let it be
//!    (see [`super::scan`])? Which node? Nothing is changed, and faults go on.
//! 2. Without locks a block is taken there. Who has been refused has changed nothing.
//! 3. The tree is write-locked, and both questions are asked anew. From here on this address space has no
//!    fault, fork, munmap, mprotect, mbind or exit, nor a migration of one of its pages: all of them lock
//!    the tree, a migration those of everybody who maps its pages. What copies from outside does, too,
//!    until it holds its page or has copied.
//! 4. The slot of the second level is emptied, under its page-table lock, and flushed as when tables are
//!    freed. No CPU can reach the pages by this table now, or note anything in it.
//! 5. Is a page held by somebody who is no page table? Then the slot gets its table back. Who holds a page
//!    has taken it before step 4, so nobody can come to hold one later.
//! 6. Pages are copied, or left zero. One that others share since a fork stays as it is: nobody may
//!    write to it as long as our reference is there. Then references and counts go, page by page.
//! 7. The slot gets the huge page, and the table is freed, which step 4 has made unreachable.
//!
//! Who is refused after step 4 (or, in another thread, faults meanwhile) sees a delay, nothing else.

use super::khugepaged::{COLLAPSED, NO_BLOCK, TOO_EMPTY, TOO_SHARED};
use super::scan::{Refusal, Rules, Seen, SeenPage, Tally};
use super::{could_have, has_room, is_zero, wanted};
use crate::fault::{entry_bits, written};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::Vma;
use crate::{HUGE, PAGE, VmaTree, env, tlb};
use abi::Errno;
use core::sync::atomic::Ordering::Relaxed;
use frames::meta::{Reason, Why, flag};
use frames::{Kind, Page, compound, frame};
use hal::Pfn;
use hal::paging::{Pte, Slot};
use numa::{NodeId, NodeMask};

/// What an entry of a small page is.
fn seen(pte: Pte) -> Seen {
    match table::state(pte) {
        State::Empty => Seen::Nothing,
        State::Special(pfn) if is_zero(pfn) => Seen::Nothing,
        State::Special(_) => Seen::NotPrivate,
        State::Page(pfn) => {
            let meta = frame(pfn);
            if meta.kind() != Kind::Anon {
                return Seen::NotPrivate;
            }
            let maps = meta.maps();
            Seen::Page(SeenPage {
                node: meta.node(),
                shared: maps > 1,
                held: meta.refs() != maps,
                used: pte.has(Pte::ACCESSED) || meta.has(flag::REFERENCED),
                writable: pte.present() && pte.has(Pte::WRITABLE),
            })
        }
        // It will have arrived when the tree is write-locked.
        State::Migrating(pfn) => Seen::Page(SeenPage {
            node: frame(pfn).node(),
            shared: false,
            held: false,
            used: true,
            writable: false,
        }),
    }
}

/// The node to go to, and those that are as good.
fn look(table: Pfn, rules: &Rules) -> Result<(NodeId, NodeMask), Refusal> {
    let mut tally = Tally::default();
    (0..compound::FRAMES as usize)
        .try_for_each(|i| tally.add(seen(Slot::of(table, i).load()), rules))
        .inspect_err(|refusal| match refusal {
            Refusal::TooEmpty => _ = TOO_EMPTY.fetch_add(1, Relaxed),
            Refusal::TooShared => _ = TOO_SHARED.fetch_add(1, Relaxed),
            _ => {}
        })?;
    tally.target(rules)
}

/// A block on `first`, or on another one of `nodes`, as far as the task may use them. No lock is held:
/// `first` is compacted when it has none.
fn take((first, nodes): (NodeId, NodeMask), rules: &Rules) -> Option<Page> {
    if frames::faults::should_fail(frames::faults::Want::Frame) {
        return None;
    }
    let allowed = env::with_numa(|task| task.allowed);
    let order = env::machine().fallback(first);
    super::make_block_for(first, rules);
    let page = order.within(nodes & allowed).find_map(compound::alloc)?;
    frames::node::account(first, page.node(), false);
    env::page_event(|| env::PageEvent::Allocated { node: page.node(), wanted: first });
    page.frame().set_why(Why::new(Reason::Collapsed));
    Some(page)
}

impl Mm {
    /// The area that may get a huge page at `addr`.
    pub(super) fn area_for<'a>(
        &self,
        vmas: &'a VmaTree,
        addr: u64,
        rules: &Rules,
    ) -> Result<&'a Vma, Refusal> {
        let vma = vmas.find(addr).ok_or(Refusal::NoArea)?;
        let can = addr + HUGE <= vma.end && self.may_collapse(vma, rules);
        if can { Ok(vma) } else { Err(Refusal::NoArea) }
    }

    /// Whether `vma` may get huge pages beyond its first touch.
    pub(super) fn may_collapse(&self, vma: &Vma, rules: &Rules) -> bool {
        let disabled = self.no_huge_pages.load(Relaxed);
        if !has_room(vma) {
            return false;
        }
        if vma.object().is_some() {
            return super::may_have_shared(vma, disabled, !rules.unasked);
        }
        // Who has never written has nothing to collapse, as on Linux.
        could_have(vma, disabled) && vma.group() != 0 && (!rules.unasked || wanted(vma.flags))
    }

    /// The slot of the second level at `addr`, and the table of small pages there; None where a huge
    /// page is. The tree is locked.
    fn small_pages(&self, addr: u64) -> Result<Option<(Slot, Pfn)>, Refusal> {
        let slot = table::second_level(self.root(), addr).ok_or(Refusal::NoTable)?;
        let pte = slot.load();
        if table::is_huge(pte) {
            return Ok(None);
        }
        if pte.present() { Ok(Some((slot, pte.frame()))) } else { Err(Refusal::Untouched) }
    }

    /// Puts a huge page in the place of the small ones at `addr`, which is a multiple of its size. True
    /// when that was done, false where there was one already.
    #[cold]
    pub(super) fn collapse(&self, addr: u64, rules: &Rules) -> Result<bool, Refusal> {
        let to = {
            let vmas = self.vmas.read();
            let vma = self.area_for(&vmas, addr, rules)?;
            if let Some(object) = vma.object().cloned() {
                let first = vma.index(addr);
                drop(vmas);
                return self.collapse_shared(&object, (addr, first), rules);
            }
            let Some((_, table)) = self.small_pages(addr)? else { return Ok(false) };
            look(table, rules)?
        };
        let Some(block) = take(to, rules) else {
            NO_BLOCK.fetch_add(1, Relaxed);
            return Err(Refusal::NoMemory);
        };
        COLLAPSED.fetch_add(1, Relaxed);
        let vmas = self.vmas.write();
        let vma = self.area_for(&vmas, addr, rules)?;
        let Some((slot, table)) = self.small_pages(addr)? else { return Ok(false) };
        look(table, rules)?;
        let was = {
            let _lock = self.pt_lock(addr);
            slot.swap(Pte::EMPTY)
        };
        tlb::shootdown(self, addr, addr + HUGE, true);
        if let Err(refusal) = look(table, rules) {
            let _lock = self.pt_lock(addr);
            slot.store(was);
            return Err(refusal);
        }
        block.frame().set_owner(self.id(), vma.index(addr));
        self.gather(table, &block);
        let bits = entry_bits(vma) | Pte::ACCESSED | Pte::LARGE | written(vma);
        {
            let _lock = self.pt_lock(addr);
            block.frame().add_map();
            self.count_transparent(block.pfn(), 1);
            slot.store(Pte::new(block.into_raw(), bits));
        }
        drop(vmas);
        self.tables.fetch_sub(1, Relaxed);
        frames::free_one(table);
        Ok(true)
    }

    /// Copies the pages of `table`, which nobody can reach, into `block`, and gives them back.
    fn gather(&self, table: Pfn, block: &Page) {
        for i in 0..compound::FRAMES {
            let to = block.part(i * PAGE);
            let State::Page(from) = table::state(Slot::of(table, i as usize).load()) else {
                hal::phys::zero(to);
                continue;
            };
            hal::phys::copy(to, from);
            self.count_mapped(from, -1);
            frame(from).remove_map();
            drop(Page::from_raw(from));
        }
    }

    /// madvise(2) MADV_COLLAPSE over the page-aligned `[start, end)`: what lies before a refusal is
    /// done.
    pub(crate) fn collapse_range(&self, start: u64, end: u64) -> abi::Result<()> {
        let (mut at, mut hole) = (start, false);
        while at < end {
            let area = {
                let vmas = self.vmas.read();
                let area = vmas.range(at, end).next();
                area.map(|vma| (vma.start, vma.end, self.may_collapse(vma, &Rules::ASKED)))
            };
            let Some((from, to, can)) = area else { break };
            hole |= from > at;
            if !can {
                return Err(Errno::EINVAL);
            }
            self.collapse_all(from.max(at), to.min(end))?;
            at = to;
        }
        if hole || at < end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// The same within an area.
    fn collapse_all(&self, start: u64, end: u64) -> abi::Result<()> {
        let (first, last) = (start.next_multiple_of(HUGE), end & !(HUGE - 1));
        let mut missing = last.wrapping_sub(first) / HUGE;
        let mut error = Errno::EINVAL;
        let mut at = first;
        while at < last {
            if env::killed() {
                return Err(Errno::EINTR);
            }
            match self.collapse(at, &Rules::ASKED) {
                Ok(_) => missing -= 1,
                Err(refusal) => {
                    error = refusal.errno();
                    if !refusal.is_passed_over() {
                        break;
                    }
                }
            }
            at += HUGE;
        }
        // A range within one huge page has none, which is not enough on Linux either.
        if missing == 0 { Ok(()) } else { Err(error) }
    }
}
