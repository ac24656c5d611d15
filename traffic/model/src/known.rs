//! Pages that a CPU has just used: where they are, and what it did to them since.
//!
//! What a TLB is to hardware: the emulator is asked for a page's place once, and counts are added up
//! by page only when the page has to go. As a TLB it is valid until the guest's kernel flushes
//! its own ([`Known::take`]); a page that becomes writable may have become another one, so that what
//! was learnt by a load is learnt again by the first store.

use crate::ram::Place;
use crate::sums::Who;

/// Pages (a logarithm), for each of the program's and the kernel's.
const PAGES_SHIFT: u32 = 10;
const PAGES: usize = 1 << PAGES_SHIFT;
const NO_PAGE: u32 = u32::MAX;

/// A page that is known: a line of the host's cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Entry {
    /// The page's number in its address space + 1, for loads and for stores; 0 is nothing.
    tags: [u64; 2],
    /// Bytes from the beginning of all memory.
    pub offset: u64,
    /// Of loads and of stores.
    pub counts: [u64; 2],
    pub bytes: [u64; 2],
    place: u32,
    pub node: u16,
    /// The memory is another node's than the CPU.
    pub far: bool,
    pub who: Who,
}

const NOTHING: Entry = Entry {
    tags: [0; 2],
    offset: 0,
    counts: [0; 2],
    bytes: [0; 2],
    place: NO_PAGE,
    node: 0,
    far: false,
    who: Who::User,
};

impl Entry {
    /// The page's place in [`crate::pages::Pages`].
    pub fn place(&self) -> Option<usize> {
        (self.place != NO_PAGE).then_some(self.place as usize)
    }

    #[inline(always)]
    pub fn count(&mut self, size: u64, store: bool) {
        self.counts[usize::from(store)] += 1;
        self.bytes[usize::from(store)] += size;
    }
}

/// Where a page is: in memory, and in [`crate::pages::Pages`].
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub place: Place,
    pub page: Option<usize>,
}

/// The pages of one CPU.
pub struct Known {
    entries: Box<[Entry; 2 * PAGES]>,
    used: Vec<u16>,
}

impl Default for Known {
    fn default() -> Self {
        Self { entries: Box::new([NOTHING; 2 * PAGES]), used: Vec::with_capacity(2 * PAGES) }
    }
}

/// Arrays that lie a power of two apart must not take each other's places.
#[inline(always)]
fn at(who: Who, page: u64) -> usize {
    let hash = (page as u32).wrapping_mul(0x9e37_79b9) >> (32 - PAGES_SHIFT);
    who as usize * PAGES + hash as usize
}

impl Known {
    /// The page of an access, if it is known.
    #[inline(always)]
    pub fn find(&mut self, who: Who, page: u64, store: bool) -> Option<&mut Entry> {
        let entry = &mut self.entries[at(who, page)];
        (entry.tags[usize::from(store)] == page + 1).then_some(entry)
    }

    /// Remembers where a page is, of a CPU on node `here`. What was known in its stead comes back,
    /// with its counts.
    pub fn learn(
        &mut self,
        here: usize,
        (who, page, store): (Who, u64, bool),
        found: Found,
    ) -> Option<Entry> {
        let at = at(who, page);
        let place = found.page.and_then(|place| u32::try_from(place).ok()).unwrap_or(NO_PAGE);
        let Place { node, offset } = found.place;
        let new = Entry {
            tags: [page + 1, if store { page + 1 } else { 0 }],
            offset: offset & !0xfff,
            place,
            node: node as u16,
            far: node != here,
            who,
            ..NOTHING
        };
        let old = std::mem::replace(&mut self.entries[at], new);
        if old.tags[0] == 0 {
            self.used.push(at as u16);
        }
        (old.tags[0] != 0).then_some(old)
    }

    /// Forgets a page after the other, each with its counts.
    pub fn take(&mut self) -> Option<Entry> {
        let at = self.used.pop()?;
        Some(std::mem::replace(&mut self.entries[usize::from(at)], NOTHING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_only_read_is_asked_for_again_by_a_store() {
        let mut known = Known::default();
        let found = |page| Found { place: Place { node: 1, offset: 0x5010 }, page };
        assert!(known.find(Who::User, 7, false).is_none());
        assert!(known.learn(1, (Who::User, 7, false), found(Some(3))).is_none());
        known.find(Who::User, 7, false).unwrap().count(8, false);
        assert!(known.find(Who::User, 7, true).is_none());
        assert!(known.find(Who::Kernel, 7, false).is_none());
        let old = known.learn(0, (Who::User, 7, true), found(Some(4))).unwrap();
        assert_eq!((old.place(), old.counts, old.bytes), (Some(3), [1, 0], [8, 0]));
        assert_eq!((old.offset, old.far), (0x5000, false));
        assert!(known.find(Who::User, 7, false).unwrap().far);
        let same = |&page: &u64| at(Who::User, page) == at(Who::User, 7);
        let other = (Who::User, (8..).find(same).unwrap(), false);
        assert_eq!(known.learn(0, other, found(None)).unwrap().place(), Some(4));
        assert_eq!(known.take().unwrap().place(), None);
        assert!(known.take().is_none() && known.find(Who::User, 7, false).is_none());
    }
}
