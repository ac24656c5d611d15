//! Resource limits that bound the machine as a whole.

use crate::task::process::limit;
use crate::task::{current, table};
use core::sync::atomic::Ordering;

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
    let own: usize = table::processes()
        .iter()
        .filter(|p| p.uid.load(Ordering::Relaxed) == creds.uid)
        .map(|p| p.place.lock().threads.len().max(1))
        .sum();
    own as u64 >= allowed
}
