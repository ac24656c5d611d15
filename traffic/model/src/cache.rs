//! Caches of ways in the order of their last use, oldest last.
//!
//! A way is a word: line, version, dirty. The version is the directory's at the time of the fill:
//! a line that another CPU has written since has a newer one, and the way holds nothing any more.
//! So nobody ever reaches into another CPU's cache, and there is nothing to lock.

use crate::geometry::Geometry;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A line of memory: its offset in all memory over 64.
pub type Line = u64;

const VALID: u64 = 1;
const DIRTY: u64 = 2;
const VERSION_SHIFT: u32 = 2;
/// Versions count in so many bits.
pub const VERSION_BITS: u32 = 22;
const LINE_AT: u32 = VERSION_SHIFT + VERSION_BITS;

/// A way that holds a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(u64);

impl Way {
    pub const NONE: Self = Self(0);

    pub fn new(line: Line, version: u32, dirty: bool) -> Self {
        let dirty = if dirty { DIRTY } else { 0 };
        Self(line << LINE_AT | u64::from(version) << VERSION_SHIFT | dirty | VALID)
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub fn holds(self, line: Line) -> bool {
        self.0 >> LINE_AT == line && self.0 & VALID != 0
    }

    pub fn line(self) -> Line {
        self.0 >> LINE_AT
    }

    #[inline(always)]
    pub fn version(self) -> u32 {
        (self.0 >> VERSION_SHIFT) as u32 & ((1 << VERSION_BITS) - 1)
    }

    pub fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }
}

/// A cache of one CPU.
pub struct Private {
    geometry: Geometry,
    ways: Vec<u64>,
}

impl Private {
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, ways: vec![0; geometry.sets as usize * geometry.ways as usize] }
    }

    pub fn is_there(&self) -> bool {
        self.geometry.ways != 0
    }

    #[inline(always)]
    fn set(&mut self, line: Line) -> &mut [u64] {
        let ways = self.geometry.ways as usize;
        let set = (line as usize) & (self.geometry.sets as usize).wrapping_sub(1);
        self.ways.get_mut(set * ways..(set + 1) * ways).unwrap_or_default()
    }

    /// The line's way, now the youngest of its set. Its version may be an old one.
    #[inline(always)]
    pub fn find(&mut self, line: Line) -> Option<Way> {
        let set = self.set(line);
        if let Some(&first) = set.first()
            && Way(first).holds(line)
        {
            return Some(Way(first));
        }
        let at = set.iter().position(|&way| Way(way).holds(line))?;
        set[..=at].rotate_right(1);
        Some(Way(set[0]))
    }

    /// Rewrites the youngest way of the line's set, which [`Self::find`] has just found.
    #[inline(always)]
    pub fn rewrite(&mut self, way: Way) {
        if let Some(first) = self.set(way.line()).first_mut() {
            *first = way.0;
        }
    }

    /// Puts a line in; what has to go for it. In a cache that is not there it is the line itself.
    pub fn fill(&mut self, way: Way) -> Way {
        let set = self.set(way.line());
        let Some(last) = set.len().checked_sub(1) else { return way };
        let at = set.iter().position(|&old| Way(old).holds(way.line())).unwrap_or(last);
        let old = Way(set[at]);
        set[..=at].rotate_right(1);
        // A dirty line stays dirty when a clean copy of the same version comes over it.
        let same = old.holds(way.line());
        let keeps = same && old.is_dirty() && old.version() == way.version();
        set[0] = way.0 | if keeps { DIRTY } else { 0 };
        if same { Way::NONE } else { old }
    }
}

/// A cache that the CPUs of a node share. They may use it at once: a race between two of them may
/// cost one line's place, never more.
pub struct Shared {
    geometry: Geometry,
    ways: Box<[AtomicU64]>,
}

impl Shared {
    pub fn new(geometry: Geometry) -> Self {
        let count = geometry.sets as usize * geometry.ways as usize;
        Self { geometry, ways: crate::zeroed::zeroed(count) }
    }

    fn set(&self, line: Line) -> &[AtomicU64] {
        let ways = self.geometry.ways as usize;
        let set = (line as usize) & (self.geometry.sets as usize).wrapping_sub(1);
        self.ways.get(set * ways..(set + 1) * ways).unwrap_or_default()
    }

    /// As [`Private::find`].
    pub fn find(&self, line: Line) -> Option<Way> {
        let set = self.set(line);
        let (at, found) = position(set, line)?;
        to_front(set, at, found);
        Some(Way(found))
    }

    /// As [`Private::fill`].
    pub fn fill(&self, way: Way) -> Way {
        let set = self.set(way.line());
        let Some(last) = set.len().checked_sub(1) else { return way };
        let (at, old) =
            position(set, way.line()).unwrap_or_else(|| (last, set[last].load(Relaxed)));
        let old = Way(old);
        let same = old.holds(way.line());
        let keeps = same && old.is_dirty() && old.version() == way.version();
        to_front(set, at, way.0 | if keeps { DIRTY } else { 0 });
        if same { Way::NONE } else { old }
    }
}

fn position(set: &[AtomicU64], line: Line) -> Option<(usize, u64)> {
    set.iter().map(|way| way.load(Relaxed)).enumerate().find(|&(_, way)| Way(way).holds(line))
}

fn to_front(set: &[AtomicU64], at: usize, word: u64) {
    for i in (0..at).rev() {
        set[i + 1].store(set[i].load(Relaxed), Relaxed);
    }
    set[0].store(word, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GEOMETRY: Geometry = Geometry { sets: 4, ways: 2 };

    #[test]
    fn the_line_used_longest_ago_goes() {
        let mut cache = Private::new(GEOMETRY);
        for line in [0, 4] {
            assert!(cache.fill(Way::new(line, 0, line == 4)).is_none());
        }
        assert!(cache.find(0).is_some());
        let gone = cache.fill(Way::new(8, 0, false));
        assert_eq!((gone.line(), gone.is_dirty()), (4, true));
        assert!(cache.find(0).is_some() && cache.find(8).is_some() && cache.find(4).is_none());
    }

    #[test]
    fn a_cache_that_is_not_there_passes_lines_on() {
        let way = Way::new(3, 1, true);
        assert_eq!(Private::new(Geometry::NONE).fill(way), way);
        assert_eq!(Shared::new(Geometry::NONE).fill(way), way);
        assert_eq!(Private::new(Geometry::NONE).find(3), None);
        assert_eq!(Shared::new(Geometry::NONE).find(3), None);
    }

    proptest! {
        /// The shared cache is the private one, and both are a list of the lines last used.
        #[test]
        fn caches_hold_the_lines_last_used(lines in prop::collection::vec(0u64..24, 1..200)) {
            let mut private = Private::new(GEOMETRY);
            let shared = Shared::new(GEOMETRY);
            let mut model: Vec<Vec<u64>> = vec![Vec::new(); 4];
            for line in lines {
                let set = &mut model[line as usize % 4];
                let hit = set.contains(&line);
                prop_assert_eq!(private.find(line).is_some(), hit);
                prop_assert_eq!(shared.find(line).is_some(), hit);
                set.retain(|&other| other != line);
                set.insert(0, line);
                let gone = if set.len() > 2 { set.pop() } else { None };
                if !hit {
                    let way = Way::new(line, 0, false);
                    let out = private.fill(way);
                    prop_assert_eq!(out, shared.fill(way));
                    prop_assert_eq!(gone, (!out.is_none()).then(|| out.line()));
                }
            }
        }
    }
}
