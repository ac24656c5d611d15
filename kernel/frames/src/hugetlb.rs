//! The pool of huge pages (Linux's hugetlbpage.rst): blocks of 2 MiB that are kept, per node, for
//! those who ask for them by name.
//!
//! A page of the pool is free or in use. Of the free ones some are reserved: promised to mappings
//! that have not touched them yet. Surplus pages are those beyond the pool's size, taken from the
//! node's memory when a mapping needed more; they go back there when they become free.
//!
//! [`resize`] changes the pool's size, [`subpool`] shares it among file systems. Everything here
//! is counts and lists under one lock; which nodes are asked, in which order, the caller says.

pub mod resize;
pub mod subpool;

use crate::fallible::TryVec;
use crate::meta::{Kind, flag, frame};
use crate::{Page, Usage};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hal::Pfn;
use numa::{MAX_NODES, NodeId, NodeMask};
use sync::IrqLock;

/// log2 of a huge page's frames.
pub const ORDER: u32 = 9;
/// Frames of a huge page.
pub const FRAMES: u64 = 1 << ORDER;
/// Bytes of a huge page: 2 MiB.
pub const SIZE: u64 = FRAMES * abi::PAGE_SIZE as u64;

/// A page that a migration made beside the pool: freed, it is in no pool. (No flag of its own: huge
/// pages are never freed lazily.)
const TEMPORARY: u32 = flag::LAZY_FREE;

/// No page.
const NONE: u64 = u64::MAX;

/// Blocks had from the nodes' memory for the pool, and those that could not be had (vmstat's
/// htlb_buddy_alloc_success and _fail).
pub static ALLOCATED: AtomicU64 = AtomicU64::new(0);
/// See [`ALLOCATED`].
pub static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Huge pages of one node, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In use, free, surplus or not.
    pub total: u64,
    pub free: u64,
    pub surplus: u64,
    /// Promised and not in use (of all nodes only).
    pub reserved: u64,
}

struct Pool {
    all: Counts,
    nodes: [Counts; MAX_NODES],
    /// Free pages of each node, the last freed first; linked through their metadata.
    free: [u64; MAX_NODES],
    /// Surplus pages that there may be.
    overcommit: u64,
    /// The nodes whose turn it is when the pool grows and shrinks.
    grows_at: Option<NodeId>,
    shrinks_at: Option<NodeId>,
}

static POOL: IrqLock<Pool> = IrqLock::new(Pool {
    all: Counts { total: 0, free: 0, surplus: 0, reserved: 0 },
    nodes: [Counts { total: 0, free: 0, surplus: 0, reserved: 0 }; MAX_NODES],
    free: [NONE; MAX_NODES],
    overcommit: 0,
    grows_at: None,
    shrinks_at: None,
});

impl Pool {
    /// Pages that belong to the pool for good.
    fn persistent(&self) -> u64 {
        self.all.total - self.all.surplus
    }

    /// Free pages that nobody was promised.
    fn available(&self) -> u64 {
        self.all.free.saturating_sub(self.all.reserved)
    }

    fn keep(&mut self, pfn: Pfn) {
        let node = frame(pfn).node().index();
        frame(pfn).set_owner(self.free[node], 0);
        self.free[node] = pfn.raw();
        self.nodes[node].free += 1;
        self.all.free += 1;
    }

    fn pop(&mut self, node: NodeId) -> Option<Pfn> {
        let first = self.free[node.index()];
        if first == NONE {
            return None;
        }
        let pfn = Pfn::new(first);
        self.free[node.index()] = frame(pfn).owner().0;
        self.nodes[node.index()].free -= 1;
        self.all.free -= 1;
        Some(pfn)
    }

    /// Counts a page that came from its node's memory.
    fn add(&mut self, node: NodeId, surplus: bool) {
        self.nodes[node.index()].total += 1;
        self.all.total += 1;
        if surplus {
            self.add_surplus(node);
        }
    }

    /// Counts a page that goes back there.
    fn remove(&mut self, node: NodeId, surplus: bool) {
        self.nodes[node.index()].total -= 1;
        self.all.total -= 1;
        if surplus {
            self.remove_surplus(node);
        }
    }

