//! tmpfs inodes.

use super::dir::Names;
use super::{Options, TMPFS_MAGIC, Tmpfs};
use crate::file::{File, FileOps, Llseek, MapTarget};
use crate::inode::{Entry, Inode, InodeBase, Link, NewNode, OpenArgs, Rename, SetAttr};
use crate::object::{MemObject, ObjectKind};
use crate::stat::{FileType, Metadata};
use crate::{Cap, env};
use abi::flags::Prot;
use abi::raw::general as g;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use frames::fallible::{arc, boxed_slice, copied};
use hal::user::{Sink, Source};
use sync::{Mutex, Once};

/// Bytes that a directory entry adds to a directory's st_size, as Linux's tmpfs shows.
const ENTRY_SIZE: u64 = 20;

/// An inode of a tmpfs.
pub struct TmpInode {
    base: InodeBase,
    fs: Arc<Tmpfs>,
    kind: Kind,
    /// For memfd: what /proc/PID/fd shows.
    label: Option<Box<[u8]>>,
}

enum Kind {
    Directory(Mutex<Names>),
    File(FileData),
    Link(Box<[u8]>),
    /// Devices, FIFOs, sockets.
    Special,
}

struct FileData {
    object: Arc<MemObject>,
    /// Held while writing or changing the size: appends are atomic, seals are exact.
    writing: Mutex<()>,
    seals: AtomicU32,
    /// Pages that the file system has counted for this file.
    charged: AtomicU64,
}

impl TmpInode {
    /// A directory.
    pub(super) fn directory(fs: Arc<Tmpfs>, base: InodeBase) -> Result<Arc<Self>> {
        arc(Self { base, fs, kind: Kind::Directory(Mutex::default()), label: None })
    }

    pub(super) fn file(
        fs: Arc<Tmpfs>,
        base: InodeBase,
        seals: u32,
        label: Option<Box<[u8]>>,
        object: Arc<MemObject>,
    ) -> Result<Arc<Self>> {
        object.set_number(base.ino);
        let kind = Kind::File(FileData {
            object,
            writing: Mutex::new(()),
            seals: AtomicU32::new(seals),
            charged: AtomicU64::new(0),
        });
        arc(Self { base, fs, kind, label })
    }

    /// A file of the kernel's own unlimited tmpfs, without a name (memfd, SysV shared memory).
    /// `label`: what /proc/PID/fd and maps show.
    /// ENOMEM.
    pub fn nameless(mode: u32, seals: u32, label: &[u8], sort: ObjectKind) -> Result<Arc<Self>> {
        static INTERNAL: Once<Arc<Tmpfs>> = Once::new();
        let build = || Tmpfs::build("tmpfs", TMPFS_MAGIC, &Options::unlimited());
        let fs = INTERNAL.get_or_try_init(build)?.clone();
        let object = MemObject::new(sort)?;
        let label = boxed_slice(label)?;
        let who = env::env().ucred();
        let ino = vm::object::next_number();
        fs.inodes.fetch_add(1, Relaxed);
        let base = InodeBase::new(fs.dev, ino, g::S_IFREG | mode, who.uid, who.gid);
        // No name leads to it.
        base.set_nlink(0);
        Self::file(fs, base, seals, Some(label), object)
    }

