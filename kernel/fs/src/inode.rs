//! The [`Inode`] trait: what a file system implements for each of its objects.
//!
//! Names, permissions, mounts and the order of locks are the business of the path layer
//! ([`crate::walk`], [`crate::context`]): it calls the directory operations here with the parent
//! directory locked, after it has checked permissions. An inode keeps its attributes in an
//! [`InodeBase`], so that permission checks are plain loads.

use crate::creds::Creds;
use crate::dentry::Lru;
use crate::env;
use crate::file::{File, FileOps, Place};
use crate::locks::LockTable;
use crate::object::MemObject;
use crate::stat::{DevId, FileType, Metadata};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use sync::{Once, SpinLock};

/// Attributes that every inode has, readable without a lock.
pub struct InodeBase {
    /// Inode number, unique within `dev`.
    pub ino: u64,
    /// The file system's (anonymous) device number.
    pub dev: DevId,
    /// For device nodes, the device.
    pub rdev: DevId,
    /// Creation time, ns since 1970.
    pub btime: i64,
    mode: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    nlink: AtomicU32,
    atime: AtomicI64,
    mtime: AtomicI64,
    ctime: AtomicI64,
    /// Descriptions open for writing; below zero, programs running from it (see [`DenyWrite`]).
    writers: AtomicI32,
    /// Record locks and flock, made when first used.
    locks: Once<Box<LockTable>>,
    /// What hangs on the inode at run time: a FIFO's pipe, the socket bound here.
    attached: SpinLock<Option<Weak<dyn Any + Send + Sync>>>,
}

/// Keeps a file from being opened for writing while a program runs from it.
pub struct DenyWrite(Arc<dyn Inode>);

impl DenyWrite {
    /// ETXTBSY when it is open for writing.
    pub fn new(inode: &Arc<dyn Inode>) -> Result<Self> {
        let less = |n: i32| (n <= 0).then_some(n - 1);
        let denied = inode.base().writers.fetch_update(Relaxed, Relaxed, less);
        denied.map(|_| Self(inode.clone())).map_err(|_| Errno::ETXTBSY)
    }
}

impl Drop for DenyWrite {
    fn drop(&mut self) {
        self.0.base().writers.fetch_add(1, Relaxed);
    }
}

/// Inode numbers of objects outside any mounted file system (pipes, sockets, ...).
pub fn anonymous_ino() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Relaxed)
}

impl InodeBase {
    /// A new inode, one link (two for a directory), all times now. `mode` includes the type.
    pub fn new(dev: DevId, ino: u64, mode: u32, uid: u32, gid: u32) -> Self {
        let now = env::now();
        let nlink = if mode & g::S_IFMT == g::S_IFDIR { 2 } else { 1 };
        Self {
            ino,
            dev,
            rdev: DevId::default(),
            btime: now,
            mode: AtomicU32::new(mode),
            uid: AtomicU32::new(uid),
            gid: AtomicU32::new(gid),
            nlink: AtomicU32::new(nlink),
            atime: AtomicI64::new(now),
            mtime: AtomicI64::new(now),
            ctime: AtomicI64::new(now),
            writers: AtomicI32::new(0),
            locks: Once::new(),
            attached: SpinLock::new(None),
        }
    }

    /// An inode of no mounted file system, owned by the caller's effective ids.
    pub fn anonymous(dev_minor: u32, mode: u32) -> Self {
        let who = env::env().ucred();
        Self::new(DevId::new(0, dev_minor), anonymous_ino(), mode, who.uid, who.gid)
    }

    /// With a device number (for device nodes).
    pub fn with_rdev(mut self, rdev: DevId) -> Self {
        self.rdev = rdev;
        self
    }