    fn add_surplus(&mut self, node: NodeId) {
        self.nodes[node.index()].surplus += 1;
        self.all.surplus += 1;
    }

    fn remove_surplus(&mut self, node: NodeId) {
        self.nodes[node.index()].surplus -= 1;
        self.all.surplus -= 1;
    }

    /// Takes a free page off the next node in turn that has one, or of those that have surplus
    /// pages, too.
    fn shrink(&mut self, nodes: NodeMask, surplus: bool) -> Option<Pfn> {
        for _ in 0..nodes.count() {
            let node = resize::turn(&mut self.shrinks_at, nodes)?;
            if (!surplus || self.nodes[node.index()].surplus > 0)
                && let Some(pfn) = self.pop(node)
            {
                self.remove(node, surplus);
                return Some(pfn);
            }
        }
        None
    }

    /// Notes that a page in use came out of the reservation.
    fn use_reservation(&mut self, pfn: Pfn) {
        frame(pfn).set(flag::RESTORE);
        self.all.reserved = self.all.reserved.saturating_sub(1);
    }
}

/// The counts of one node.
pub fn on(node: NodeId) -> Counts {
    POOL.lock().nodes[node.index()]
}

/// The counts of all nodes together.
pub fn counts() -> Counts {
    POOL.lock().all
}

/// Pages that the pool keeps: its size without what is surplus.
pub fn size() -> u64 {
    POOL.lock().persistent()
}

/// Surplus pages that there may be (nr_overcommit_hugepages).
pub fn overcommit() -> u64 {
    POOL.lock().overcommit
}

/// See [`overcommit`].
pub fn set_overcommit(pages: u64) {
    POOL.lock().overcommit = pages;
}

/// A block from exactly `node`'s memory, in no pool yet.
fn block(node: NodeId) -> Option<Pfn> {
    let got = crate::alloc(node, ORDER, Kind::HugeTlb, Usage::User);
    if got.is_some() {
        crate::node::account(node, node, false);
    }
    got
}

/// A block from the first of `nodes` that has one.
fn block_from(nodes: impl Iterator<Item = NodeId>) -> Option<Pfn> {
    let got = nodes.into_iter().find_map(block);
    let counter = if got.is_some() { &ALLOCATED } else { &REFUSED };
    counter.fetch_add(1, Relaxed);
    got
}

/// A surplus page from the first of `nodes` that has memory for one, if there may be one more.
/// It is in use.
fn surplus(nodes: impl Iterator<Item = NodeId>) -> Option<Pfn> {
    let full = |pool: &Pool| pool.all.surplus >= pool.overcommit;
    if full(&POOL.lock()) {
        return None;
    }
    let pfn = block_from(nodes)?;
    let mut pool = POOL.lock();
    if full(&pool) {
        drop(pool);
        give_back(pfn);
        return None;
    }
    pool.add(frame(pfn).node(), true);
    Some(pfn)
}

/// Gives a page that is in no pool back to its node's memory.
fn give_back(pfn: Pfn) {
    frame(pfn).clear(u32::MAX << 24);
    crate::free(pfn);
}

/// What a page that is asked for is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// A reservation of the caller's own.
    Reservation,
    /// What is left when all reservations are met.
    Rest,
}

/// A page from the first of `nodes` that has one free, else a surplus page from the first that has
/// memory; contents undefined. None: SIGBUS.
pub fn take(nodes: impl Iterator<Item = NodeId> + Clone, from: From) -> Option<Page> {
    let free = {
        let mut pool = POOL.lock();
        let may = from == From::Reservation || pool.available() > 0;
        let pfn = if may { nodes.clone().find_map(|node| pool.pop(node)) } else { None };
        if let Some(pfn) = pfn
            && from == From::Reservation
        {
            pool.use_reservation(pfn);
        }
        pfn
    };
    let pfn = match free {
        Some(pfn) => pfn,
        None => {
            let pfn = surplus(nodes)?;
            if from == From::Reservation {
                POOL.lock().use_reservation(pfn);
            }
            pfn
        }
    };
    Some(in_use(pfn))
}

