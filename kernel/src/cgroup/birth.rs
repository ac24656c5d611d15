//! New tasks: in their maker's group, or in another one (CLONE_INTO_CGROUP).

use super::dir::GroupDir;
use super::{SEQUENCE, attach, cpuset, groups};
use crate::task::{TaskRef, current};
use abi::{Errno, Result};
use cgroup::{Id, ROOT};
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use fs::{Creds, File};

/// A task that is about to be made counts in its group; if it is not made, it does not.
pub struct Birth {
    /// The group that counts it.
    counted: Id,
    /// Where it was asked to go.
    into: Option<Id>,
    /// What had changed when it was begun.
    seen: u64,
    joined: bool,
}

impl Birth {
    /// Begins one. EAGAIN when the group has as many tasks as it may have.
    pub fn begin(into: Option<Id>) -> Result<Self> {
        let seen = SEQUENCE.load(Acquire);
        let counted = into.unwrap_or_else(|| current().cgroup.load(Relaxed));
        if counted != ROOT {
            let mut groups = groups();
            groups
                .charge_pid(counted)
                .inspect_err(|_| super::end::tell_refused(&groups, counted))?;
            // A removed group is still there to give its count back.
            groups.hold(counted);
        }
        Ok(Self { counted, into, seen, joined: false })
    }

    /// The child joins its group. `table::TREE` is locked. ENODEV when the group was removed, EBUSY
    /// when it takes no processes any more.
    pub fn join(&mut self, child: &TaskRef) -> Result<()> {
        let parent = current().cgroup.load(Relaxed);
        let to = self.into.unwrap_or(parent);
        if to != ROOT || self.counted != ROOT {
            let mut groups = groups();
            if self.into.is_some() {
                groups.vet_move(parent, to, child.is_leader())?;
            }
            if to != self.counted {
                // The maker has moved meanwhile.
                groups.count_pid(to);
                groups.hold(to);
                groups.uncount_pid(self.counted);
                groups.release(self.counted);
                self.counted = to;
            }
            groups.enter(to);
            if groups.is_freezing(to) {
                child.signals.ask(crate::signal::attention::FREEZE);
            }
        }
        child.cgroup.store(to, Relaxed);
        self.joined = true;
        Ok(())
    }

    /// Makes up for what has changed since the child was copied from its maker, or is different in
    /// the group that it was asked to go to.
    pub fn settle(&self, child: &TaskRef) {
        let changed = SEQUENCE.load(Acquire) != self.seen;
        if !changed && self.into.is_none() {
            return;
        }
        let cpuset = groups().cpuset_of(child.cgroup.load(Relaxed));
        let from = child.numa.lock().allowed;
        cpuset::adopt_task(child, &cpuset);
        if changed && child.is_leader() {
            cpuset::adopt_memory(&child.process, &cpuset, from);
        }
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        if self.counted == ROOT {
            return;
        }
        let mut groups = groups();
        if !self.joined {
            groups.uncount_pid(self.counted);
        }
        groups.release(self.counted);
    }
}

/// The group whose directory a file was opened on, if the running task may put a new task there.
/// EBADF for any other file, ENOENT when it was removed, EACCES.
pub fn target(file: &File, creds: &Creds) -> Result<Id> {
    let inode: alloc::sync::Arc<dyn core::any::Any + Send + Sync> = file.inode().clone();
    let dir = inode.downcast::<GroupDir>().map_err(|_| Errno::EBADF)?;
    let groups = groups();
    groups.group(dir.id).map_err(|_| Errno::ENOENT)?;
    creds.check(&dir.procs()?.base, fs::creds::Access::WRITE)?;
    attach::may_move(&groups, creds, current().cgroup.load(Relaxed), dir.id)?;
    Ok(dir.id)
}
