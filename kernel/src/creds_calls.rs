//! Changes of credentials: what setuid(2) and its kin, capset(2) and exec do to them.

use crate::creds::ALL_CAPS;
use crate::signal::user::User;
use crate::task::{Creds, current, table};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use fs::{Cap, File};

/// Bits of `securebits` (capabilities(7)).
pub mod secure {
    pub const NOROOT: u32 = 1;
    pub const NO_SETUID_FIXUP: u32 = 1 << 2;
    pub const KEEP_CAPS: u32 = 1 << 4;
    pub const KEEP_CAPS_LOCKED: u32 = 1 << 5;
    pub const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    /// All bits, and those that lock their lower neighbours.
    pub const ALL: u32 = 0xff;
    pub const LOCKS: u32 = 0xaa;
}

/// CAP_SETPCAP.
pub const SETPCAP: u32 = 8;

/// Capabilities that go with the user id for file access: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH,
/// FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
const FILE_CAPS: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

/// Makes `new` the running task's credentials, with what goes with a change: the file layer's view,
/// who may look into the process, its owner as others see it.
pub fn commit(mut new: Creds) {
    let task = current();
    let old = task.credentials();
    new.refresh();
    let user_changed = old.euid != new.euid
        || old.egid != new.egid
        || old.fsuid != new.fsuid
        || old.fsgid != new.fsgid
        || new.cap_permitted & !old.cap_permitted != 0;
    if user_changed {
        task.process.dumpable.store(0, Ordering::Relaxed);
        task.parent_death_signal.store(0, Ordering::Relaxed);
    }
    if task.is_leader() {
        task.process.uid.store(new.uid, Ordering::Relaxed);
    }
    let new = Arc::new(new);
    let before = core::mem::replace(&mut *task.creds.lock(), new);
    task.creds_id.store(crate::creds::new_id(), Ordering::Relaxed);
    drop(before);
}

/// A copy of the running task's credentials, to be changed and committed.
pub fn copy() -> Creds {
    (*current().credentials()).clone()
}

/// What a change of user ids does to capabilities (capabilities(7), "Effect of user ID changes").
fn follow_user(old: &Creds, new: &mut Creds) {
    if new.securebits & secure::NO_SETUID_FIXUP != 0 {
        return;
    }
    let was_root = [old.uid, old.euid, old.suid].contains(&0);
    let is_root = [new.uid, new.euid, new.suid].contains(&0);
    if was_root && !is_root {
        if new.securebits & secure::KEEP_CAPS == 0 {
            new.cap_permitted = 0;
            new.cap_effective = 0;
        }
        new.cap_ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.cap_effective = 0;
    } else if old.euid != 0 && new.euid == 0 {
        new.cap_effective = new.cap_permitted;
    }
    follow_file_user(old, new);
}

/// As [`follow_user`], for the user id for file access alone.
fn follow_file_user(old: &Creds, new: &mut Creds) {
    if new.securebits & secure::NO_SETUID_FIXUP != 0 || old.euid != new.euid {
        return;
    }
    if old.fsuid == 0 && new.fsuid != 0 {
        new.cap_effective &= !FILE_CAPS;
    } else if old.fsuid != 0 && new.fsuid == 0 {
        new.cap_effective |= new.cap_permitted & FILE_CAPS;
    }
}

fn may_set_user(creds: &Creds) -> bool {
    creds.has(Cap::Setuid as u32)
}

fn may_set_group(creds: &Creds) -> bool {
    creds.has(Cap::Setgid as u32)
}

/// -1 leaves an id as it is.
const KEEP: u32 = u32::MAX;

/// As [`commit`], after a change of user ids. EAGAIN without memory, as on Linux.
fn commit_user(old: &Creds, mut new: Creds) -> Result<()> {
    if old.uid != new.uid {
        new.user = User::of(new.uid).map_err(|_| Errno::EAGAIN)?;
    }
    crate::limits::note_new_user(new.uid);
    follow_user(old, &mut new);
    commit(new);
    Ok(())
}

