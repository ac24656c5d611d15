//! System V IPC: shared memory, semaphores, message queues.
//!
//! What the three have in common is here: keys, ids, owners and permissions (sysvipc(7)).

pub mod msg;
pub mod sem;
pub mod shm;

use crate::task::current;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use frames::fallible::{TryMap, arc};
use hal::VirtAddr;
use sync::SpinLock;

/// IPC_PRIVATE.
const PRIVATE: i32 = 0;
/// IPC_CREAT, IPC_EXCL, IPC_NOWAIT.
const CREAT: u32 = 0o1000;
const EXCL: u32 = 0o2000;
pub const NOWAIT: u32 = 0o4000;

/// Commands that all three have.
pub mod cmd {
    pub const RMID: i32 = 0;
    pub const SET: i32 = 1;
    pub const STAT: i32 = 2;
    pub const INFO: i32 = 3;
}

/// Slots of a table are numbers below this; an id is a slot and how often it was used.
const SLOTS: i32 = 1 << 15;
/// Uses of a slot that ids tell apart.
const USES: i32 = i32::MAX / SLOTS;

/// CAP_IPC_OWNER.
const IPC_OWNER: u32 = 15;
/// Read permission of all classes, and write permission.
pub const READ: u32 = 0o444;
pub const WRITE: u32 = 0o222;

/// Who owns an object and who may use it.
#[derive(Clone, Copy, Debug)]
pub struct Perm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
}

impl Perm {
    fn new(key: i32, mode: u32) -> Self {
        let creds = current().credentials();
        let (uid, gid) = (creds.euid, creds.egid);
        Self { key, uid, gid, cuid: uid, cgid: gid, mode: mode & 0o777, seq: 0 }
    }

    /// EACCES unless the caller may do what `wanted` (bits as in a mode) asks.
    pub fn check(&self, wanted: u32) -> Result<()> {
        let creds = current().credentials();
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let in_group = |gid: u32| creds.egid == gid || creds.groups().contains(&gid);
        let granted = if creds.euid == self.cuid || creds.euid == self.uid {
            self.mode >> 6
        } else if in_group(self.cgid) || in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted == 0 || creds.has(IPC_OWNER) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// EPERM unless the caller owns the object.
    pub fn check_owner(&self) -> Result<()> {
        let creds = current().credentials();
        let owns = creds.euid == self.uid || creds.euid == self.cuid;
        if owns || creds.has(fs::Cap::SysAdmin as u32) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `struct ipc64_perm`: six words.
    pub fn words(&self) -> [u64; 6] {
        let pair = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
        [
            pair(self.key as u32, self.uid),
            pair(self.gid, self.cuid),
            pair(self.cgid, self.mode),
            u64::from(self.seq),
            0,
            0,
        ]
    }

    /// IPC_SET: owner and mode from the user's structure. EPERM, EINVAL, EFAULT.
    pub fn set_from(&mut self, at: VirtAddr) -> Result<()> {
        let [_, uid_word, gid_word, mode_word]: [u32; 4] = {
            let words: [u32; 6] = hal::user::read(at)?;
            [words[0], words[1], words[2], words[5]]
        };
        self.check_owner()?;
        if uid_word == u32::MAX || gid_word == u32::MAX {
            return Err(Errno::EINVAL);
        }
        self.uid = uid_word;
        self.gid = gid_word;
        self.mode = self.mode & !0o777 | mode_word & 0o777;
        Ok(())
    }
}

/// An object of one of the three kinds.
pub trait Object: Send + Sync {
    /// Its owner.
    fn perm(&self) -> Perm;
    /// Nothing is left of it: its slot can be used again.
    fn is_gone(&self) -> bool {
        false
    }
}

struct Slot<T> {
    uses: i32,
    object: Option<Arc<T>>,
}

struct Table<T> {
    slots: BTreeMap<i32, Slot<T>>,
    /// The slot that was taken last, and how often the search has begun anew: ids go round, so
    /// that the id of what is gone is not soon another's (and programs see Linux's numbers).
    last: Option<i32>,
    rounds: i32,
}

/// Slots that are gone through before the search begins anew, at least.
const CYCLE: usize = 64;

/// All objects of one kind.
pub struct Objects<T> {
    table: SpinLock<Table<T>>,
    most: usize,
}

fn id_of(slot: i32, uses: i32) -> i32 {
    uses * SLOTS + slot
}

impl<T: Object> Objects<T> {
    /// An empty table for at most `most` objects.
    pub const fn new(most: usize) -> Self {
        Self { table: SpinLock::new(Table { slots: BTreeMap::new(), last: None, rounds: 0 }), most }
    }

    /// Drops what is gone. The objects are freed without the lock.
    fn sweep(&self) {
        let take_one = || {
            let mut table = self.table.lock();
            let dead = |slot: &Slot<T>| slot.object.as_ref().is_some_and(|o| o.is_gone());
            let at = table.slots.iter().find(|(_, slot)| dead(slot)).map(|(&at, _)| at)?;
            table.slots.remove(&at)
        };
        while let Some(gone) = take_one() {
            drop(gone);
        }
    }

    /// The get call: the object with `key`, or a new one made by `make` from its permissions and
    /// its use count. `fits` says whether an existing one is what is asked for.
    pub fn get(
        &self,
        key: i32,
        flags: u32,
        fits: impl Fn(&T) -> Result<()>,
        make: impl FnOnce(Perm) -> Result<T>,
    ) -> Result<i32> {
        self.sweep();
        if key != PRIVATE {
            let found = {
                let table = self.table.lock();
                table.slots.iter().find_map(|(&slot, s)| {
                    let object = s.object.as_ref().filter(|o| o.perm().key == key)?;
                    Some((id_of(slot, s.uses), object.clone()))
                })
            };
            if let Some((id, object)) = found {
                if flags & (CREAT | EXCL) == CREAT | EXCL {
                    return Err(Errno::EEXIST);
                }
                fits(&object)?;
                object.perm().check(flags)?;
                return Ok(id);
            }
            if flags & CREAT == 0 {
                return Err(Errno::ENOENT);
            }
        }
        let mut perm = Perm::new(key, flags);
        let (slot, uses) = self.free_slot()?;
        perm.seq = uses as u16;
        let object = arc(make(perm)?)?;
        let mut table = self.table.lock();
        table.slots.room_for_one()?;
        let entry = table.slots.entry(slot).or_insert(Slot { uses, object: None });
        if entry.object.is_some() {
            // Another one was quicker: the caller may try again.
            return Err(Errno::ENOSPC);
        }
        entry.uses = uses;
        entry.object = Some(object);
        Ok(id_of(slot, uses))
    }

    fn free_slot(&self) -> Result<(i32, i32)> {
        let mut table = self.table.lock();
        let used = table.slots.values().filter(|s| s.object.is_some()).count();
        if used >= self.most {
            return Err(Errno::ENOSPC);
        }
        let end = (used * 3 / 2).max(CYCLE).min(SLOTS as usize) as i32;
        let free = |i: &i32| table.slots.get(i).is_none_or(|s| s.object.is_none());
        let begin = table.last.map_or(0, |last| last + 1);
        let slot = (begin..end).find(free).or_else(|| (0..begin).find(free));
        let slot = slot.ok_or(Errno::ENOSPC)?;
        if table.last.is_some_and(|last| slot <= last) {
            table.rounds = (table.rounds + 1) % USES;
        }
        table.last = Some(slot);
        Ok((slot, table.rounds))
    }

    /// The object with this id: EINVAL, or EIDRM when its slot has another use now.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        if id < 0 {
            return Err(Errno::EINVAL);
        }
        self.sweep();
        let table = self.table.lock();
        let slot = table.slots.get(&(id % SLOTS)).ok_or(Errno::EINVAL)?;
        match &slot.object {
            Some(object) if slot.uses == id / SLOTS => Ok(object.clone()),
            Some(_) => Err(Errno::EIDRM),
            None => Err(Errno::EINVAL),
        }
    }

