//! Moving what lies on the wrong nodes of a range: pages are found and moved batch by batch.

use crate::migrate::{BATCH, Candidate, Outcome};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::transparent::SPLIT_TO_MOVE;
use crate::vma::Vma;
use crate::{HUGE, PAGE, compact, env};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use frames::fallible::{Grow, TryMap, TryVec};
use frames::meta::Reason;
use frames::{Kind, compound, frame};
use hal::Pfn;
use numa::NodeId;
use numa::policy::Placement;

/// Where a page goes: asked of its area, address, and present node, and whether it is a huge one.
pub(crate) trait Target:
    FnMut(&Vma, u64, NodeId, bool) -> Option<Placement<'static>>
{
}

impl<F: FnMut(&Vma, u64, NodeId, bool) -> Option<Placement<'static>>> Target for F {}

/// Whether `pfn` is a transparent huge page that can move as a whole.
pub(crate) fn moves_whole(pfn: Pfn) -> bool {
    compound::is_whole(pfn) || frame(pfn).kind() == Kind::SharedHuge
}

/// Whether a huge page that found no block on `node` may find one now: memory was compacted for it. No
/// lock is held.
pub(crate) fn make_room(node: NodeId) -> bool {
    let has = frames::node(node).is_some_and(|node| node.has_block(compound::ORDER));
    !has && compact::is_promising(node) && compact::make_block(node)
}

/// What a sweep has found so far.
#[derive(Default)]
struct Sweep {
    batch: Vec<Candidate<'static>>,
    /// Pages that the batch may still get. A huge page fills it: the next one needs what this one
    /// leaves.
    room: usize,
    failed: u64,
    /// Addresses in `batch` of pages that are mapped elsewhere, too.
    elsewhere: Vec<u64>,
    /// Such pages, of this batch and of those before, by their present frames. Linux takes all
    /// pages of the range off its lists before it moves the first; one that it meets again, at
    /// another address, cannot be taken and counts as left behind.
    met: BTreeSet<Pfn>,
}

impl Sweep {
    /// A page at `addr` of `vma`: whether to move it. Pages of several processes only if `all`.
    fn look(
        &mut self,
        (vma, addr, pfn, huge): (&Vma, u64, Pfn, bool),
        all: bool,
        target: &mut impl Target,
    ) {
        if vma.reserves(frame(pfn)) {
            return;
        }
        let elsewhere = frame(pfn).maps() > 1;
        if elsewhere && self.met.contains(&pfn) {
            self.failed += 1;
            return;
        }
        let Some(to) = target(vma, addr, frame(pfn).node(), huge) else { return };
        if all || !elsewhere {
            // Pages of several processes are left alone without counting.
            if elsewhere {
                let room = self.met.room_for_one().and_then(|()| self.elsewhere.room_for(1));
                if room.is_err() {
                    self.failed += 1;
                    return;
                }
                self.met.insert(pfn);
                self.elsewhere.push(addr);
            }
            self.room = if huge { 0 } else { self.room - 1 };
            self.batch.push(Candidate { addr, pfn, to });
        }
    }
}

impl Mm {
    /// Moves the pages of `[start, end)` for which `target` gives a place, in batches; how many
    /// could not be moved. Pages of several processes only if `all`.
    pub(crate) fn move_misplaced(
        &self,
        start: u64,
        end: u64,
        all: bool,
        reason: Reason,
        mut target: impl Target,
    ) -> u64 {
        let mut sweep = Sweep::default();
        let mut at = Some(start);
        // Who is killed does not learn how far it came.
        while let Some(from) = at.filter(|_| !env::killed()) {
            at = self.collect(&mut sweep, (from, end), all, &mut target);
            let batch = core::mem::take(&mut sweep.batch);
            sweep.failed += self.migrate_with_retries(batch, reason, &mut target);
            if !sweep.elsewhere.is_empty() {
                let _vmas = self.vmas.read();
                for pfn in sweep.elsewhere.drain(..).filter_map(|addr| self.frame_at(addr)) {
                    // Refused, a page is moved twice at worst.
                    if sweep.met.room_for_one().is_ok() {
                        sweep.met.insert(pfn);
                    }
                }
            }
        }
        sweep.failed
    }

