//! What was taken out of page tables and waits for a flush before it is freed.

use alloc::vec::Vec;
use frames::fallible::TryVec;
use hal::Pfn;

/// Entries that need no memory: a batch works without any, in smaller steps.
const FEW: usize = 4;
/// Entries of the block that a larger batch asks for.
const MORE: usize = 1024;

/// Frames. Unmapping frees memory, so it must not need any. Whoever fills it empties it: an entry
/// stands for a reference that nothing else holds.
pub struct Batch {
    few: [Pfn; FEW],
    count: usize,
    more: Vec<Pfn>,
    refused: bool,
}

impl Batch {
    /// Nothing yet.
    #[inline(always)]
    pub const fn new() -> Self {
        Self { few: [Pfn::new(0); FEW], count: 0, more: Vec::new(), refused: false }
    }

    /// True when it must be emptied before more is added.
    #[inline(always)]
    pub fn is_full(&mut self) -> bool {
        self.count == FEW && self.more.len() == self.more.capacity() && self.cannot_grow()
    }

    #[cold]
    #[inline(never)]
    fn cannot_grow(&mut self) -> bool {
        if self.more.capacity() == 0 && !self.refused {
            match Vec::with_room(MORE) {
                Ok(more) => self.more = more,
                Err(_) => self.refused = true,
            }
        }
        self.more.len() == self.more.capacity()
    }

    /// Adds an entry to a batch that is not full.
    #[inline(always)]
    pub fn add(&mut self, entry: Pfn) {
        if self.count < FEW {
            self.few[self.count] = entry;
            self.count += 1;
        } else {
            self.more.push(entry);
        }
    }

    /// True when there is nothing in it.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Hands every entry to `f`.
    #[inline]
    pub fn empty(&mut self, mut f: impl FnMut(Pfn)) {
        self.few[..self.count].iter().copied().for_each(&mut f);
        self.count = 0;
        if !self.more.is_empty() {
            self.more.drain(..).for_each(f);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_is_added_comes_out_in_its_order() {
        let mut batch = Batch::new();
        for round in [3, FEW, FEW + 1, 500, FEW + MORE] {
            for at in 0..round {
                assert!(!batch.is_full());
                batch.add(Pfn::new(at as u64));
            }
            assert_eq!(batch.is_full(), round == FEW + MORE);
            let mut seen = Vec::new();
            batch.empty(|entry| seen.push(entry));
            assert!(seen.into_iter().eq((0..round as u64).map(Pfn::new)));
            assert!(batch.is_empty());
        }
    }
}
