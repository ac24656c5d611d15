//! User and group ids, capabilities.

use super::Ctx;
use crate::creds_calls as calls;
use crate::task::{Task, TaskRef, table};
use abi::{Errno, Result};
use frames::fallible::arc_slice;
use fs::Cap;
use hal::VirtAddr;

crate::syscalls! {
    102 getuid() => getuid;
    104 getgid() => getgid;
    105 setuid(uid: u32) => setuid;
    106 setgid(gid: u32) => setgid;
    107 geteuid() => geteuid;
    108 getegid() => getegid;
    113 setreuid(real: u32, effective: u32) => setreuid;
    114 setregid(real: u32, effective: u32) => setregid;
    115 getgroups(size: i32, list: VirtAddr) => getgroups;
    116 setgroups(size: i32, list: VirtAddr) => setgroups;
    117 setresuid(real: u32, effective: u32, saved: u32) => setresuid;
    118 getresuid(real: VirtAddr, effective: VirtAddr, saved: VirtAddr) => getresuid;
    119 setresgid(real: u32, effective: u32, saved: u32) => setresgid;
    120 getresgid(real: VirtAddr, effective: VirtAddr, saved: VirtAddr) => getresgid;
    122 setfsuid(uid: u32) => setfsuid;
    123 setfsgid(gid: u32) => setfsgid;
    125 capget(header: VirtAddr, data: VirtAddr) => capget;
    126 capset(header: VirtAddr, data: VirtAddr) => capset;
}

/// Supplementary groups that a task may have (NGROUPS_MAX).
const MAX_GROUPS: i32 = 65536;

fn getuid(c: &mut Ctx<'_>) -> Result<u32> {
    Ok(c.task.creds.lock().uid)
}

fn getgid(c: &mut Ctx<'_>) -> Result<u32> {
    Ok(c.task.creds.lock().gid)
}

fn geteuid(c: &mut Ctx<'_>) -> Result<u32> {
    Ok(c.task.creds.lock().euid)
}

fn getegid(c: &mut Ctx<'_>) -> Result<u32> {
    Ok(c.task.creds.lock().egid)
}

fn setuid(_: &mut Ctx<'_>, uid: u32) -> Result<()> {
    calls::set_uid(uid)
}

fn setgid(_: &mut Ctx<'_>, gid: u32) -> Result<()> {
    calls::set_gid(gid)
}

fn setreuid(_: &mut Ctx<'_>, real: u32, effective: u32) -> Result<()> {
    calls::set_reuid(real, effective)
}

fn setregid(_: &mut Ctx<'_>, real: u32, effective: u32) -> Result<()> {
    calls::set_regid(real, effective)
}

fn setresuid(_: &mut Ctx<'_>, real: u32, effective: u32, saved: u32) -> Result<()> {
    calls::set_resuid([real, effective, saved])
}

fn setresgid(_: &mut Ctx<'_>, real: u32, effective: u32, saved: u32) -> Result<()> {
    calls::set_resgid([real, effective, saved])
}

fn setfsuid(_: &mut Ctx<'_>, uid: u32) -> Result<u32> {
    Ok(calls::set_fsuid(uid))
}

fn setfsgid(_: &mut Ctx<'_>, gid: u32) -> Result<u32> {
    Ok(calls::set_fsgid(gid))
}

fn getresuid(c: &mut Ctx<'_>, real: VirtAddr, effective: VirtAddr, saved: VirtAddr) -> Result<()> {
    let creds = c.task.credentials();
    hal::user::write(real, &creds.uid)?;
    hal::user::write(effective, &creds.euid)?;
    hal::user::write(saved, &creds.suid)
}

fn getresgid(c: &mut Ctx<'_>, real: VirtAddr, effective: VirtAddr, saved: VirtAddr) -> Result<()> {
    let creds = c.task.credentials();
    hal::user::write(real, &creds.gid)?;
    hal::user::write(effective, &creds.egid)?;
    hal::user::write(saved, &creds.sgid)
}

fn getgroups(c: &mut Ctx<'_>, size: i32, list: VirtAddr) -> Result<usize> {
    let creds = c.task.credentials();
    let count = creds.groups().len();
    let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if count > room {
            return Err(Errno::EINVAL);
        }
        hal::user::copy_to(list, hal::user::slice_bytes(creds.groups()))?;
    }
    Ok(count)
}

fn setgroups(c: &mut Ctx<'_>, size: i32, list: VirtAddr) -> Result<()> {
    if !c.task.creds.lock().has(Cap::Setgid as u32) {
        return Err(Errno::EPERM);
    }
    if !(0..=MAX_GROUPS).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let mut groups: alloc::vec::Vec<u32> = hal::user::read_vec(list, size as usize)?;
    if groups.contains(&u32::MAX) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    let mut new = calls::copy();
    new.groups = if groups.is_empty() { None } else { Some(arc_slice(&groups)?) };
    calls::commit(new);
    Ok(())
}

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// The header's version as a number of 32-bit halves, and its process. EINVAL for a version that is
/// not known: then the header says which one is.
fn read_header(at: VirtAddr) -> Result<(usize, i32)> {
    let [version, pid]: [u32; 2] = hal::user::read(at)?;
    let halves = match version {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            hal::user::write(at, &VERSION_3)?;
            return Err(Errno::EINVAL);
        }
    };
    Ok((halves, pid as i32))
}

fn capget(c: &mut Ctx<'_>, header: VirtAddr, data: VirtAddr) -> Result<()> {
    let (halves, pid) = match read_header(header) {
        // Asking for the version is no mistake.
        Err(Errno::EINVAL) if data.raw() == 0 => return Ok(()),
        other => other?,
    };
    if data.raw() == 0 {
        return Ok(());
    }
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let target: Option<TaskRef> =
        if pid == 0 { None } else { Some(table::task(pid).ok_or(Errno::ESRCH)?) };
    let task: &Task = target.as_deref().unwrap_or(&c.task);
    let creds = task.credentials();
    let sets = [creds.cap_effective, creds.cap_permitted, creds.cap_inheritable];
    for half in 0..halves {
        let words = sets.map(|set| (set >> (32 * half)) as u32);
        hal::user::write(data + half as u64 * 12, &words)?;
    }
    Ok(())
}

fn capset(c: &mut Ctx<'_>, header: VirtAddr, data: VirtAddr) -> Result<()> {
    let (halves, pid) = read_header(header)?;
    if pid != 0 && pid != c.task.tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for half in 0..halves {
        let words: [u32; 3] = hal::user::read(data + half as u64 * 12)?;
        for (set, word) in sets.iter_mut().zip(words) {
            *set |= u64::from(word) << (32 * half);
        }
    }
    let [effective, permitted, inheritable] = sets;
    calls::set_caps(effective, permitted, inheritable)
}