    /// Counts a writer; ETXTBSY while a program runs from it. Undone by [`Self::put_writer`].
    pub fn get_writer(&self) -> Result<()> {
        let more = |n: i32| (n >= 0).then_some(n + 1);
        self.writers.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|_| Errno::ETXTBSY)
    }
    /// A writer less.
    pub fn put_writer(&self) {
        self.writers.fetch_sub(1, Relaxed);
    }

    /// Type and permission bits.
    #[inline]
    pub fn mode(&self) -> u32 {
        self.mode.load(Relaxed)
    }
    /// The type; regular for a nonsensical mode.
    #[inline]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode()).unwrap_or(FileType::Regular)
    }
    /// True for a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.mode() & g::S_IFMT == g::S_IFDIR
    }
    #[inline]
    pub fn uid(&self) -> u32 {
        self.uid.load(Relaxed)
    }
    #[inline]
    pub fn gid(&self) -> u32 {
        self.gid.load(Relaxed)
    }
    /// Number of names (and, for directories, of subdirectories).
    pub fn nlink(&self) -> u32 {
        self.nlink.load(Relaxed)
    }
    /// Adds names (may be negative).
    pub fn add_nlink(&self, change: i32) {
        self.nlink.fetch_add(change as u32, Relaxed);
    }
    /// Sets the number of names.
    pub fn set_nlink(&self, nlink: u32) {
        self.nlink.store(nlink, Relaxed);
    }
    /// Replaces the permission bits (the type stays).
    pub fn set_mode(&self, mode: u32) {
        self.mode.store((self.mode() & g::S_IFMT) | (mode & 0o7777), Relaxed);
    }
    /// Replaces the owner.
    pub fn set_owner(&self, uid: u32, gid: u32) {
        self.uid.store(uid, Relaxed);
        self.gid.store(gid, Relaxed);
    }
    /// Sets the times, ns since 1970.
    pub fn set_times(&self, atime: i64, mtime: i64, ctime: i64) {
        self.atime.store(atime, Relaxed);
        self.mtime.store(mtime, Relaxed);
        self.ctime.store(ctime, Relaxed);
    }
    /// Sets modification and change time to now.
    pub fn touch_modified(&self) {
        let now = env::now();
        self.mtime.store(now, Relaxed);
        self.ctime.store(now, Relaxed);
    }
    /// Sets the change time to now.
    pub fn touch_changed(&self) {
        self.ctime.store(env::now(), Relaxed);
    }
    /// Notes an access by the relatime rule: only when the old access time is not after the last
    /// change, or is a day old.
    #[inline]
    pub fn touch_accessed(&self) {
        const DAY: i64 = 24 * 3600 * 1_000_000_000;
        let (atime, mtime) = (self.atime.load(Relaxed), self.mtime.load(Relaxed));
        let stale = atime <= mtime || atime <= self.ctime.load(Relaxed);
        let now = env::now();
        if (stale && now != atime) || now - atime >= DAY {
            self.atime.store(now, Relaxed);
        }
    }

    /// Metadata with size and blocks as given.
    #[inline]
    pub fn metadata(&self, size: u64, blocks: u64) -> Metadata {
        Metadata {
            dev: self.dev,
            ino: self.ino,
            mode: self.mode(),
            nlink: self.nlink(),
            uid: self.uid(),
            gid: self.gid(),
            rdev: self.rdev,
            size,
            blksize: abi::PAGE_SIZE as u32,
            blocks,
            atime: self.atime.load(Relaxed),
            mtime: self.mtime.load(Relaxed),
            ctime: self.ctime.load(Relaxed),
            btime: self.btime,
            mount_id: 0,
            mount_root: false,
        }
    }

    /// Applies a change of attributes (the size is the inode's own business).
    pub fn apply(&self, change: &SetAttr) {
        if let Some(mode) = change.mode {
            self.set_mode(mode);
        }
        if let Some(uid) = change.uid {
            self.uid.store(uid, Relaxed);
        }
        if let Some(gid) = change.gid {
            self.gid.store(gid, Relaxed);
        }
        let now = env::now();
        for (time, cell) in [(change.atime, &self.atime), (change.mtime, &self.mtime)] {
            match time {
                TimeChange::Keep => {}
                TimeChange::Now => cell.store(now, Relaxed),
                TimeChange::Set(ns) => cell.store(ns, Relaxed),
            }
        }
        self.ctime.store(now, Relaxed);
    }

    /// The lock table, made when first asked for.
    pub fn locks(&self) -> &LockTable {
        self.locks.get_or_init(Default::default)
    }

    /// The lock table if any lock was ever taken.
    pub fn locks_if_used(&self) -> Option<&LockTable> {
        self.locks.get().map(|table| &**table)
    }

    /// What is attached and alive.
    pub fn attached(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.attached.lock().as_ref().and_then(Weak::upgrade)
    }

    /// The attachment, made by `make` when there is none alive.
    pub fn attach_with(
        &self,
        make: impl FnOnce() -> Result<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Arc<dyn Any + Send + Sync>> {
        // Made before the lock is taken: making allocates.
        if let Some(present) = self.attached() {
            return Ok(present);
        }
        let fresh = make()?;
        let mut slot = self.attached.lock();
        if let Some(present) = slot.as_ref().and_then(Weak::upgrade) {
            return Ok(present);
        }
        *slot = Some(Arc::downgrade(&fresh));
        Ok(fresh)
    }
}

/// A new time for utimensat(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeChange {
    #[default]
    Keep,
    Now,
    /// Nanoseconds since 1970.
    Set(i64),
}

/// A change of attributes; what is None stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits with suid, sgid and sticky.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: TimeChange,
    pub mtime: TimeChange,
}

