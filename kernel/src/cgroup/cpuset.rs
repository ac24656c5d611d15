//! What a cpuset does to tasks: CPUs they may run on, nodes their memory comes from.

use super::{groups, note_change};
use crate::task::{Process, TaskRef, table};
use abi::Result;
use cgroup::{Change, Controller, Cpuset, Id, ROOT, Which};
use core::sync::atomic::Ordering::Relaxed;
use numa::policy::FarNodes;
use numa::{CpuMask, NodeMask};
use vm::Mm;

/// The CPUs that the cpuset of a task allows; None for all of them.
pub fn cpus_allowed(task: &TaskRef) -> Option<CpuMask> {
    let id = task.cgroup.load(Relaxed);
    (id != ROOT).then(|| groups().cpuset_of(id).effective_cpus)
}

/// Writes one half of a group's cpuset, and makes it true for all tasks in the group and below.
pub fn set(id: Id, which: Which) -> Result<()> {
    groups().set_cpuset(id, which)?;
    note_change();
    tell_tasks(false);
    groups().settle(id);
    Ok(())
}

/// A controller is about to be taken from the children of a group: what their cpusets wanted counts
/// no more.
pub fn before_change(id: Id, change: Change) -> Result<()> {
    if !change.disable.has(Controller::Cpuset) {
        return Ok(());
    }
    {
        let mut groups = groups();
        let mut next = groups.group(id)?.children().next();
        while let Some(child) = next {
            groups.clear_cpuset(child);
            next = groups.group(id)?.child_after(child);
        }
    }
    note_change();
    tell_tasks(true);
    groups().settle(id);
    Ok(())
}

/// Looks at every task: those whose cpuset has changed are told. `whole`: policies of areas follow
/// what is in effect, as when tasks move to another group; else what the group itself wants.
fn tell_tasks(whole: bool) {
    let mut next = table::next_process(1);
    while let Some(process) = next {
        let mut moved = None;
        for task in process.threads() {
            let id = task.cgroup.load(Relaxed);
            if id == ROOT {
                continue;
            }
            let cpuset = groups().cpuset_of(id);
            if cpuset.stale_cpus {
                crate::sched::affinity::confine(&task, cpuset.effective_cpus);
            }
            if cpuset.stale_mems {
                change_mems(&task, cpuset.effective_mems);
                moved = Some(cpuset);
            }
        }
        if let Some(cpuset) = moved {
            let mems = if whole { cpuset.effective_mems } else { cpuset.mems };
            move_memory(&process, mems, &cpuset, cpuset.old_mems);
        }
        next = table::next_process(process.pid + 1);
    }
}

/// The nodes that a task may use, and its policy, follow.
fn change_mems(task: &TaskRef, mems: NodeMask) {
    let mut numa = task.numa.lock();
    if let Some(policy) = &mut numa.policy {
        policy.rebind(mems);
    }
    numa.allowed = mems;
}

/// The policies of a process's areas follow `mems`, and its pages move from the nodes of `from` to
/// those of the cpuset.
fn move_memory(process: &Process, mems: NodeMask, cpuset: &Cpuset, from: NodeMask) {
    let mm = process.mm.lock().clone();
    if let Some(mm) = mm {
        follow(&mm, mems, cpuset, from);
    }
}

fn follow(mm: &Mm, mems: NodeMask, cpuset: &Cpuset, from: NodeMask) {
    mm.rebind(mems);
    if from != cpuset.effective_mems {
        // Pages that cannot be moved stay.
        let _left = mm.migrate_nodes(from, FarNodes::default(), cpuset.effective_mems, true);
    }
}

/// One thread comes under another cpuset.
pub fn adopt_task(task: &TaskRef, cpuset: &Cpuset) {
    crate::sched::affinity::confine(task, cpuset.effective_cpus);
    change_mems(task, cpuset.effective_mems);
}

/// A process comes under another cpuset with its memory, which was on the nodes of `from`.
pub fn adopt_memory(process: &Process, cpuset: &Cpuset, from: NodeMask) {
    move_memory(process, cpuset.effective_mems, cpuset, from);
}
