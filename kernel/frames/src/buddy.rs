//! The buddy allocator of one node: blocks of 2^order frames, split and merged with their buddies.
//!
//! Free blocks of one order form a doubly linked list through their heads' metadata, so freeing,
//! splitting and merging are O(orders). The caller holds the node's lock.
//!
//! There are such lists for each mobility: what can be moved away and what cannot come from different
//! pageblocks (runs of the size of a huge page) as long as there are enough, so that the one immovable
//! frame that spoils a huge page is where others are already. A free block is on the lists of its
//! pageblock. Who finds its own lists empty takes the largest block of the others, and with most of a
//! pageblock the pageblock itself.

use crate::MAX_ORDER;
use crate::meta::{Kind, frame};
use alloc::vec::Vec;
use hal::Pfn;
use numa::NodeId;

const NONE: u64 = u64::MAX;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// log2 of a pageblock's frames.
pub const PAGEBLOCK_ORDER: u32 = 9;
/// Frames of a pageblock.
pub const PAGEBLOCK: u64 = 1 << PAGEBLOCK_ORDER;

/// A free block of this order makes a pageblock change its mobility: half of it.
const ENOUGH: u32 = PAGEBLOCK_ORDER - 1;

/// What frames come from a pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mobility {
    /// The kernel's, which stay where they are.
    Unmovable = 0,
    /// Memory of programs, which can be moved.
    Movable,
    /// None while others are free: what is in it is being moved away.
    Isolated,
}

/// Number of mobilities.
pub const MOBILITIES: usize = 3;

impl Mobility {
    /// That of frames of a kind.
    #[inline(always)]
    pub const fn of(kind: Kind) -> Self {
        if kind as u8 >= Kind::Anon as u8 { Self::Movable } else { Self::Unmovable }
    }
}

/// The free blocks of one mobility.
#[derive(Clone, Copy)]
struct Lists {
    heads: [u64; ORDERS],
    blocks: [u64; ORDERS],
}

impl Lists {
    /// Adds the block at `pfn`.
    #[inline(always)]
    fn push(&mut self, pfn: u64, order: u32, node: NodeId) {
        let head = self.heads[order as usize];
        let block = frame(Pfn::new(pfn));
        block.set_state(Kind::Free, order, node);
        block.set_owner(head, NONE);
        if head != NONE {
            let (next, _) = frame(Pfn::new(head)).owner();
            frame(Pfn::new(head)).set_owner(next, pfn);
        }
        self.heads[order as usize] = pfn;
        self.blocks[order as usize] += 1;
    }

    /// Takes the block at `pfn` out.
    #[inline(always)]
    fn unlink(&mut self, pfn: u64, order: u32) {
        let (next, prev) = frame(Pfn::new(pfn)).owner();
        if prev == NONE {
            self.heads[order as usize] = next;
        } else {
            let (_, before) = frame(Pfn::new(prev)).owner();
            frame(Pfn::new(prev)).set_owner(next, before);
        }
        if next != NONE {
            let (after, _) = frame(Pfn::new(next)).owner();
            frame(Pfn::new(next)).set_owner(after, prev);
        }
        self.blocks[order as usize] -= 1;
    }

    /// The order of the smallest block of at least `order`.
    #[inline(always)]
    fn smallest(&self, order: u32) -> Option<u32> {
        (order..=MAX_ORDER).find(|&o| self.heads[o as usize] != NONE)
    }

    /// The order of the largest one.
    fn largest(&self, order: u32) -> Option<u32> {
        (order..=MAX_ORDER).rev().find(|&o| self.heads[o as usize] != NONE)
    }

    /// The first part, of 2^order frames, of the first block of order `have`.
    #[inline(always)]
    fn take(&mut self, order: u32, mut have: u32, node: NodeId) -> Pfn {
        let pfn = self.heads[have as usize];
        self.unlink(pfn, have);
        while have > order {
            have -= 1;
            self.push(pfn + (1 << have), have, node);
        }
        frame(Pfn::new(pfn)).set_state(Kind::Kernel, order, node);
        Pfn::new(pfn)
    }
}