    /// Fills the sweep's batch; where to go on, if it became full.
    fn collect(
        &self,
        sweep: &mut Sweep,
        (start, end): (u64, u64),
        all: bool,
        target: &mut impl Target,
    ) -> Option<u64> {
        let vmas = self.vmas.read();
        sweep.room = BATCH;
        let mut next = None;
        for vma in vmas.range(start, end) {
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            let mut broken = None;
            let mut at = from;
            while at < to && next.is_none() {
                table::for_each_entry(self.root(), at, to, |addr, pte| {
                    let huge = table::is_huge(pte);
                    if sweep.room == 0 {
                        next = Some(addr);
                    } else if let State::Page(pfn) = table::state(pte) {
                        if huge && !vma.is_huge() && !moves_whole(pfn) {
                            broken = Some(addr);
                            return false;
                        }
                        sweep.look((vma, addr, pfn, huge), all, target);
                    }
                    next.is_none()
                });
                // What is in parts already moves in parts; where there is no memory for a table it
                // stays.
                let Some(addr) = broken.take() else { break };
                let split = self.split_huge(addr);
                sweep.failed += u64::from(split.is_err());
                at = if split.is_ok() { addr.max(from) } else { addr + HUGE };
            }
            if next.is_some() {
                break;
            }
        }
        next
    }

    /// Moves the candidates; those that are busy are tried again a few times, as Linux does.
    fn migrate_with_retries(
        &self,
        mut candidates: Vec<Candidate<'static>>,
        reason: Reason,
        target: &mut impl Target,
    ) -> u64 {
        const TRIES: u32 = 10;
        for _ in 0..TRIES {
            if candidates.is_empty() {
                return 0;
            }
            let outcomes = self.migrate(&candidates, reason);
            let mut outcomes = outcomes.into_iter();
            candidates.retain(|c| match outcomes.next() {
                Some(Outcome::Moved) => false,
                Some(Outcome::NoMemory) if moves_whole(c.pfn) => {
                    c.to.first().is_some_and(make_room) || !self.move_parts(c.addr, reason, target)
                }
                _ => true,
            });
            // A page that was unmapped or moved meanwhile is no failure.
            candidates.retain(|c| self.still_maps(c.addr, c.pfn));
        }
        candidates.len() as u64
    }

    /// Splits the transparent huge page at `addr`, for which there is no place as a whole, and moves
    /// its parts; whether all that `target` wants elsewhere are there.
    #[cold]
    #[inline(never)]
    pub(crate) fn move_parts(&self, addr: u64, reason: Reason, target: &mut impl Target) -> bool {
        let mut all = true;
        for chunk in 0..HUGE / PAGE / BATCH as u64 {
            let mut parts = Vec::new();
            {
                let vmas = self.vmas.read();
                let Some(vma) = vmas.find(addr) else { return true };
                if chunk == 0 {
                    if self.split_and_trim(addr).is_err() {
                        return false;
                    }
                    SPLIT_TO_MOVE.fetch_add(1, Ordering::Relaxed);
                }
                for i in 0..BATCH as u64 {
                    let at = addr + (chunk * BATCH as u64 + i) * PAGE;
                    let Some(pfn) = self.frame_at(at).filter(|_| vma.end > at) else { continue };
                    let Some(to) = target(vma, at, frame(pfn).node(), false) else { continue };
                    // Without memory for the list the rest stays.
                    if parts.try_push(Candidate { addr: at, pfn, to }).is_err() {
                        all = false;
                        break;
                    }
                }
            }
            all &= self.migrate(&parts, reason).iter().all(|outcome| *outcome == Outcome::Moved);
        }
        all
    }

    /// Whether a huge page that can move as a whole lies at `addr`: a transparent one that is in
    /// parts already is split. The tree is locked. Answers as [`Mm::split_across`].
    pub(crate) fn in_huge_page(&self, addr: u64) -> abi::Result<bool> {
        let Some((_, pte)) = table::find(self.root(), addr) else { return Ok(false) };
        let broken = |pfn| frame(pfn).kind() != Kind::HugeTlb && !moves_whole(pfn);
        match table::state(pte) {
            State::Page(pfn) if table::is_huge(pte) && broken(pfn) => {
                self.split_huge(addr).map(|()| false)
            }
            _ => Ok(table::is_huge(pte)),
        }
    }

    fn still_maps(&self, addr: u64, pfn: Pfn) -> bool {
        let _vmas = self.vmas.read();
        self.frame_at(addr) == Some(pfn)
    }

    /// The frame at `addr`, if a page is there and not on its way.
    fn frame_at(&self, addr: u64) -> Option<Pfn> {
        match table::state_at(self.root(), addr) {
            State::Page(pfn) => Some(pfn),
            _ => None,
        }
    }
}
