//! Operations on memory: mapping, changing, touching.

use super::thp::Thp;
use super::{Maker, Range};
use crate::arena::{self, PAGE};
use crate::ops::Kind;

/// MADV_COLLAPSE.
const COLLAPSE: u64 = 25;

impl Maker<'_> {
    pub(super) fn map(&mut self, worker: u64) {
        let (at, pages) = (self.fresh(), self.pages());
        let prot = match self.random.below(16) {
            0 => 0,
            1 => 1,
            2 => 7,
            3 => 2,
            4 => self.random.of(&[8, 5, 0x1000_0000, u64::MAX]),
            _ => 3,
        };
        let (mut object, mut offset) = (0, 0);
        // MAP_FIXED with MAP_PRIVATE or MAP_SHARED.
        let mut flags = 0x10 | self.random.of(&[2, 2, 2, 1]);
        if self.random.chance(1, 3)
            && let Some((number, (_, length))) = self.object()
        {
            object = number + 1;
            offset =
                if self.random.chance(1, 2) { 0 } else { self.random.below(length + 2) * PAGE };
        } else {
            flags |= 0x20;
        }
        flags |= match self.random.below(24) {
            0 => 0x8000,
            1 => 0x4000,
            2 => 0x2000,
            3 => 0x100,
            4 => 0x2_0000,
            5 => 0x10_0000,
            _ => 0,
        };
        match self.random.below(40) {
            // A hint only.
            0 | 1 => flags &= !0x10,
            // No kind, both kinds.
            2 => flags &= !3,
            3 => flags |= 3,
            4 => object = 100,
            5 => flags &= !0x20,
            6 => offset += 1,
            _ => {}
        }
        if flags & 0x8000 != 0 && !self.spend(pages) {
            flags &= !0x8000;
        }
        if flags & 0x2000 != 0 && !self.spend(pages) {
            flags &= !0x2000;
        }
        let bytes = match self.random.below(40) {
            0 => 0,
            1 => pages * PAGE - 7,
            2 => 1 << 47,
            3 => u64::MAX,
            _ => pages * PAGE,
        };
        // A shared mapping without a file has a number, too, whatever descriptor is named.
        let shared = flags & 0x23 == 0x21;
        let modulus = if shared { 0 } else { 1 };
        let unit = self.unit();
        self.ranges.push(Range { at, pages, unit });
        self.push(worker, Kind::Mmap, &[at, bytes, prot, flags, object, offset, modulus]);
    }

    pub(super) fn touch(&mut self, worker: u64) {
        let range = self.within();
        let stride = self.random.of(&[1, 1, 1, 2, 5]) * range.unit;
        let pages = (range.pages / stride).max(1);
        // Each may bring a huge page in.
        let cost = if self.thp == Thp::None { pages } else { pages * stride };
        let pages = if self.spend(cost) { pages } else { 1 };
        let how = self.random.of(&[0, 0, 1]);
        let value = self.random.below(1000);
        self.push(worker, Kind::Touch, &[range.at, pages, stride, how, value]);
    }

    pub(super) fn munmap(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        self.push(worker, Kind::Munmap, &[at, bytes]);
    }

    pub(super) fn mremap(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let pages = self.pages();
        let new = match self.random.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << 47,
            3..7 => bytes,
            7..9 => bytes.saturating_add(pages * PAGE).min(2000 * PAGE),
            _ => pages * PAGE,
        };
        // MAYMOVE, FIXED, DONTUNMAP.
        let flags = self.random.of(&[0, 0, 1, 1, 3, 3, 3, 5, 7, 2, 4, 8, u64::MAX]);
        let to = self.fresh();
        if flags & 2 != 0 && new < 1 << 40 {
            let unit = self.unit();
            let pages = new.div_ceil(PAGE).max(1).next_multiple_of(unit);
            self.ranges.push(Range { at: to, pages, unit });
        }
        self.push(worker, Kind::Mremap, &[at, bytes, new, flags, to]);
    }

    pub(super) fn mprotect(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let prot = self.random.of(&[0, 1, 1, 3, 3, 3, 3, 5, 7, 2, 0x0100_0003, 0x0200_0003, 16]);
        self.push(worker, Kind::Mprotect, &[at, bytes, prot]);
    }

    pub(super) fn madvise(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let advice = match self.random.below(24) {
            0..4 if self.thp != Thp::None => self.random.of(&[4, 14, COLLAPSE, COLLAPSE]),
            0..8 => 4,
            8 | 9 => 9,
            10 => 10,
            11 => 11,
            12 => 18,
            13 => 19,
            14 => 22,
            15 | 16 => 23,
            17 => 24,
            18 => self.random.of(&[0, 1, 2, 3]),
            19 => self.random.of(&[14, 15]),
            20 if self.thp != Thp::None => self.random.of(&[14, 14, 15]),
            20 => self.random.of(&[16, 17]),
            21 => 20,
            22 => self.random.of(&[5, 6, 7, 26, 50, 99, u64::MAX]),
            _ => 4,
        };
        // What is dropped by a range without end is the worker's own.
        let bytes = if bytes > arena::END { u64::MAX } else { bytes };
        let fills = [22, 23, COLLAPSE].contains(&advice);
        if fills && !self.spend(bytes.min(1 << 40) / PAGE) {
            return;
        }
        self.push(worker, Kind::Madvise, &[at, bytes, advice]);
    }

    pub(super) fn mlock(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let how = self.random.of(&[0, 0, 1, 1, 2, 3]);
        if how != 1 && !self.spend(bytes.min(1 << 40) / PAGE) {
            return;
        }
        self.push(worker, Kind::Mlock, &[at, bytes, how]);
    }

    pub(super) fn mincore(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        self.push(worker, Kind::Mincore, &[at, bytes]);
    }
}