/// What to create.
#[derive(Clone, Copy, Debug)]
pub struct NewNode {
    /// Type and permission bits, umask applied.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// For device nodes.
    pub rdev: DevId,
}

/// Where a symbolic link leads.
pub enum Link {
    /// To a path, resolved from the link's directory.
    Path(Vec<u8>),
    /// To an object directly ("magic" links: /proc/PID/fd/N, exe, cwd, root).
    Jump(Place),
}

/// How a file is being opened.
pub struct OpenArgs<'a> {
    /// `O_*` flags.
    pub flags: u32,
    /// What is being opened, with the path to it.
    pub place: &'a Place,
    /// Who opens it.
    pub creds: &'a Creds,
}

/// One directory entry as `readdir` emits it.
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    pub kind: FileType,
    /// Position after this entry.
    pub next: u64,
}

/// An object of a file system.
///
/// Defaults answer as Linux does for an object that lacks the operation.
pub trait Inode: Any + Send + Sync {
    /// The attributes.
    fn base(&self) -> &InodeBase;

    /// What stat(2) tells.
    fn metadata(&self) -> Metadata {
        self.base().metadata(0, 0)
    }

    /// Asked about a running task that the permission bits keep out: true lets it in all the same
    /// (/proc/PID/fd, of the process itself).
    fn grants(&self) -> bool {
        false
    }

    /// False when names under this directory come and go by themselves (/proc): every lookup then
    /// asks the inode. Such a directory cannot be changed by users.
    fn cacheable(&self) -> bool {
        true
    }

    /// Where its entries are noted that may be forgotten while nobody uses them: the file system can
    /// be asked for the same again.
    fn lru(&self) -> Option<&'static Lru> {
        None
    }

    /// The entry `name`; ENOENT.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// Creates a file, directory, device node, FIFO or socket under a name that is free.
    fn create(&self, _name: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Creates a symbolic link under a name that is free.
    fn symlink(&self, _name: &[u8], _target: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Creates a nameless regular file (O_TMPFILE); linkable later.
    fn tmpfile(&self, _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target` (of the same file system) another name, which is free.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes the name of something that is no directory.
    fn unlink(&self, _name: &[u8], _victim: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory; ENOTEMPTY.
    fn rmdir(&self, _name: &[u8], _victim: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves `old` from `old_name` here to `new_name` in `new_dir` (of the same file system), where
    /// `replaced` stands now. With `exchange`, the two change places.
    fn rename(&self, _change: &Rename<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Where this symbolic link leads; EINVAL when it is none.
    fn follow(&self) -> Result<Link> {
        Err(Errno::EINVAL)
    }

    /// The text that readlink(2) gives; for magic links a description.
    fn readlink(&self) -> Result<Vec<u8>> {
        match self.follow()? {
            Link::Path(text) => Ok(text),
            Link::Jump(place) => place.text(None),
        }
    }

    /// Changes attributes; permissions are checked already.
    fn setattr(&self, change: &SetAttr) -> Result<()> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        self.base().apply(change);
        Ok(())
    }

    /// Emits entries from position `from` (0 is the first after "." and "..") until `emit` answers
    /// false. Positions are the inode's own cursors, stable while names come and go.
    fn readdir(&self, _from: u64, _emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Operations for one opening of this object. Devices, FIFOs and sockets never come here.
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>>;

    /// The memory of a regular file that can be mapped or executed.
    fn object(&self) -> Option<Arc<MemObject>> {
        None
    }

    /// For an object without a path: what /proc/PID/fd shows ("pipe:\[12\]").
    fn anonymous_name(&self) -> String {
        String::from("anon_inode:inode")
    }

    /// Called on the last close of a file description on this inode.
    fn released(&self, _file: &File) {}

    /// File seals (memfd, tmpfs): the `F_SEAL_*` bits; None where there are no seals.
    fn seals(&self) -> Option<u32> {
        None
    }

    /// Adds seals; EINVAL where there are none, EPERM when sealed against sealing. Whether shared
    /// writable mappings exist (EBUSY for F_SEAL_WRITE) is for the caller to check: address spaces
    /// know, the file does not.
    fn add_seals(&self, _seals: u32) -> Result<()> {
        Err(Errno::EINVAL)
    }
}

/// A move of a name: see [`Inode::rename`].
pub struct Rename<'a> {
    pub old_name: &'a [u8],
    pub old: &'a Arc<dyn Inode>,
    pub new_dir: &'a Arc<dyn Inode>,
    pub new_name: &'a [u8],
    pub replaced: Option<&'a Arc<dyn Inode>>,
    pub exchange: bool,
}
