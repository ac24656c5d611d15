//! What was taken out of page tables and waits for a flush before it is freed.

use alloc::vec::Vec;
use frames::fallible::TryVec;

/// Entries that need no memory: a batch works without any, in smaller steps.
const FEW: usize = 8;
/// Entries of the block that a larger batch asks for.
const MORE: usize = 1024;

/// Pages, or tables. Unmapping frees memory, so it must not need any.
pub struct Batch<T> {
    few: [Option<T>; FEW],
    count: usize,
    more: Vec<T>,
    refused: bool,
}

impl<T> Batch<T> {
    /// Nothing yet.
    #[inline]
    pub const fn new() -> Self {
        Self { few: [const { None }; FEW], count: 0, more: Vec::new(), refused: false }
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
    pub fn add(&mut self, entry: T) {
        if self.count < FEW {
            self.few[self.count] = Some(entry);
            self.count += 1;
        } else {
            self.more.push(entry);
        }
    }

    /// True when there is nothing in it.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Hands every entry to `f`.
    pub fn empty(&mut self, mut f: impl FnMut(T)) {
        self.few[..self.count].iter_mut().filter_map(Option::take).for_each(&mut f);
        self.count = 0;
        self.more.drain(..).for_each(f);
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
                batch.add(at);
            }
            assert_eq!(batch.is_full(), round == FEW + MORE);
            let mut seen = Vec::new();
            batch.empty(|entry| seen.push(entry));
            assert!(seen.into_iter().eq(0..round));
            assert!(batch.is_empty());
        }
    }
}
