//! move_pages(2): asking where single pages are, and moving them to named nodes.

use crate::migrate::{BATCH, Candidate, Outcome, movable};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::transparent::is_zero;
use crate::{HUGE, PAGE, env};
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use frames::fallible::TryMap;
use frames::frame;
use frames::meta::Reason;
use hal::Pfn;
use numa::NodeId;
use numa::policy::Placement;

/// A run of pages with one target, moved in batches as it grows. To the caller it is moved as a
/// whole, as Linux does: a page that the run has already cannot be queued again.
#[derive(Default)]
pub struct Queue {
    /// The batch that is not moved yet.
    pages: Vec<(u64, Pfn)>,
    /// A huge page is a batch of its own: the next one needs what this one leaves.
    full: bool,
    before: Before,
    queued: usize,
    failed: usize,
}

/// The pages of a run's batches before the present one.
#[derive(Default)]
struct Before {
    /// By address: where ranges begin and end.
    ranges: BTreeMap<u64, u64>,
    /// Where the highest range ends: mostly the next page lies above.
    highest: u64,
    /// The present frames of those that are mapped elsewhere, too.
    shared: BTreeSet<Pfn>,
}

impl Before {
    /// ENOMEM.
    fn add(&mut self, pages: &[(u64, Pfn)]) -> Result<()> {
        for pages in pages.chunk_by(|low, high| low.0 + PAGE == high.0) {
            let (start, end) = (pages[0].0, pages[0].0 + pages.len() as u64 * PAGE);
            self.ranges.try_insert_in(start, end)?;
            self.highest = self.highest.max(end);
        }
        Ok(())
    }

    fn has(&self, addr: u64, pfn: Pfn) -> bool {
        let below = || self.ranges.range(..=addr).next_back();
        addr < self.highest && below().is_some_and(|(_, end)| addr < *end)
            || !self.shared.is_empty() && self.shared.contains(&pfn)
    }
}

/// What [`Mm::queue_page`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits to be moved.
    Waiting,
    /// It is there already.
    There,
}

impl Queue {
    /// True when the run has no pages.
    pub fn is_empty(&self) -> bool {
        self.queued == 0
    }
}

impl Mm {
    /// The node of the page at `addr`. EFAULT without an area or for the zero page, ENOENT without
    /// a page (as behind a frame of vvar).
    pub fn page_node(&self, addr: u64) -> Result<NodeId> {
        let vmas = self.vmas.read();
        vmas.find(addr).ok_or(Errno::EFAULT)?;
        self.find_page(addr).map(|pfn| frame(pfn).node())
    }

    fn find_page(&self, addr: u64) -> Result<Pfn> {
        match table::state_at(self.root(), addr) {
            State::Page(pfn) | State::Migrating(pfn) => Ok(pfn),
            State::Special(pfn) if is_zero(pfn) => Err(Errno::EFAULT),
            State::Special(_) | State::Empty => Err(Errno::ENOENT),
        }
    }

    /// Queues the page at `addr` for node `to`, which is that of the whole run. EFAULT, ENOENT as
    /// [`Mm::page_node`], EACCES for a page of several processes without `all`, EBUSY when it is
    /// queued already or under way elsewhere.
    pub fn queue_page(
        &self,
        queue: &mut Queue,
        addr: u64,
        to: NodeId,
        all: bool,
    ) -> Result<Queued> {
        if queue.pages.len() >= BATCH || queue.full {
            let (before, pages) = (&mut queue.before, &queue.pages);
            before.add(pages)?;
            let shared = pages.iter().filter(|page| frame(page.1).maps() > 1);
            let shared: Vec<u64> = shared.map(|page| page.0).collect();
            self.move_batch(queue, to);
            let _vmas = self.vmas.read();
            let frames = shared.into_iter().filter_map(|addr| self.find_page(addr).ok());
            for pfn in frames {
                queue.before.shared.room_for_one()?;
                queue.before.shared.insert(pfn);
            }
        }
        let vmas = self.vmas.read();
        let vma = vmas.find(addr).filter(|v| movable(v)).ok_or(Errno::EFAULT)?;
        let huge = self.in_huge_page(addr).map_err(|_| Errno::EBUSY)?;
        let addr = addr & !(if huge { HUGE } else { PAGE } - 1);
        let pfn = self.find_page(addr)?;
        let meta = frame(pfn);
        if queue.before.has(addr, pfn) {
            return Err(Errno::EBUSY);
        }
        if meta.node() == to {
            return Ok(Queued::There);
        }
        if meta.maps() > 1 && !all {
            return Err(Errno::EACCES);
        }
        if vma.reserves(meta) || queue.pages.iter().any(|page| page.1 == pfn) {
            return Err(Errno::EBUSY);
        }
        queue.full = huge;
        queue.pages.push((addr, pfn));
        queue.queued += 1;
        Ok(Queued::Waiting)
    }

    /// Ends the run in `queue`, whose pages go to `to`; how many could not be moved.
    pub fn move_queued(&self, queue: &mut Queue, to: NodeId) -> usize {
        self.move_batch(queue, to);
        if queue.before.highest > 0 {
            queue.before = Before::default();
        }
        queue.queued = 0;
        core::mem::take(&mut queue.failed)
    }

    fn move_batch(&self, queue: &mut Queue, to: NodeId) {
        const TRIES: u32 = 10;
        let target = to;
        let to = Placement::exactly(env::machine(), to);
        let mut left = core::mem::take(&mut queue.pages);
        queue.full = false;
        for _ in 0..TRIES {
            if left.is_empty() {
                break;
            }
            let candidates: Vec<_> =
                left.iter().map(|&(addr, pfn)| Candidate { addr, pfn, to }).collect();
            let outcomes = self.migrate(&candidates, Reason::MovedMovePages);
            let mut outcomes = outcomes.into_iter();
            left.retain(|&(addr, pfn)| match outcomes.next() {
                Some(Outcome::Moved) => false,
                Some(Outcome::NoMemory)
                    if crate::sweep::moves_whole(pfn) && crate::sweep::make_room(target) =>
                {
                    true
                }
                Some(Outcome::NoMemory) if crate::sweep::moves_whole(pfn) => {
                    !self.move_parts(addr, Reason::MovedMovePages, &mut |_, _, node, _| {
                        (node != target).then_some(to)
                    })
                }
                _ => true,
            });
            left.retain(|&(addr, pfn)| self.page_is(addr, pfn));
        }
        queue.failed += left.len();
    }

    fn page_is(&self, addr: u64, pfn: Pfn) -> bool {
        let _vmas = self.vmas.read();
        self.find_page(addr) == Ok(pfn)
    }
}
