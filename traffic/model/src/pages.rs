//! A number for each page of each address space, found without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Neighbours of so many pages (a power of two) lie side by side.
const RUN: u64 = 512;
/// Bits of a page's number in its address space.
const PAGE_BITS: u32 = 36;

/// An address space and a page in it (address over 4096).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page {
    pub space: u32,
    pub number: u64,
}

impl Page {
    fn key(self) -> u64 {
        u64::from(self.space + 1) << PAGE_BITS | self.number & ((1 << PAGE_BITS) - 1)
    }

    fn of(key: u64) -> Self {
        Self { space: (key >> PAGE_BITS) as u32 - 1, number: key & ((1 << PAGE_BITS) - 1) }
    }
}

/// Open addressing with a fixed number of places.
pub struct Pages {
    keys: Box<[AtomicU64]>,
}

impl Pages {
    /// Room for `count` pages and as many again, so that searches stay short.
    pub fn new(count: u64) -> Self {
        let places = (2 * count).next_power_of_two().max(2 * RUN);
        Self { keys: crate::zeroed::zeroed(places as usize) }
    }

    pub fn places(&self) -> usize {
        self.keys.len()
    }

    /// The place of `page`, made if need be; None when all are taken.
    #[inline(always)]
    pub fn place(&self, page: Page) -> Option<usize> {
        let key = page.key();
        let mask = self.keys.len() - 1;
        let run = (key / RUN).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let mut at = (run.wrapping_mul(RUN) | (key % RUN)) as usize & mask;
        for _ in 0..self.keys.len() {
            let there = self.keys[at].load(Relaxed);
            if there == key {
                return Some(at);
            }
            if there == 0 {
                match self.keys[at].compare_exchange(0, key, Relaxed, Relaxed) {
                    Ok(_) => return Some(at),
                    Err(other) if other == key => return Some(at),
                    Err(_) => {}
                }
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// All pages that have a place.
    pub fn all(&self) -> impl Iterator<Item = (usize, Page)> {
        let taken = |(at, key): (usize, &AtomicU64)| {
            let key = key.load(Relaxed);
            (key != 0).then(|| (at, Page::of(key)))
        };
        self.keys.iter().enumerate().filter_map(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_page_keeps_its_place_and_nobody_else_gets_it(
            pages in prop::collection::vec((0u32..3, 0u64..400), 1..200)
        ) {
            let table = Pages::new(100);
            let mut places = BTreeMap::new();
            for (space, number) in pages {
                let page = Page { space, number };
                let Some(place) = table.place(page) else {
                    prop_assert!(places.len() >= 256);
                    continue;
                };
                prop_assert_eq!(*places.entry(page).or_insert(place), place);
            }
            let mut found: Vec<_> = table.all().map(|(at, page)| (page, at)).collect();
            found.sort_unstable();
            prop_assert_eq!(found, places.into_iter().collect::<Vec<_>>());
        }
    }
}
