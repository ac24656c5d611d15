//! The areas of an address space, ordered by address: finding, placing, splitting, merging.
//!
//! Pure: no page is touched here. Areas never overlap.

use crate::PAGE;
use crate::gaps::Gaps;
use crate::vma::{Changed, Vma, VmaFlags, same_policy};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use core::ops::Bound::{Excluded, Included, Unbounded};
use frames::fallible::TryMap;

/// Where the last free range ends: above all that can be mapped.
const TOP: u64 = 1 << 63;

/// Areas that an address space may have (vm.max_map_count): as on Linux the last one splits no
/// other, and one mapping more may be made.
pub const MAX_AREAS: usize = 65530;

/// How much of a range is mapped, in bytes.
#[derive(Clone, Copy, Default)]
pub struct Mapped {
    pub bytes: u64,
    /// In areas that are promised.
    pub accounted: u64,
}

/// The areas of one address space.
#[derive(Default)]
pub struct VmaTree {
    areas: BTreeMap<u64, Vma>,
    /// Free ranges by size, once there are many areas: few are looked through as quickly.
    gaps: Option<Gaps>,
    /// From the lowest to the highest mapping that ever was and may not be cut anywhere: they are
    /// few, and asked for at every unmapping.
    special: (u64, u64),
}

/// Areas from which on an index of the free ranges is kept.
const MANY: usize = if cfg!(test) { 3 } else { 64 };

impl VmaTree {
    /// No areas.
    pub const fn new() -> Self {
        Self { areas: BTreeMap::new(), gaps: None, special: (u64::MAX, 0) }
    }