/// The free blocks of one node.
pub struct Buddy {
    node: NodeId,
    lists: [Lists; MOBILITIES],
    free: u64,
    /// The number of the first pageblock (its first frame's divided by [`PAGEBLOCK`]).
    first: u64,
    /// The mobility of each pageblock; None of what is not the node's as a whole, where immovable
    /// frames come from.
    pageblocks: Vec<Option<Mobility>>,
}

impl Buddy {
    /// An allocator without memory, of a node between two frames.
    pub fn new(node: NodeId, span: (Pfn, Pfn)) -> Self {
        let first = span.0.raw() / PAGEBLOCK;
        let count = span.1.raw().div_ceil(PAGEBLOCK).saturating_sub(first);
        Self {
            node,
            lists: [Lists { heads: [NONE; ORDERS], blocks: [0; ORDERS] }; MOBILITIES],
            free: 0,
            first,
            pageblocks: alloc::vec![None; count as usize],
        }
    }

    /// Free frames.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Free blocks of each order (as /proc/buddyinfo shows).
    pub fn blocks(&self) -> [u64; ORDERS] {
        core::array::from_fn(|order| self.lists.iter().map(|l| l.blocks[order]).sum())
    }

    /// Free blocks of each order that have a mobility.
    pub fn blocks_of(&self, mobility: Mobility) -> [u64; ORDERS] {
        self.lists[mobility as usize].blocks
    }

    /// The pageblocks from the one at `from` on, each by its first frame; of those that are not the
    /// node's as a whole, no mobility.
    pub fn pageblocks(&self, from: usize) -> impl Iterator<Item = (Pfn, Option<Mobility>)> {
        let all = self.pageblocks.iter().zip(self.first..).skip(from);
        all.map(|(mobility, number)| (Pfn::new(number * PAGEBLOCK), *mobility))
    }

    /// The lists that a free block at `pfn` is on.
    #[inline(always)]
    fn mobility(&self, pfn: u64) -> Mobility {
        self.pageblocks[(pfn / PAGEBLOCK - self.first) as usize].unwrap_or(Mobility::Unmovable)
    }

    /// A block of 2^order frames, its head marked `Kernel` of that order; None when there is none.
    pub fn alloc(&mut self, order: u32, mobility: Mobility) -> Option<Pfn> {
        let lists = &mut self.lists[mobility as usize];
        let pfn = match lists.smallest(order) {
            Some(have) => lists.take(order, have, self.node),
            None => {
                let (have, from) = self.borrow(order, mobility)?;
                self.lists[from as usize].take(order, have, self.node)
            }
        };
        self.free -= 1 << order;
        Some(pfn)
    }

    /// Up to `most` frames that follow each other, as many as the smallest block has: their first one
    /// and log2 of how many they are.
    pub fn alloc_some(&mut self, most: u64, mobility: Mobility) -> Option<(Pfn, u32)> {
        let lists = &mut self.lists[mobility as usize];
        let Some(have) = lists.smallest(0) else { return Some((self.alloc(0, mobility)?, 0)) };
        let order = have.min(most.ilog2());
        self.free -= 1 << order;
        Some((lists.take(order, have, self.node), order))
    }

    /// One frame of a movable pageblock that something has been taken from: where the contents of
    /// isolated ones go.
    pub fn alloc_in_gap(&mut self) -> Option<Pfn> {
        let lists = &mut self.lists[Mobility::Movable as usize];
        let have = lists.smallest(0).filter(|have| *have < PAGEBLOCK_ORDER)?;
        self.free -= 1;
        Some(lists.take(0, have, self.node))
    }

    /// Finds the largest block of at least `order` on other lists than those of `mobility`: its order
    /// and the lists that it is on now. Isolated pageblocks come last.
    #[cold]
    fn borrow(&mut self, order: u32, mobility: Mobility) -> Option<(u32, Mobility)> {
        let other = match mobility {
            Mobility::Unmovable => Mobility::Movable,
            Mobility::Movable | Mobility::Isolated => Mobility::Unmovable,
        };
        let Some(have) = self.lists[other as usize].largest(order) else {
            let have = self.lists[Mobility::Isolated as usize].largest(order)?;
            return Some((have, Mobility::Isolated));
        };
        let pfn = self.lists[other as usize].heads[have as usize];
        if have < ENOUGH || !self.turn(pfn, have, mobility) {
            return Some((have, other));
        }
        Some((have, mobility))
    }

