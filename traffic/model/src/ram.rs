//! From what the emulator calls a physical address to the guest's memory and its node.
//!
//! QEMU 7.2 reports the RAM block's own offset plus the block's place among the others; later ones
//! report the guest's physical address. Neither is assumed: the guest touches a page of each node
//! and says where it is ([`Map::learn`]).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nodes' memory is a multiple of this, and so is where blocks lie.
const GRAIN_SHIFT: u32 = 18;
/// Reported addresses beyond this are no memory.
const MOST: u64 = 1 << 42;

/// A page of the guest's memory as the model counts it: in the order of the nodes, without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub node: usize,
    /// Bytes from the beginning of all memory.
    pub offset: u64,
}

/// Where each node's memory begins in what the emulator reports.
pub struct Map {
    /// Bytes of each node.
    sizes: Vec<u64>,
    /// A word for each grain of reported addresses: (grain of memory + 1) << 8 | node.
    grains: Box<[AtomicU64]>,
}

/// Memory below the hole for devices, as QEMU's q35 lays it out.
fn below_hole(total: u64) -> u64 {
    if total >= 0xb000_0000 { 0x8000_0000 } else { total }
}

/// The offset in all memory of a guest-physical address.
pub fn offset_of(total: u64, address: u64) -> Option<u64> {
    let low = below_hole(total);
    let high = 1 << 32;
    if address < low {
        Some(address)
    } else {
        let above = address.checked_sub(high)?;
        (above < total - low).then_some(low + above)
    }
}

impl Map {
    /// A machine with `sizes` bytes on its nodes.
    pub fn new(sizes: &[u64]) -> Self {
        let total: u64 = sizes.iter().sum();
        // Twice all memory, and the hole: see the module's beginning.
        let reach = (2 * total + (4 << 30)).min(MOST);
        let grains = crate::zeroed::zeroed((reach >> GRAIN_SHIFT) as usize);
        Self { sizes: sizes.to_vec(), grains }
    }

    pub fn total(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// The page at guest-physical `address`, which is on `node`, is reported at `reported`.
    ///
    /// Errors: what cannot be, in words.
    pub fn learn(&self, node: usize, address: u64, reported: u64) -> Result<(), String> {
        let total = self.total();
        let wrong = || format!("address {address:#x} of node {node} is reported at {reported:#x}");
        let offset = offset_of(total, address).ok_or_else(wrong)?;
        let size = *self.sizes.get(node).ok_or_else(wrong)?;
        let begin: u64 = self.sizes[..node].iter().sum();
        if offset < begin || offset >= begin + size {
            return Err(format!("{}: that is not the node's memory", wrong()));
        }
        if reported == address && address >> 32 != 0 {
            // The guest's own addresses: a part of the node may lie below the hole.
            let low = below_hole(total);
            self.mark(node, begin, (begin + size).min(low), 0)?;
            return self.mark(node, begin.max(low), begin + size, (1 << 32) - low);
        }
        let low = below_hole(total);
        if reported == address && begin + size > low {
            // Guest addresses or a first block: both lie the same below the hole. What the node has
            // above it is where the one or the other has it, and nothing else is in either place.
            self.mark(node, begin.max(low), begin + size, (1 << 32) - low)?;
        }
        let shift = reported.checked_sub(offset).ok_or_else(wrong)?;
        if shift % (1 << GRAIN_SHIFT) != 0 {
            return Err(wrong());
        }
        self.mark(node, begin, begin + size, shift)
    }

    /// Memory from `begin` to `end` is reported `shift` higher.
    fn mark(&self, node: usize, begin: u64, end: u64, shift: u64) -> Result<(), String> {
        for grain in begin >> GRAIN_SHIFT..end >> GRAIN_SHIFT {
            let slot = usize::try_from(grain + (shift >> GRAIN_SHIFT)).ok();
            let Some(word) = slot.and_then(|slot| self.grains.get(slot)) else {
                return Err(format!("memory of node {node} is reported beyond all memory"));
            };
            word.store((grain + 1) << 8 | node as u64, Relaxed);
        }
        Ok(())
    }

    /// The memory that the emulator reports at `reported`; None for what is none.
    #[inline(always)]
    pub fn find(&self, reported: u64) -> Option<Place> {
        let word = self.grains.get((reported >> GRAIN_SHIFT) as usize)?.load(Relaxed);
        if word == 0 {
            return None;
        }
        let inside = reported & ((1 << GRAIN_SHIFT) - 1);
        Some(Place {
            node: (word & 0xff) as usize,
            offset: ((word >> 8) - 1) << GRAIN_SHIFT | inside,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn blocks_that_lie_anywhere_are_found_by_one_page_of_each() {
        let map = Map::new(&[GIB, 0, GIB / 2]);
        assert_eq!(map.find(0x1000), None);
        map.learn(0, 0x5000, 0x5000).unwrap();
        // As QEMU 7.2 has it: the block's offset counts twice.
        map.learn(2, GIB + 0x7000, 2 * GIB + 0x7000).unwrap();
        assert_eq!(map.find(0x1234), Some(Place { node: 0, offset: 0x1234 }));
        let place = Place { node: 2, offset: GIB + 64 };
        assert_eq!(map.find(2 * GIB + 64), Some(place));
        assert_eq!(map.find(2 * GIB + GIB / 2), None);
        assert_eq!(map.find(u64::MAX), None);
    }

    #[test]
    fn guest_addresses_are_found_on_both_sides_of_the_hole() {
        let map = Map::new(&[4 * GIB, 4 * GIB]);
        map.learn(0, 0x5000, 0x5000).unwrap();
        map.learn(1, 7 * GIB, 7 * GIB).unwrap();
        assert_eq!(map.find(GIB), Some(Place { node: 0, offset: GIB }));
        assert_eq!(map.find(4 * GIB + 1), Some(Place { node: 0, offset: 2 * GIB + 1 }));
        assert_eq!(map.find(6 * GIB), Some(Place { node: 1, offset: 4 * GIB }));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let map = Map::new(&[GIB, GIB]);
        assert!(map.learn(0, GIB, GIB).is_err());
        assert!(map.learn(2, 0, 0).is_err());
        assert!(map.learn(1, GIB, 5).is_err());
        assert!(map.learn(1, GIB, 1 << 50).is_err());
        assert!(map.learn(0, 3 * GIB, 3 * GIB).is_err());
    }
}