    /// The object in a slot, with its id (the STAT commands of ipcs).
    pub fn at_slot(&self, slot: i32) -> Result<(i32, Arc<T>)> {
        self.sweep();
        let table = self.table.lock();
        let slot_in = table.slots.get(&slot).ok_or(Errno::EINVAL)?;
        let object = slot_in.object.clone().ok_or(Errno::EINVAL)?;
        Ok((id_of(slot, slot_in.uses), object))
    }

    /// Takes an object out.
    pub fn remove(&self, id: i32) {
        let gone = {
            let mut table = self.table.lock();
            let there = table.slots.get(&(id % SLOTS)).is_some_and(|s| s.uses == id / SLOTS);
            there.then(|| table.slots.remove(&(id % SLOTS)))
        };
        drop(gone);
    }

    /// All objects, one after the other: those that are there when their turn comes.
    pub fn all(&self) -> impl Iterator<Item = Arc<T>> {
        self.with_ids().map(|(_, object)| object)
    }

    /// The same, each with its id.
    pub fn with_ids(&self) -> impl Iterator<Item = (i32, Arc<T>)> {
        self.sweep();
        let mut next = 0;
        core::iter::from_fn(move || {
            let table = self.table.lock();
            let mut rest = table.slots.range(next..);
            let (slot, id, object) =
                rest.find_map(|(&at, s)| Some((at, id_of(at, s.uses), s.object.clone()?)))?;
            next = slot + 1;
            Some((id, object))
        })
    }

    /// The highest slot in use (what the INFO commands return).
    pub fn highest(&self) -> i32 {
        self.sweep();
        let table = self.table.lock();
        table.slots.iter().rev().find(|(_, s)| s.object.is_some()).map_or(0, |(&slot, _)| slot)
    }
}

/// Wall-clock seconds, for the times that objects keep.
fn now() -> i64 {
    (crate::time::clock::wall() / 1_000_000_000) as i64
}

/// Writes a structure made of words.
fn write_words(at: VirtAddr, words: &[u64]) -> Result<()> {
    hal::user::copy_to(at, hal::user::slice_bytes(words))
}