    /// Gives the pageblocks that the free block of `order` at `pfn` lies in another mobility, with all
    /// that is free in them. False where that cannot be.
    fn turn(&mut self, pfn: u64, order: u32, mobility: Mobility) -> bool {
        if order <= PAGEBLOCK_ORDER {
            return self.set_mobility(Pfn::new(pfn & !(PAGEBLOCK - 1)), mobility);
        }
        let from = self.mobility(pfn);
        let numbers = pfn / PAGEBLOCK - self.first..(pfn + (1 << order)) / PAGEBLOCK - self.first;
        let blocks = &mut self.pageblocks[numbers.start as usize..numbers.end as usize];
        if blocks.iter().any(Option::is_none) {
            return false;
        }
        blocks.fill(Some(mobility));
        self.lists[from as usize].unlink(pfn, order);
        self.lists[mobility as usize].push(pfn, order, self.node);
        true
    }

    /// Gives a pageblock another mobility, with all that is free in it. False when it is not the
    /// node's as a whole, or a part of a larger free block.
    pub fn set_mobility(&mut self, pageblock: Pfn, mobility: Mobility) -> bool {
        let start = pageblock.raw();
        let number = (start / PAGEBLOCK).wrapping_sub(self.first) as usize;
        let Some(Some(before)) = self.pageblocks.get(number).copied() else { return false };
        let larger = |&order: &u32| {
            let head = start & !((1 << order) - 1);
            // A larger block is of pageblocks that are the node's.
            let there = (head / PAGEBLOCK)
                .checked_sub(self.first)
                .is_some_and(|n| self.pageblocks.get(n as usize).is_some_and(Option::is_some));
            there && self.is_free(head, order)
        };
        if (PAGEBLOCK_ORDER + 1..=MAX_ORDER).any(|order| larger(&order)) {
            return false;
        }
        self.pageblocks[number] = Some(mobility);
        let mut at = start;
        while at < start + PAGEBLOCK {
            let meta = frame(Pfn::new(at));
            let order = meta.order();
            if meta.kind() != Kind::Free {
                at += 1;
                continue;
            }
            self.lists[before as usize].unlink(at, order);
            self.lists[mobility as usize].push(at, order, self.node);
            at += 1 << order;
        }
        true
    }

    /// Isolates a pageblock of movable frames. False when it is none, or all free already.
    pub fn isolate(&mut self, pageblock: Pfn) -> bool {
        let number = (pageblock.raw() / PAGEBLOCK).wrapping_sub(self.first) as usize;
        self.pageblocks.get(number) == Some(&Some(Mobility::Movable))
            && !self.is_free(pageblock.raw(), PAGEBLOCK_ORDER)
            && self.set_mobility(pageblock, Mobility::Isolated)
    }

    /// Makes an isolated pageblock one of movable frames again: true when all of it is free.
    pub fn restore(&mut self, pageblock: Pfn) -> bool {
        // Free or not, it is no part of a larger block.
        let restored = self.set_mobility(pageblock, Mobility::Movable);
        let whole = restored && self.is_free(pageblock.raw(), PAGEBLOCK_ORDER);
        if whole {
            // Once more, for the larger block that it may be a half of now.
            self.lists[Mobility::Movable as usize].unlink(pageblock.raw(), PAGEBLOCK_ORDER);
            self.free -= PAGEBLOCK;
            frame(pageblock).set_state(Kind::Kernel, PAGEBLOCK_ORDER, self.node);
            self.free(pageblock, PAGEBLOCK_ORDER);
        }
        whole
    }

    /// True when a free block of exactly `order` begins at `pfn`, which is memory.
    fn is_free(&self, pfn: u64, order: u32) -> bool {
        frame(Pfn::new(pfn)).is(Kind::Free, order, self.node)
    }

    /// Whether two free pageblocks may be one block: both the node's as a whole, and of one mobility
    /// that lasts.
    #[inline(always)]
    fn join(&self, one: u64, other: u64) -> bool {
        let of = |pfn: u64| self.pageblocks[(pfn / PAGEBLOCK - self.first) as usize];
        let mobility = of(one);
        mobility == of(other) && matches!(mobility, Some(Mobility::Movable | Mobility::Unmovable))
    }

