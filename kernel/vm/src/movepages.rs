//! move_pages(2): asking where single pages are, and moving them to named nodes.

use crate::migrate::{BATCH, Candidate, Outcome, movable};
use crate::mm::Mm;
use crate::table::{self, State};
use crate::{PAGE, env};
use abi::{Errno, Result};
use alloc::vec::Vec;
use frames::frame;
use frames::meta::Reason;
use hal::Pfn;
use numa::NodeId;
use numa::policy::Placement;

/// Pages with one target that wait to be moved together, with their place in the caller's arrays.
#[derive(Default)]
pub struct Queue {
    pages: Vec<(usize, u64, Pfn)>,
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
    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// True when it should be moved before more is added.
    pub fn is_full(&self) -> bool {
        self.pages.len() >= BATCH
    }
}

impl Mm {
    /// The node of the page at `addr`. EFAULT without an area or for the zero page, ENOENT without
    /// a page.
    pub fn page_node(&self, addr: u64) -> Result<NodeId> {
        let vmas = self.vmas.read();
        vmas.find(addr).ok_or(Errno::EFAULT)?;
        self.find_page(addr).map(|pfn| frame(pfn).node())
    }

    fn find_page(&self, addr: u64) -> Result<Pfn> {
        let slot = table::lookup(self.root(), addr).ok_or(Errno::ENOENT)?;
        match table::state(slot.load()) {
            State::Page(pfn) | State::Migrating(pfn) => Ok(pfn),
            State::Special(_) => Err(Errno::EFAULT),
            State::Empty => Err(Errno::ENOENT),
        }
    }

    /// Queues the page at `addr` (item `item` of the call) for node `to`. EFAULT, ENOENT as
    /// [`Mm::page_node`], EACCES for a page of several processes without `all`, EBUSY when it is
    /// queued already or under way elsewhere.
    pub fn queue_page(
        &self,
        queue: &mut Queue,
        item: usize,
        addr: u64,
        to: NodeId,
        all: bool,
    ) -> Result<Queued> {
        let addr = addr & !(PAGE - 1);
        let vmas = self.vmas.read();
        vmas.find(addr).filter(|v| movable(v)).ok_or(Errno::EFAULT)?;
        let pfn = self.find_page(addr)?;
        let meta = frame(pfn);
        if meta.node() == to {
            return Ok(Queued::There);
        }
        if meta.maps() > 1 && !all {
            return Err(Errno::EACCES);
        }
        if queue.pages.iter().any(|p| p.2 == pfn) {
            return Err(Errno::EBUSY);
        }
        queue.pages.push((item, addr, pfn));
        Ok(Queued::Waiting)
    }

    /// Moves what waits in `queue` to `to`; how many pages could not be moved.
    pub fn move_queued(&self, queue: &mut Queue, to: NodeId) -> usize {
        const TRIES: u32 = 10;
        let to = Placement::exactly(env::machine(), to);
        let mut left = core::mem::take(&mut queue.pages);
        for _ in 0..TRIES {
            if left.is_empty() {
                break;
            }
            let candidates: Vec<_> =
                left.iter().map(|&(_, addr, pfn)| Candidate { addr, pfn, to }).collect();
            let mut outcomes = self.migrate(&candidates, Reason::MovedMovePages).into_iter();
            left.retain(|_| outcomes.next() != Some(Outcome::Moved));
            left.retain(|&(_, addr, pfn)| self.page_is(addr, pfn));
        }
        left.len()
    }

    fn page_is(&self, addr: u64, pfn: Pfn) -> bool {
        let _vmas = self.vmas.read();
        self.find_page(addr) == Ok(pfn)
    }
}