/// setuid(2).
pub fn set_uid(uid: u32) -> Result<()> {
    if uid == KEEP {
        return Err(Errno::EINVAL);
    }
    let old = current().credentials();
    let mut new = copy();
    if may_set_user(&old) {
        new.uid = uid;
        new.suid = uid;
    } else if uid != old.uid && uid != old.suid {
        return Err(Errno::EPERM);
    }
    new.euid = uid;
    new.fsuid = uid;
    commit_user(&old, new)
}

/// setreuid(2).
pub fn set_reuid(real: u32, effective: u32) -> Result<()> {
    let old = current().credentials();
    let mut new = copy();
    let may = may_set_user(&old);
    if real != KEEP {
        if real != old.uid && real != old.euid && !may {
            return Err(Errno::EPERM);
        }
        new.uid = real;
    }
    if effective != KEEP {
        if ![old.uid, old.euid, old.suid].contains(&effective) && !may {
            return Err(Errno::EPERM);
        }
        new.euid = effective;
    }
    if real != KEEP || effective != KEEP && effective != old.uid {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit_user(&old, new)
}

/// Returns whether setting `ids` over `present` ones changes nothing, the file system's included:
/// then the credentials stay the same ones.
fn unchanged(ids: [u32; 3], present: [u32; 3], file: u32) -> bool {
    let same = |(new, old): (&u32, &u32)| *new == KEEP || new == old;
    ids.iter().zip(&present).all(same) && same((&ids[1], &file))
}

/// setresuid(2).
pub fn set_resuid(ids: [u32; 3]) -> Result<()> {
    let old = current().credentials();
    let mut new = copy();
    let mine = [old.uid, old.euid, old.suid];
    if unchanged(ids, mine, old.fsuid) {
        return Ok(());
    }
    if ids.iter().any(|id| *id != KEEP && !mine.contains(id)) && !may_set_user(&old) {
        return Err(Errno::EPERM);
    }
    for (to, id) in [&mut new.uid, &mut new.euid, &mut new.suid].into_iter().zip(ids) {
        if id != KEEP {
            *to = id;
        }
    }
    new.fsuid = new.euid;
    commit_user(&old, new)
}

/// setfsuid(2): the former id, whatever happens.
pub fn set_fsuid(uid: u32) -> u32 {
    let old = current().credentials();
    let may = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid) || may_set_user(&old);
    if uid != KEEP && uid != old.fsuid && may {
        let mut new = copy();
        new.fsuid = uid;
        follow_file_user(&old, &mut new);
        commit(new);
    }
    old.fsuid
}

/// setgid(2).
pub fn set_gid(gid: u32) -> Result<()> {
    if gid == KEEP {
        return Err(Errno::EINVAL);
    }
    let old = current().credentials();
    let mut new = copy();
    if may_set_group(&old) {
        new.gid = gid;
        new.sgid = gid;
    } else if gid != old.gid && gid != old.sgid {
        return Err(Errno::EPERM);
    }
    new.egid = gid;
    new.fsgid = gid;
    commit(new);
    Ok(())
}

/// setregid(2).
pub fn set_regid(real: u32, effective: u32) -> Result<()> {
    let old = current().credentials();
    let mut new = copy();
    let may = may_set_group(&old);
    if real != KEEP {
        if real != old.gid && real != old.egid && !may {
            return Err(Errno::EPERM);
        }
        new.gid = real;
    }
    if effective != KEEP {
        if ![old.gid, old.egid, old.sgid].contains(&effective) && !may {
            return Err(Errno::EPERM);
        }
        new.egid = effective;
    }
    if real != KEEP || effective != KEEP && effective != old.gid {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(new);
    Ok(())
}

/// setresgid(2).
pub fn set_resgid(ids: [u32; 3]) -> Result<()> {
    let old = current().credentials();
    let mut new = copy();
    let mine = [old.gid, old.egid, old.sgid];
    if unchanged(ids, mine, old.fsgid) {
        return Ok(());
    }
    if ids.iter().any(|id| *id != KEEP && !mine.contains(id)) && !may_set_group(&old) {
        return Err(Errno::EPERM);
    }
    for (to, id) in [&mut new.gid, &mut new.egid, &mut new.sgid].into_iter().zip(ids) {
        if id != KEEP {
            *to = id;
        }
    }
    new.fsgid = new.egid;
    commit(new);
    Ok(())
}

/// setfsgid(2): the former id, whatever happens.
pub fn set_fsgid(gid: u32) -> u32 {
    let old = current().credentials();
    let may = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid) || may_set_group(&old);
    if gid != KEEP && gid != old.fsgid && may {
        let mut new = copy();
        new.fsgid = gid;
        commit(new);
    }
    old.fsgid
}

