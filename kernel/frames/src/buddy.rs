//! The buddy allocator of one node: blocks of 2^order frames, split and merged with their buddies.
//!
//! Free blocks of one order form a doubly linked list through their heads' metadata, so freeing,
//! splitting and merging are O(orders). The caller holds the node's lock.

use crate::MAX_ORDER;
use crate::meta::{Kind, frame};
use hal::Pfn;
use numa::NodeId;

const NONE: u64 = u64::MAX;

/// The free blocks of one node.
pub struct Buddy {
    node: NodeId,
    heads: [u64; MAX_ORDER as usize + 1],
    blocks: [u64; MAX_ORDER as usize + 1],
    free: u64,
}

impl Buddy {
    /// An allocator without memory.
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            heads: [NONE; MAX_ORDER as usize + 1],
            blocks: [0; MAX_ORDER as usize + 1],
            free: 0,
        }
    }

    /// Free frames.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Free blocks of each order (as /proc/buddyinfo shows).
    pub fn blocks(&self) -> &[u64; MAX_ORDER as usize + 1] {
        &self.blocks
    }

    fn push(&mut self, pfn: u64, order: u32) {
        let head = self.heads[order as usize];
        let block = frame(Pfn::new(pfn));
        block.set_state(Kind::Free, order, self.node);
        block.set_owner(head, NONE);
        if head != NONE {
            let (next, _) = frame(Pfn::new(head)).owner();
            frame(Pfn::new(head)).set_owner(next, pfn);
        }
        self.heads[order as usize] = pfn;
        self.blocks[order as usize] += 1;
    }

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

    /// A block of 2^order frames, its head marked `Kernel` of that order; None when there is none.
    pub fn alloc(&mut self, order: u32) -> Option<Pfn> {
        let mut have = (order..=MAX_ORDER).find(|&o| self.heads[o as usize] != NONE)?;
        let pfn = self.heads[have as usize];
        self.unlink(pfn, have);
        while have > order {
            have -= 1;
            self.push(pfn + (1 << have), have);
        }
        frame(Pfn::new(pfn)).set_state(Kind::Kernel, order, self.node);
        self.free -= 1 << order;
        Some(Pfn::new(pfn))
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
        while order < MAX_ORDER {
            let buddy = pfn ^ (1 << order);
            let other = frame(Pfn::new(buddy));
            if other.kind() != Kind::Free || other.order() != order || other.node() != self.node {
                break;
            }
            self.unlink(buddy, order);
            // The upper half is no head any more.
            frame(Pfn::new(pfn | 1 << order)).set_state(Kind::Kernel, 0, self.node);
            pfn &= !(1 << order);
            order += 1;
        }
        self.push(pfn, order);
    }

    /// Gives the range `[start, end)` to the allocator, in the largest aligned blocks.
    pub fn add(&mut self, start: Pfn, end: Pfn) {
        let (mut at, end) = (start.raw(), end.raw());
        while at < end {
            let mut order = at.trailing_zeros().min(MAX_ORDER);
            while at + (1 << order) > end {
                order -= 1;
            }
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
        let mut buddy = Buddy::new(NodeId::new(3));
        for pfn in base & !1023..(base + frames).next_multiple_of(1024) {
            frame(Pfn::new(pfn)).set_state(Kind::Reserved, 0, NodeId::new(0));
        }
        buddy.add(Pfn::new(base), Pfn::new(base + frames));
        buddy
    }

    #[test]
    fn a_range_comes_back_whole_after_everything_is_freed() {
        let mut buddy = buddy_on(0x8000, 4096);
        let got: Vec<_> = core::iter::from_fn(|| buddy.alloc(0)).collect();
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
        let pfn = buddy.alloc(3).expect("memory");
        buddy.free(pfn, 3);
        buddy.free(pfn, 3);
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap_of_frames(
            start in 0u64..700,
            frames in 1u64..3000,
            ops in proptest::collection::vec((any::<bool>(), 0u32..=5, any::<proptest::sample::Index>()), 1..200),
        ) {
            let base = 0x10000 + start;
            let mut buddy = buddy_on(base, frames);
            let mut used = std::vec![false; frames as usize];
            let mut blocks: BTreeMap<u64, u32> = BTreeMap::new();
            for (take, order, pick) in ops {
                if take {
                    match buddy.alloc(order) {
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
