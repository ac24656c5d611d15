//! Who may look into another process: the access check of ptrace(2), which move_pages(2),
//! process_vm_readv(2), pidfd_getfd(2), perf_event_open(2), /proc/PID and others share.
//!
//! The kernel asks nowhere else. No security module is there to refuse more.

use crate::creds::SYS_NICE;
use crate::proc::creds_of;
use crate::task::{Creds, Process, Task, current};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;

/// What a caller wants of a process, and which of its ids and capabilities count (`PTRACE_MODE_*`).
///
/// Reading and attaching have the same rule where no security module distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Looks only; ids for file access and effective capabilities: files of /proc.
    ReadFs,
    /// Looks only; real ids and permitted capabilities: system calls.
    ReadReal,
    /// May change the process; ids for file access: /proc/PID/mem.
    AttachFs,
    /// May change the process; real ids.
    AttachReal,
}

impl Mode {
    /// The caller's user, group and capabilities that count.
    fn identity(self, own: &Creds) -> (u32, u32, u64) {
        match self {
            Self::ReadFs | Self::AttachFs => (own.fsuid, own.fsgid, own.cap_effective),
            Self::ReadReal | Self::AttachReal => (own.uid, own.gid, own.cap_permitted),
        }
    }
}

/// Decides for two different processes. Whether one may be dumped outlives its memory.
fn allows(own: &Creds, other: &Creds, dumpable: bool, mode: Mode) -> bool {
    if own.has(fs::Cap::SysPtrace as u32) {
        return true;
    }
    let (uid, gid, caps) = mode.identity(own);
    [other.uid, other.euid, other.suid].iter().all(|&id| id == uid)
        && [other.gid, other.egid, other.sgid].iter().all(|&id| id == gid)
        && dumpable
        && other.cap_permitted & !caps == 0
}

fn is_dumpable(process: &Process) -> bool {
    process.dumpable.load(Ordering::Relaxed) == 1
}

/// Returns whether the running task may access `process`, for which its first thread stands.
pub fn may(process: &Process, mode: Mode) -> bool {
    let task = current();
    core::ptr::eq(&*task.process, process)
        || creds_of(process)
            .is_some_and(|other| allows(&task.credentials(), &other, is_dumpable(process), mode))
}

/// Refuses with EACCES what [`may`] does not allow, as files of /proc do.
pub fn check(process: &Process, mode: Mode) -> Result<()> {
    if may(process, mode) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Returns whether the running task may change how another is scheduled: it is of the same user and
/// has no capability that the caller has not, or the caller has CAP_SYS_NICE.
pub fn may_schedule(task: &Task) -> bool {
    let (own, other) = (current().credentials(), task.credentials());
    let same = own.euid == other.euid || own.euid == other.uid;
    let covers = other.cap_permitted & !own.cap_permitted == 0;
    own.has(SYS_NICE) || same && covers
}

/// Refuses with EPERM access to one thread, as system calls do.
pub fn check_task(task: &Task, mode: Mode) -> Result<()> {
    let own = current();
    let inside = core::ptr::eq(&*own.process, &*task.process);
    if inside || allows(&own.credentials(), &task.credentials(), is_dumpable(&task.process), mode) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