/// A page that the pool has, with its first reference.
fn in_use(pfn: Pfn) -> Page {
    let meta = frame(pfn);
    meta.set_owner(0, 0);
    meta.clear_maps();
    meta.set_refs(1);
    Page::from_alloc(pfn)
}

/// A page for the contents of one that moves: a free one that is not reserved, else one beside the
/// pool, from the first of `nodes` that has memory; [`moved`] puts it in the old one's place.
pub fn take_for_migration(nodes: impl Iterator<Item = NodeId> + Clone) -> Option<Page> {
    let free = {
        let mut pool = POOL.lock();
        if pool.available() > 0 { nodes.clone().find_map(|node| pool.pop(node)) } else { None }
    };
    let pfn = match free {
        Some(pfn) => pfn,
        None => {
            let pfn = block_from(nodes)?;
            frame(pfn).set(TEMPORARY);
            POOL.lock().add(frame(pfn).node(), false);
            pfn
        }
    };
    Some(in_use(pfn))
}

/// The contents of `old`, which is about to be freed, are in `new` now: of the two the old one is
/// the temporary one, and its node's surplus goes with the page.
pub fn moved(old: Pfn, new: Pfn) {
    if frame(new).clear(TEMPORARY) & TEMPORARY == 0 {
        return;
    }
    frame(old).set(TEMPORARY);
    let (from, to) = (frame(old).node(), frame(new).node());
    let mut pool = POOL.lock();
    if from != to && pool.nodes[from.index()].surplus > 0 {
        pool.remove_surplus(from);
        pool.add_surplus(to);
    }
}

/// Takes a page back whose last reference is gone.
pub(crate) fn release(pfn: Pfn) {
    let meta = frame(pfn);
    let node = meta.node();
    let restore = subpool::put_page(meta.owner().0) || meta.has(flag::RESTORE);
    let temporary = meta.has(TEMPORARY);
    meta.clear(u32::MAX << 24);
    {
        let mut pool = POOL.lock();
        if restore {
            pool.all.reserved += 1;
        }
        let surplus = !temporary && pool.nodes[node.index()].surplus > 0;
        if !temporary && !surplus {
            pool.keep(pfn);
            return;
        }
        pool.remove(node, surplus);
    }
    give_back(pfn);
}

/// Reserves `pages`: that many will be there when they are touched, for who may use `allowed`.
/// Surplus pages are made for what is not free. False, without a reservation, when that cannot be.
pub fn reserve(pages: u64, allowed: NodeMask) -> bool {
    // Made, and in use until they are needed.
    let mut made = Vec::new();
    let reserved = loop {
        let mut pool = POOL.lock();
        let wanted = pool.all.reserved + pages;
        let short = wanted.saturating_sub(pool.all.free);
        if short <= made.len() as u64 {
            pool.all.reserved = wanted;
            made.drain(..short as usize).for_each(|pfn| pool.keep(pfn));
            let there: u64 = allowed.iter().map(|node| pool.nodes[node.index()].free).sum();
            drop(pool);
            if pages > there {
                unreserve(pages);
            }
            break pages <= there;
        }
        drop(pool);
        let Some(pfn) = surplus(allowed.iter()) else { break false };
        if made.try_push(pfn).is_err() {
            release(pfn);
            break false;
        }
    };
    // What others have freed meanwhile was not needed.
    made.into_iter().for_each(release);
    reserved
}

/// Takes `pages` of reservations back. Surplus pages that they kept go back to their nodes' memory.
pub fn unreserve(pages: u64) {
    let nodes = crate::node::with_memory();
    let surplus = {
        let mut pool = POOL.lock();
        pool.all.reserved = pool.all.reserved.saturating_sub(pages);
        pages.min(pool.all.surplus)
    };
    for _ in 0..surplus {
        let Some(pfn) = POOL.lock().shrink(nodes, true) else { break };
        give_back(pfn);
    }
}
