//! Sequences from a seed: operations that mean something to each other, with valid, boundary and
//! wild arguments.
//!
//! What Linux itself leaves open is not generated; docs/fuzzing.md lists it with the reasons. Here
//! is what all operations are made with: places, lengths, who does it; the operations themselves are
//! next door.

mod huge;
mod memory;
mod objects;
mod people;
mod policies;
mod thp;

use crate::arena::{self, PAGE};
use crate::block::OBJECTS;
use crate::machine::Machine;
use crate::ops::{Kind, Op, WORKERS};
use crate::random::Random;
use crate::starts::Starts;
use thp::Thp;

/// Operations of a sequence, at least and at most.
const LENGTHS: (u64, u64) = (12, 64);
/// Where regions are used: the rest of their 64 MiB is room to grow.
const SPAN: u64 = 6000;

/// Which sequences a seed gives: the first ones with `ops` operations together.
pub fn sequences(machine: &Machine, seed: u64, ops: u64) -> Vec<(String, Vec<Op>)> {
    let mut all = Vec::new();
    let (mut made, mut index) = (0, 0);
    while made < ops {
        let list = sequence(machine, seed, index);
        made += list.len() as u64;
        all.push((format!("{seed}.{index}"), list));
        index += 1;
    }
    all
}

/// The `index`th sequence of a seed.
pub fn sequence(machine: &Machine, seed: u64, index: u64) -> Vec<Op> {
    // Other machines get other sequences.
    let shape = format!("{:?}", machine.nodes);
    let seed = crate::trace::digest(seed, shape.as_bytes());
    let mut random = Random::new(seed ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93));
    // The first numbers of neighbouring seeds are alike.
    random.word();
    Maker::new(machine, random).all()
}

/// A range that was mapped at some time.
#[derive(Clone, Copy)]
struct Range {
    at: u64,
    pages: u64,
    /// Pages of a page: of huge ones 512.
    unit: u64,
}

struct Maker<'a> {
    machine: &'a Machine,
    random: Random,
    nodes: Vec<u64>,
    ranges: Vec<Range>,
    /// Pages of each object that was made.
    objects: [Option<(u64, u64)>; OBJECTS],
    /// Workers that were made, as far as can be told.
    alive: [bool; WORKERS],
    /// Whether this sequence has processes, threads.
    forks: bool,
    threads: bool,
    /// Whether it has a pool of huge pages.
    huge: bool,
    /// Whether it has transparent huge pages.
    thp: Thp,
    /// Pages that may still be touched before a node could run out of memory.
    budget: u64,
    starts: Starts,
    ops: Vec<Op>,
}

impl<'a> Maker<'a> {
    fn new(machine: &'a Machine, mut random: Random) -> Self {
        let forks = random.chance(1, 3);
        let threads = random.chance(1, 4);
        let huge = random.chance(1, 4);
        let thp = if huge { Thp::None } else { Thp::any(&mut random) };
        let mut alive = [false; WORKERS];
        alive[0] = true;
        Self {
            machine,
            nodes: machine.memory_nodes(),
            ranges: Vec::new(),
            objects: [None; OBJECTS],
            alive,
            // Linux counts reservations wrongly while a child has its parent's huge pages.
            forks: forks && !huge && thp != Thp::Whole,
            threads,
            huge,
            thp,
            // An eighth of the smallest node, in pages.
            budget: machine.least_memory() * 256 / 8,
            starts: Starts::default(),
            random,
            ops: Vec::new(),
        }
    }

    fn all(mut self) -> Vec<Op> {
        let length = LENGTHS.0 + self.random.below(LENGTHS.1 - LENGTHS.0);
        if self.random.chance(2, 3) {
            let cpu = self.random.below(self.machine.cpus());
            self.push(0, Kind::Pin, &[cpu]);
        }
        if self.huge {
            self.fill_pool();
        }
        if self.thp != Thp::None {
            self.push(0, Kind::Thp, &[1]);
        }
        self.map(0);
        while (self.ops.len() as u64) < length {
            let worker = self.worker();
            self.one(worker);
        }
        self.starts.settle(&mut self.ops);
        self.ops
    }

    fn push(&mut self, worker: u64, kind: Kind, args: &[u64]) {
        self.ops.push(Op::new(worker, kind, args));
    }

    fn worker(&mut self) -> u64 {
        let alive: Vec<u64> = (0..WORKERS as u64).filter(|w| self.alive[*w as usize]).collect();
        if alive.is_empty() { 0 } else { self.random.of(&alive) }
    }

    fn one(&mut self, worker: u64) {
        match self.random.below(100) {
            0..12 if self.huge && self.random.chance(1, 2) => self.map_huge(worker),
            0..12 => self.map(worker),
            12..30 => self.touch(worker),
            30..42 => self.mbind(worker),
            42..49 => self.setpol(worker),
            49..52 => self.getpol(worker),
            // Linux moves all that was one page once, wherever the parts are by now.
            52..60 if self.thp == Thp::Parts => self.madvise(worker),
            52..57 => self.movepages(worker),
            57..60 => self.migrate(worker),
            60..64 => self.mremap(worker),
            64..68 => self.mprotect(worker),
            68..73 => self.madvise(worker),
            73..77 => self.munmap(worker),
            77..79 => self.mlock(worker),
            79..80 => self.mincore(worker),
            80..82 => self.home(worker),
            82..88 => self.objects(worker),
            88..94 => self.people(worker),
            94..97 => self.pin(worker),
            97..98 => self.affinity(worker),
            98 if self.huge => self.pool(worker),
            98 if self.thp != Thp::None => self.allow_thp(worker),
            _ => self.push(worker, Kind::Maps, &[]),
        }
    }