    fn names(&self) -> Result<&Mutex<Names>> {
        match &self.kind {
            Kind::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn data(&self) -> Result<&FileData> {
        match &self.kind {
            Kind::File(data) => Ok(data),
            Kind::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn make(&self, node: &NewNode) -> Result<Arc<Self>> {
        // The file system counts an inode from its base on, and until the inode is dropped: there
        // is nothing to be refused in between but the inode.
        let base = || self.fs.base(node.mode, node.uid, node.gid);
        match FileType::from_mode(node.mode) {
            Some(FileType::Directory) => Self::directory(self.fs.clone(), base()?),
            Some(FileType::Regular) => {
                let object = self.fs.new_object()?;
                Self::file(self.fs.clone(), base()?, g::F_SEAL_SEAL, None, object)
            }
            Some(FileType::Symlink) | None => Err(Errno::EINVAL),
            Some(_) => {
                let base = base()?.with_rdev(node.rdev);
                arc(Self { base, fs: self.fs.clone(), kind: Kind::Special, label: None })
            }
        }
    }

    /// Brings the count of pages in use up to date after `data` changed.
    fn settle(&self, data: &FileData) {
        let now = data.object.resident_pages();
        let before = data.charged.swap(now, Relaxed);
        self.fs.account(before, now);
    }

    /// Bytes of `want` at `at` that may be written: within RLIMIT_FSIZE and the size limit.
    fn admit(&self, data: &FileData, at: u64, want: usize) -> Result<usize> {
        let limit = env::env().file_size_limit().min(i64::MAX as u64);
        if at >= limit {
            return Err(Errno::EFBIG);
        }
        let want = want.min((limit - at) as usize);
        let seals = data.seals.load(Relaxed);
        if seals & (g::F_SEAL_WRITE | g::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if seals & g::F_SEAL_GROW != 0 && at + want as u64 > data.object.len() {
            return Err(Errno::EPERM);
        }
        let left = self.fs.pages_left();
        let pages = (at % PAGE_SIZE as u64 + want as u64).div_ceil(PAGE_SIZE as u64);
        if pages <= left {
            return Ok(want);
        }
        // Near the limit: pages that are there already cost nothing. Without knowing which, those
        // below the end are taken to be.
        let end = data.object.len().next_multiple_of(PAGE_SIZE as u64);
        let free = end.saturating_sub(at).saturating_add(left.saturating_mul(PAGE_SIZE as u64));
        if free == 0 { Err(Errno::ENOSPC) } else { Ok(want.min(free as usize)) }
    }

    fn store(&self, data: &FileData, src: &mut dyn Source, at: u64) -> Result<usize> {
        if src.left() == 0 {
            return Ok(0);
        }
        let want = self.admit(data, at, src.left())?;
        let n = data.object.write_at(at, src, want);
        self.settle(data);
        let n = n?;
        self.base.touch_modified();
        self.lose_privileges();
        Ok(n)
    }

    /// Takes the set-id bits away after a change of contents, unless CAP_FSETID keeps them.
    fn lose_privileges(&self) {
        let mode = self.base.mode();
        if mode & (g::S_ISUID | g::S_ISGID) != 0 && !env::env().capable(Cap::Fsetid) {
            crate::context::drop_setid(&self.base);
        }
    }

    fn set_size(&self, size: u64) -> Result<()> {
        let data = self.data()?;
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        if !size.is_multiple_of(data.object.page_size()) && self.fs.share.is_some() {
            return Err(Errno::EINVAL);
        }
        let _writing = data.writing.lock();
        let (seals, len) = (data.seals.load(Relaxed), data.object.len());
        if (size < len && seals & g::F_SEAL_SHRINK != 0)
            || (size > len && seals & g::F_SEAL_GROW != 0)
        {
            return Err(Errno::EPERM);
        }
        let outcome = data.object.set_len(size);
        self.settle(data);
        outcome
    }

    fn concrete(inode: &Arc<dyn Inode>) -> Result<Arc<Self>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        any.downcast().map_err(|_| Errno::EXDEV)
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        if let Kind::File(data) = &self.kind {
            self.fs.account(data.charged.load(Relaxed), 0);
        }
        if let Kind::Directory(names) = &mut self.kind {
            release(core::mem::take(names.get_mut()));
        }
        self.fs.inode_gone();
    }
}

/// Lets go of a directory's inodes and all below them, one after the other: a tree is as deep as a
/// program makes it, a kernel's stack is not. A directory that is being emptied knows the one above
/// it, to go on with, so this takes no memory.
fn release(mut top: Names) {
    while let Some(inode) = top.pop() {
        let mut here = alone(inode);
        while let Some(mut inode) = here.take() {
            let Some(names) = names_of(&mut inode) else { continue };
            here = match names.pop() {
                None => names.leave(),
                Some(below) => match alone(below) {
                    Some(mut below) => match names_of(&mut below) {
                        Some(names) => {
                            names.enter(inode);
                            Some(below)
                        }
                        None => Some(inode),
                    },
                    None => Some(inode),
                },
            };
        }
    }
}

/// An inode that nobody else has hold of; otherwise they let go of it.
fn alone(mut inode: Arc<TmpInode>) -> Option<Arc<TmpInode>> {
    if Arc::get_mut(&mut inode).is_some() {
        return Some(inode);
    }
    // They may just have done so: then the block of before is there again.
    Arc::into_inner(inode).map(Arc::new)
}

/// The names in a directory that nobody else has hold of.
fn names_of(inode: &mut Arc<TmpInode>) -> Option<&mut Names> {
    match &mut Arc::get_mut(inode)?.kind {
        Kind::Directory(names) => Some(names.get_mut()),
        _ => None,
    }
}

impl Inode for TmpInode {
    fn base(&self) -> &InodeBase {
        &self.base
    }

    #[inline]
    fn metadata(&self) -> Metadata {
        let (size, blocks) = match &self.kind {
            Kind::File(data) => {
                (data.object.len(), data.object.resident_pages() * (PAGE_SIZE as u64 / 512))
            }
            Kind::Link(target) => (target.len() as u64, 0),
            Kind::Directory(names) => ((names.lock().len() as u64 + 2) * ENTRY_SIZE, 0),
            Kind::Special => (0, 0),
        };
        let mut metadata = self.base.metadata(size, blocks);
        if self.fs.share.is_some() {
            metadata.blksize = vm::HUGE as u32;
        }
        metadata
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match self.names()?.lock().get(name) {
            Some(inode) => Ok(inode.clone()),
            None => Err(Errno::ENOENT),
        }
    }

    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        let names = self.names()?;
        let inode = self.make(node)?;
        names.lock().insert(name, inode.clone())?;
        if inode.base.is_dir() {
            self.base.add_nlink(1);
        }
        self.base.touch_modified();
        Ok(inode)
    }

    fn symlink(&self, name: &[u8], target: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        let names = self.names()?;
        let kind = Kind::Link(boxed_slice(target)?);
        let base = self.fs.base(node.mode, node.uid, node.gid)?;
        let inode = arc(Self { base, fs: self.fs.clone(), kind, label: None })?;
        names.lock().insert(name, inode.clone())?;
        self.base.touch_modified();
        Ok(inode)
    }

    fn tmpfile(&self, node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.names()?;
        let inode = self.make(node)?;
        inode.base.set_nlink(0);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = Self::concrete(target)?;
        if !Arc::ptr_eq(&target.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        self.names()?.lock().insert(name, target.clone())?;
        target.base.add_nlink(1);
        target.base.touch_changed();
        self.base.touch_modified();
        Ok(())
    }

    fn unlink(&self, name: &[u8], _victim: &Arc<dyn Inode>) -> Result<()> {
        let gone = self.names()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        gone.base.add_nlink(-1);
        gone.base.touch_changed();
        self.base.touch_modified();
        Ok(())
    }

    fn rmdir(&self, name: &[u8], victim: &Arc<dyn Inode>) -> Result<()> {
        let victim = Self::concrete(victim)?;
        if !victim.names()?.lock().is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.names()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        victim.base.set_nlink(0);
        victim.base.touch_changed();
        self.base.add_nlink(-1);
        self.base.touch_modified();
        Ok(())
    }

    fn rename(&self, change: &Rename<'_>) -> Result<()> {
        let new_dir = Self::concrete(change.new_dir)?;
        let old = Self::concrete(change.old)?;
        let replaced = change.replaced.map(Self::concrete).transpose()?;
        let same = core::ptr::eq(self, &*new_dir);
        let moves_dir = |inode: &Arc<Self>| i32::from(inode.base.is_dir());
        if change.exchange {
            let other = replaced.ok_or(Errno::ENOENT)?;
            self.names()?.lock().replace(change.old_name, other.clone());
            new_dir.names()?.lock().replace(change.new_name, old.clone());
            let shift = moves_dir(&old) - moves_dir(&other);
            self.base.add_nlink(-shift);
            new_dir.base.add_nlink(shift);
            other.base.touch_changed();
        } else {
            if let Some(victim) = &replaced {
                if let Kind::Directory(names) = &victim.kind {
                    if !names.lock().is_empty() {
                        return Err(Errno::ENOTEMPTY);
                    }
                    victim.base.set_nlink(0);
                    new_dir.base.add_nlink(-1);
                } else {
                    victim.base.add_nlink(-1);
                }
                victim.base.touch_changed();
                new_dir.names()?.lock().replace(change.new_name, old.clone());
            } else {
                new_dir.names()?.lock().insert(change.new_name, old.clone())?;
            }
            self.names()?.lock().remove(change.old_name);
            if !same {
                self.base.add_nlink(-moves_dir(&old));
                new_dir.base.add_nlink(moves_dir(&old));
            }
        }
        old.base.touch_changed();
        self.base.touch_modified();
        if !same {
            new_dir.base.touch_modified();
        }
        Ok(())
    }

    fn follow(&self) -> Result<Link> {
        match &self.kind {
            Kind::Link(target) => Ok(Link::Path(copied(target)?)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn setattr(&self, change: &SetAttr) -> Result<()> {
        if let Some(size) = change.size {
            self.set_size(size)?;
            self.lose_privileges();
        }
        if let (Some(mode), Kind::File(data)) = (change.mode, &self.kind)
            && data.seals.load(Relaxed) & g::F_SEAL_EXEC != 0
            && (mode ^ self.base.mode()) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        self.base.apply(change);
        Ok(())
    }

    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        self.names()?.lock().emit(from, emit);
        Ok(())
    }

    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }

    fn object(&self) -> Option<Arc<MemObject>> {
        self.data().ok().map(|data| data.object.clone())
    }

    fn anonymous_name(&self) -> String {
        let label = self.label.as_deref().unwrap_or(b"/tmpfs (deleted)");
        String::from_utf8_lossy(label).into_owned()
    }

    fn seals(&self) -> Option<u32> {
        self.data().ok().map(|data| data.seals.load(Relaxed))
    }

    fn add_seals(&self, seals: u32) -> Result<()> {
        let all = g::F_SEAL_SEAL
            | g::F_SEAL_SHRINK
            | g::F_SEAL_GROW
            | g::F_SEAL_WRITE
            | g::F_SEAL_FUTURE_WRITE
            | g::F_SEAL_EXEC;
        if seals & !all != 0 {
            return Err(Errno::EINVAL);
        }
        let data = self.data().map_err(|_| Errno::EINVAL)?;
        let _writing = data.writing.lock();
        if data.seals.load(Relaxed) & g::F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        let fresh = seals & !data.seals.load(Relaxed);
        if fresh & g::F_SEAL_WRITE != 0 && data.object.is_mapped_writable() {
            return Err(Errno::EBUSY);
        }
        data.seals.fetch_or(seals, Relaxed);
        Ok(())
    }
}

impl FileOps for TmpInode {
    fn llseek(&self) -> Llseek {
        if self.base.is_dir() { Llseek::Sequence } else { Llseek::File }
    }

    fn direct_io(&self) -> bool {
        !self.base.is_dir()
    }

    #[inline]
    fn read(&self, file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let data = self.data()?;
        let n = data.object.read_at(at, dst, usize::MAX)?;
        file.accessed();
        Ok(n)
    }

    fn write(&self, _file: &File, src: &mut dyn Source, at: u64) -> Result<usize> {
        let data = self.data()?;
        // Huge pages are written through mappings only.
        if data.object.huge().is_some() {
            return Err(Errno::EINVAL);
        }
        let _writing = data.writing.lock();
        self.store(data, src, at)
    }

    fn append(&self, _file: &File, src: &mut dyn Source) -> Result<(u64, usize)> {
        let data = self.data()?;
        if data.object.huge().is_some() {
            return Err(Errno::EINVAL);
        }
        let _writing = data.writing.lock();
        let at = data.object.len();
        self.store(data, src, at).map(|n| (at, n))
    }

    fn seek_hole(&self, at: u64, size: u64, hole: bool) -> Result<u64> {
        const PAGE: u64 = PAGE_SIZE as u64;
        if at >= size {
            return Err(Errno::ENXIO);
        }
        let object = &self.data()?.object;
        // hugetlbfs tells of no holes.
        if object.huge().is_some() {
            return Ok(if hole { size } else { at });
        }
        let mut index = at / PAGE;
        if !hole {
            return match object.next_resident(index) {
                Some((found, _)) if found * PAGE < size => Ok(at.max(found * PAGE)),
                _ => Err(Errno::ENXIO),
            };
        }
        // Where the run of pages that are there ends.
        while index * PAGE < size {
            match object.next_resident(index) {
                Some((found, _)) if found == index => index += 1,
                _ => break,
            }
        }
        Ok((index * PAGE).clamp(at, size))
    }

    fn fsync(&self, _file: &File) -> Result<()> {
        // Memory is all there is.
        Ok(())
    }

    fn fallocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        /// FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE.
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        let data = self.data()?;
        if mode & !(KEEP_SIZE | PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let _writing = data.writing.lock();
        let seals = data.seals.load(Relaxed);
        if mode & PUNCH_HOLE != 0 {
            if mode & KEEP_SIZE == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if seals & (g::F_SEAL_WRITE | g::F_SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            let outcome = data.object.punch_hole(offset, len);
            self.settle(data);
            self.base.touch_modified();
            self.lose_privileges();
            return outcome;
        }
        let end = offset + len;
        if end > data.object.len() && end > env::env().file_size_limit() {
            return Err(Errno::EFBIG);
        }
        if seals & g::F_SEAL_GROW != 0 && end > data.object.len() {
            return Err(Errno::EPERM);
        }
        if data.object.huge().is_some() {
            let made = data.object.fill_huge(offset, len);
            self.settle(data);
            made?;
            if mode & KEEP_SIZE == 0 {
                data.object.grow_len(end);
            }
            self.base.touch_changed();
            return Ok(());
        }
        if len.div_ceil(PAGE_SIZE as u64) > self.fs.pages_left() {
            return Err(Errno::ENOSPC);
        }
        let outcome = data.object.reserve(offset, len);
        self.settle(data);
        outcome?;
        if mode & KEEP_SIZE == 0 && end > data.object.len() {
            data.object.set_len(end)?;
        }
        self.base.touch_modified();
        self.lose_privileges();
        Ok(())
    }

    fn map(&self, file: &File, shared: bool, prot: Prot) -> Result<MapTarget> {
        let data = self.data().map_err(|_| Errno::ENODEV)?;
        let sealed = data.seals.load(Relaxed) & (g::F_SEAL_WRITE | g::F_SEAL_FUTURE_WRITE) != 0;
        if shared && sealed && prot.contains(Prot::WRITE) {
            return Err(Errno::EPERM);
        }
        file.accessed();
        Ok(MapTarget::Object(data.object.clone()))
    }
}