/// Sets the three sets that capset(2) sets. EPERM.
pub fn set_caps(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let old = current().credentials();
    let [effective, permitted, inheritable] =
        [effective, permitted, inheritable].map(|c| c & ALL_CAPS);
    let unbounded = inheritable & !(old.cap_inheritable | old.cap_permitted) != 0;
    if unbounded && !old.has(SETPCAP)
        || inheritable & !(old.cap_inheritable | old.cap_bounding) != 0
        || permitted & !old.cap_permitted != 0
        || effective & !permitted != 0
    {
        return Err(Errno::EPERM);
    }
    let mut new = copy();
    new.cap_effective = effective;
    new.cap_permitted = permitted;
    new.cap_inheritable = inheritable;
    new.cap_ambient &= permitted & inheritable;
    commit(new);
    Ok(())
}

/// execve(2) of `file`: set-user-id bits, and what they do to capabilities. True when the program
/// runs with more than its caller had (AT_SECURE). What the caller may not read, or what runs as
/// another user, is nobody's to look into.
pub fn on_exec(file: &Arc<File>, readable: bool) -> bool {
    let old = current().credentials();
    let mut new = copy();
    let meta = file.metadata();
    let mode = meta.mode;
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2000;
    const GROUP_EXEC: u32 = 0o010;
    if !old.no_new_privs && !file.path().is_some_and(|p| p.mount.nosuid()) {
        if mode & SET_UID != 0 {
            new.euid = meta.uid;
        }
        if mode & (SET_GID | GROUP_EXEC) == SET_GID | GROUP_EXEC {
            new.egid = meta.gid;
        }
    }
    let set_id = new.euid != old.euid || new.egid != old.egid;
    if set_id {
        new.cap_ambient = 0;
    }
    let root_rules = new.securebits & secure::NOROOT == 0;
    if root_rules && (new.euid == 0 || new.uid == 0) {
        new.cap_permitted = new.cap_inheritable | new.cap_bounding;
    } else {
        new.cap_permitted = 0;
    }
    let as_root = root_rules && new.euid == 0;
    let raised = set_id || new.cap_permitted & !old.cap_permitted != 0;
    if raised
        && (old.no_new_privs || crate::ptrace::links::keeps_from_gaining() || shares_directories())
    {
        // It promised to gain nothing, its tracer would gain it, too, or somebody else could still
        // move the program's directories under it.
        if old.no_new_privs || !old.has(Cap::Setuid as u32) {
            new.euid = new.uid;
            new.egid = new.gid;
        }
        new.cap_permitted &= old.cap_permitted;
    }
    new.suid = new.euid;
    new.sgid = new.egid;
    new.fsuid = new.euid;
    new.fsgid = new.egid;
    new.cap_permitted |= new.cap_ambient;
    new.cap_effective = if as_root { new.cap_permitted } else { new.cap_ambient };
    new.securebits &= !secure::KEEP_CAPS;
    let secure = new.uid != new.euid
        || new.gid != new.egid
        || set_id
        || root_rules && new.uid != 0 && new.cap_permitted & !new.cap_ambient != 0;
    // As on Linux the ids before the exec are looked at; a change of them then counts by itself.
    let open = readable && old.uid == old.euid && old.gid == old.egid;
    current().process.dumpable.store(i32::from(open), Ordering::Relaxed);
    commit(new);
    secure
}

/// Returns whether another process shares the running one's directories (CLONE_FS). Its other
/// threads are gone.
fn shares_directories() -> bool {
    let task = current();
    let own = task.fs.lock().clone();
    // Nobody comes or goes meanwhile.
    let _tree = table::TREE.lock();
    table::processes()
        .filter(|process| !Arc::ptr_eq(process, &task.process))
        .any(|process| process.threads().any(|thread| Arc::ptr_eq(&thread.fs.lock(), &own)))
}
