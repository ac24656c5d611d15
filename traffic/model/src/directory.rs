//! Who has a line: one word for each line of the guest's memory.
//!
//! MESI, as far as counting needs it: the last version, whether somebody holds the line, whether
//! that holder has written it, and who the holder is. A write by anybody else makes a new version,
//! which is what invalidates all other copies (see [`crate::cache`]).

use crate::cache::{Line, VERSION_BITS};
use crate::geometry::LINE;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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

const STATE_AT: u32 = VERSION_BITS;
const HOLDER_AT: u32 = VERSION_BITS + 2;
const MASK: u32 = (1 << VERSION_BITS) - 1;

impl Entry {
    fn word(self) -> u32 {
        let state = match self.state {
            State::Memory => 0,
            State::Exclusive => 1,
            State::Shared => 2,
            State::Modified => 3,
        };
        self.version & MASK | state << STATE_AT | (self.holder as u32) << HOLDER_AT
    }

    #[inline(always)]
    fn of(word: u32) -> Self {
        let state = match word >> STATE_AT & 3 {
            0 => State::Memory,
            1 => State::Exclusive,
            2 => State::Shared,
            _ => State::Modified,
        };
        Self { version: word & MASK, state, holder: (word >> HOLDER_AT) as usize }
    }

    /// The entry after a write by `cpu`, which did not hold the line modified.
    pub fn written_by(self, cpu: usize) -> Self {
        let version = self.version.wrapping_add(1) & MASK;
        Self { version, state: State::Modified, holder: cpu }
    }
}

/// All entries. Memory is used only for pages that are looked at.
pub struct Directory {
    words: Box<[AtomicU32]>,
}

impl Directory {
    /// For `memory` bytes.
    pub fn new(memory: u64) -> Self {
        Self { words: crate::zeroed::zeroed((memory / LINE) as usize) }
    }

    #[inline(always)]
    pub fn get(&self, line: Line) -> Entry {
        Entry::of(self.words.get(line as usize).map_or(0, |word| word.load(Relaxed)))
    }

    #[inline(always)]
    pub fn set(&self, line: Line, entry: Entry) {
        if let Some(word) = self.words.get(line as usize) {
            word.store(entry.word(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_words() {
        let directory = Directory::new(1 << 20);
        for state in [State::Memory, State::Exclusive, State::Shared, State::Modified] {
            let entry = Entry { version: MASK, state, holder: 254 };
            directory.set(5, entry);
            assert_eq!(directory.get(5), entry);
        }
        assert_eq!(directory.get(5).written_by(3).version, 0);
        directory.set(u64::MAX, Entry::of(0));
        assert_eq!(directory.get(u64::MAX), Entry::of(0));
    }
}
