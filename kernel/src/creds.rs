//! Credentials: the first process's, and questions about the running task's.

use crate::signal::user::User;
use crate::task::{Creds, current};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use fs::Cap;

/// All capabilities that Linux 6.12 knows (0 to 40).
pub const ALL_CAPS: u64 = (1 << 41) - 1;
/// CAP_SYS_NICE.
pub const SYS_NICE: u32 = 23;

/// A number that no credentials have had yet.
pub fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Root, with everything.
pub fn root() -> Arc<Creds> {
    Arc::new(Creds {
        uid: 0,
        euid: 0,
        suid: 0,
        fsuid: 0,
        gid: 0,
        egid: 0,
        sgid: 0,
        fsgid: 0,
        groups: None,
        cap_effective: ALL_CAPS,
        cap_permitted: ALL_CAPS,
        cap_inheritable: 0,
        cap_bounding: ALL_CAPS,
        cap_ambient: 0,
        securebits: 0,
        no_new_privs: false,
        fs: Arc::new(fs::Creds::root()),
        user: User::of(0).expect("no memory for the first credentials"),
    })
}

impl Creds {
    /// True when the capability with this number is effective.
    pub fn has(&self, cap: u32) -> bool {
        self.cap_effective & (1 << cap) != 0
    }

    /// The supplementary groups, in rising order.
    pub fn groups(&self) -> &[u32] {
        self.groups.as_deref().unwrap_or_default()
    }

    /// Brings the file layer's view up to date after a change.
    pub fn refresh(&mut self) {
        self.fs = Arc::new(fs::Creds {
            uid: self.fsuid,
            gid: self.fsgid,
            groups: self.groups.clone(),
            caps: self.cap_effective,
        });
    }
}

/// True when the running task has the capability.
pub fn capable(cap: Cap) -> bool {
    has(cap as u32)
}

/// True when the running task has the capability with this number.
pub fn has(cap: u32) -> bool {
    current().creds.lock().has(cap)
}
