//! Tasks that end: they leave their group at once, but count in it until they are reaped.

use super::{Groups, groups};
use crate::task::{Process, TaskRef};
use cgroup::{Id, ROOT};
use core::sync::atomic::Ordering::Relaxed;

/// The running thread leaves its process, and its group. `table::TREE` is locked.
pub fn leave(task: &TaskRef) {
    let id = task.cgroup.load(Relaxed);
    if id == ROOT {
        return;
    }
    let mut groups = groups();
    groups.leave(id);
    if task.is_leader() {
        groups.hold(id);
        task.process.cgroup_at_end.store(id, Relaxed);
    } else {
        groups.uncount_pid(id);
    }
}

/// The first thread of a process is gone for good: it was reaped, or exec replaces it.
pub fn forget_leader(process: &Process) {
    let id = process.cgroup_at_end.swap(ROOT, Relaxed);
    if id != ROOT {
        let mut groups = groups();
        groups.uncount_pid(id);
        groups.release(id);
    }
}

/// Tells those who wait for pids.events, in the group and above it.
pub fn tell_refused(groups: &Groups, id: Id) {
    for at in core::iter::once(id).chain(groups.ancestors(id)) {
        if let Ok(group) = groups.group(at) {
            group.data.dir.pids_events.tell();
        }
    }
}
