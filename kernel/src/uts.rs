//! What the system calls itself: uname(2), /proc/version, /proc/sys/kernel.

use abi::{Errno, Result};
use alloc::vec::Vec;
use fs::pseudo::News;
use sync::SpinLock;

/// The kernel's name, as programs expect it.
pub const SYSNAME: &str = "Linux";
/// The Linux release whose interfaces these are, and whose kernel it is.
pub const RELEASE: &str = "6.12.0-proxima";
/// Build number and configuration.
pub const VERSION: &str = concat!("#1 SMP PREEMPT Proxima ", env!("CARGO_PKG_VERSION"));
/// The hardware.
pub const MACHINE: &str = "x86_64";
/// The longest host or domain name, in bytes.
pub const NAME_MAX: usize = 64;

/// A name that sethostname(2) or setdomainname(2) sets.
pub struct Name {
    text: SpinLock<Option<Vec<u8>>>,
    unset: &'static str,
    /// Told when it is set.
    pub news: News,
}

/// The host's name.
pub static HOST: Name = Name { text: SpinLock::new(None), unset: "(none)", news: News::new() };
/// The NIS domain's name.
pub static DOMAIN: Name = Name { text: SpinLock::new(None), unset: "(none)", news: News::new() };

impl Name {
    /// The present name.
    pub fn get(&self) -> Vec<u8> {
        self.text.lock().clone().unwrap_or_else(|| self.unset.as_bytes().to_vec())
    }

    /// Replaces it. EINVAL when it is too long; permissions are the caller's to check.
    pub fn set(&self, name: &[u8]) -> Result<()> {
        if name.len() > NAME_MAX {
            return Err(Errno::EINVAL);
        }
        let fresh = Some(name.to_vec());
        let old = core::mem::replace(&mut *self.text.lock(), fresh);
        drop(old);
        self.news.tell();
        Ok(())
    }
}
