//! Open file descriptions: [`File`], and the operations behind one, [`FileOps`].

mod ops;

pub use ops::{FileOps, Llseek, MapTarget, PathOnly, Seek, Whence};

use crate::env;
use crate::fasync::Fown;
use crate::inode::{Entry, Inode, SetAttr};
use crate::mount::Path;
use crate::poll::{PollMask, PollTable};
use crate::stat::{FileType, Metadata};
use crate::{dirent, oflag};
use abi::flags::Prot;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use frames::fallible::{TryVec, arc};
use hal::user::{Sink, Source};
use sync::{Mutex, MutexGuard, Once, SpinLock};

/// What a description was opened on.
#[derive(Clone)]
pub enum Place {
    /// Something with a path.
    Path(Path),
    /// An object outside every mounted file system (pipe, socket, memfd, ...).
    Anonymous(Arc<dyn Inode>),
}

impl Place {
    /// The inode.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        match self {
            Self::Path(path) => path.dentry.inode(),
            Self::Anonymous(inode) => inode,
        }
    }

    /// The path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Anonymous(_) => None,
        }
    }

    /// The absolute path as seen from `root`, or the description of an anonymous object.
    /// ENOMEM.
    pub fn text(&self, root: Option<&Path>) -> Result<Vec<u8>> {
        match self {
            Self::Path(path) => path.text(root),
            Self::Anonymous(inode) => Ok(inode.anonymous_name().into_bytes()),
        }
    }

    /// stat(2) of it, with the mount's id.
    pub fn metadata(&self) -> Metadata {
        let mut meta = self.inode().metadata();
        if let Self::Path(path) = self {
            meta.mount_id = path.mount.id() as u64;
            meta.mount_root = Arc::ptr_eq(&path.dentry, path.mount.root());
        }
        meta
    }
}

/// An open file description.
pub struct File {
    ops: Arc<dyn FileOps>,
    place: Place,
    seek: Seek,
    /// `O_*` status flags and access mode.
    flags: AtomicU32,
    position: Mutex<u64>,
    /// F_SETOWN and F_SETSIG, made when first used.
    fown: Once<Arc<Fown>>,
    /// An advisory lock was taken through this description: look for it on release.
    locked: AtomicBool,
    /// Counted among the inode's writers.
    writes: AtomicBool,
    /// The credentials of who opened it ([`env::Env::credentials_id`]).
    opener: u64,
    /// epoll entries that watch this description.
    watchers: SpinLock<Vec<Weak<dyn Watcher>>>,
}

/// An epoll entry: told when the description it watches is gone.
pub trait Watcher: Send + Sync {
    /// The description was closed for good.
    fn closed(&self);
}

/// Flags that fcntl(F_SETFL) can change, beside O_ASYNC ([`File::set_async`]).
const SETFL_MASK: u32 = oflag::O_APPEND | oflag::O_NONBLOCK | oflag::O_DIRECT | oflag::O_NOATIME;

/// Flags that belong to opening and are not kept.
const OPEN_ONLY: u32 =
    oflag::O_CREAT | oflag::O_EXCL | oflag::O_NOCTTY | oflag::O_TRUNC | oflag::O_CLOEXEC;

impl File {
    /// A new description. `flags`: access mode and status flags.
    /// ENOMEM.
    pub fn new(ops: Arc<dyn FileOps>, place: Place, flags: u32) -> Result<Arc<Self>> {
        let seek = ops.seekable();
        arc(Self {
            ops,
            place,
            seek,
            flags: AtomicU32::new(flags & !OPEN_ONLY),
            position: Mutex::new(0),
            fown: Once::new(),
            locked: AtomicBool::new(false),
            writes: AtomicBool::new(false),
            opener: env::env().credentials_id(),
            watchers: SpinLock::new(Vec::new()),
        })
    }