    /// Number of areas.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// True without areas.
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// The area that holds `addr`.
    #[inline]
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.areas.range(..=addr).next_back().map(|(_, v)| v).filter(|v| addr < v.end)
    }

    /// The area that holds `addr`, to change (not its bounds).
    pub fn find_mut(&mut self, addr: u64) -> Option<&mut Vma> {
        self.areas.range_mut(..=addr).next_back().map(|(_, v)| v).filter(|v| addr < v.end)
    }

    /// The first area that ends above `addr`.
    pub fn first_above(&self, addr: u64) -> Option<&Vma> {
        self.find(addr).or_else(|| self.areas.range(addr..).next().map(|(_, v)| v))
    }

    /// The last area that begins below `addr`.
    pub fn last_below(&self, addr: u64) -> Option<&Vma> {
        self.areas.range(..addr).next_back().map(|(_, v)| v)
    }

    /// All areas, by address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.areas.values()
    }

    /// All areas, to change (not their bounds).
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Vma> {
        self.areas.values_mut()
    }

    /// The areas that touch `[start, end)`, by address.
    pub fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let from = self.find(start).map_or(start, |v| v.start);
        self.areas.range((Included(from), Excluded(end.max(from)))).map(|(_, v)| v)
    }

    /// True when nothing in `[start, end)` is mapped.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.range(start, end).next().is_none()
    }

    /// True when all of `[start, end)` is mapped.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for vma in self.range(start, end) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= end
    }

    /// How much of `[start, end)` is mapped.
    pub fn mapped_in(&self, start: u64, end: u64) -> Mapped {
        let mut sum = Mapped::default();
        for vma in self.range(start, end) {
            let bytes = vma.end.min(end) - vma.start.max(start);
            sum.bytes += bytes;
            sum.accounted += if vma.flags.contains(VmaFlags::ACCOUNTED) { bytes } else { 0 };
        }
        sum
    }

    /// Makes the index of free ranges if there are areas enough for it.
    fn index_gaps(&mut self) {
        if self.gaps.is_some() || self.areas.len() < MANY {
            return;
        }
        let mut gaps = Gaps::default();
        let mut at = 0;
        for vma in self.areas.values() {
            gaps.add(at, vma.start);
            at = vma.end;
        }
        gaps.add(at, TOP);
        self.gaps = Some(gaps);
    }

    /// The free range around `[start, end)`, in which nothing is mapped.
    fn gap_around(&self, start: u64, end: u64) -> (u64, u64) {
        let below = self.areas.range(..start).next_back().map_or(0, |(_, vma)| vma.end);
        let above = self.areas.range(end..).next().map_or(TOP, |(&start, _)| start);
        (below, above)
    }

    /// Notes that `[start, end)`, which is free, is about to be mapped.
    fn note_mapped(&mut self, start: u64, end: u64) {
        if self.gaps.is_none() {
            return;
        }
        let (below, above) = self.gap_around(start, end);
        let Some(gaps) = &mut self.gaps else { return };
        gaps.take(below, above);
        gaps.add(below, start);
        gaps.add(end, above);
    }

    /// The highest free range of `len` bytes in `[low, high)`, aligned to a page.
    pub fn gap_below(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        match &self.gaps {
            Some(gaps) => gaps.highest(len, low, high),
            None => self.search_below(len, low, high),
        }
    }

    fn search_below(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut top = high;
        for (_, vma) in self.areas.range(..high).rev() {
            if vma.end <= top && top - vma.end >= len {
                break;
            }
            top = top.min(vma.start);
            if top < low + len {
                return None;
            }
        }
        let at = top.checked_sub(len)?;
        (at >= low).then_some(at)
    }

    /// The lowest free range of `len` bytes in `[low, high)`.
    pub fn gap_above(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        match &self.gaps {
            Some(gaps) => gaps.lowest(len, low, high),
            None => self.search_above(len, low, high),
        }
    }

    fn search_above(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut at = low;
        let from = self.find(low).map_or(low, |v| v.start);
        for (_, vma) in self.areas.range((Included(from), Unbounded)) {
            if vma.start >= at && vma.start - at >= len {
                break;
            }
            at = at.max(vma.end);
        }
        (at.checked_add(len)? <= high).then_some(at)
    }

    /// Adds an area where nothing is mapped, merging it with its neighbours.
    pub fn insert(&mut self, vma: Vma) {
        debug_assert!(
            vma.start < vma.end && vma.start.is_multiple_of(PAGE) && vma.end.is_multiple_of(PAGE)
        );
        debug_assert!(self.is_free(vma.start, vma.end));
        let start = vma.start;
        self.note_mapped(start, vma.end);
        self.note_special(&vma);
        self.areas.insert(start, vma);
        self.merge(start);
        self.index_gaps();
    }

    /// Adds a copied area where nothing is mapped. It stays apart from neighbours that it could be
    /// one with, as it did where it was copied from.
    pub fn insert_apart(&mut self, vma: Vma) {
        debug_assert!(self.is_free(vma.start, vma.end));
        self.note_mapped(vma.start, vma.end);
        self.note_special(&vma);
        self.areas.insert(vma.start, vma);
    }

    fn note_special(&mut self, vma: &Vma) {
        if vma.special() || vma.is_huge() {
            let (low, high) = self.special;
            self.special = (low.min(vma.start), high.max(vma.end));
        }
    }

    /// Makes the area that begins at `start`, which is new or has changed, one with its neighbours
    /// where they allow it: with the one before it first.
    pub fn merge(&mut self, start: u64) {
        let Some(here) = self.areas.get(&start) else { return };
        let group = here.group();
        let before = self.areas.range(..start).next_back().map(|(_, vma)| vma);
        let low = before.filter(|before| before.joins(here, Changed::High));
        let low_group = low.map(Vma::group);
        let next = self.areas.get(&here.end).filter(|next| here.joins(next, Changed::Low));
        // All three only if the outer two may be one, too.
        let apart = |next: &Vma| {
            low_group.is_some_and(|low| low * next.group() != 0 && low != next.group())
        };
        let boundary = next.filter(|next| !apart(next)).map(|next| next.start);
        let low = low.map(|low| low.start);
        debug_assert!(group == 0 || low_group.is_none_or(|low| low == group));
        if let Some(boundary) = boundary {
            self.join(start, boundary);
        }
        if let Some(low) = low {
            self.join(low, start);
        }
    }

    /// Makes the area that begins at `start`, which has grown up, one with the next if they allow it.
    pub fn merge_up(&mut self, start: u64) {
        let Some(here) = self.areas.get(&start) else { return };
        let next = self.areas.get(&here.end).filter(|next| here.joins(next, Changed::Low));
        if let Some(boundary) = next.map(|next| next.start) {
            self.join(start, boundary);
        }
    }

    /// Makes the area at `low` and the one behind it, at `high`, one.
    fn join(&mut self, low: u64, high: u64) {
        let Some(next) = self.areas.remove(&high) else { return };
        if let Some(here) = self.areas.get_mut(&low) {
            here.end = next.end;
            if here.group() == 0 {
                here.anon = next.anon;
                here.inherited = next.inherited;
            }
        }
    }

    /// The area that is `[start, end)`, to change (not its bounds).
    pub fn exactly(&mut self, start: u64, end: u64) -> Option<&mut Vma> {
        self.areas.get_mut(&start).filter(|vma| vma.end == end)
    }

    /// True when the area `[start, end)`, which has changed, could be one with a neighbour.
    pub fn joins(&self, start: u64, end: u64) -> bool {
        let mut near = self.areas.range(..=end).rev().map(|(_, vma)| vma).peekable();
        let next = near.next_if(|vma| vma.start == end);
        let Some(here) = near.next().filter(|vma| vma.start == start) else { return false };
        next.is_some_and(|next| here.joins(next, Changed::Low))
            || near.next().is_some_and(|before| before.joins(here, Changed::High))
    }

    /// Gives an area of the tree a group before its first private page.
    pub fn begin_group(&self, vma: &Vma) {
        let before = self.areas.range(..vma.start).next_back().map(|(_, before)| before);
        vma.begin_group(before, self.areas.get(&vma.end));
    }

    /// Makes `at` a boundary between areas if it lies inside one.
    pub fn split(&mut self, at: u64) {
        if let Some(vma) = self.find_mut(at)
            && vma.start < at
        {
            let upper = vma.split_at(at);
            self.areas.insert(at, upper);
        }
    }

    /// True when `[start, end)` begins or ends within a special mapping, which stays in one piece, or
    /// within a huge page.
    pub fn cuts_whole(&self, start: u64, end: u64) -> bool {
        if end <= self.special.0 || self.special.1 <= start {
            return false;
        }
        let cut = |at: u64| self.find(at).is_some_and(|vma| vma.is_whole_at(at));
        cut(start) || cut(end)
    }

    /// Makes sure of what one more area needs. ENOMEM.
    #[inline]
    pub fn ready(&self) -> Result<()> {
        self.areas.room_for_one()
    }

    /// Takes everything in `[start, end)` out, by address, and gives it to `gone`: one after the
    /// other, since there may be many.
    pub fn remove(&mut self, start: u64, end: u64, mut gone: impl FnMut(Vma)) {
        self.split(start);
        self.split(end);
        let mut removed: Option<(u64, u64)> = None;
        let mut at = start;
        while at < end
            && let Some(first) = self.areas.range(at..end).next().map(|(&first, _)| first)
            && let Some(vma) = self.areas.remove(&first)
        {
            if self.gaps.is_some() {
                self.forget_gap_below(&vma, removed);
            }
            removed = Some((removed.map_or(vma.start, |(start, _)| start), vma.end));
            at = vma.end;
            gone(vma);
        }
        if let Some((low, high)) = removed
            && self.gaps.is_some()
        {
            let (below, above) = self.gap_around(low, high);
            let Some(gaps) = &mut self.gaps else { return };
            gaps.take(high, above);
            gaps.add(below, above);
        }
    }

    /// What was free below an area that is removed after the range `removed` is a free range no
    /// more.
    fn forget_gap_below(&mut self, vma: &Vma, removed: Option<(u64, u64)>) {
        let below = match removed {
            Some((_, end)) => end,
            None => self.gap_around(vma.start, vma.end).0,
        };
        if let Some(gaps) = &mut self.gaps {
            gaps.take(below, vma.start);
        }
    }

    /// Changes everything that is mapped in `[start, end)`, area by area, splitting at the ends and
    /// merging what has changed with its neighbours. Stops at the first error; what was changed
    /// stays (as Linux does). ENOMEM when there would be more than [`MAX_AREAS`], EINVAL for a part of
    /// a special mapping, or of a huge page, that would become other than the rest.
    pub fn update(
        &mut self,
        start: u64,
        end: u64,
        mut change: impl FnMut(&mut Vma) -> Result<()>,
    ) -> Result<()> {
        let mut at = start;
        while at < end
            && let Some(vma) = self.first_above(at).filter(|vma| vma.start < end)
        {
            let (low, high) = (vma.start, vma.end);
            let (from, to) = (low.max(at), high.min(end));
            if (from, to) != (low, high) && (vma.is_whole_at(from) || vma.is_whole_at(to)) {
                let mut changed = vma.clone();
                change(&mut changed)?;
                if !changed.like(vma) {
                    return Err(Errno::EINVAL);
                }
                at = to;
                continue;
            }
            self.ready()?;
            self.split(from);
            self.split(to);
            let Some(piece) = self.areas.get_mut(&from) else { break };
            let (flags, policy) = (piece.flags, piece.policy.clone());
            let mut outcome = change(piece);
            let whole = (from, to) == (low, high);
            let mut same =
                piece.flags == flags && same_policy(piece.policy.as_ref(), policy.as_ref());
            // A part that becomes one with its neighbour is no area more.
            if !same && !whole && self.areas.len() > MAX_AREAS && !self.joins(from, to) {
                if let Some(piece) = self.areas.get_mut(&from) {
                    (piece.flags, piece.policy) = (flags, policy);
                }
                outcome = Err(Errno::ENOMEM);
                same = true;
            }
            if same {
                // Nothing new: it stays what it was, whatever its neighbours are.
                if to < high {
                    self.join(from, to);
                }
                if low < from {
                    self.join(low, from);
                }
            } else if !whole || self.find(from).is_some_and(Vma::may_vanish) {
                self.merge(from);
            }
            outcome?;
            at = to;
        }
        Ok(())
    }

    /// Moves the lower bound of the area that begins at `start` down to `new_start` (a stack that
    /// grows); the range between is free.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        self.note_mapped(new_start, start);
        if let Some(mut vma) = self.areas.remove(&start) {
            // The page index goes down with the address; stacks are made with room below.
            vma.pgoff -= (start - new_start) / PAGE;
            vma.start = new_start;
            self.areas.insert(new_start, vma);
        }
    }

    /// Moves the upper bound of the area that begins at `start`; what lies between is free.
    pub fn grow_up(&mut self, start: u64, new_end: u64) {
        let Some(end) = self.areas.get(&start).map(|vma| vma.end) else { return };
        self.note_mapped(end, new_end);
        if let Some(vma) = self.areas.get_mut(&start) {
            vma.end = new_end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vma::{Backing, Label, VmaFlags};
    use core::sync::atomic::AtomicU64;
    use proptest::prelude::*;

    fn area(start: u64, end: u64, flags: VmaFlags) -> Vma {
        Vma {
            start: start * PAGE,
            end: end * PAGE,
            flags,
            pgoff: start,
            backing: Backing::Anon,
            label: Label::None,
            policy: None,
            anon: AtomicU64::new(0),
            inherited: false,
            hugetlb: None,
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Map(u64, u64, bool),
        Unmap(u64, u64),
        Protect(u64, u64, bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        (0u64..64, 1u64..20, any::<bool>(), 0..3).prop_map(|(start, len, write, kind)| match kind {
            0 => Op::Map(start, start + len, write),
            1 => Op::Unmap(start, start + len),
            _ => Op::Protect(start, start + len, write),
        })
    }

    fn flags(write: bool) -> VmaFlags {
        if write { VmaFlags::READ | VmaFlags::WRITE } else { VmaFlags::READ }
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_single_pages(ops in proptest::collection::vec(op(), 1..60)) {
            let mut tree = VmaTree::new();
            let mut pages = [None::<bool>; 96];
            for op in ops {
                match op {
                    Op::Map(a, b, w) => {
                        tree.remove(a * PAGE, b * PAGE, drop);
                        tree.insert(area(a, b, flags(w)));
                        pages[a as usize..b as usize].fill(Some(w));
                    }
                    Op::Unmap(a, b) => {
                        tree.remove(a * PAGE, b * PAGE, drop);
                        pages[a as usize..b as usize].fill(None);
                    }
                    Op::Protect(a, b, w) => {
                        let done = tree.update(a * PAGE, b * PAGE, |v| {
                            v.flags = flags(w);
                            Ok(())
                        });
                        prop_assert!(done.is_ok());
                        for p in &mut pages[a as usize..b as usize] {
                            *p = p.map(|_| w);
                        }
                    }
                }
                for (i, want) in pages.iter().enumerate() {
                    let got = tree.find(i as u64 * PAGE).map(|v| v.flags.contains(VmaFlags::WRITE));
                    prop_assert_eq!(got, *want, "page {}", i);
                }
                // Neighbours that could be one area are one.
                let list: alloc::vec::Vec<_> = tree.iter().collect();
                for pair in list.windows(2) {
                    prop_assert!(pair[0].end <= pair[1].start);
                    prop_assert!(!pair[0].joins(pair[1], Changed::Low));
                }
                for len in [1u64, 3, 9] {
                    let free = |at: u64| (at..at + len).all(|p| pages[p as usize].is_none());
                    let highest = (0..=96 - len).rev().find(|&at| free(at)).map(|a| a * PAGE);
                    let lowest = (0..=96 - len).find(|&at| free(at)).map(|a| a * PAGE);
                    prop_assert_eq!(tree.gap_below(len * PAGE, 0, 96 * PAGE), highest);
                    prop_assert_eq!(tree.gap_above(len * PAGE, 0, 96 * PAGE), lowest);
                }
            }
        }
    }
}