    /// Takes a block back, merging it with its free buddies.
    ///
    /// Panics when the block is free already: a double free is caught here, before it spreads.
    pub fn free(&mut self, pfn: Pfn, order: u32) {
        let mut pfn = pfn.raw();
        let mut order = order;
        let state = frame(Pfn::new(pfn)).kind();
        assert!(state != Kind::Free, "frame {pfn:#x} freed twice");
        self.free += 1 << order;
        let mobility = self.mobility(pfn) as usize;
        while order < MAX_ORDER {
            let buddy = pfn ^ (1 << order);
            if !self.is_free(buddy, order) || order >= PAGEBLOCK_ORDER && !self.join(pfn, buddy) {
                break;
            }
            self.lists[mobility].unlink(buddy, order);
            // The upper half is no head any more.
            frame(Pfn::new(pfn | 1 << order)).set_state(Kind::Kernel, 0, self.node);
            pfn &= !(1 << order);
            order += 1;
        }
        self.lists[mobility].push(pfn, order, self.node);
    }

    /// Gives the range `[start, end)` to the allocator, in the largest aligned blocks. It can all be
    /// moved at first.
    pub fn add(&mut self, start: Pfn, end: Pfn) {
        let (at, end) = (start.raw(), end.raw());
        for number in at.div_ceil(PAGEBLOCK)..end / PAGEBLOCK {
            self.pageblocks[(number - self.first) as usize] = Some(Mobility::Movable);
        }
        self.free_run(Pfn::new(at), end - at);
    }

