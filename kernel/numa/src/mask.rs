//! Sets of nodes and of CPUs as bitmaps, in the forms that Linux's interfaces read and write.
//!
//! [`NodeMask`] and [`CpuMask`] are plain values: they copy, compare and combine, and their width
//! follows from the one constant in [`crate::ids`]. Bits past the limit cannot exist. The word
//! form (`words`, `from_words`) is what system calls copy to and from user memory: 64-bit words,
//! bit 0 of word 0 first. Text forms are in [`crate::text`].

use crate::ids::{CpuId, MAX_CPUS, MAX_NODES, NodeId};
use core::fmt;
use core::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Sub, SubAssign};
use core::sync::atomic::{AtomicU64, Ordering};

/// Bits in a word of a mask, as user memory sees it (`unsigned long` of x86-64).
pub const WORD_BITS: usize = 64;

/// Words that hold `bits` bits.
const fn words_for(bits: usize) -> usize {
    bits.div_ceil(WORD_BITS)
}

macro_rules! mask {
    ($(#[$doc:meta])* $mask:ident, $iter:ident, $id:ident, $max:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $mask {
            words: [u64; Self::WORDS],
        }

        impl Default for $mask {
            fn default() -> Self {
                Self::EMPTY
            }
        }

        impl $mask {
            /// How many ids the mask has room for.
            pub const BITS: usize = $max;

            /// How many 64-bit words the mask is.
            pub const WORDS: usize = words_for($max);

            /// The set without members.
            pub const EMPTY: Self = Self { words: [0; Self::WORDS] };

            /// The ids below `n`; all of them when `n` is the limit or more.
            #[must_use]
            pub const fn first_n(n: usize) -> Self {
                let n = if n > $max { $max } else { n };
                let mut words = [0; Self::WORDS];
                let mut w = 0;
                while w < Self::WORDS {
                    let low = w * WORD_BITS;
                    if n >= low + WORD_BITS {
                        words[w] = u64::MAX;
                    } else if n > low {
                        words[w] = (1 << (n - low)) - 1;
                    }
                    w += 1;
                }
                Self { words }
            }

            /// Every id that the kernel can name.
            #[must_use]
            pub const fn full() -> Self {
                Self::first_n($max)
            }

            /// The set of `id` alone.
            #[must_use]
            pub const fn single(id: $id) -> Self {
                let mut words = [0; Self::WORDS];
                words[id.index() / WORD_BITS] = 1 << (id.index() % WORD_BITS);
                Self { words }
            }

            /// The set whose words are `words`. Missing words count as zero; bits past the limit
            /// are dropped (a system call that must refuse them asks [`Self::fits`] first).
            #[must_use]
            pub fn from_words(words: &[u64]) -> Self {
                let mut mask = Self::EMPTY;
                for (to, from) in mask.words.iter_mut().zip(words) {
                    *to = *from;
                }
                mask & Self::full()
            }

            /// Whether `words` names only ids that the mask has room for.
            #[must_use]
            pub fn fits(words: &[u64]) -> bool {
                let full = Self::full();
                words
                    .iter()
                    .enumerate()
                    .all(|(i, w)| w & !full.words.get(i).copied().unwrap_or(0) == 0)
            }

            /// The words, lowest ids first.
            #[must_use]
            #[inline]
            pub const fn words(&self) -> &[u64; Self::WORDS] {
                &self.words
            }

            /// Whether `id` is a member.
            #[must_use]
            #[inline]
            pub const fn contains(&self, id: $id) -> bool {
                self.words[id.index() / WORD_BITS] >> (id.index() % WORD_BITS) & 1 != 0
            }

            /// Adds `id`; true when it was not there.
            #[inline]
            pub const fn insert(&mut self, id: $id) -> bool {
                let fresh = !self.contains(id);
                self.words[id.index() / WORD_BITS] |= 1 << (id.index() % WORD_BITS);
                fresh
            }

            /// Takes `id` out; true when it was there.
            #[inline]
            pub const fn remove(&mut self, id: $id) -> bool {
                let there = self.contains(id);
                self.words[id.index() / WORD_BITS] &= !(1 << (id.index() % WORD_BITS));
                there
            }

            /// This set and `id`.
            #[must_use]
            pub const fn with(mut self, id: $id) -> Self {
                self.insert(id);
                self
            }

            /// This set but for `id`.
            #[must_use]
            pub const fn without(mut self, id: $id) -> Self {
                self.remove(id);
                self
            }

            fn zip(self, other: Self, op: impl Fn(u64, u64) -> u64) -> Self {
                Self { words: core::array::from_fn(|i| op(self.words[i], other.words[i])) }
            }

            /// The ids in either.
            #[must_use]
            #[inline]
            pub fn union(self, other: Self) -> Self {
                self.zip(other, |a, b| a | b)
            }

            /// The ids in both.
            #[must_use]
            #[inline]
            pub fn intersect(self, other: Self) -> Self {
                self.zip(other, |a, b| a & b)
            }

            /// The ids in this one that are not in `other`.
            #[must_use]
            #[inline]
            pub fn difference(self, other: Self) -> Self {
                self.zip(other, |a, b| a & !b)
            }

            /// The ids of `whole` that are not in this set.
            #[must_use]
            #[inline]
            pub fn complement_within(self, whole: Self) -> Self {
                whole.difference(self)
            }

            /// Whether the two have a member in common.
            #[must_use]
            #[inline]
            pub fn intersects(&self, other: &Self) -> bool {
                self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
            }

            /// Whether every member is in `other` too. The empty set is a subset of all.
            #[must_use]
            #[inline]
            pub fn is_subset(&self, other: &Self) -> bool {
                self.words.iter().zip(&other.words).all(|(a, b)| a & !b == 0)
            }

            /// Whether there is no member.
            #[must_use]
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.words.iter().all(|w| *w == 0)
            }

            /// How many members there are.
            #[must_use]
            #[inline]
            pub fn count(&self) -> usize {
                self.words.iter().map(|w| w.count_ones() as usize).sum()
            }

            /// The lowest member at or above `from`, which may be the limit.
            fn at_or_after(&self, from: usize) -> Option<$id> {
                let mut w = from / WORD_BITS;
                let mut keep = u64::MAX << (from % WORD_BITS);
                while w < Self::WORDS {
                    let bits = self.words[w] & keep;
                    if bits != 0 {
                        return $id::try_new(w * WORD_BITS + bits.trailing_zeros() as usize);
                    }
                    keep = u64::MAX;
                    w += 1;
                }
                None
            }

            /// The lowest member.
            #[must_use]
            #[inline]
            pub fn first(&self) -> Option<$id> {
                self.at_or_after(0)
            }

            /// The highest member.
            #[must_use]
            pub fn last(&self) -> Option<$id> {
                let w = self.words.iter().rposition(|w| *w != 0)?;
                let bit = WORD_BITS - 1 - self.words[w].leading_zeros() as usize;
                $id::try_new(w * WORD_BITS + bit)
            }

            /// The lowest member above `id`.
            #[must_use]
            #[inline]
            pub fn next_after(&self, id: $id) -> Option<$id> {
                self.at_or_after(id.index() + 1)
            }

            /// The next member above `id`, going on from the lowest after the highest: the step
            /// of every round robin. It is `id` itself when that is the only member.
            #[must_use]
            #[inline]
            pub fn next_in_circle(&self, id: $id) -> Option<$id> {
                self.next_after(id).or_else(|| self.first())
            }

            /// The member with `n` members below it.
            #[must_use]
            pub fn nth(&self, mut n: usize) -> Option<$id> {
                for (w, word) in self.words.iter().enumerate() {
                    let here = word.count_ones() as usize;
                    if n >= here {
                        n -= here;
                        continue;
                    }
                    let mut bits = *word;
                    for _ in 0..n {
                        bits &= bits - 1;
                    }
                    return $id::try_new(w * WORD_BITS + bits.trailing_zeros() as usize);
                }
                None
            }

            /// How many members lie below `id` (which need not be one): the inverse of `nth`.
            #[must_use]
            pub fn rank(&self, id: $id) -> usize {
                self.intersect(Self::first_n(id.index())).count()
            }

            /// The members, lowest first.
            #[must_use]
            #[inline]
            pub fn iter(&self) -> $iter {
                $iter { words: self.words, word: 0 }
            }
        }

        /// The members of a mask, lowest first.
        #[derive(Clone, Debug)]
        pub struct $iter {
            words: [u64; $mask::WORDS],
            word: usize,
        }

        impl Iterator for $iter {
            type Item = $id;

            #[inline]
            fn next(&mut self) -> Option<$id> {
                while self.word < $mask::WORDS {
                    let bits = self.words[self.word];
                    if bits != 0 {
                        self.words[self.word] = bits & (bits - 1);
                        return $id::try_new(self.word * WORD_BITS + bits.trailing_zeros() as usize);
                    }
                    self.word += 1;
                }
                None
            }
        }

        impl IntoIterator for $mask {
            type Item = $id;
            type IntoIter = $iter;
            fn into_iter(self) -> $iter {
                self.iter()
            }
        }

        impl IntoIterator for &$mask {
            type Item = $id;
            type IntoIter = $iter;
            fn into_iter(self) -> $iter {
                self.iter()
            }
        }

        impl FromIterator<$id> for $mask {
            fn from_iter<I: IntoIterator<Item = $id>>(ids: I) -> Self {
                let mut mask = Self::EMPTY;
                mask.extend(ids);
                mask
            }
        }

        impl Extend<$id> for $mask {
            fn extend<I: IntoIterator<Item = $id>>(&mut self, ids: I) {
                for id in ids {
                    self.insert(id);
                }
            }
        }

        impl BitOr for $mask {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.union(other)
            }
        }

        impl BitOrAssign for $mask {
            fn bitor_assign(&mut self, other: Self) {
                *self = self.union(other);
            }
        }

        impl BitAnd for $mask {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                self.intersect(other)
            }
        }

        impl BitAndAssign for $mask {
            fn bitand_assign(&mut self, other: Self) {
                *self = self.intersect(other);
            }
        }

        impl Sub for $mask {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self.difference(other)
            }
        }

        impl SubAssign for $mask {
            fn sub_assign(&mut self, other: Self) {
                *self = self.difference(other);
            }
        }

        impl fmt::Debug for $mask {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($mask), "({})"), self)
            }
        }
    };
}

