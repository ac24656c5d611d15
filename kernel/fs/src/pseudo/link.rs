//! Symbolic links whose target is computed; also "magic" ones.

use super::PseudoFs;
use crate::file::FileOps;
use crate::inode::{Inode, InodeBase, Link, OpenArgs};
use crate::stat::Metadata;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;

/// Computes a target.
type Target = Box<dyn Fn() -> Result<Link> + Send + Sync>;

/// A symbolic link.
pub struct DynLink {
    base: InodeBase,
    size: u64,
    target: Target,
}

impl DynLink {
    /// A link with the next free inode number, mode 0777.
    pub fn new(
        fs: &Arc<PseudoFs>,
        target: impl Fn() -> Result<Link> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::with_base(fs.base(g::S_IFLNK | 0o777), 0, target)
    }

    /// A link with attributes of the caller's choice; `size` is st_size (64 for those in
    /// /proc/PID/fd).
    pub fn with_base(
        base: InodeBase,
        size: u64,
        target: impl Fn() -> Result<Link> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { base, size, target: Box::new(target) })
    }
}

impl Inode for DynLink {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn metadata(&self) -> Metadata {
        self.base.metadata(self.size, 0)
    }
    fn follow(&self) -> Result<Link> {
        (self.target)()
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ELOOP)
    }
}
