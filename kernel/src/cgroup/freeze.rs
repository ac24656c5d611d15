//! cgroup.freeze: tasks stand still before they would go back to user mode, until the group is let go
//! on or they are killed.

use super::{Groups, groups};
use crate::signal::attention::{FREEZE, KILL};
use crate::signal::send::nudge;
use crate::task::{State, TaskRef, current, table};
use abi::Result;
use cgroup::{Id, ROOT};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Has everybody in the group and below stand still, or go on.
pub fn set(id: Id, freeze: bool) -> Result<()> {
    let _tree = table::TREE.lock();
    let mut groups = groups();
    groups.set_freeze(id, freeze)?;
    for process in table::processes() {
        for task in process.threads().filter(|task| task.cgroup.load(Relaxed) != ROOT) {
            tell(&groups, &task);
        }
    }
    Ok(())
}

/// Tells a task what its group wants of it.
fn tell(groups: &Groups, task: &TaskRef) {
    let wanted = groups.is_freezing(task.cgroup.load(Relaxed));
    if wanted {
        if task.signals.ask(FREEZE) {
            nudge(task);
        }
    } else if task.signals.attention.fetch_and(!FREEZE, SeqCst) & FREEZE != 0 {
        crate::sched::wake_if(task, |state| state == State::Interruptible);
    }
}

/// The running task's group is frozen: it stands still until it is not, or the task is to end.
pub fn take_part() {
    let task = current();
    count(true);
    loop {
        task.run_state.set_state(State::Interruptible);
        let bits = task.signals.attention.load(SeqCst);
        if bits & FREEZE == 0 || bits & KILL != 0 {
            break;
        }
        crate::sched::schedule();
    }
    task.run_state.set_runnable();
    count(false);
}

/// Counts the running task among those that stand still, or no more.
fn count(still: bool) {
    let task = current();
    let mut groups = groups();
    if task.is_frozen.swap(still, Relaxed) != still {
        groups.count_frozen(task.cgroup.load(Relaxed), still);
    }
}

/// A task changes its group, which its field still names. `table::TREE` is locked.
pub fn leaves(groups: &mut Groups, task: &TaskRef) {
    if task.is_frozen.load(Relaxed) {
        groups.count_frozen(task.cgroup.load(Relaxed), false);
    }
}

/// It has changed it.
pub fn has_come(groups: &mut Groups, task: &TaskRef) {
    if task.is_frozen.load(Relaxed) {
        groups.count_frozen(task.cgroup.load(Relaxed), true);
    }
    tell(groups, task);
}
