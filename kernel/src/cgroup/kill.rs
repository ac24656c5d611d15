//! cgroup.kill: the end of everybody in a group and below.

use super::groups;
use crate::task::table;
use abi::{Errno, Result};
use cgroup::{Id, Kind};
use core::sync::atomic::Ordering::Relaxed;

/// Kills all processes in the group and below. Nobody joins meanwhile, and who is told to end makes
/// no children. EOPNOTSUPP for a group of threads.
pub fn all(id: Id) -> Result<()> {
    if groups().kind(id)? == Kind::Threaded {
        return Err(Errno::EOPNOTSUPP);
    }
    let _tree = table::TREE.lock();
    for process in table::processes() {
        let within = |of: Id| groups().is_within(of, id);
        if process.threads().any(|task| within(task.cgroup.load(Relaxed))) {
            crate::signal::send_kernel(&process, 9);
        }
    }
    Ok(())
}
