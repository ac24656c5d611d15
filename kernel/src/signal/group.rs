//! The end of threads: of a whole process, of the others at exec, and what it means for groups.

use super::attention::SIGNAL;
use super::send::{self, kill_thread};
use super::stop;
use crate::task::{Process, Task, current, table};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// The process is ending: its other threads leave at the next look.
pub fn kill_threads(process: &Process) {
    let me = current();
    // The lock keeps a stop from beginning half way.
    let _group = process.signals.group.lock();
    let place = process.place.lock();
    for thread in place.threads.iter().filter(|t| !core::ptr::eq(&***t, &*me)) {
        kill_thread(thread);
    }
}

/// exec: ends the other threads of the group and waits for them; the caller takes the leader's id
/// over. EINTR when the group is ending anyway.
pub fn end_other_threads() -> Result<()> {
    let task = current();
    let process = &task.process;
    {
        let mut group = process.signals.group.lock();
        if process.exiting.load(Ordering::Acquire) || group.execing {
            return Err(Errno::EINTR);
        }
        group.execing = true;
    }
    kill_threads(process);
    process.thread_events.wait_until(|| (process.place.lock().threads.len() == 1).then_some(()));
    if process.exiting.load(Ordering::Acquire) {
        return Err(Errno::EINTR);
    }
    if !task.is_leader() {
        let _tree = table::TREE.lock();
        let old = task.tid();
        crate::cgroup::end::forget_leader(process);
        table::remove_task(old);
        {
            let mut place = process.place.lock();
            place.threads.leave(old);
            task.take_leaders_tid();
            place.threads.join(task.handle());
        }
        table::adopt_task(&task.handle());
        crate::ptrace::links::takes_leaders_id(&task.handle(), old);
        table::free_tid(old);
    }
    Ok(())
}

/// Signals of the process that the running thread will not take any more go to the others.
pub fn hand_over(task: &Task) {
    let pending = task.process.signals.pending.set();
    if pending == 0 {
        return;
    }
    let place = task.process.place.lock();
    for other in place.threads.iter().filter(|t| !core::ptr::eq(&***t, task)) {
        if pending & !other.signals.blocked() != 0 && other.signals.ask(SIGNAL) {
            send::nudge(other);
        }
    }
}

/// The running thread ends.
pub fn on_thread_exit() {
    let task = current();
    stop::leave();
    hand_over(&task);
}

/// The process is about to become a zombie: a session leader hangs up its terminal, and groups
/// that its end orphans are told if members of them are stopped.
pub fn on_process_end(process: &Arc<Process>) {
    stop::forget(process);
    let (pgid, sid) = {
        let place = process.place.lock();
        (place.pgid, place.sid)
    };
    if sid == process.pid {
        fs::tty::session_ended(sid as u32);
    }
    if !stop::any_stopped() {
        return;
    }
    let check = |group: i32| {
        // As it will be without this process: as a member, and as a parent.
        if stop::has_stopped_member(group) && stop::is_orphaned_without(group, process) {
            stop::hang_up_group(group);
        }
    };
    let parent = process.place.lock().parent.upgrade();
    let parent_outside = parent.is_some_and(|p| {
        let theirs = p.place.lock();
        theirs.pgid != pgid && theirs.sid == sid
    });
    if parent_outside {
        check(pgid);
    }
    // A group that was hung up has no stopped member the next time it is met.
    let mut next = 0;
    loop {
        let child = process.place.lock().children.range(next..).next().map(|(_, c)| c.clone());
        let Some(child) = child else { break };
        next = child.pid + 1;
        let place = child.place.lock();
        let (their_sid, group) = (place.sid, place.pgid);
        drop(place);
        if their_sid == sid && group != pgid {
            check(group);
        }
    }
}
