//! Resource limits that bound the machine as a whole.

use crate::task::process::limit;
use crate::task::{current, table};
use core::sync::atomic::Ordering;

/// Threads of a user, zombies counted.
fn tasks_of(uid: u32) -> u64 {
    table::processes()
        .filter(|p| p.uid.load(Ordering::Relaxed) == uid)
        .map(|p| p.place.lock().threads.len().max(1) as u64)
        .sum()
}

/// Notes whether the user that the running task is about to become has as many threads as it may.
/// A change of user is not refused for that, but the next exec is: [`refuses_exec`].
pub fn note_new_user(uid: u32) {
    let task = current();
    let allowed = task.process.soft_limit(limit::NPROC);
    let exceeded = uid != 0 && table::task_count() as u64 > allowed && tasks_of(uid) > allowed;
    task.too_many_tasks.store(exceeded, Ordering::Relaxed);
}

/// Returns whether an exec ends with EAGAIN because the running task became a user with too many
/// threads, which has them still.
pub fn refuses_exec() -> bool {
    let task = current();
    if !task.too_many_tasks.load(Ordering::Relaxed) {
        return false;
    }
    let uid = task.credentials().uid;
    let refused = tasks_of(uid) > task.process.soft_limit(limit::NPROC);
    task.too_many_tasks.store(refused, Ordering::Relaxed);
    refused
}

/// RLIMIT_NPROC: the running task's user has as many threads as it may, zombies counted. Those with
/// CAP_SYS_RESOURCE or CAP_SYS_ADMIN may go on.
pub fn too_many_tasks() -> bool {
    let task = current();
    let allowed = task.process.soft_limit(limit::NPROC);
    if (table::task_count() as u64) < allowed {
        return false;
    }
    let creds = task.credentials();
    if creds.uid == 0
        || creds.has(fs::Cap::SysResource as u32)
        || creds.has(fs::Cap::SysAdmin as u32)
    {
        return false;
    }
    tasks_of(creds.uid) >= allowed
}
