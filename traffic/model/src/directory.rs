//! Who has a line: one word for each line of the guest's memory.
//!
//! MESI, as far as counting needs it: the last version, whether somebody holds the line, whether
//! that holder has written it, and who the holder is. A write by anybody else makes a new version,
//! which is what invalidates all other copies (see [`crate::cache`]).

use crate::cache::{Line, VERSION_BITS};
use crate::geometry::LINE;
use crate::zeroed::zeroed;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In no cache, as far as anybody knows.
    Memory,
    /// One CPU read it (E).
    Exclusive,
    /// Several did (S).
    Shared,
    /// The holder has written it (M).
    Modified,
}

/// A line's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub version: u32,
    pub state: State,
    /// A CPU, and only where the state is not [`State::Memory`].
    pub holder: usize,
}

impl Entry {
    fn word(self, version_bits: u32) -> u32 {
        let state = match self.state {
            State::Memory => 0,
            State::Exclusive => 1,
            State::Shared => 2,
            State::Modified => 3,
        };
        self.version | state << version_bits | (self.holder as u32) << (version_bits + 2)
    }

    #[inline(always)]
    fn of(word: u32, version_bits: u32) -> Self {
        let state = match word >> version_bits & 3 {
            0 => State::Memory,
            1 => State::Exclusive,
            2 => State::Shared,
            _ => State::Modified,
        };
        let version = word & ((1 << version_bits) - 1);
        Self { version, state, holder: (word >> (version_bits + 2)) as usize }
    }
}

/// CPUs whose numbers fit into a narrow word, and the bits that are left for versions.
const NARROW_CPUS: usize = 32;
const NARROW_VERSION_BITS: u32 = u16::BITS - 2 - NARROW_CPUS.ilog2();

/// All entries, in words of 16 bits where CPUs are few. Memory is used only for pages that are
/// looked at. A copy that is older by a whole round of versions is taken for a current one.
pub struct Directory {
    narrow: Box<[AtomicU16]>,
    wide: Box<[AtomicU32]>,
    version_bits: u32,
}

impl Directory {
    /// For `memory` bytes, and CPUs numbered below `cpus`.
    pub fn new(memory: u64, cpus: usize) -> Self {
        let lines = (memory / LINE) as usize;
        let (narrow, wide, version_bits) = if cpus <= NARROW_CPUS {
            (lines, 0, NARROW_VERSION_BITS)
        } else {
            (0, lines, VERSION_BITS)
        };
        Self { narrow: zeroed(narrow), wide: zeroed(wide), version_bits }
    }

    #[inline(always)]
    pub fn get(&self, line: Line) -> Entry {
        let word = match self.narrow.get(line as usize) {
            Some(word) => u32::from(word.load(Relaxed)),
            None => self.wide.get(line as usize).map_or(0, |word| word.load(Relaxed)),
        };
        Entry::of(word, self.version_bits)
    }

    #[inline(always)]
    pub fn set(&self, line: Line, entry: Entry) {
        let word = entry.word(self.version_bits);
        if let Some(narrow) = self.narrow.get(line as usize) {
            narrow.store(word as u16, Relaxed);
        } else if let Some(wide) = self.wide.get(line as usize) {
            wide.store(word, Relaxed);
        }
    }

    /// The entry after a write by `cpu`, which did not hold the line modified.
    pub fn written(&self, entry: Entry, cpu: usize) -> Entry {
        let version = entry.version.wrapping_add(1) & ((1 << self.version_bits) - 1);
        Entry { version, state: State::Modified, holder: cpu }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_words() {
        for cpus in [1, 32, 33, 256] {
            let directory = Directory::new(1 << 20, cpus);
            let version = (1 << directory.version_bits) - 1;
            for state in [State::Memory, State::Exclusive, State::Shared, State::Modified] {
                let entry = Entry { version, state, holder: cpus - 1 };
                directory.set(5, entry);
                assert_eq!(directory.get(5), entry, "{cpus}");
            }
            assert_eq!(directory.written(directory.get(5), 0).version, 0);
            let none = Entry { version: 0, state: State::Memory, holder: 0 };
            directory.set(u64::MAX, none);
            assert_eq!(directory.get(u64::MAX), none);
        }
    }
}
