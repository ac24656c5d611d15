//! The text forms of masks: Linux's list form ("0-3,5") and its hexadecimal form ("00000003").
//!
//! `Display` of a mask is the list form, as in `cpulist`, `has_memory` and numa_maps. [`Hex`] is
//! the form of `cpumap` and of the `Cpus_allowed:` and `Mems_allowed:` lines: 32-bit words,
//! highest first, with commas. [`parse_list`](NodeMask::parse_list) reads the list form, as
//! sysfs files, command lines and cpusets take it.

use crate::ids::{CpuId, NodeId};
use crate::mask::{CpuMask, NodeMask};
use core::fmt;

/// Why a text is not a list of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseListError {
    /// Not of the list form, or a range that runs backwards.
    Syntax,
    /// A well-formed number that is past the mask's limit.
    Range,
    /// One that is past 32 bits.
    Overflow,
}

/// A mask in the hexadecimal form, `bits` bits wide: the highest word has as many digits as its
/// share of `bits` needs, every other word eight.
#[derive(Clone, Copy)]
pub struct Hex<'a> {
    words: &'a [u64],
    bits: usize,
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = self.bits.div_ceil(32).max(1);
        for chunk in (0..chunks).rev() {
            let word = self.words.get(chunk / 2).copied().unwrap_or(0) >> (chunk % 2 * 32);
            let width = (self.bits - chunk * 32).min(32);
            let value = (word & u64::from(u32::MAX)) & (u64::MAX >> (64 - width.max(1)));
            write!(f, "{value:0digits$x}", digits = width.div_ceil(4).max(1))?;
            if chunk > 0 {
                f.write_str(",")?;
            }
        }
        Ok(())
    }
}

/// Writes ascending `ids` as "0-3,5".
fn write_list(f: &mut fmt::Formatter<'_>, ids: impl Iterator<Item = usize>) -> fmt::Result {
    let mut ids = ids.peekable();
    let mut first = true;
    while let Some(start) = ids.next() {
        let mut end = start;
        while ids.next_if_eq(&(end + 1)).is_some() {
            end += 1;
        }
        if !first {
            f.write_str(",")?;
        }
        first = false;
        if start == end {
            write!(f, "{start}")?;
        } else {
            write!(f, "{start}-{end}")?;
        }
    }
    Ok(())
}

fn number(text: &str, limit: usize) -> Result<usize, ParseListError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseListError::Syntax);
    }
    match text.parse() {
        Ok(n) if n < limit => Ok(n),
        Ok(n) if n <= u32::MAX as usize => Err(ParseListError::Range),
        _ => Err(ParseListError::Overflow),
    }
}

/// One "N", "A-B", "A-B:used/group" or "all" of a list, each id handed to `insert`.
fn parse_item(
    item: &str,
    limit: usize,
    insert: &mut impl FnMut(usize),
) -> Result<(), ParseListError> {
    let (range, pattern) = match item.split_once(':') {
        Some((range, pattern)) => (range, Some(pattern)),
        None => (item, None),
    };
    let (low, high) = match range.split_once('-') {
        _ if range.eq_ignore_ascii_case("all") => (0, limit - 1),
        Some((low, high)) => (number(low, limit)?, number(high, limit)?),
        None if pattern.is_some() => return Err(ParseListError::Syntax),
        None => {
            let n = number(range, limit)?;
            (n, n)
        }
    };
    let (used, group) = match pattern.map(|p| p.split_once('/')) {
        None => (1, 1),
        Some(None) => return Err(ParseListError::Syntax),
        Some(Some((used, group))) => (number(used, usize::MAX)?, number(group, usize::MAX)?),
    };
    if low > high || group == 0 || used > group {
        return Err(ParseListError::Syntax);
    }
    (low..=high).filter(|id| (id - low) % group < used).for_each(insert);
    Ok(())
}

macro_rules! text {
    ($mask:ident, $id:ident) => {
        impl $mask {
            /// The hexadecimal form, `bits` bits wide (the width that the interface shows, which
            /// may be more than the mask has).
            #[must_use]
            pub fn hex(&self, bits: usize) -> Hex<'_> {
                Hex { words: self.words(), bits }
            }

            /// Reads the list form: numbers and ranges with commas ("0-3,5"), a range with a
            /// pattern ("0-31:2/8": the first 2 of every 8), "all". White space around and
            /// between items is skipped, and an empty text is the empty set, as Linux takes it.
            pub fn parse_list(text: &str) -> Result<Self, ParseListError> {
                let mut mask = Self::EMPTY;
                let separators = |c: char| c == ',' || c.is_ascii_whitespace();
                for item in text.split(separators).filter(|item| !item.is_empty()) {
                    parse_item(item, Self::BITS, &mut |n| {
                        mask.extend($id::try_new(n));
                    })?;
                }
                Ok(mask)
            }
        }

        /// The list form: "0-3,5"; nothing for the empty set.
        impl fmt::Display for $mask {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_list(f, self.iter().map($id::index))
            }
        }
    };
}

text!(NodeMask, NodeId);
text!(CpuMask, CpuId);
