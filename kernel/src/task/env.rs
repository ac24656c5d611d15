//! What the memory layer asks of the running task.

use super::current;
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

    fn killed(&self) -> bool {
        crate::signal::killed(&current())
    }
}
