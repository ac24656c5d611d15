//! Record locks of one file: which bytes each owner holds.
//!
//! Each owner's ranges are in their order and do not overlap, so a request takes time by the
//! logarithm of its owner's locks, once for each other owner.

use super::{Kind, Owner, Record};
use abi::Result;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use frames::fallible::{TryMap, TryVec};

/// A range from the byte that is its key on.
#[derive(Clone, Copy)]
struct Piece {
    last: u64,
    kind: Kind,
    pid: u32,
}

/// What one owner holds, by first bytes.
type Pieces = BTreeMap<u64, Piece>;

/// The owners with what they hold, which is something.
#[derive(Default)]
pub(super) struct Records {
    owners: BTreeMap<Owner, Pieces>,
}

/// The last one of `pieces` that overlaps `range`.
fn last_in(pieces: &Pieces, range: &RangeInclusive<u64>) -> Option<(u64, Piece)> {
    let (&first, &piece) = pieces.range(..=*range.end()).next_back()?;
    (piece.last >= *range.start()).then_some((first, piece))
}

/// The first one that overlaps `range` and that `wanted` holds for.
fn first_in(
    pieces: &Pieces,
    range: &RangeInclusive<u64>,
    wanted: impl Fn(&Piece) -> bool,
) -> Option<(u64, Piece)> {
    let before = pieces.range(..*range.start()).next_back();
    let mut overlapping = before
        .filter(|(_, piece)| piece.last >= *range.start())
        .into_iter()
        .chain(pieces.range(range.clone()));
    overlapping.find(|(_, piece)| wanted(piece)).map(|(&first, &piece)| (first, piece))
}

/// Takes `range` away; true when something of it was held. ENOMEM, with nothing changed.
fn carve(pieces: &mut Pieces, range: &RangeInclusive<u64>) -> Result<bool> {
    let mut changed = false;
    while let Some((first, piece)) = last_in(pieces, range) {
        changed = true;
        if piece.last > *range.end() {
            // Only the first one that is found; it is cut in two if it begins before, too.
            let rest = pieces.try_insert_in(*range.end() + 1, piece)?;
            debug_assert!(rest.is_none());
        }
        if first < *range.start() {
            let left = Piece { last: *range.start() - 1, ..piece };
            pieces.entry(first).and_modify(|piece| *piece = left);
            break;
        }
        pieces.remove(&first);
    }
    Ok(changed)
}

/// Enters a range of which nothing is held, as one with its neighbours of the same kind. There is
/// room for it.
fn join(pieces: &mut Pieces, range: &RangeInclusive<u64>, mut new: Piece) {
    let mut first = *range.start();
    if let Some((&before, piece)) = pieces.range(..first).next_back()
        && piece.last + 1 == first
        && piece.kind == new.kind
    {
        first = before;
    }
    if let Some(after) = new.last.checked_add(1)
        && let Some(piece) = pieces.get(&after).filter(|piece| piece.kind == new.kind)
    {
        new.last = piece.last;
        pieces.remove(&after);
    }
    pieces.insert(first, new);
}

impl Records {
    /// The first lock of another owner that is in the way of `want`.
    pub(super) fn conflicting(&self, want: &Record) -> Option<Record> {
        let excludes = |piece: &Piece| piece.kind == Kind::Write || want.kind == Kind::Write;
        let others = self.owners.iter().filter(|(owner, _)| **owner != want.owner);
        let found = others.filter_map(|(owner, pieces)| {
            let (first, piece) = first_in(pieces, &want.range, excludes)?;
            Some(record(*owner, first, piece))
        });
        found.min_by_key(|record| *record.range.start())
    }

    /// Enters a lock that nothing is in the way of; true when the owner held some of it before.
    /// ENOMEM, with nothing changed.
    pub(super) fn enter(&mut self, want: &Record) -> Result<bool> {
        self.owners.room_for_one()?;
        let pieces = self.owners.entry(want.owner).or_default();
        // One that is cut in two, and the new one.
        let changed = pieces.room_for_two().and_then(|()| carve(pieces, &want.range));
        if changed.is_ok() {
            let piece = Piece { last: *want.range.end(), kind: want.kind, pid: want.pid };
            join(pieces, &want.range, piece);
        } else if pieces.is_empty() {
            self.owners.remove(&want.owner);
        }
        changed
    }

    /// Takes `range` away from an owner; true when it held some of it. ENOMEM, with nothing changed.
    pub(super) fn leave(&mut self, owner: Owner, range: &RangeInclusive<u64>) -> Result<bool> {
        let Some(pieces) = self.owners.get_mut(&owner) else { return Ok(false) };
        let changed = carve(pieces, range)?;
        if pieces.is_empty() {
            self.owners.remove(&owner);
        }
        Ok(changed)
    }

    /// Takes everything from an owner; true when it held something.
    pub(super) fn forget(&mut self, owner: Owner) -> bool {
        self.owners.remove(&owner).is_some()
    }

    /// All of them, by owners. ENOMEM.
    pub(super) fn all(&self) -> Result<Vec<Record>> {
        let mut all = Vec::with_room(self.owners.values().map(BTreeMap::len).sum())?;
        for (&owner, pieces) in &self.owners {
            all.extend(pieces.iter().map(|(&first, &piece)| record(owner, first, piece)));
        }
        Ok(all)
    }
}

fn record(owner: Owner, first: u64, piece: Piece) -> Record {
    Record { owner, pid: piece.pid, kind: piece.kind, range: first..=piece.last }
}
