//! A file in front of which somebody stands: opening it asks first.

use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::inode::{Inode, InodeBase, OpenArgs, SetAttr};
use fs::{FileOps, Metadata, oflag};

/// What is asked before the file is opened.
type Question = Box<dyn Fn(&OpenArgs<'_>) -> Result<()> + Send + Sync>;

/// An inode whose opening can be refused; all else is the inner one's.
pub struct Guarded {
    inner: Arc<dyn Inode>,
    ask: Question,
}

impl Guarded {
    /// `inner`, opened only where `ask` agrees.
    pub fn new(
        inner: Arc<dyn Inode>,
        ask: impl Fn(&OpenArgs<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, ask: Box::new(ask) })
    }

    /// `inner`, never opened for reading, not even by root: as files of /sys that are only written.
    pub fn write_only(inner: Arc<dyn Inode>) -> Arc<Self> {
        Self::new(inner, |args| {
            let reads = args.flags & oflag::O_ACCMODE != oflag::O_WRONLY;
            if reads { Err(Errno::EACCES) } else { Ok(()) }
        })
    }

    /// `inner`, never opened for writing, not even by root: as sysctl(5) has it.
    pub fn read_only(inner: Arc<dyn Inode>) -> Arc<Self> {
        Self::new(inner, |args| {
            let writes = args.flags & oflag::O_ACCMODE != oflag::O_RDONLY;
            if writes { Err(Errno::EACCES) } else { Ok(()) }
        })
    }
}

impl Inode for Guarded {
    fn base(&self) -> &InodeBase {
        self.inner.base()
    }
    fn metadata(&self) -> Metadata {
        self.inner.metadata()
    }
    fn setattr(&self, change: &SetAttr) -> Result<()> {
        self.inner.setattr(change)
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        (self.ask)(args)?;
        self.inner.clone().open(args)
    }
}