    // ---- Addresses and lengths.

    fn pages(&mut self) -> u64 {
        if let Some(pages) = self.pages_thp() {
            return pages;
        }
        match self.random.below(20) {
            0..5 => 1,
            5..13 => 1 + self.random.below(16),
            13..18 => 1 + self.random.below(64),
            18 => 1 + self.random.below(600),
            _ => 1 + self.random.below(4096),
        }
    }

    /// A place for something new: beside or within something old, or anywhere.
    fn fresh(&mut self) -> u64 {
        if let Some(at) = self.fresh_thp() {
            return at;
        }
        if !self.ranges.is_empty() && self.random.chance(1, 2) {
            let range = self.old();
            let offset = match self.random.below(4) {
                0 => range.pages,
                1 => range.pages + 1,
                2 => self.random.below(range.pages),
                _ => 0,
            };
            return range.at + offset * PAGE;
        }
        // Few places, so that things meet.
        let region = self.random.below(arena::REGIONS);
        let page = if self.random.chance(1, 3) { self.random.below(SPAN) } else { 64 };
        arena::at(region, page)
    }

    fn old(&mut self) -> Range {
        if self.ranges.is_empty() {
            return Range { at: arena::at(0, 512), pages: 512, unit: self.unit() };
        }
        // The latest ones are the most likely to be there still.
        let last = self.ranges.len() as u64;
        let back = self.random.below(last.min(6));
        let index =
            if self.random.chance(3, 4) { last - 1 - back } else { self.random.below(last) };
        self.ranges[index as usize]
    }

    /// A range that was mapped, a part of it, or a bit more.
    fn within(&mut self) -> Range {
        let range = self.old();
        if range.unit > 1 && (self.thp == Thp::Whole || self.random.chance(3, 4)) {
            return self.within_huge(range);
        }
        match self.random.below(8) {
            0..3 => range,
            3..6 => {
                let start = self.random.below(range.pages);
                let pages = 1 + self.random.below(range.pages - start);
                Range { at: range.at + start * PAGE, pages, ..range }
            }
            6 => Range { pages: range.pages + 1 + self.random.below(4), ..range },
            _ => {
                let before = (1 + self.random.below(3)) * PAGE;
                Range { at: range.at.saturating_sub(before).max(arena::START), ..range }
            }
        }
    }

    /// Start and bytes of a range, now and then such as no call takes. Nothing that is wild reaches
    /// beyond the arena into what the worker itself lives on.
    fn range(&mut self) -> (u64, u64) {
        let range = self.within();
        let bytes = range.pages * PAGE;
        match self.random.below(40) {
            0 => (range.at + 1, bytes),
            1 => (range.at, bytes - 1),
            2 => (range.at, 0),
            3 => (range.at, u64::MAX),
            4 => (range.at, u64::MAX - PAGE + 1),
            5 => (range.at, 1 << 63),
            6 => (0xffff_8000_0000_0000, bytes),
            7 => (0x8000_0000_0000, bytes),
            8 => (arena::at(7, 16_000), PAGE),
            _ => (range.at, bytes),
        }
    }

    fn spend(&mut self, pages: u64) -> bool {
        let pages = if self.thp == Thp::None { pages } else { pages.next_multiple_of(thp::HUGE) };
        let enough = pages <= self.budget;
        self.budget -= if enough { pages } else { 0 };
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::parse("0-1/512;2-3/512;4-5/;/512").expect("a machine")
    }

    #[test]
    fn the_same_seed_gives_the_same_sequences_and_another_seed_others() {
        assert_eq!(sequences(&machine(), 7, 500), sequences(&machine(), 7, 500));
        assert_ne!(sequences(&machine(), 7, 500), sequences(&machine(), 8, 500));
    }

    #[test]
    fn nothing_that_could_succeed_reaches_what_a_worker_lives_on() {
        for (_, ops) in sequences(&machine(), 3, 20_000) {
            for op in ops {
                let (at, bytes) = (op.args[0], op.args[1]);
                let changes = matches!(op.kind, Kind::Munmap | Kind::Mprotect | Kind::Madvise);
                let end = at.checked_add(bytes);
                let refused = |end| end > 1 << 47 && (op.kind != Kind::Madvise || at > arena::END);
                let ends_well = end.is_none_or(|end| end <= arena::END || refused(end));
                assert!(!changes || ends_well, "{op}");
                let fixed = op.kind == Kind::Mmap && op.args[3] & 0x10 != 0;
                assert!(!fixed || arena::holds(at) && ends_well, "{op}");
            }
        }
    }

    #[test]
    fn every_kind_of_operation_occurs() {
        let all: Vec<Op> = sequences(&machine(), 1, 50_000).into_iter().flat_map(|s| s.1).collect();
        for kind in [Kind::Fork, Kind::Clone, Kind::Exec, Kind::Exit, Kind::Shmat, Kind::Home] {
            assert!(all.iter().any(|op| op.kind == kind), "{kind:?}");
        }
    }
}
