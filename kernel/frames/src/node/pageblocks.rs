//! Pageblocks of a node: what is in them, and taking one out of use so that it becomes free.

use super::Node;
use crate::buddy::{MOBILITIES, Mobility, PAGEBLOCK, PAGEBLOCK_ORDER};
use crate::meta::{Kind, frame};
use crate::{MAX_ORDER, Usage};
use alloc::vec::Vec;
use hal::Pfn;

/// A pageblock that is free when what can be moved has been moved out of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    pub start: Pfn,
    /// Frames to be moved, at least one.
    pub movable: u32,
}

impl Source {
    /// Frames in it that are free already.
    pub fn free(&self) -> u32 {
        PAGEBLOCK as u32 - self.movable
    }
}

/// What /proc/pagetypeinfo shows of a node, by mobility.
#[derive(Clone, Debug, Default)]
pub struct Mobilities {
    /// Free blocks of each order.
    pub blocks: [[u64; MAX_ORDER as usize + 1]; MOBILITIES],
    pub pageblocks: [u64; MOBILITIES],
}

/// Frames of a pageblock that page tables map and that can be moved; None when there is something else
/// in it than those and free frames. Nothing is locked: what is read may change at any time.
fn movable(start: Pfn) -> Option<u32> {
    let mut count = 0;
    let mut at = start.raw();
    let end = at + PAGEBLOCK;
    while at < end {
        let meta = frame(Pfn::new(at));
        let frames = match meta.kind() {
            Kind::Free => 1 << meta.order().min(MAX_ORDER),
            Kind::Cached => 1,
            Kind::Anon | Kind::Shared if meta.maps() > 0 => {
                count += 1;
                1
            }
            _ => return None,
        };
        at += frames;
    }
    Some(count)
}

impl Node {
    /// Adds the pageblocks that could be sources to `found`, as far as it has room, from pageblock
    /// number `from` of the node on. Where to go on; None at the end.
    pub fn find_sources(&self, from: usize, found: &mut Vec<Source>) -> Option<usize> {
        /// Pageblocks whose mobility is asked for under the lock at a time.
        const STEP: usize = 64;
        let mut at = from;
        loop {
            let mut chunk = [None; STEP];
            let mut count = 0;
            {
                let buddy = self.buddy.lock();
                for (slot, (start, mobility)) in chunk.iter_mut().zip(buddy.pageblocks(at)) {
                    *slot = (mobility == Some(Mobility::Movable)).then_some(start);
                    count += 1;
                }
            }
            for slot in &chunk[..count] {
                if found.len() == found.capacity() {
                    return Some(at);
                }
                at += 1;
                let Some(start) = *slot else { continue };
                if let Some(movable) = movable(start).filter(|frames| *frames > 0) {
                    found.push(Source { start, movable });
                }
            }
            if count < STEP {
                return None;
            }
        }
    }

    /// Free frames in pageblocks of movable frames that are in use in part.
    pub fn gaps(&self) -> u64 {
        let blocks = self.buddy.lock().blocks_of(Mobility::Movable);
        (0..PAGEBLOCK_ORDER).map(|order| blocks[order as usize] << order).sum()
    }

    /// Takes a pageblock of movable frames out of use: what is free in it, or becomes so, is given away
    /// only when there is nothing else. False when it is none.
    pub fn isolate(&self, pageblock: Pfn) -> bool {
        self.buddy.lock().isolate(pageblock)
    }

    /// Puts an isolated pageblock back into use: true when all of it is free.
    pub fn restore(&self, pageblock: Pfn) -> bool {
        self.buddy.lock().restore(pageblock)
    }

    /// A frame for the contents of one that leaves an isolated pageblock, with one reference.
    pub fn alloc_in_gap(&self, kind: Kind) -> Option<Pfn> {
        let pfn = self.buddy.lock().alloc_in_gap()?;
        let meta = frame(pfn);
        meta.set_state(kind, 0, self.id);
        meta.clear_maps();
        meta.set_refs(1);
        let _stay = hal::preempt::PreemptGuard::new();
        self.count(super::this_cpu(), kind, 1);
        Some(pfn)
    }

    /// Whether users can have a block of 2^order frames here at once.
    pub fn has_block(&self, order: u32) -> bool {
        let buddy = self.buddy.lock();
        let room = buddy.free_frames() >= self.floor(Usage::User) + (1 << order);
        room && buddy.blocks()[order as usize..].iter().any(|blocks| *blocks > 0)
    }

    /// The free blocks and the pageblocks of each mobility.
    pub fn mobilities(&self) -> Mobilities {
        let buddy = self.buddy.lock();
        let mut all = Mobilities::default();
        for mobility in [Mobility::Unmovable, Mobility::Movable, Mobility::Isolated] {
            all.blocks[mobility as usize] = buddy.blocks_of(mobility);
        }
        for mobility in buddy.pageblocks(0).filter_map(|(_, mobility)| mobility) {
            all.pageblocks[mobility as usize] += 1;
        }
        all
    }
}