    /// Takes `count` frames from `start` on back, in the largest aligned blocks.
    pub fn free_run(&mut self, start: Pfn, count: u64) {
        let (mut at, end) = (start.raw(), start.raw() + count);
        while at < end {
            // No more than what is left, nor than what the address is a multiple of.
            let order = at.trailing_zeros().min((end - at).ilog2()).min(MAX_ORDER);
            frame(Pfn::new(at)).set_state(Kind::Kernel, order, self.node);
            self.free(Pfn::new(at), order);
            at += 1 << order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// Frames of the arena, so that tests that run at the same time keep apart.
    fn buddy_on(base: u64, frames: u64) -> Buddy {
        let span = (Pfn::new(base), Pfn::new(base + frames));
        let mut buddy = Buddy::new(NodeId::new(3), span);
        for pfn in base & !1023..(base + frames).next_multiple_of(1024) {
            frame(Pfn::new(pfn)).set_state(Kind::Reserved, 0, NodeId::new(0));
        }
        buddy.add(Pfn::new(base), Pfn::new(base + frames));
        buddy
    }

    #[test]
    fn a_range_comes_back_whole_after_everything_is_freed() {
        let mut buddy = buddy_on(0x8000, 4096);
        let got: Vec<_> = core::iter::from_fn(|| buddy.alloc(0, Mobility::Movable)).collect();
        assert_eq!(got.len(), 4096);
        assert_eq!(buddy.free_frames(), 0);
        for pfn in got {
            buddy.free(pfn, 0);
        }
        assert_eq!(buddy.blocks()[MAX_ORDER as usize], 4);
        assert_eq!(buddy.free_frames(), 4096);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn freeing_a_frame_twice_is_caught() {
        let mut buddy = buddy_on(0xc000, 64);
        let pfn = buddy.alloc(3, Mobility::Movable).expect("memory");
        buddy.free(pfn, 3);
        buddy.free(pfn, 3);
    }

    #[test]
    fn what_cannot_move_spoils_no_more_pageblocks_than_it_fills() {
        let mut buddy = buddy_on(0x14000, 8 * PAGEBLOCK);
        let mut fixed = Vec::new();
        let mut movable = Vec::new();
        for round in 0..2 * PAGEBLOCK {
            movable.push(buddy.alloc(0, Mobility::Movable).expect("memory"));
            if round % 4 == 0 {
                fixed.push(buddy.alloc(0, Mobility::Unmovable).expect("memory"));
            }
        }
        movable.into_iter().for_each(|pfn| buddy.free(pfn, 0));
        // A half of a pageblock was taken, with its buddy as one block of twice the size.
        assert_eq!(fixed.len() as u64, PAGEBLOCK / 2);
        let spoilt: std::collections::BTreeSet<_> =
            fixed.iter().map(|pfn| pfn.raw() / PAGEBLOCK).collect();
        assert_eq!(spoilt.len(), 1);
        let whole =
            buddy.blocks()[PAGEBLOCK_ORDER as usize] + 2 * buddy.blocks()[MAX_ORDER as usize];
        assert_eq!(whole, 7);
    }

    #[test]
    fn an_isolated_pageblock_comes_back_whole_and_is_the_last_to_give() {
        let mut buddy = buddy_on(0x16000, 2 * PAGEBLOCK);
        let taken: Vec<_> = core::iter::from_fn(|| buddy.alloc(0, Mobility::Movable)).collect();
        // Every second frame of both.
        taken.iter().filter(|pfn| pfn.raw() % 2 == 0).for_each(|pfn| buddy.free(*pfn, 0));
        let (first, second) = (Pfn::new(0x16000), Pfn::new(0x16000 + PAGEBLOCK));
        assert!(buddy.isolate(first) && !buddy.isolate(first));
        for pfn in taken.iter().filter(|pfn| pfn.raw() % 2 == 1 && **pfn < second) {
            let to = buddy.alloc_in_gap().expect("a gap");
            assert!(to >= second);
            buddy.free(*pfn, 0);
        }
        assert!(buddy.alloc_in_gap().is_none());
        assert!(buddy.restore(first));
        assert_eq!(buddy.alloc(PAGEBLOCK_ORDER, Mobility::Movable), Some(first));
        assert_eq!(buddy.free_frames(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap_of_frames(
            start in 0u64..700,
            frames in 1u64..3000,
            ops in proptest::collection::vec((0u8..=20, 0u32..=5, any::<proptest::sample::Index>()), 1..200),
        ) {
            let base = 0x10000 + start;
            let mut buddy = buddy_on(base, frames);
            let mut used = std::vec![false; frames as usize];
            let mut blocks: BTreeMap<u64, u32> = BTreeMap::new();
            for (what, order, pick) in ops {
                let mobility = [Mobility::Movable, Mobility::Unmovable][usize::from(what) % 2];
                if what == 20 {
                    // Isolated, a pageblock is what the others leave; later it is as any.
                    let all: Vec<_> = buddy.pageblocks(0).collect();
                    let &(pageblock, was) = pick.get(&all);
                    if let Some(was) = was {
                        if was == Mobility::Isolated {
                            let whole = buddy.restore(pageblock);
                            let from = (pageblock.raw() - base) as usize;
                            let all = used[from..from + PAGEBLOCK as usize].iter().all(|u| !u);
                            prop_assert_eq!(whole, all);
                        } else {
                            buddy.isolate(pageblock);
                        }
                    }
                } else if what < 10 {
                    match buddy.alloc(order, mobility) {
                        Some(pfn) => {
                            prop_assert_eq!(pfn.raw() % (1 << order), 0);
                            for f in pfn.raw()..pfn.raw() + (1 << order) {
                                let bit = &mut used[(f - base) as usize];
                                prop_assert!(!*bit, "frame handed out twice");
                                *bit = true;
                            }
                            blocks.insert(pfn.raw(), order);
                        }
                        None => {
                            // No aligned run of that size may be free, or it would have merged.
                            let size = 1u64 << order;
                            let mut at = base.next_multiple_of(size);
                            while at + size <= base + frames {
                                let all = (at..at + size).all(|f| !used[(f - base) as usize]);
                                prop_assert!(!all, "a free run of order {} was not found", order);
                                at += size;
                            }
                        }
                    }
                } else if !blocks.is_empty() {
                    let &pfn = pick.get(&blocks.keys().copied().collect::<Vec<_>>());
                    let order = blocks.remove(&pfn).expect("listed");
                    for f in pfn..pfn + (1 << order) {
                        used[(f - base) as usize] = false;
                    }
                    buddy.free(Pfn::new(pfn), order);
                }
                let free = used.iter().filter(|u| !**u).count() as u64;
                prop_assert_eq!(buddy.free_frames(), free);
            }
        }
    }
}
