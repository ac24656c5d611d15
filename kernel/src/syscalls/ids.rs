//! Process groups and sessions.

use super::Ctx;
use crate::task::{Process, table};
use abi::{Errno, Result};
use alloc::sync::Arc;

crate::syscalls! {
    109 setpgid(pid: i32, pgid: i32) => setpgid;
    111 getpgrp() => getpgrp;
    112 setsid() => setsid;
    121 getpgid(pid: i32) => getpgid;
    124 getsid(pid: i32) => getsid;
}

fn find(c: &Ctx<'_>, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 {
        return Ok(c.task.process.clone());
    }
    table::process(pid).or_else(|| table::task(pid).map(|t| t.process.clone())).ok_or(Errno::ESRCH)
}

fn setpgid(c: &mut Ctx<'_>, pid: i32, pgid: i32) -> Result<()> {
    let own = &c.task.process;
    let pid = if pid == 0 { own.pid } else { pid };
    let pgid = if pgid == 0 { pid } else { pgid };
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let _tree = table::TREE.lock();
    let Some(process) = table::process(pid) else {
        let is_thread = table::task(pid).is_some();
        return Err(if is_thread { Errno::EINVAL } else { Errno::ESRCH });
    };
    let sid = own.place.lock().sid;
    let (theirs, has_execed, parent) = {
        let place = process.place.lock();
        (place.sid, place.has_execed, place.parent.upgrade())
    };
    if parent.is_some_and(|p| Arc::ptr_eq(&p, own)) {
        if theirs != sid {
            return Err(Errno::EPERM);
        }
        if has_execed {
            return Err(Errno::EACCES);
        }
    } else if !Arc::ptr_eq(&process, own) {
        return Err(Errno::ESRCH);
    }
    if theirs == process.pid {
        return Err(Errno::EPERM);
    }
    if pgid != process.pid {
        let there = table::group(pgid).any(|p| p.place.lock().sid == sid);
        if !there {
            return Err(Errno::EPERM);
        }
    }
    table::join_group(&process, pgid);
    Ok(())
}

fn getpgrp(c: &mut Ctx<'_>) -> Result<i32> {
    Ok(c.task.process.place.lock().pgid)
}

fn getpgid(c: &mut Ctx<'_>, pid: i32) -> Result<i32> {
    Ok(find(c, pid)?.place.lock().pgid)
}

fn getsid(c: &mut Ctx<'_>, pid: i32) -> Result<i32> {
    Ok(find(c, pid)?.place.lock().sid)
}

fn setsid(c: &mut Ctx<'_>) -> Result<i32> {
    let process = &c.task.process;
    let _tree = table::TREE.lock();
    let pid = process.pid;
    // Whoever leads a group, or shares its id with one, could take others along.
    if process.place.lock().sid == pid || table::group(pid).next().is_some() {
        return Err(Errno::EPERM);
    }
    process.place.lock().sid = pid;
    table::join_group(process, pid);
    Ok(pid)
}
