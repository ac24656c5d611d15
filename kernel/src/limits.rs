//! Resource limits that bound the machine as a whole.

use crate::task::process::{initial_limits, limit};
use crate::task::{current, table};
use core::sync::atomic::{AtomicU64, Ordering};

/// kernel.threads-max, once it was written.
static THREADS_MAX: AtomicU64 = AtomicU64::new(0);

/// How many threads there may be, whoever's they are: by default twice what a user may have, as on
/// Linux.
pub fn threads_max() -> u64 {
    match THREADS_MAX.load(Ordering::Relaxed) {
        0 => initial_limits()[limit::NPROC].0 * 2,
        set => set,
    }
}

/// Sets that; not 0.
pub fn set_threads_max(threads: u64) {
    THREADS_MAX.store(threads, Ordering::Relaxed);
}

/// Threads of a user, zombies counted.
fn tasks_of(uid: u32) -> u64 {
    table::processes()
        .filter(|p| p.uid.load(Ordering::Relaxed) == uid)
        .map(|p| {
            let place = p.place.lock();
            (place.threads.len().max(1) + place.dead_tracees) as u64
        })
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

/// There are as many threads as there may be at all; or, by RLIMIT_NPROC, of the running task's
/// user, zombies counted: there those with CAP_SYS_RESOURCE or CAP_SYS_ADMIN may go on.
pub fn too_many_tasks() -> bool {
    let task = current();
    let present = table::task_count() as u64;
    if present >= threads_max() {
        return true;
    }
    let allowed = task.process.soft_limit(limit::NPROC);
    if present < allowed {
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
