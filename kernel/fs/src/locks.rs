//! Advisory locks: POSIX record locks, open-file-description locks, and flock(2).
//!
//! Record locks of both kinds live in one list: they conflict with each other. Their owner is a
//! descriptor table (POSIX) or a description (OFD). flock's locks are apart, as on Linux.

use crate::file::File;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use frames::fallible::Grow;
use sync::{SpinLock, WaitQueue};

/// Who holds a record lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process, by its descriptor table ([`crate::FdTable::id`]).
    Process(u64),
    /// An open file description.
    Description(u64),
}

impl Owner {
    /// The description as an owner.
    pub fn of_file(file: &File) -> Self {
        Self::Description(core::ptr::from_ref(file) as usize as u64)
    }
}

/// Kind of a record lock; None in a request unlocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

/// A record lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub owner: Owner,
    /// For F_GETLK: the process that took it.
    pub pid: u32,
    pub kind: Kind,
    /// First and last byte; the last is `i64::MAX` for "to the end".
    pub range: RangeInclusive<u64>,
}

/// flock(2)'s requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flock {
    Shared,
    Exclusive,
    Unlock,
}

/// The locks on one inode.
#[derive(Default)]
pub struct LockTable {
    records: SpinLock<Vec<Record>>,
    /// (description, exclusive).
    flocks: SpinLock<Vec<(u64, bool)>>,
    changed: WaitQueue,
}

/// Who waits for whose lock, over all inodes: for EDEADLK.
static WAITS: SpinLock<Vec<(u64, u64)>> = SpinLock::new(Vec::new());

fn overlap(a: &RangeInclusive<u64>, b: &RangeInclusive<u64>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

fn conflicting<'a>(records: &'a [Record], want: &Record) -> Option<&'a Record> {
    records.iter().find(|held| {
        held.owner != want.owner
            && overlap(&held.range, &want.range)
            && (held.kind == Kind::Write || want.kind == Kind::Write)
    })
}

/// Takes `range` away from `owner`'s locks.
fn carve(records: &mut Vec<Record>, owner: Owner, range: &RangeInclusive<u64>) -> bool {
    let mut changed = false;
    let mut at = 0;
    while at < records.len() {
        let held = &mut records[at];
        if held.owner != owner || !overlap(&held.range, range) {
            at += 1;
            continue;
        }
        changed = true;
        let (start, end) = (*held.range.start(), *held.range.end());
        let left = (start < *range.start()).then(|| start..=*range.start() - 1);
        let right = (end > *range.end()).then(|| *range.end() + 1..=end);
        match (left, right) {
            (Some(left), Some(right)) => {
                held.range = left;
                let tail = Record { range: right, ..held.clone() };
                records.insert(at + 1, tail);
                at += 2;
            }
            (Some(rest), None) | (None, Some(rest)) => {
                held.range = rest;
                at += 1;
            }
            (None, None) => {
                records.remove(at);
            }
        }
    }
    changed
}

/// Adds a lock, joined with the owner's neighbours of the same kind.
fn join(records: &mut Vec<Record>, mut new: Record) {
    let mut at = 0;
    while at < records.len() {
        let held = &records[at];
        let touches = *held.range.start() <= new.range.end().saturating_add(1)
            && *new.range.start() <= held.range.end().saturating_add(1);
        if held.owner == new.owner && held.kind == new.kind && touches {
            let start = *held.range.start().min(new.range.start());
            let end = *held.range.end().max(new.range.end());
            new.range = start..=end;
            records.remove(at);
        } else {
            at += 1;
        }
    }
    let at = records.partition_point(|held| held.range.start() <= new.range.start());
    records.insert(at, new);
}

impl LockTable {
    /// Tries to take a record lock: EAGAIN when another owner is in the way.
    pub fn try_lock(&self, want: &Record) -> Result<()> {
        let mut records = self.records.lock();
        if conflicting(&records, want).is_some() {
            return Err(Errno::EAGAIN);
        }
        // One that is cut in two, and the new one.
        records.room_for(2)?;
        let downgraded = carve(&mut records, want.owner, &want.range);
        join(&mut records, want.clone());
        drop(records);
        if downgraded && want.kind == Kind::Read {
            self.changed.wake_all();
        }
        Ok(())
    }