mask! {
    /// A set of nodes.
    NodeMask, NodeIter, NodeId, MAX_NODES
}

mask! {
    /// A set of CPUs.
    CpuMask, CpuIter, CpuId, MAX_CPUS
}

/// A set of CPUs that many CPUs change at once: which of them may hold translations of an address
/// space, which are idle.
///
/// Each operation is atomic for its CPU's bit; a snapshot is atomic for each word only. The
/// caller chooses the ordering, because what a set bit promises differs between uses.
#[derive(Debug)]
pub struct AtomicCpuMask {
    words: [AtomicU64; CpuMask::WORDS],
}

impl Default for AtomicCpuMask {
    fn default() -> Self {
        Self::new()
    }
}

impl AtomicCpuMask {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; CpuMask::WORDS] }
    }

    fn word(&self, cpu: CpuId) -> (&AtomicU64, u64) {
        (&self.words[cpu.index() / WORD_BITS], 1 << (cpu.index() % WORD_BITS))
    }

    /// Adds `cpu`; true when it was not there.
    #[inline]
    pub fn set(&self, cpu: CpuId, order: Ordering) -> bool {
        let (word, bit) = self.word(cpu);
        word.fetch_or(bit, order) & bit == 0
    }

    /// Takes `cpu` out; true when it was there.
    #[inline]
    pub fn clear(&self, cpu: CpuId, order: Ordering) -> bool {
        let (word, bit) = self.word(cpu);
        word.fetch_and(!bit, order) & bit != 0
    }

    /// Whether `cpu` is a member. `order` is that of a load.
    #[must_use]
    #[inline]
    pub fn test(&self, cpu: CpuId, order: Ordering) -> bool {
        let (word, bit) = self.word(cpu);
        word.load(order) & bit != 0
    }

    /// The members, word by word. `order` is that of a load.
    #[must_use]
    #[inline]
    pub fn load(&self, order: Ordering) -> CpuMask {
        CpuMask { words: core::array::from_fn(|i| self.words[i].load(order)) }
    }

    /// Replaces the members, word by word. `order` is that of a store.
    pub fn store(&self, mask: CpuMask, order: Ordering) {
        for (to, from) in self.words.iter().zip(mask.words) {
            to.store(from, order);
        }
    }
}
