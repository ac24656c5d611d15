//! A toolkit for file systems that are made of closures: procfs, sysfs and the like.
//!
//! A [`PseudoFs`] hands out inode numbers and says how its files look (st_size, what writing to a
//! read-only attribute answers). Below it stand [`Dir`]s with names that are entered, [`DynDir`]s
//! with names that a source computes, text files, and links.

mod dir;
mod file;
mod link;
mod news;

pub use dir::{Dir, DirSource, DynDir, Listed};
pub use file::{Records, Store, Text, TextFile};
pub use link::DynLink;
pub use news::News;

use crate::file::Llseek;
use crate::inode::{Inode, InodeBase};
use crate::mount::{FileSystem, Super};
use crate::stat::{DevId, Statfs};
use crate::tmpfs::anonymous_dev;
use abi::Errno;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How the files of a file system present themselves.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// st_size of text files: 0 in procfs, 4096 in sysfs.
    pub file_size: u64,
    /// Opening a file for writing that cannot be written: EACCES in sysfs; in procfs it can be
    /// opened.
    pub refuses_open: bool,
    /// What writing to such a file answers: EIO in procfs.
    pub write_error: Errno,
    /// Where its files may be read, and who may wait for them.
    pub access: Access,
}

/// Where a text file may be read, and who may wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub llseek: Llseek,
    /// epoll(7) takes it, though it is always ready; else it is EPERM there.
    pub pollable: bool,
    /// What those who poll it are told of.
    pub news: Option<&'static News>,
}

impl Access {
    /// Text that is made while it is read, as nearly all in procfs: it has no end to count from.
    pub const SEQUENCE: Self = Self { llseek: Llseek::Sequence, pollable: true, news: None };
    /// A setting of sysctl(5).
    pub const SETTING: Self = Self { llseek: Llseek::File, pollable: true, news: None };

    /// A file about a process: nobody waits for it.
    #[must_use]
    pub const fn of_process(llseek: Llseek) -> Self {
        Self { llseek, pollable: false, news: None }
    }

    /// The same, of a file whose changes are told.
    #[must_use]
    pub const fn telling(self, news: &'static News) -> Self {
        Self { pollable: true, news: Some(news), ..self }
    }
}

impl Style {
    /// As procfs.
    pub const PROC: Self = Self {
        file_size: 0,
        refuses_open: false,
        write_error: Errno::EIO,
        access: Access::SEQUENCE,
    };
    /// As sysfs.
    pub const SYSFS: Self = Self {
        file_size: 4096,
        refuses_open: true,
        write_error: Errno::EIO,
        access: Access { llseek: Llseek::Small, pollable: true, news: None },
    };
}

/// A file system of this kind.
pub struct PseudoFs {
    name: &'static str,
    magic: u32,
    style: Style,
    dev: DevId,
    next_ino: AtomicU64,
}

impl PseudoFs {
    /// procfs's magic number.
    pub const PROC_MAGIC: u32 = 0x9fa0;
    /// sysfs's magic number.
    pub const SYSFS_MAGIC: u32 = 0x6265_6572;

    /// A file system without a root yet.
    pub fn new(name: &'static str, magic: u32, style: Style) -> Arc<Self> {
        Arc::new(Self {
            name,
            magic,
            style,
            dev: anonymous_dev(),
            // The root is inode 1; computed inodes use numbers from 2^32 on.
            next_ino: AtomicU64::new(2),
        })
    }

    /// With `root` as the root directory: to be mounted any number of times.
    /// ENOMEM.
    pub fn into_super(self: &Arc<Self>, root: Arc<dyn Inode>) -> abi::Result<Arc<Super>> {
        Super::new(self.clone(), root)
    }

    /// Attributes with the next free inode number. `mode` includes the type.
    pub fn base(&self, mode: u32) -> InodeBase {
        self.base_with(self.next_ino.fetch_add(1, Relaxed), mode, 0, 0)
    }

    /// Attributes with a number of the caller's choice: for inodes that are made at each lookup,
    /// which must keep their number. Use numbers from 2^32 on.
    pub fn base_with(&self, ino: u64, mode: u32, uid: u32, gid: u32) -> InodeBase {
        InodeBase::new(self.dev, ino, mode, uid, gid)
    }

    /// What creating a name answers: procfs knows only what is there; elsewhere new names are
    /// refused, to open(2) in other words than to mkdir(2).
    fn refusal(&self, opened: bool) -> Errno {
        match self.magic {
            Self::PROC_MAGIC => Errno::ENOENT,
            _ if opened => Errno::EACCES,
            _ => Errno::EPERM,
        }
    }

    /// The style.
    pub fn style(&self) -> Style {
        self.style
    }
}

impl FileSystem for PseudoFs {
    fn name(&self) -> &'static str {
        self.name
    }
    fn statfs(&self) -> Statfs {
        Statfs::plain(self.magic)
    }
}
