//! tmpfs, and with other limits ramfs and devtmpfs: files in memory.
//!
//! Data lives in memory objects; names in maps with stable cursors for readdir. The size limit
//! counts resident pages, as they are known after each call.

mod dir;
mod huge;
mod inode;
mod options;

pub use inode::TmpInode;
pub use options::Options;

use crate::inode::InodeBase;
use crate::mount::{FileSystem, Super};
use crate::object::{MemObject, ObjectKind};
use crate::stat::{DevId, Statfs};
use abi::raw::general as g;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use frames::fallible::arc;
use frames::hugetlb::subpool;
use vm::transparent::shared::Mount;

/// tmpfs's magic number (devtmpfs has it too).
pub const TMPFS_MAGIC: u32 = 0x0102_1994;
/// ramfs's magic number.
pub const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// Bytes of memory that default limits are computed from.
static MEMORY: AtomicU64 = AtomicU64::new(1 << 30);

/// Tells how much memory the machine has: a mount's default limit is half of it.
pub fn set_memory(bytes: u64) {
    MEMORY.store(bytes, Relaxed);
}

/// Bytes of memory that the machine has.
pub fn memory() -> u64 {
    MEMORY.load(Relaxed)
}

/// A new anonymous device number, as each file system instance has one.
pub fn anonymous_dev() -> DevId {
    static NEXT: AtomicU32 = AtomicU32::new(20);
    DevId::new(0, NEXT.fetch_add(1, Relaxed))
}

/// An instance of tmpfs, ramfs or devtmpfs.
pub struct Tmpfs {
    name: &'static str,
    magic: u32,
    dev: DevId,
    next_ino: AtomicU64,
    /// What its files know of it: its limit and use, and which pages are huge.
    mount: Arc<Mount>,
    inode_limit: AtomicU64,
    inodes: AtomicU64,
    /// Its files are of huge pages, which count in this share of the pool.
    share: Option<u64>,
    /// For /proc/mounts.
    options: sync::SpinLock<String>,
}

impl Tmpfs {
    fn build(name: &'static str, magic: u32, options: &Options) -> Result<Arc<Self>> {
        arc(Self {
            name,
            magic,
            dev: anonymous_dev(),
            next_ino: AtomicU64::new(1),
            mount: arc(Mount::new(options.huge, options.pages))?,
            inode_limit: AtomicU64::new(options.inodes),
            inodes: AtomicU64::new(0),
            share: options.share,
            options: sync::SpinLock::new(options.text.clone()),
        })
    }

    /// A tmpfs with mount options ("size=", "nr_blocks=", "nr_inodes=", "mode=", "uid=", "gid=", "huge=");
    /// EINVAL for others.
    pub fn mount(options: &str) -> Result<Arc<Super>> {
        Self::instance("tmpfs", TMPFS_MAGIC, &Options::parse(options)?)
    }

    /// The root file system: a tmpfs under another name, as Linux's is without `root=`.
    pub fn rootfs() -> Result<Arc<Super>> {
        Self::instance("rootfs", TMPFS_MAGIC, &Options { mode: 0o755, ..Options::parse("")? })
    }

    /// A ramfs: without limits.
    pub fn ramfs(name: &'static str) -> Result<Arc<Super>> {
        Self::instance(name, RAMFS_MAGIC, &Options { mode: 0o755, ..Options::unlimited() })
    }

    /// A devtmpfs.
    pub fn devtmpfs() -> Result<Arc<Super>> {
        Self::instance("devtmpfs", TMPFS_MAGIC, &Options { mode: 0o755, ..Options::unlimited() })
    }

    fn instance(name: &'static str, magic: u32, options: &Options) -> Result<Arc<Super>> {
        let fs = Self::build(name, magic, options)?;
        let base = fs.base(g::S_IFDIR | options.mode, options.uid, options.gid)?;
        let root = TmpInode::directory(fs.clone(), base)?;
        Super::new(fs, root)
    }

    /// Attributes for a new inode; ENOSPC at the limit of inodes.
    fn base(&self, mode: u32, uid: u32, gid: u32) -> Result<InodeBase> {
        if self.inodes.fetch_add(1, Relaxed) >= self.inode_limit.load(Relaxed) {
            self.inodes.fetch_sub(1, Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(InodeBase::new(self.dev, self.next_ino.fetch_add(1, Relaxed), mode, uid, gid))
    }

    /// An object for a new file. ENOMEM.
    fn new_object(&self) -> Result<Arc<MemObject>> {
        match self.share {
            None if self.magic == TMPFS_MAGIC => MemObject::on(self.mount.clone()),
            None => MemObject::new(ObjectKind::Tmpfs),
            Some(share) => MemObject::of_huge_pages(ObjectKind::Hugetlbfs, share, 0),
        }
    }

    fn inode_gone(&self) {
        self.inodes.fetch_sub(1, Relaxed);
    }

    /// Pages that may still be used.
    fn pages_left(&self) -> u64 {
        self.mount.pages_left()
    }

    fn account(&self, before: u64, after: u64) {
        if before != after {
            self.mount.used.fetch_add(after.wrapping_sub(before) as i64, Relaxed);
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Some(share) = self.share {
            subpool::close(share);
        }
    }
}

impl FileSystem for Tmpfs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn statfs(&self) -> Statfs {
        let mut out = Statfs::plain(self.magic);
        out.bsize = PAGE_SIZE as u64;
        out.fsid = self.dev.encode();
        if let Some(share) = self.share {
            self.statfs_huge(share, &mut out);
        }
        let limit = self.mount.limit.load(Relaxed);
        if limit != u64::MAX {
            out.blocks = limit;
            out.bfree = self.pages_left();
            out.bavail = out.bfree;
        }
        let inodes = self.inode_limit.load(Relaxed);
        if inodes != u64::MAX {
            out.files = inodes;
            out.ffree = inodes.saturating_sub(self.inodes.load(Relaxed));
        }
        out
    }

    fn options(&self) -> String {
        self.options.lock().clone()
    }

    fn remount(&self, options: &str) -> Result<()> {
        if self.name != "tmpfs" || options.is_empty() {
            return Ok(());
        }
        let new = Options::parse(options)?;
        if new.sized {
            if (self.mount.used.load(Relaxed).max(0) as u64) > new.pages {
                return Err(Errno::EINVAL);
            }
            self.mount.limit.store(new.pages, Relaxed);
        }
        if new.chosen {
            self.mount.huge.set(new.huge);
        }
        *self.options.lock() = new.text;
        Ok(())
    }
}
