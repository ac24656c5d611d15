//! Operations on huge pages of the pool: how large it is, and mapping them. All else is done to them
//! as to any memory, at the boundaries of huge pages three times of four.

use super::{Maker, Range};
use crate::arena::{self, PAGE};
use crate::ops::Kind;

/// Pages of a huge page.
const HUGE: u64 = 512;
/// Huge pages of a mapping, and of a node's part of the pool, at most.
const MOST: u64 = 6;

impl Maker<'_> {
    /// A pool to begin with: some pages on each node, now and then with overcommit.
    pub(super) fn fill_pool(&mut self) {
        for node in self.nodes.clone() {
            let pages = self.random.below(MOST);
            self.push(0, Kind::Pool, &[10 + node, pages]);
        }
        if self.random.chance(1, 4) {
            let pages = 1 + self.random.below(MOST);
            self.push(0, Kind::Pool, &[2, pages]);
        }
    }

    pub(super) fn pool(&mut self, worker: u64) {
        let nodes = self.nodes.clone();
        let (what, most) = match self.random.below(6) {
            0 => (0, MOST * nodes.len() as u64),
            1 => (1, MOST * nodes.len() as u64),
            2 => (2, MOST),
            _ => (10 + self.random.of(&nodes), MOST),
        };
        let pages = self.random.below(most);
        self.push(worker, Kind::Pool, &[what, pages]);
    }

    pub(super) fn map_huge(&mut self, worker: u64) {
        let pages = 1 + self.random.below(MOST);
        // Few places, so that things meet; among them those of small pages.
        let region = self.random.below(arena::REGIONS);
        let at = arena::at(region, self.random.below(8) * HUGE);
        let prot = self.random.of(&[3, 3, 3, 3, 3, 3, 1, 0]);
        // MAP_HUGETLB, MAP_ANONYMOUS and MAP_FIXED, with MAP_PRIVATE or MAP_SHARED.
        let mut flags = 0x4_0030 | self.random.of(&[2, 2, 2, 1]);
        flags |= match self.random.below(16) {
            0 | 1 => 0x4000,
            2 => 0x8000,
            3 => 0x2000,
            4 => 21 << 26,
            5 => self.random.of(&[22 << 26, 12 << 26, 0x100, 0x2_0000]),
            _ => 0,
        };
        let (at, bytes) = match self.random.below(16) {
            0 => (at + PAGE, pages * HUGE * PAGE),
            1 => (at, pages * HUGE * PAGE - 3 * PAGE),
            _ => (at, pages * HUGE * PAGE),
        };
        self.ranges.push(Range { at, pages: pages * HUGE, unit: HUGE });
        self.push(worker, Kind::Mmap, &[at, bytes, prot, flags, 0, 0, 1]);
    }

    /// Whole huge pages of a range.
    pub(super) fn within_huge(&mut self, range: Range) -> Range {
        let all = (range.pages / HUGE).max(1);
        let start = self.random.below(all);
        let pages = 1 + self.random.below(all - start);
        Range { at: range.at + start * HUGE * PAGE, pages: pages * HUGE, ..range }
    }
}
