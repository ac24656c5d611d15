//! What the memory layer asks of the running task.

use super::current;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vm::Mm;
use vm::env::TaskNuma;

/// Registered once at boot.
pub struct Environment;

impl vm::env::Environment for Environment {
    fn with_numa(&self, f: &mut dyn FnMut(&mut TaskNuma)) {
        f(&mut current().numa.lock());
    }
    fn home_changed(&self) {
        // The switch looks where the running task's memory is.
        hal::percpu::set_need_resched();
    }
    fn page_event(&self, event: vm::env::PageEvent) {
        crate::perf::numa::on_page(event);
    }

    fn may_lock(&self) -> bool {
        crate::creds::capable(fs::Cap::IpcLock)
    }

    fn may_administer(&self) -> bool {
        crate::creds::capable(fs::Cap::SysAdmin)
    }

    fn mapped_pages(&self) -> u64 {
        let task = current();
        task.mm().map_or(0, |mm| mm.total.load(Ordering::Relaxed).max(0) as u64)
    }

    fn killed(&self) -> bool {
        crate::signal::killed(&current())
    }
}

/// The first process whose id is above `after`, and its address space if it has one.
pub fn next_space(after: i32) -> Option<(i32, Option<Arc<Mm>>)> {
    let process = super::table::next_process(after + 1)?;
    let mm = process.mm.lock().clone();
    Some((process.pid, mm))
}
