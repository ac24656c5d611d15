//! Sequences from a seed: operations that mean something to each other, with valid, boundary and
//! wild arguments.
//!
//! What Linux itself leaves open is not generated; docs/fuzzing.md lists it with the reasons.

use crate::arena::{self, PAGE};
use crate::machine::Machine;
use crate::ops::{Kind, Op, WORKERS};
use crate::random::Random;
use crate::worker::OBJECTS;

const STATIC: u64 = 1 << 15;
const RELATIVE: u64 = 1 << 14;
const BALANCING: u64 = 1 << 13;
/// One more than the bits that are passed, as these calls count.
const MAXNODE: u64 = 1025;
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
    /// Pages that may still be touched before a node could run out of memory.
    budget: u64,
    ops: Vec<Op>,
}

impl<'a> Maker<'a> {
    fn new(machine: &'a Machine, mut random: Random) -> Self {
        let forks = random.chance(1, 3);
        let threads = random.chance(1, 4);
        let mut alive = [false; WORKERS];
        alive[0] = true;
        Self {
            machine,
            nodes: machine.memory_nodes(),
            ranges: Vec::new(),
            objects: [None; OBJECTS],
            alive,
            forks,
            threads,
            // An eighth of the smallest node, in pages.
            budget: machine.least_memory() * 256 / 8,
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
        self.map(0);
        while (self.ops.len() as u64) < length {
            let worker = self.worker();
            self.one(worker);
        }
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
            0..12 => self.map(worker),
            12..30 => self.touch(worker),
            30..42 => self.mbind(worker),
            42..49 => self.setpol(worker),
            49..52 => self.getpol(worker),
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
            _ => self.push(worker, Kind::Maps, &[]),
        }
    }

    // ---- Addresses and lengths.

