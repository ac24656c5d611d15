//! The inodes behind descriptors that have no file: eventfd, timerfd, signalfd, epoll, ...
//!
//! As on Linux all descriptors of one sort share one inode without a type.

use crate::file::{File, FileOps, Place};
use crate::inode::{Inode, InodeBase, OpenArgs};
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::{TryVec, arc};
use sync::SpinLock;

struct AnonInode {
    base: InodeBase,
    name: &'static str,
}

impl Inode for AnonInode {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn anonymous_name(&self) -> String {
        alloc::format!("anon_inode:{}", self.name)
    }
}

/// A description of `ops`; /proc/PID/fd shows `anon_inode:NAME`.
/// ENOMEM.
pub fn file(ops: Arc<dyn FileOps>, name: &'static str, flags: u32) -> Result<Arc<File>> {
    static KNOWN: SpinLock<Vec<Arc<AnonInode>>> = SpinLock::new(Vec::new());
    let known = KNOWN.lock().iter().find(|inode| inode.name == name).cloned();
    let inode = match known {
        Some(inode) => inode,
        None => {
            let fresh = arc(AnonInode { base: InodeBase::anonymous(15, 0o600), name })?;
            KNOWN.lock().try_push(fresh.clone())?;
            fresh
        }
    };
    File::new(ops, Place::Anonymous(inode), flags)
}
