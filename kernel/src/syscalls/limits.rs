//! Resource limits.

use super::Ctx;
use crate::creds;
use crate::task::process::{LIMITS, Rlimit, limit};
use crate::task::{Process, table};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use fs::Cap;
use hal::VirtAddr;

crate::syscalls! {
    97 getrlimit(which: u32, at: VirtAddr) => getrlimit;
    160 setrlimit(which: u32, at: VirtAddr) => setrlimit;
    302 prlimit64(pid: i32, which: u32, new: VirtAddr, old: VirtAddr) => prlimit64;
}

/// Descriptors that RLIMIT_NOFILE may allow (fs.nr_open).
const MAX_FILES: u64 = 1 << 20;

fn index(which: u32) -> Result<usize> {
    Some(which as usize).filter(|&i| i < LIMITS).ok_or(Errno::EINVAL)
}

/// Sets one limit of `process`: the former one. EINVAL, EPERM.
fn set(process: &Arc<Process>, which: usize, new: Rlimit) -> Result<Rlimit> {
    if new.0 > new.1 {
        return Err(Errno::EINVAL);
    }
    if which == limit::NOFILE && new.1 > MAX_FILES {
        return Err(Errno::EPERM);
    }
    let may_raise = creds::capable(Cap::SysResource);
    let old = {
        let mut limits = process.limits.lock();
        let old = limits[which];
        if new.1 > old.1 && !may_raise {
            return Err(Errno::EPERM);
        }
        limits[which] = new;
        old
    };
    apply(process, which, new);
    Ok(old)
}

/// Tells those who keep a copy.
fn apply(process: &Arc<Process>, which: usize, (soft, hard): Rlimit) {
    if which == limit::CPU {
        return crate::time::itimer::limit_cpu(process, soft);
    }
    let Some(mm) = process.mm.lock().clone() else { return };
    let cell = match which {
        limit::STACK => &mm.limits.stack,
        limit::AS => &mm.limits.address_space,
        limit::DATA => {
            mm.limits.data_hard.store(hard, Ordering::Relaxed);
            &mm.limits.data
        }
        limit::MEMLOCK => &mm.limits.locked,
        _ => return,
    };
    cell.store(soft, Ordering::Relaxed);
}

fn getrlimit(c: &mut Ctx<'_>, which: u32, at: VirtAddr) -> Result<()> {
    let (soft, hard) = c.task.process.limits.lock()[index(which)?];
    hal::user::write(at, &[soft, hard])
}

fn setrlimit(c: &mut Ctx<'_>, which: u32, at: VirtAddr) -> Result<()> {
    let [soft, hard]: [u64; 2] = hal::user::read(at)?;
    set(&c.task.process, index(which)?, (soft, hard)).map(|_| ())
}

/// May the running task look at or set the limits of another process? It must be the same user in
/// every way, or have CAP_SYS_RESOURCE.
fn permitted(c: &Ctx<'_>, process: &Arc<Process>) -> Result<()> {
    if Arc::ptr_eq(process, &c.task.process) {
        return Ok(());
    }
    let own = c.task.credentials();
    let first = process.place.lock().threads.first().cloned().ok_or(Errno::ESRCH)?;
    let other = first.credentials();
    let same = [other.uid, other.euid, other.suid].iter().all(|&id| id == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|&id| id == own.gid);
    if same || own.has(Cap::SysResource as u32) { Ok(()) } else { Err(Errno::EPERM) }
}

fn prlimit64(c: &mut Ctx<'_>, pid: i32, which: u32, new: VirtAddr, old: VirtAddr) -> Result<()> {
    let which = index(which);
    let new: Option<[u64; 2]> = if new.raw() == 0 { None } else { Some(hal::user::read(new)?) };
    let process = match pid {
        0 => c.task.process.clone(),
        pid => table::task(pid).map(|t| t.process.clone()).ok_or(Errno::ESRCH)?,
    };
    permitted(c, &process)?;
    let which = which?;
    let before = match new {
        Some([soft, hard]) => set(&process, which, (soft, hard))?,
        None => process.limits.lock()[which],
    };
    if old.raw() != 0 {
        hal::user::write(old, &[before.0, before.1])?;
    }
    Ok(())
}