    /// Takes a record lock, sleeping for it. EDEADLK when the owners would wait for each other,
    /// ERESTARTSYS when a signal comes.
    pub fn lock(&self, want: &Record) -> Result<()> {
        let Owner::Process(me) = want.owner else {
            return self
                .changed
                .wait_interruptible(None, || self.try_lock(want).ok())
                .map_err(Into::into);
        };
        let outcome = self.changed.wait_interruptible(None, || {
            WAITS.lock().retain(|&(waiter, _)| waiter != me);
            match self.try_lock(want) {
                Ok(()) => return Some(Ok(())),
                Err(Errno::EAGAIN) => {}
                Err(error) => return Some(Err(error)),
            }
            let blocker = conflicting(&self.records.lock(), want).map(|held| held.owner);
            let Some(Owner::Process(blocker)) = blocker else { return None };
            let mut waits = WAITS.lock();
            let mut at = blocker;
            // Chains are as long as there are waiting processes at most.
            for _ in 0..=waits.len() {
                if at == me {
                    return Some(Err(Errno::EDEADLK));
                }
                match waits.iter().find(|&&(waiter, _)| waiter == at) {
                    Some(&(_, next)) => at = next,
                    None => break,
                }
            }
            waits.push((me, blocker));
            None
        });
        WAITS.lock().retain(|&(waiter, _)| waiter != me);
        outcome.map_err(Errno::from)?
    }

    /// Gives back what `owner` holds of `range`.
    pub fn unlock(&self, owner: Owner, range: &RangeInclusive<u64>) {
        if carve(&mut self.records.lock(), owner, range) {
            self.changed.wake_all();
        }
    }

    /// The first lock in the way of `want` (F_GETLK).
    pub fn test(&self, want: &Record) -> Option<Record> {
        conflicting(&self.records.lock(), want).cloned()
    }

    /// A process closed a descriptor of the file: its record locks go.
    pub fn release_posix(&self, table: u64) {
        self.unlock(Owner::Process(table), &(0..=u64::MAX));
    }

    /// A description is gone: its locks go.
    pub fn release_file(&self, id: u64) {
        self.unlock(Owner::Description(id), &(0..=u64::MAX));
        let mut flocks = self.flocks.lock();
        let before = flocks.len();
        flocks.retain(|&(held, _)| held != id);
        let changed = flocks.len() != before;
        drop(flocks);
        if changed {
            self.changed.wake_all();
        }
    }

    /// flock(2). EWOULDBLOCK when it may not wait, ERESTARTSYS when a signal comes.
    pub fn flock(&self, file: &File, request: Flock, wait: bool) -> Result<()> {
        let id = core::ptr::from_ref(file) as usize as u64;
        if request == Flock::Unlock {
            self.flocks.lock().retain(|&(held, _)| held != id);
            self.changed.wake_all();
            return Ok(());
        }
        file.note_lock();
        let exclusive = request == Flock::Exclusive;
        // A conversion gives the old lock up first: it is not atomic on Linux either.
        let had = {
            let mut flocks = self.flocks.lock();
            if flocks.contains(&(id, exclusive)) {
                return Ok(());
            }
            let before = flocks.len();
            flocks.retain(|&(held, _)| held != id);
            flocks.len() != before
        };
        if had {
            self.changed.wake_all();
        }
        let attempt = || {
            let mut flocks = self.flocks.lock();
            let blocked = flocks.iter().any(|&(_, held)| held || exclusive);
            if !blocked {
                flocks.push((id, exclusive));
            }
            (!blocked).then_some(())
        };
        if wait {
            self.changed.wait_interruptible(None, attempt).map_err(Into::into)
        } else {
            attempt().ok_or(Errno::EAGAIN)
        }
    }

    /// flock(2)'s locks: true for exclusive ones.
    pub fn flocks(&self) -> Vec<bool> {
        self.flocks.lock().iter().map(|&(_, exclusive)| exclusive).collect()
    }

    /// All record locks (for /proc/locks and tests).
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().clone()
    }
}

/// A record-lock request on `file` as fcntl(2) makes it: `kind` None unlocks. EBADF when the
/// description is not open for what the lock needs.
pub fn fcntl_lock(
    file: &File,
    owner: Owner,
    pid: u32,
    kind: Option<Kind>,
    range: RangeInclusive<u64>,
    wait: bool,
) -> Result<()> {
    let locks = file.inode().base().locks();
    let Some(kind) = kind else {
        locks.unlock(owner, &range);
        return Ok(());
    };
    let allowed = match kind {
        Kind::Read => file.readable(),
        Kind::Write => file.writable(),
    };
    if !allowed {
        return Err(Errno::EBADF);
    }
    if matches!(owner, Owner::Description(_)) {
        file.note_lock();
    }
    let want = Record { owner, pid, kind, range };
    if wait { locks.lock(&want) } else { locks.try_lock(&want) }
}

/// The bytes that `l_start` and `l_len` mean, counted from `base` (by `l_whence`). EINVAL before
/// the file's start, EOVERFLOW past what a position can be.
pub fn lock_range(base: u64, start: i64, len: i64) -> Result<RangeInclusive<u64>> {
    let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
    let start = base.checked_add(start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (first, last) = match len {
        0 => (start, i64::MAX),
        1.. => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        _ => {
            let first = start.checked_add(len).ok_or(Errno::EINVAL)?;
            if first < 0 {
                return Err(Errno::EINVAL);
            }
            (first, start - 1)
        }
    };
    Ok(first as u64..=last as u64)
}
