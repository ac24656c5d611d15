//! Moving what lies on the wrong nodes of a range: pages are found and moved batch by batch.

use crate::env;
use crate::migrate::{BATCH, Candidate, Outcome};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::vma::Vma;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use frames::fallible::{Grow, TryMap};
use frames::frame;
use frames::meta::Reason;
use hal::Pfn;
use numa::NodeId;
use numa::policy::Placement;

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
        (vma, addr, pfn): (&Vma, u64, Pfn),
        all: bool,
        target: &mut impl FnMut(&Vma, u64, NodeId) -> Option<Placement<'static>>,
    ) {
        if vma.reserves(frame(pfn)) {
            return;
        }
        let elsewhere = frame(pfn).maps() > 1;
        if elsewhere && self.met.contains(&pfn) {
            self.failed += 1;
            return;
        }
        let Some(to) = target(vma, addr, frame(pfn).node()) else { return };
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
            self.room = if vma.is_huge() { 0 } else { self.room - 1 };
            self.batch.push(Candidate { addr, pfn, to });
        }
    }
}

impl Mm {
    /// Moves the pages of `[start, end)` for which `target` gives a place, in batches; how many
    /// could not be moved. Pages of several processes only if `all`.
    pub fn move_misplaced(
        &self,
        start: u64,
        end: u64,
        all: bool,
        reason: Reason,
        mut target: impl FnMut(&Vma, u64, NodeId) -> Option<Placement<'static>>,
    ) -> u64 {
        let mut sweep = Sweep::default();
        let mut at = Some(start);
        // Who is killed does not learn how far it came.
        while let Some(from) = at.filter(|_| !env::killed()) {
            at = self.collect(&mut sweep, (from, end), all, &mut target);
            sweep.failed += self.migrate_with_retries(core::mem::take(&mut sweep.batch), reason);
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
        target: &mut impl FnMut(&Vma, u64, NodeId) -> Option<Placement<'static>>,
    ) -> Option<u64> {
        let vmas = self.vmas.read();
        sweep.room = BATCH;
        let mut next = None;
        for vma in vmas.range(start, end) {
            let (from, to) = (vma.start.max(start), vma.end.min(end));
            table::for_each(self.root(), from, to, |addr, slot| {
                if sweep.room == 0 {
                    next = Some(addr);
                } else if let State::Page(pfn) = table::state(slot.load()) {
                    sweep.look((vma, addr, pfn), all, target);
                }
                next.is_none()
            });
            if next.is_some() {
                break;
            }
        }
        next
    }

    /// Moves the candidates; those that are busy are tried again a few times, as Linux does.
    fn migrate_with_retries(&self, mut candidates: Vec<Candidate<'_>>, reason: Reason) -> u64 {
        const TRIES: u32 = 10;
        for _ in 0..TRIES {
            if candidates.is_empty() {
                return 0;
            }
            let outcomes = self.migrate(&candidates, reason);
            let mut outcomes = outcomes.into_iter();
            candidates.retain(|_| outcomes.next() != Some(Outcome::Moved));
            // A page that was unmapped or moved meanwhile is no failure.
            candidates.retain(|c| self.still_maps(c.addr, c.pfn));
        }
        candidates.len() as u64
    }

    fn still_maps(&self, addr: u64, pfn: Pfn) -> bool {
        let _vmas = self.vmas.read();
        self.frame_at(addr) == Some(pfn)
    }

    /// The frame at `addr`, if a page is there and not on its way.
    fn frame_at(&self, addr: u64) -> Option<Pfn> {
        match table::state(table::lookup(self.root(), addr)?.load()) {
            State::Page(pfn) => Some(pfn),
            _ => None,
        }
    }
}