    /// As [`File::new`], for a description that writes: ETXTBSY while a program runs from the file.
    pub fn new_writer(ops: Arc<dyn FileOps>, place: Place, flags: u32) -> Result<Arc<Self>> {
        let file = Self::new(ops, place, flags)?;
        file.place.inode().base().get_writer()?;
        file.writes.store(true, Relaxed);
        Ok(file)
    }

    /// A description of an object that is both inode and operations.
    pub fn anonymous<T: Inode + FileOps>(object: Arc<T>, flags: u32) -> Result<Arc<Self>> {
        Self::new(object.clone(), Place::Anonymous(object), flags)
    }

    /// The operations.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }
    /// The operations as a concrete type.
    pub fn ops_as<T: FileOps>(&self) -> Option<&T> {
        (&*self.ops as &dyn Any).downcast_ref()
    }
    /// What it was opened on.
    pub fn place(&self) -> &Place {
        &self.place
    }
    /// The path it was opened by, if any.
    pub fn path(&self) -> Option<&Path> {
        self.place.path()
    }
    /// The inode.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.place.inode()
    }
    /// stat(2).
    pub fn metadata(&self) -> Metadata {
        self.place.metadata()
    }

    /// Access mode and status flags, as F_GETFL shows them.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }
    /// F_SETFL: changes what can be changed. EINVAL when the object refuses.
    pub fn set_flags(&self, flags: u32) -> Result<()> {
        let old = self.flags();
        let stream = self.inode().base().file_type() == FileType::Fifo;
        if flags & oflag::O_DIRECT != 0 && !stream && !self.ops.direct_io() {
            return Err(Errno::EINVAL);
        }
        self.replace_flags(SETFL_MASK, flags);
        self.ops.flags_changed(self).inspect_err(|_| self.replace_flags(SETFL_MASK, old))
    }
    fn replace_flags(&self, mask: u32, flags: u32) {
        let replace = |old: u32| Some(old & !mask | flags & mask);
        let _ = self.flags.fetch_update(Relaxed, Relaxed, replace);
    }
    /// O_ASYNC: has the owner told by a signal when the object becomes ready, or no longer. `fd`
    /// is the descriptor that the signal will name. False when nothing changed. ENOTTY where there
    /// are no signals, ENOMEM.
    pub fn set_async(&self, fd: i32, on: bool) -> Result<bool> {
        let is_set = || self.flags() & oflag::O_ASYNC != 0;
        if is_set() == on {
            return Ok(false);
        }
        let [first, second] = self.ops.fasync();
        if first.is_none() && second.is_none() {
            return Err(Errno::ENOTTY);
        }
        let fown = self.fown();
        let _arming = fown.arming.lock();
        if is_set() == on {
            return Ok(false);
        }
        if on {
            first.map_or(Ok(()), |list| list.insert(fown, fd))?;
            if let Err(error) = second.map_or(Ok(()), |list| list.insert(fown, fd)) {
                first.map(|list| list.remove(fown));
                return Err(error);
            }
        } else if !self.disarm(fown) {
            // The flag came with open(2), and stays.
            return Ok(false);
        }
        self.replace_flags(oflag::O_ASYNC, if on { oflag::O_ASYNC } else { 0 });
        Ok(true)
    }
    /// Takes its entries back; false if there were none.
    fn disarm(&self, fown: &Arc<Fown>) -> bool {
        let mut found = false;
        for list in self.ops.fasync().into_iter().flatten() {
            found |= list.remove(fown);
        }
        found
    }
    /// O_NONBLOCK is set.
    #[inline]
    pub fn nonblocking(&self) -> bool {
        self.flags() & oflag::O_NONBLOCK != 0
    }
    /// Opened for reading.
    #[inline]
    pub fn readable(&self) -> bool {
        let flags = self.flags();
        flags & (oflag::O_WRONLY | oflag::O_PATH) == 0
    }
    /// Opened for writing.
    #[inline]
    pub fn writable(&self) -> bool {
        let flags = self.flags();
        // Access mode 3 asks for both rights and gives neither.
        matches!(flags & oflag::O_ACCMODE, oflag::O_WRONLY | oflag::O_RDWR)
            && flags & oflag::O_PATH == 0
    }
    /// Opened with O_PATH: only a place, no I/O.
    pub fn is_path_only(&self) -> bool {
        self.flags() & oflag::O_PATH != 0
    }
    /// Who is told by O_ASYNC, and by which signal.
    pub fn fown(&self) -> &Arc<Fown> {
        self.fown.get_or_init(Arc::default)
    }
    /// As [`File::fown`]; `None` when nobody was named yet.
    pub fn fown_if_used(&self) -> Option<&Arc<Fown>> {
        self.fown.get()
    }
    /// Returns whether the running task opened it, with the credentials that it has now.
    pub fn opened_by_caller(&self) -> bool {
        self.opener == env::env().credentials_id()
    }
    /// Notes that an advisory lock belongs to this description.
    pub(crate) fn note_lock(&self) {
        self.locked.store(true, Relaxed);
    }

    /// Notes a reading access on the inode, unless O_NOATIME or the mount forbids it.
    pub fn accessed(&self) {
        if self.flags() & oflag::O_NOATIME != 0 {
            return;
        }
        match self.path() {
            Some(path) => path.accessed(),
            None => self.inode().base().touch_accessed(),
        }
    }

    /// EINVAL for bytes beyond the largest position, except where positions are addresses.
    #[inline]
    fn verify_area(&self, at: u64, len: usize) -> Result<()> {
        const LARGEST: u64 = i64::MAX as u64;
        if len as u64 <= LARGEST.saturating_sub(at) || self.ops.llseek() == Llseek::Address {
            return Ok(());
        }
        Err(Errno::EINVAL)
    }

    fn check_readable(&self) -> Result<()> {
        if self.readable() { Ok(()) } else { Err(Errno::EBADF) }
    }
    fn check_writable(&self) -> Result<()> {
        if self.writable() { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// read(2): at the position, which it moves.
    #[inline]
    pub fn read(&self, dst: &mut dyn Sink) -> Result<usize> {
        self.check_readable()?;
        if self.seek != Seek::Positioned {
            return self.ops.read(self, dst, 0);
        }
        let mut position = self.position.lock();
        self.verify_area(*position, dst.room())?;
        let n = self.ops.read(self, dst, *position)?;
        *position += n as u64;
        Ok(n)
    }

    /// write(2): at the position, which it moves, or at the end with O_APPEND.
    #[inline]
    pub fn write(&self, src: &mut dyn Source) -> Result<usize> {
        self.check_writable()?;
        if self.seek != Seek::Positioned {
            return self.ops.write(self, src, 0);
        }
        let mut position = self.position.lock();
        self.verify_area(*position, src.left())?;
        if self.flags() & oflag::O_APPEND != 0 {
            let (start, n) = self.ops.append(self, src)?;
            *position = start + n as u64;
            return Ok(n);
        }
        let n = self.ops.write(self, src, *position)?;
        *position += n as u64;
        Ok(n)
    }

    /// pread(2). ESPIPE on a stream, EINVAL for a negative offset.
    pub fn read_at(&self, dst: &mut dyn Sink, at: i64) -> Result<usize> {
        let at = u64::try_from(at).map_err(|_| Errno::EINVAL)?;
        if self.seek == Seek::Stream && !self.is_path_only() {
            return Err(Errno::ESPIPE);
        }
        self.check_readable()?;
        self.verify_area(at, dst.room())?;
        self.ops.read(self, dst, at)
    }

    /// pwrite(2). With O_APPEND Linux appends whatever the offset.
    pub fn write_at(&self, src: &mut dyn Source, at: i64) -> Result<usize> {
        let at = u64::try_from(at).map_err(|_| Errno::EINVAL)?;
        if self.seek == Seek::Stream && !self.is_path_only() {
            return Err(Errno::ESPIPE);
        }
        self.check_writable()?;
        self.verify_area(at, src.left())?;
        if self.flags() & oflag::O_APPEND != 0 && self.seek == Seek::Positioned {
            return self.ops.append(self, src).map(|(_, n)| n);
        }
        self.ops.write(self, src, at)
    }

    /// Reads kernel-side (exec, initramfs): fills `buf` from `at` as far as the file goes.
    pub fn read_kernel(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let mut sink = hal::user::KernelSink::new(&mut buf[done..]);
            match self.ops.read(self, &mut sink, at + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// The position, locked (for preserving it over sendfile and the like).
    pub fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock()
    }

    /// The position as another task may look at it: `None` while the file is being read or written
    /// with it, by whomever, the caller included.
    pub fn position_if_free(&self) -> Option<u64> {
        self.position.try_lock().map(|position| *position)
    }

    /// True when it has a position.
    pub fn is_seekable(&self) -> bool {
        self.seek == Seek::Positioned
    }

    /// lseek(2); the new position. EINVAL before 0, beyond what the file's kind allows
    /// ([`FileOps::llseek`]), and for a `whence` that the kind does not know.
    pub fn seek(&self, offset: i64, whence: Whence) -> Result<u64> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        match self.seek {
            Seek::Stream => return Err(Errno::ESPIPE),
            Seek::Ignored => return Ok(0),
            Seek::Positioned => {}
        }
        let kind = self.ops.llseek();
        if !kind.has_end() && !matches!(whence, Whence::Set | Whence::Current) {
            return Err(Errno::EINVAL);
        }
        let mut position = self.position.lock();
        let target = match whence {
            Whence::Set => offset,
            Whence::Current => (*position as i64).checked_add(offset).ok_or(Errno::EINVAL)?,
            Whence::End => {
                (self.inode().metadata().size as i64).checked_add(offset).ok_or(Errno::EINVAL)?
            }
            Whence::Data | Whence::Hole => {
                let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                let size = self.inode().metadata().size;
                self.ops.seek_hole(at, size, whence == Whence::Hole)? as i64
            }
        };
        let target = u64::try_from(target).map_err(|_| Errno::EINVAL)?;
        if target > kind.largest() {
            return Err(Errno::EINVAL);
        }
        *position = target;
        Ok(target)
    }

    /// Readiness, and registration with a table.
    #[inline]
    pub fn poll(&self, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if self.is_path_only() {
            return PollMask::NVAL;
        }
        self.ops.poll(self, interest, table)
    }

    /// ioctl(2), the part below the ones that work on the descriptor itself.
    pub fn ioctl(&self, cmd: u32, arg: u64) -> Result<u64> {
        use abi::raw::ioctl as i;
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        match cmd {
            i::FIONBIO => {
                let on: i32 = hal::user::read(hal::VirtAddr::new(arg))?;
                let flags = self.flags() & !oflag::O_NONBLOCK;
                self.set_flags(if on != 0 { flags | oflag::O_NONBLOCK } else { flags })?;
                Ok(0)
            }
            i::FIONREAD
                if self.inode().base().mode() & abi::raw::general::S_IFMT
                    == abi::raw::general::S_IFREG =>
            {
                let size = self.inode().metadata().size;
                let left = size.saturating_sub(*self.position.lock());
                hal::user::write(hal::VirtAddr::new(arg), &(left.min(i32::MAX as u64) as i32))?;
                Ok(0)
            }
            _ => self.ops.ioctl(self, cmd, arg),
        }
    }

    /// getdents64(2): fills `dst` with whole records; bytes written, 0 at the end. EINVAL when not
    /// even one fits, EFAULT when not even one could be written, ENOENT in a removed directory,
    /// ENOTDIR for what is no directory.
    pub fn getdents(&self, dst: &mut dyn Sink) -> Result<usize> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        let inode = self.inode();
        if !inode.base().is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if inode.base().nlink() == 0 {
            return Err(Errno::ENOENT);
        }
        let mut position = self.position.lock();
        let begin = *position;
        let mut batch = dirent::Batch::new(dst.room());
        let own = inode.base().ino;
        let parent = self.path().map_or(own, |path| path.parent_ino());
        for (at, name, ino) in [(0, b"." as &[u8], own), (1, b"..", parent)] {
            if begin <= at && !batch.is_full() {
                batch.push(&Entry { name, ino, kind: FileType::Directory, next: at + 1 });
            }
        }
        if !batch.is_full() {
            inode.readdir(begin.saturating_sub(2), &mut |entry| {
                batch.push(&Entry { next: entry.next + 2, ..entry })
            })?;
        }
        if batch.is_empty() {
            return if batch.is_full() { Err(batch.error()) } else { Ok(0) };
        }
        self.accessed();
        let written = dst.put(batch.bytes()).unwrap_or(0);
        let (whole, next) = batch.whole_records(written).ok_or(Errno::EFAULT)?;
        *position = next;
        Ok(whole)
    }

    /// ftruncate(2). EINVAL unless it is a regular file open for writing.
    pub fn truncate(&self, len: u64) -> Result<()> {
        let regular = self.inode().base().file_type() == FileType::Regular;
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if !regular || !self.writable() {
            return Err(Errno::EINVAL);
        }
        if len > env::env().file_size_limit() {
            return Err(Errno::EFBIG);
        }
        self.inode().setattr(&SetAttr {
            size: Some(len),
            mtime: crate::TimeChange::Now,
            ..SetAttr::default()
        })
    }

    /// fsync(2), fdatasync(2), sync_file_range(2).
    pub fn fsync(&self) -> Result<()> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        self.ops.fsync(self)
    }

    /// fallocate(2).
    pub fn fallocate(&self, mode: u32, offset: i64, len: i64) -> Result<()> {
        if offset < 0 || len <= 0 {
            return Err(Errno::EINVAL);
        }
        self.check_writable()?;
        if offset.checked_add(len).is_none() {
            return Err(Errno::EFBIG);
        }
        if self.inode().base().is_dir() {
            return Err(Errno::EISDIR);
        }
        self.ops.fallocate(self, mode, offset as u64, len as u64)
    }

    /// What mmap(2) maps. EACCES when the open mode does not allow it: any mapping needs reading,
    /// a shared writable one needs writing.
    pub fn map(&self, shared: bool, prot: Prot) -> Result<MapTarget> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if !self.readable() || (shared && prot.contains(Prot::WRITE) && !self.writable()) {
            return Err(Errno::EACCES);
        }
        if prot.contains(Prot::EXEC) && self.path().is_some_and(|path| path.mount.noexec()) {
            return Err(Errno::EPERM);
        }
        self.ops.map(self, shared, prot)
    }

    /// Enters an epoll entry.
    pub(crate) fn add_watcher(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        let mut watchers = self.watchers.lock();
        if watchers.len() == watchers.capacity() {
            watchers.retain(|old| old.strong_count() > 0);
        }
        watchers.try_push(watcher)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What it stands for may wait when it is closed.
        sync::might_sleep();
        if self.flags() & oflag::O_ASYNC != 0
            && let Some(fown) = self.fown.get()
        {
            self.disarm(fown);
        }
        for watcher in self.watchers.get_mut().drain(..) {
            if let Some(watcher) = watcher.upgrade() {
                watcher.closed();
            }
        }
        let id = core::ptr::from_ref(self) as usize as u64;
        if self.locked.load(Relaxed)
            && let Some(table) = self.place.inode().base().locks_if_used()
        {
            table.release_file(id);
        }
        if self.writes.load(Relaxed) {
            self.place.inode().base().put_writer();
        }
        self.place.inode().released(self);
    }
}
