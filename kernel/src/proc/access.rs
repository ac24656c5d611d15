//! Who may look into a process: ptrace(2)'s rule, as its manual page gives it, without the parts
//! about security modules.

use crate::task::{Creds, Process, current};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;

/// EACCES unless the running task may read what `process` keeps to itself. The ids that count are
/// those for file access.
pub fn check(process: &Process) -> Result<()> {
    if may(process) { Ok(()) } else { Err(Errno::EACCES) }
}

/// The same as a question.
pub fn may(process: &Process) -> bool {
    let task = current();
    if core::ptr::eq(&*task.process, process) {
        return true;
    }
    let own = task.credentials();
    if own.has(fs::Cap::SysPtrace as u32) {
        return true;
    }
    let Some(other) = super::pid::creds_of(process) else { return false };
    process.dumpable.load(Ordering::Relaxed) == 1 && same_user(&own, &other)
}

/// The caller is all that the other is, and has all of its capabilities.
fn same_user(own: &Creds, other: &Creds) -> bool {
    [other.uid, other.euid, other.suid].iter().all(|&u| u == own.fsuid)
        && [other.gid, other.egid, other.sgid].iter().all(|&g| g == own.fsgid)
        && own.cap_effective & other.cap_permitted == other.cap_permitted
}
