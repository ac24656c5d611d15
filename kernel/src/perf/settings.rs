//! /proc/sys/kernel/perf_*: who may measure, how fast, with how much memory.

use crate::creds;
use crate::signal::user::User;
use crate::task::current;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// perf_event_paranoid: above -1 raw tracepoints, above 0 whole CPUs, above 1 the kernel are for
/// those with CAP_PERFMON only.
pub static PARANOID: AtomicI64 = AtomicI64::new(2);
/// perf_event_max_sample_rate.
pub static MAX_RATE: AtomicI64 = AtomicI64::new(100_000);
/// perf_event_mlock_kb: per user and CPU.
pub static MLOCK_KB: AtomicI64 = AtomicI64::new(516);
/// perf_event_max_stack.
pub const MAX_STACK: u16 = 127;

/// CAP_PERFMON and CAP_SYS_ADMIN.
const PERFMON: u32 = 38;
const SYS_ADMIN: u32 = 21;

/// Samples a second that one event may take.
pub fn max_rate() -> u64 {
    MAX_RATE.load(Relaxed).max(1) as u64
}

/// May look at everything.
pub fn privileged() -> bool {
    creds::has(PERFMON) || creds::has(SYS_ADMIN)
}

/// EACCES above this level of paranoia for those who are not privileged.
pub fn allow(level: i64) -> Result<()> {
    if PARANOID.load(Relaxed) > level && !privileged() { Err(Errno::EACCES) } else { Ok(()) }
}

/// Memory of a buffer that is charged to a user.
pub struct Charge {
    user: Arc<User>,
    pages: u64,
}

impl Charge {
    /// Charges `pages` to the running task's user. EPERM beyond the limits.
    pub fn new(pages: u64) -> Result<Self> {
        let task = current();
        let user = task.creds.lock().user.clone();
        let cpus = crate::boot::cpus::online().count() as u64;
        let free = (MLOCK_KB.load(Relaxed).max(0) as u64 / 4) * cpus;
        let own = task.process.soft_limit(crate::task::process::limit::MEMLOCK) / vm::PAGE;
        let bound = PARANOID.load(Relaxed) > -1 && !creds::capable(fs::Cap::IpcLock);
        let used = user.buffer_pages.fetch_add(pages, Relaxed);
        let charge = Self { user, pages };
        let beyond = (used + pages).saturating_sub(free);
        if beyond > own && bound { Err(Errno::EPERM) } else { Ok(charge) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.user.buffer_pages.fetch_sub(self.pages, Relaxed);
    }
}
