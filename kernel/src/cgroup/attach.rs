//! Moving tasks from group to group.

use super::files::Write;
use super::numbers::integer;
use super::{Groups, cpuset, groups, note_change};
use crate::task::{TaskRef, current, table};
use abi::{Errno, Result};
use alloc::vec::Vec;
use cgroup::{Cpuset, Id};
use core::sync::atomic::Ordering::Relaxed;
use frames::fallible::TryVec;
use fs::Creds;
use fs::creds::Access;

/// Whoever moves tasks may write to cgroup.procs of the nearest group that is above both. EACCES.
pub fn may_move(groups: &Groups, creds: &Creds, from: Id, to: Id) -> Result<()> {
    let common = groups.common_ancestor(from, to);
    let procs = groups.group(common)?.data.dir.procs()?;
    creds.check(&procs.base, Access::WRITE)
}

/// A write to cgroup.procs (`whole`) or cgroup.threads. EINVAL for what is no id, ESRCH.
pub fn write(write: &Write<'_>, text: &str, whole: bool) -> Result<()> {
    let id = integer(text).map_err(|_| Errno::EINVAL)?;
    let task = match id {
        ..0 => return Err(Errno::EINVAL),
        0 => current().handle(),
        _ => match table::task(id) {
            Some(task) => task,
            // A zombie is where it was, and stays there.
            None => return table::process(id).map(|_| ()).ok_or(Errno::ESRCH),
        },
    };
    move_tasks(&task, write.group, write.creds, whole)
}

/// A thread that was moved, and its cpuset before.
type Moved = (TaskRef, Option<Cpuset>);

fn move_tasks(task: &TaskRef, to: Id, creds: &Creds, whole: bool) -> Result<()> {
    let (moved, cpuset, old) = {
        let _tree = table::TREE.lock();
        let mut groups = groups();
        let from = task.cgroup.load(Relaxed);
        may_move(&groups, creds, from, to)?;
        groups.vet_move(from, to, whole)?;
        let threads = if whole { task.process.place.lock().threads.len() } else { 1 };
        let mut moved: Vec<Moved> = Vec::with_room(threads)?;
        let old = groups.cpuset_of(from).old_mems;
        // Whoever joins from here on may have been copied before.
        note_change();
        if whole {
            for thread in task.process.threads().take(threads) {
                let before = move_one(&mut groups, &thread, to);
                moved.push((thread, before));
            }
        } else if task.process.place.lock().threads.get(task.tid()).is_some() {
            let before = move_one(&mut groups, task, to);
            moved.push((task.clone(), before));
        }
        (moved, groups.cpuset_of(to), old)
    };
    let mut other = false;
    for (thread, before) in &moved {
        let Some(before) = before else { continue };
        let same = before.effective_cpus == cpuset.effective_cpus
            && before.effective_mems == cpuset.effective_mems;
        if !same {
            cpuset::adopt_task(thread, &cpuset);
            other |= thread.is_leader();
        }
    }
    if other {
        cpuset::adopt_memory(&task.process, &cpuset, old);
    }
    Ok(())
}

/// Moves a task; its cpuset before, if it was another one's.
fn move_one(groups: &mut Groups, task: &TaskRef, to: Id) -> Option<Cpuset> {
    let from = task.cgroup.load(Relaxed);
    if from == to {
        return None;
    }
    super::freeze::leaves(groups, task);
    // Groups above both notice nothing.
    groups.enter(to);
    groups.leave(from);
    groups.count_pid(to);
    groups.uncount_pid(from);
    task.cgroup.store(to, Relaxed);
    super::freeze::has_come(groups, task);
    (groups.cpuset_group(from) != groups.cpuset_group(to)).then(|| groups.cpuset_of(from))
}
