//! Advisory locks: POSIX record locks, open-file-description locks, and flock(2).
//!
//! Record locks of both kinds live in one table ([`records`]): they conflict with each other. Their
//! owner is a descriptor table (POSIX) or a description (OFD). flock's locks are apart, as on Linux.

mod records;

use crate::file::File;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use frames::fallible::{TryMap, TryVec};
use records::Records;
use sync::{SpinLock, WaitQueue};

/// Who holds a record lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    records: SpinLock<Records>,
    /// By description, true for exclusive ones: then it is the only one.
    flocks: SpinLock<BTreeMap<u64, bool>>,
    changed: WaitQueue,
}

/// Who waits for whose lock, over all inodes: for EDEADLK.
static WAITS: SpinLock<BTreeMap<u64, u64>> = SpinLock::new(BTreeMap::new());

/// What a lock that found no memory ends with, as on Linux.
fn no_locks(_: Errno) -> Errno {
    Errno::ENOLCK
}

impl LockTable {
    /// Tries to take a record lock: EAGAIN when another owner is in the way, ENOLCK without memory.
    pub fn try_lock(&self, want: &Record) -> Result<()> {
        let mut records = self.records.lock();
        if records.conflicting(want).is_some() {
            return Err(Errno::EAGAIN);
        }
        let downgraded = records.enter(want).map_err(no_locks)?;
        drop(records);
        if downgraded && want.kind == Kind::Read {
            self.changed.wake_all();
        }
        Ok(())
    }

    /// Takes a record lock, sleeping for it. EDEADLK when the owners would wait for each other,
    /// ERESTARTSYS when a signal comes, ENOLCK without memory.
    pub fn lock(&self, want: &Record) -> Result<()> {
        let attempt = || match self.try_lock(want) {
            Err(Errno::EAGAIN) => None,
            outcome => Some(outcome),
        };
        let Owner::Process(me) = want.owner else {
            return self.changed.wait_interruptible(None, attempt).map_err(Errno::from)?;
        };
        let outcome = self.changed.wait_interruptible(None, || {
            WAITS.lock().remove(&me);
            attempt().or_else(|| self.wait_for_blocker(me, want).err().map(Err))
        });
        WAITS.lock().remove(&me);
        outcome.map_err(Errno::from)?
    }

    /// Notes for whom `me` waits. EDEADLK when that waits for `me`, ENOLCK without memory.
    fn wait_for_blocker(&self, me: u64, want: &Record) -> Result<()> {
        let blocker = self.records.lock().conflicting(want).map(|held| held.owner);
        let Some(Owner::Process(blocker)) = blocker else { return Ok(()) };
        let mut waits = WAITS.lock();
        let mut at = Some(blocker);
        // Chains are as long as there are waiting processes at most.
        for _ in 0..=waits.len() {
            let Some(owner) = at else { break };
            if owner == me {
                return Err(Errno::EDEADLK);
            }
            at = waits.get(&owner).copied();
        }
        waits.try_insert_in(me, blocker).map_err(no_locks)?;
        Ok(())
    }

    /// Gives back what `owner` holds of `range`. ENOLCK when a lock must be cut in two without
    /// memory.
    pub fn unlock(&self, owner: Owner, range: &RangeInclusive<u64>) -> Result<()> {
        let changed = self.records.lock().leave(owner, range).map_err(no_locks)?;
        if changed {
            self.changed.wake_all();
        }
        Ok(())
    }

    /// Gives back all that `owner` holds.
    fn forget(&self, owner: Owner) {
        let changed = self.records.lock().forget(owner);
        if changed {
            self.changed.wake_all();
        }
    }

    /// The first lock in the way of `want` (F_GETLK).
    pub fn test(&self, want: &Record) -> Option<Record> {
        self.records.lock().conflicting(want)
    }

    /// A process closed a descriptor of the file: its record locks go.
    pub fn release_posix(&self, table: u64) {
        self.forget(Owner::Process(table));
    }

    /// A description is gone: its locks go.
    pub fn release_file(&self, id: u64) {
        self.forget(Owner::Description(id));
        let held = self.flocks.lock().remove(&id);
        if held.is_some() {
            self.changed.wake_all();
        }
    }

    /// flock(2). EWOULDBLOCK when it may not wait, ERESTARTSYS when a signal comes, ENOLCK without
    /// memory.
    pub fn flock(&self, file: &File, request: Flock, wait: bool) -> Result<()> {
        let id = core::ptr::from_ref(file) as usize as u64;
        if request == Flock::Unlock {
            self.flocks.lock().remove(&id);
            self.changed.wake_all();
            return Ok(());
        }
        file.note_lock();
        let exclusive = request == Flock::Exclusive;
        // A conversion gives the old lock up first: it is not atomic on Linux either.
        let had = {
            let mut flocks = self.flocks.lock();
            if flocks.get(&id) == Some(&exclusive) {
                return Ok(());
            }
            flocks.remove(&id).is_some()
        };
        if had {
            self.changed.wake_all();
        }
        let attempt = || {
            let mut flocks = self.flocks.lock();
            // An exclusive one is the only one.
            if flocks.first_key_value().is_some_and(|(_, &held)| held || exclusive) {
                return None;
            }
            Some(flocks.try_insert_in(id, exclusive).map(drop).map_err(no_locks))
        };
        if wait {
            self.changed.wait_interruptible(None, attempt).map_err(Errno::from)?
        } else {
            attempt().ok_or(Errno::EAGAIN)?
        }
    }

    /// flock(2)'s locks: true for exclusive ones. ENOMEM.
    pub fn flocks(&self) -> Result<Vec<bool>> {
        let flocks = self.flocks.lock();
        let mut all = Vec::with_room(flocks.len())?;
        all.extend(flocks.values());
        Ok(all)
    }

    /// All record locks (for /proc/locks and tests). ENOMEM.
    pub fn records(&self) -> Result<Vec<Record>> {
        self.records.lock().all()
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
        return locks.unlock(owner, &range);
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
