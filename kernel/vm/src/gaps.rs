//! Where nothing is mapped: the free ranges of an address space by their size.
//!
//! Ranges are kept in classes of about the same size (each eighth of a power of two), by address.
//! The highest range that is large enough is then the highest one of a few classes; only in the
//! class of the very size that is wanted some may be too small.

use crate::PAGE;
use alloc::collections::BTreeMap;

/// The free ranges, by class of size and address.
#[derive(Default)]
pub struct Gaps {
    classes: BTreeMap<u32, BTreeMap<u64, u64>>,
}

/// The class of ranges of `len` bytes: those of a higher class are longer.
fn class(len: u64) -> u32 {
    let pages = len / PAGE;
    // Up to 16 pages each size is a class.
    match pages.checked_ilog2() {
        Some(log @ 4..) => 8 * (log - 2) + (pages >> (log - 3)) as u32 - 8,
        _ => pages as u32,
    }
}

impl Gaps {
    /// Adds a free range that touches no other; an empty one is none.
    pub fn add(&mut self, start: u64, end: u64) {
        if start < end {
            self.classes.entry(class(end - start)).or_default().insert(start, end);
        }
    }

    /// Takes a free range out.
    pub fn take(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let class = class(end - start);
        if let Some(ranges) = self.classes.get_mut(&class) {
            ranges.remove(&start);
            if ranges.is_empty() {
                self.classes.remove(&class);
            }
        }
    }

    /// The highest place for `len` bytes in `[low, high)`.
    pub fn highest(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut best = None;
        for ranges in self.classes.range(class(len)..).map(|(_, ranges)| ranges) {
            // One that begins below the best one so far ends below it, too.
            let place = ranges
                .range(best.unwrap_or(0)..high)
                .rev()
                .find_map(|(&start, &end)| fits(len, start.max(low), end.min(high)))
                .map(|(_, at)| at);
            best = best.max(place);
        }
        best
    }

    /// The lowest place for `len` bytes in `[low, high)`.
    pub fn lowest(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut best: Option<u64> = None;
        for ranges in self.classes.range(class(len)..).map(|(_, ranges)| ranges) {
            let first = ranges.range(..low).next_back();
            let place = first
                .into_iter()
                .chain(ranges.range(low..best.unwrap_or(high).max(low)))
                .find_map(|(&start, &end)| fits(len, start.max(low), end.min(high)))
                .map(|(at, _)| at);
            best = match (best, place) {
                (Some(best), Some(place)) => Some(best.min(place)),
                (best, place) => best.or(place),
            };
        }
        best
    }
}

/// The lowest and the highest place for `len` bytes in `[start, end)`.
fn fits(len: u64, start: u64, end: u64) -> Option<(u64, u64)> {
    (start.checked_add(len)? <= end).then(|| (start, end - len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_range_is_of_no_lower_class() {
        let classes: std::vec::Vec<u32> = (0..5000).map(|pages| class(pages * PAGE)).collect();
        assert!(classes.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] - pair[0] <= 1));
        assert_eq!(classes[16], 16);
        assert_eq!(classes[17], 16);
        assert_eq!(classes[18], 17);
    }
}
