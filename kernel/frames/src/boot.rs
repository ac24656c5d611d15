//! Memory before there is an allocator: ranges by node, what is taken, and carving pieces off.

use alloc::vec::Vec;
use hal::{Pfn, PhysAddr};
use numa::NodeId;

/// A range of usable memory, in frames `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub end: u64,
    pub node: NodeId,
}

/// Memory by node: usable ranges, minus what was taken.
#[derive(Clone, Debug, Default)]
pub struct BootMemory {
    free: Vec<Range>,
    all: Vec<Range>,
}

impl BootMemory {
    /// Usable bytes `[start, end)` of `ram` on the nodes that `affinity` names (bytes as well);
    /// memory that no affinity covers goes to `default`. Partial frames are left out.
    pub fn new(ram: &[(u64, u64)], affinity: &[(u64, u64, NodeId)], default: NodeId) -> Self {
        let mut all = Vec::new();
        for &(start, end) in ram {
            let (start, end) = (start.div_ceil(4096), end / 4096);
            // Cut at every affinity boundary inside the range.
            let mut cuts: Vec<u64> = affinity
                .iter()
                .flat_map(|a| [a.0 / 4096, a.1 / 4096])
                .filter(|&c| c > start && c < end)
                .collect();
            cuts.push(start);
            cuts.push(end);
            cuts.sort_unstable();
            cuts.dedup();
            for pair in cuts.windows(2) {
                let (start, end) = (pair[0], pair[1]);
                let node = affinity
                    .iter()
                    .find(|a| a.0 / 4096 <= start && end <= a.1 / 4096)
                    .map_or(default, |a| a.2);
                if start < end {
                    all.push(Range { start, end, node });
                }
            }
        }
        all.sort_unstable_by_key(|r| r.start);
        Self { free: all.clone(), all }
    }

    /// Takes the bytes `[start, end)` out of what is free, rounded out to frames.
    pub fn reserve(&mut self, start: u64, end: u64) {
        let (start, end) = (start / 4096, end.div_ceil(4096));
        let mut left = Vec::with_capacity(self.free.len() + 1);
        for r in &self.free {
            if r.end <= start || end <= r.start {
                left.push(*r);
                continue;
            }
            if r.start < start {
                left.push(Range { end: start, ..*r });
            }
            if end < r.end {
                left.push(Range { start: end, ..*r });
            }
        }
        self.free = left;
    }

    /// Takes `frames` frames of `node`, the first at `offset` modulo `align` frames, below frame
    /// `below`; from the highest place that fits.
    pub fn carve(
        &mut self,
        node: Option<NodeId>,
        frames: u64,
        align: u64,
        offset: u64,
        below: u64,
    ) -> Option<PhysAddr> {
        let mut best = None;
        for r in &self.free {
            if node.is_some_and(|n| n != r.node) {
                continue;
            }
            let end = r.end.min(below);
            let Some(latest) = end.checked_sub(frames) else { continue };
            // Largest start <= latest with start = offset (mod align).
            let back = (latest + align - offset % align) % align;
            let Some(start) = latest.checked_sub(back) else { continue };
            if start >= r.start {
                best = Some(start);
            }
        }
        let start = best?;
        self.reserve(start * 4096, (start + frames) * 4096);
        Some(Pfn::new(start).addr())
    }

    /// What is free, by address.
    pub fn free(&self) -> &[Range] {
        &self.free
    }

    /// All usable memory, by address, whether taken or not.
    pub fn all(&self) -> &[Range] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ranges_are_cut_at_node_boundaries_and_reservations() {
        let (n0, n1) = (NodeId::new(0), NodeId::new(1));
        let mut memory = BootMemory::new(
            &[(0, 640 << 10), (MIB, 64 * MIB)],
            &[(0, 32 * MIB, n0), (32 * MIB, 64 * MIB, n1)],
            n0,
        );
        let total: u64 = memory.all().iter().map(|r| r.end - r.start).sum();
        assert_eq!(total * 4096, 640 * 1024 + 63 * MIB);
        assert!(memory.all().iter().any(|r| r.node == n1 && r.start * 4096 == 32 * MIB));
        memory.reserve(2 * MIB, 4 * MIB);
        let at = memory.carve(Some(n1), 16, 512, 3, u64::MAX).expect("room");
        assert_eq!(at.raw() / 4096 % 512, 3);
        assert!(at.raw() >= 32 * MIB);
        let free: u64 = memory.free().iter().map(|r| r.end - r.start).sum();
        assert_eq!(free, total - 512 - 16);
        assert!(memory.carve(Some(n1), 1, 1, 0, 32 * MIB / 4096).is_none());
    }
}