    fn pages(&mut self) -> u64 {
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
            return Range { at: arena::at(0, 64), pages: 16 };
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
        match self.random.below(8) {
            0..3 => range,
            3..6 => {
                let start = self.random.below(range.pages);
                let pages = 1 + self.random.below(range.pages - start);
                Range { at: range.at + start * PAGE, pages }
            }
            6 => Range { at: range.at, pages: range.pages + 1 + self.random.below(4) },
            _ => {
                let before = (1 + self.random.below(3)) * PAGE;
                Range { at: range.at.saturating_sub(before).max(arena::START), pages: range.pages }
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
        let enough = pages <= self.budget;
        self.budget -= if enough { pages } else { 0 };
        enough
    }

    // ---- Policies.

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

    fn mbind(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let (mode, (mask, shape, maxnode)) = (self.mode(), self.mask());
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
        self.push(worker, Kind::Mbind, &[at, bytes, mode, mask, shape, maxnode, flags]);
    }

    fn setpol(&mut self, worker: u64) {
        let (mode, (mask, shape, maxnode)) = (self.mode(), self.mask());
        self.push(worker, Kind::Setpol, &[mode, mask, shape, maxnode]);
    }

    fn getpol(&mut self, worker: u64) {
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

    fn home(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let node = match self.random.below(6) {
            0 => self.random.of(&[64, 1024, u64::MAX]),
            1 => self.random.below(8),
            _ => self.random.of(&self.nodes.clone()),
        };
        let flags = u64::from(self.random.chance(1, 12));
        self.push(worker, Kind::Home, &[at, bytes, node, flags]);
    }

    fn movepages(&mut self, worker: u64) {
        let range = self.within();
        let stride = self.random.of(&[1, 1, 1, 1, 2, 3, 0]);
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

    fn migrate(&mut self, worker: u64) {
        let (from, shape, maxnode) = self.mask();
        let (to, ..) = self.mask();
        let who = self.who();
        self.push(worker, Kind::Migrate, &[who, from, to, shape, maxnode]);
    }

    fn who(&mut self) -> u64 {
        match self.random.below(8) {
            0..5 => 0,
            5..7 => 1 + self.random.below(WORKERS as u64),
            _ => self.random.of(&[100, 101]),
        }
    }

    // ---- Memory.

    fn map(&mut self, worker: u64) {
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
        // A shared mapping without a file has a number, too.
        let shared = object == 0 && flags & 3 == 1;
        let modulus = if shared { self.modulus() } else { 1 };
        self.ranges.push(Range { at, pages });
        self.push(worker, Kind::Mmap, &[at, bytes, prot, flags, object, offset, modulus]);
    }

    fn modulus(&mut self) -> u64 {
        self.machine.modulus().unwrap_or(1)
    }

    fn touch(&mut self, worker: u64) {
        let range = self.within();
        let stride = self.random.of(&[1, 1, 1, 2, 5]);
        let pages = (range.pages / stride).max(1);
        let pages = if self.spend(pages) { pages } else { 1 };
        let how = self.random.of(&[0, 0, 1]);
        let value = self.random.below(1000);
        self.push(worker, Kind::Touch, &[range.at, pages, stride, how, value]);
    }

    fn munmap(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        self.push(worker, Kind::Munmap, &[at, bytes]);
    }

    fn mremap(&mut self, worker: u64) {
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
            self.ranges.push(Range { at: to, pages: new.div_ceil(PAGE).max(1) });
        }
        self.push(worker, Kind::Mremap, &[at, bytes, new, flags, to]);
    }

    fn mprotect(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let prot = self.random.of(&[0, 1, 1, 3, 3, 3, 3, 5, 7, 2, 0x0100_0003, 0x0200_0003, 16]);
        self.push(worker, Kind::Mprotect, &[at, bytes, prot]);
    }

    fn madvise(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let advice = match self.random.below(24) {
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
            20 => self.random.of(&[16, 17]),
            21 => 20,
            22 => self.random.of(&[5, 6, 7, 26, 50, 99, u64::MAX]),
            _ => 4,
        };
        // What is dropped by a range without end is the worker's own.
        let bytes = if bytes > arena::END { u64::MAX } else { bytes };
        if (advice == 22 || advice == 23) && !self.spend(bytes.min(1 << 40) / PAGE) {
            return;
        }
        self.push(worker, Kind::Madvise, &[at, bytes, advice]);
    }

    fn mlock(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        let how = self.random.of(&[0, 0, 1, 1, 2, 3]);
        if how != 1 && !self.spend(bytes.min(1 << 40) / PAGE) {
            return;
        }
        self.push(worker, Kind::Mlock, &[at, bytes, how]);
    }

    fn mincore(&mut self, worker: u64) {
        let (at, bytes) = self.range();
        self.push(worker, Kind::Mincore, &[at, bytes]);
    }

    // ---- Objects.

    fn object(&mut self) -> Option<(u64, (u64, u64))> {
        let made: Vec<_> = (0..)
            .zip(self.objects)
            .filter_map(|(number, object)| Some((number, object?)))
            .filter(|(_, (kind, _))| *kind != 2)
            .collect();
        (!made.is_empty()).then(|| self.random.of(&made))
    }

    fn objects(&mut self, worker: u64) {
        let number = self.random.below(OBJECTS as u64);
        let Some((kind, length)) = self.objects[number as usize] else {
            let (kind, pages) = (self.random.below(3), 1 + self.random.below(64));
            self.objects[number as usize] = Some((kind, pages));
            let modulus = self.modulus();
            return self.push(worker, Kind::Object, &[number, kind, pages, modulus]);
        };
        if kind == 2 {
            if self.random.chance(2, 3) {
                let (at, flags) = (self.fresh(), self.random.of(&[0, 0, 0, 0o10_000, 0o40_000]));
                self.ranges.push(Range { at, pages: length });
                return self.push(worker, Kind::Shmat, &[number, at, flags]);
            }
            let at = self.old().at;
            return self.push(worker, Kind::Shmdt, &[at]);
        }
        let page = self.random.below(length + 1);
        let pages = 1 + self.random.below(16);
        match self.random.below(8) {
            0 => {
                let bytes = self.random.below(length * 2) * PAGE + self.random.of(&[0, 0, 100]);
                self.push(worker, Kind::Truncate, &[number, bytes]);
            }
            1 | 2 => {
                // Nothing, KEEP_SIZE, both with PUNCH_HOLE, and what tmpfs refuses.
                let mode = self.random.of(&[0, 1, 3, 3, 2, 8, 16, 99]);
                if mode < 2 && !self.spend(pages) {
                    return;
                }
                let args = [number, mode, page * PAGE, pages * PAGE];
                self.push(worker, Kind::Fallocate, &args);
            }
            how => {
                if !self.spend(pages) {
                    return;
                }
                let value = self.random.below(1000);
                let how = u64::from(how > 5);
                self.push(worker, Kind::Transfer, &[number, page, pages, how, value]);
            }
        }
    }

    // ---- Processes and CPUs.

    fn people(&mut self, worker: u64) {
        let free = self.alive.iter().position(|alive| !alive);
        match (self.random.below(10), free) {
            (0..4, Some(new)) if self.forks => {
                self.alive[new] = true;
                self.push(worker, Kind::Fork, &[new as u64]);
            }
            (4..7, Some(new)) if self.threads => {
                self.alive[new] = true;
                self.push(worker, Kind::Clone, &[new as u64]);
            }
            (7, _) if self.forks => self.push(worker, Kind::Exec, &[]),
            (8, _) if self.forks && worker != 0 => {
                self.alive[worker as usize] = false;
                self.push(worker, Kind::Exit, &[]);
            }
            _ => {}
        }
    }

    fn pin(&mut self, worker: u64) {
        let cpus = self.machine.cpus();
        let cpu = if self.random.chance(1, 12) {
            self.random.of(&[cpus, 63, 1023, 5000])
        } else {
            self.random.below(cpus)
        };
        self.push(worker, Kind::Pin, &[cpu]);
    }

    fn affinity(&mut self, worker: u64) {
        let mask = match self.random.below(4) {
            0 => 0,
            1 => 1 << self.random.below(self.machine.cpus().min(64)),
            _ => self.random.word() & self.random.word(),
        };
        let shape = self.random.of(&[0, 0, 0, 0, 1, 2, 3, 4]);
        let bytes = self.random.of(&[128, 128, 128, 128, 8, 0, 1, 7]);
        let who = self.who();
        self.push(worker, Kind::Affinity, &[who, mask, shape, bytes]);
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
