//! Operations on policies and on where pages are.

use super::Maker;
use super::thp::Thp;
use crate::ops::{Kind, WORKERS};

const STATIC: u64 = 1 << 15;
const RELATIVE: u64 = 1 << 14;
const BALANCING: u64 = 1 << 13;
/// One more than the bits that are passed, as these calls count.
const MAXNODE: u64 = 1025;

impl Maker<'_> {
    fn mode(&mut self) -> u64 {
        let mode = match self.random.below(30) {
            0 => 7,
            1 => self.random.of(&[8, 100, u64::from(u32::MAX), 1 << 12, 1 << 31]),
            other => other % 7,
        };
        let flags = match self.random.below(12) {
            0 => STATIC,
            1 => RELATIVE,
            2 => BALANCING,
            3 if self.random.chance(1, 4) => STATIC | RELATIVE,
            3 => STATIC | BALANCING,
            _ => 0,
        };
        mode | flags
    }

    /// Mask, shape and maxnode.
    fn mask(&mut self) -> (u64, u64, u64) {
        let all: u64 = self.nodes.iter().map(|node| 1 << node).sum();
        let mask = match self.random.below(12) {
            0..4 => 1 << self.random.of(&self.nodes.clone()),
            4..8 => all & self.random.word(),
            8 => all,
            9 => self.random.word() & 0xff,
            10 => self.random.of(&[0, 1 << 63, u64::MAX]),
            _ => 0,
        };
        let shape = match self.random.below(24) {
            0 => 1,
            1 => 2,
            2 => 3,
            3 => 4,
            4 => 5,
            _ => 0,
        };
        let maxnode = match self.random.below(24) {
            0 => self.random.below(70),
            1 => self.random.of(&[0, 1, 2, 64, 65, 66, 1024]),
            // Beyond this program's own 1024 bits only where the call refuses it.
            2 => self.random.of(&[32_770, 40_000, 1 << 40, u64::MAX]),
            _ => MAXNODE,
        };
        (mask, shape, maxnode)
    }

    pub(super) fn mbind(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let (mode, (mask, shape, maxnode)) = self.policy();
        let flags = match self.random.below(20) {
            0..9 => 0,
            9..13 => 2,
            13 => 1,
            14 => 3,
            15 | 16 => 4,
            17 => 5,
            18 => 6,
            _ => self.random.of(&[8, 16, 7, u64::MAX, 1 << 32]),
        };
        let flags = if self.thp == Thp::Parts { flags & 1 } else { flags };
        self.push(worker, Kind::Mbind, &[at, bytes, mode, mask, shape, maxnode, flags]);
    }

    /// Mode, and mask, shape and maxnode.
    fn policy(&mut self) -> (u64, (u64, u64, u64)) {
        let (mode, (mut mask, mut shape, maxnode)) = (self.mode(), self.mask());
        if !self.starts.admit((mode, mask, shape), &self.nodes) {
            (mask, shape) = (1 << self.nodes[0], 0);
        }
        (mode, (mask, shape, maxnode))
    }

    pub(super) fn setpol(&mut self, worker: u64) {
        let (mode, (mask, shape, maxnode)) = self.policy();
        self.push(worker, Kind::Setpol, &[mode, mask, shape, maxnode]);
    }

    pub(super) fn getpol(&mut self, worker: u64) {
        let flags = match self.random.below(10) {
            0..2 => 0,
            2..5 => 2,
            5..7 => 3,
            7 => 1,
            8 => 4,
            _ => self.random.of(&[5, 6, 7, 8, 1 << 31, u64::MAX]),
        };
        let at = if self.random.chance(1, 6) { 0 } else { self.range().0 };
        let (_, shape, maxnode) = self.mask();
        // It is written to: no more than there is room for.
        let maxnode = if shape == 0 { maxnode.min(MAXNODE) } else { maxnode };
        self.push(worker, Kind::Getpol, &[flags, at, shape.min(3), maxnode]);
    }

    pub(super) fn home(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let node = match self.random.below(6) {
            0 => self.random.of(&[64, 1024, u64::MAX]),
            1 => self.random.below(8),
            _ => self.random.of(&self.nodes.clone()),
        };
        let flags = u64::from(self.random.chance(1, 12));
        self.push(worker, Kind::Home, &[at, bytes, node, flags]);
    }

    pub(super) fn movepages(&mut self, worker: u64) {
        let range = self.within();
        // Several addresses of a huge page, or one of each.
        let whole = range.unit > 1 && self.random.chance(1, 2);
        let stride = if whole { range.unit } else { self.random.of(&[1, 1, 1, 1, 2, 3, 0]) };
        let pages = (range.pages / stride.max(1)).clamp(1, 200);
        let first = match self.random.below(10) {
            0 => self.random.of(&[64, 1024, u64::MAX, 0x7fff_ffff, 0xffff_fff0]),
            1 => self.random.below(8),
            _ => self.random.of(&self.nodes.clone()),
        };
        let step = if self.random.chance(1, 3) { 1 } else { 0 };
        let flags = match self.random.below(12) {
            0..8 => 2,
            8..10 => 4,
            10 => 6,
            _ => self.random.of(&[0, 1, 8, u64::MAX]),
        };
        let shape = if self.random.chance(1, 5) { 1 + self.random.below(5) } else { 0 };
        let at = range.at + if self.random.chance(1, 20) { 5 } else { 0 };
        let who = self.who();
        self.push(worker, Kind::Movepages, &[who, at, pages, stride, first, step, flags, shape]);
    }

    pub(super) fn migrate(&mut self, worker: u64) {
        let (from, shape, maxnode) = self.mask();
        let (to, ..) = self.mask();
        let who = self.who();
        self.push(worker, Kind::Migrate, &[who, from, to, shape, maxnode]);
    }

    pub(super) fn who(&mut self) -> u64 {
        match self.random.below(8) {
            0..5 => 0,
            5..7 => 1 + self.random.below(WORKERS as u64),
            _ => self.random.of(&[100, 101]),
        }
    }
}
