//! Inodes of a share.

use super::contents::Contents;
use super::message::Attributes;
use super::{ENTRIES, NAMES, P9, below};
use crate::dentry::Lru;
use crate::file::{File, FileOps, Llseek, MapTarget};
use crate::inode::{Entry, Inode, InodeBase, Link, NewNode, OpenArgs, Rename, SetAttr};
use crate::object::MemObject;
use crate::oflag;
use crate::stat::{FileType, Metadata};
use abi::flags::Prot;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::fallible::{TryMap, arc, boxed_slice, copied};
use hal::user::Sink;
use sync::Once;

/// A directory's names, with what the server said of each.
type Names = BTreeMap<Box<[u8]>, (u64, FileType)>;

/// An inode of a share.
pub struct Node {
    base: InodeBase,
    /// Blocks of 512 bytes that the host's file system has for it.
    blocks: u64,
    fs: Arc<P9>,
    /// Its path below the share's root: components with slashes between.
    path: Box<[u8]>,
    kind: Kind,
    /// Bytes that are counted as kept names.
    kept: AtomicU64,
}

/// What an inode and its entry take, about, beside their path; and a name in a directory's list.
const NODE: u64 = 1024;
const NAME: u64 = 96;

impl Drop for Node {
    fn drop(&mut self) {
        NAMES.take_back(self.kept.load(Relaxed));
    }
}

enum Kind {
    Directory(Once<Names>),
    File(Contents),
    Link(Box<[u8]>),
    /// Devices, FIFOs, sockets: the guest's own, as on every network file system.
    Special,
}

impl Node {
    /// What the server has at `path`; `target` is where it leads if it is a symbolic link. ENOMEM.
    pub fn new(
        fs: Arc<P9>,
        path: Box<[u8]>,
        attributes: &Attributes,
        target: Box<[u8]>,
    ) -> Result<Arc<Self>> {
        let a = attributes;
        let base = InodeBase::new(fs.dev, a.ino, a.mode, a.uid, a.gid).with_rdev(a.rdev);
        base.set_nlink(a.nlink);
        base.set_times(a.atime, a.mtime, a.ctime);
        let kind = match base.file_type() {
            FileType::Directory => Kind::Directory(Once::new()),
            FileType::Symlink => Kind::Link(target),
            FileType::Regular => {
                let contents = Contents::new(a.size)?;
                contents.object.set_number(a.ino);
                Kind::File(contents)
            }
            _ => Kind::Special,
        };
        let own = match &kind {
            Kind::Link(target) => target.len(),
            Kind::File(contents) => contents.bits(),
            Kind::Directory(_) | Kind::Special => 0,
        };
        let bytes = NODE + (path.len() * 2 + own) as u64;
        NAMES.add(bytes)?;
        arc(Self { base, blocks: a.blocks, fs, path, kind, kept: AtomicU64::new(bytes) })
    }

    /// The directory's names, asked for once. ENOTDIR, EACCES.
    fn names(&self) -> Result<&Names> {
        let Kind::Directory(names) = &self.kind else { return Err(Errno::ENOTDIR) };
        if let Some(names) = names.get() {
            return Ok(names);
        }
        let mut bytes = 0;
        let found = self.list(&mut bytes).inspect_err(|_| NAMES.take_back(bytes))?;
        let mut late = true;
        let names = names.get_or_init(|| {
            late = false;
            found
        });
        // Another one was quicker: ours is gone.
        if late {
            NAMES.take_back(bytes);
        } else {
            self.kept.fetch_add(bytes, Relaxed);
        }
        Ok(names)
    }

    /// Asks for the directory's names; `bytes` of them are counted, also of a failure.
    fn list(&self, bytes: &mut u64) -> Result<Names> {
        let mut found = Names::new();
        let session = self.fs.client.session()?;
        session.walk(&self.path)?;
        session.open()?;
        session.list(&mut |name, ino, kind| {
            if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
                return Ok(());
            }
            let more = NAME + name.len() as u64;
            NAMES.add(more)?;
            *bytes += more;
            let kind = FileType::from_mode(u32::from(kind) << 12).unwrap_or(FileType::Regular);
            found.try_insert_in(boxed_slice(name)?, (ino, kind)).map(|_| ())
        })?;
        Ok(found)
    }

    fn contents(&self) -> Result<&Contents> {
        match &self.kind {
            Kind::File(contents) => Ok(contents),
            Kind::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Inode for Node {
    fn base(&self) -> &InodeBase {
        &self.base
    }

    fn metadata(&self) -> Metadata {
        let size = match &self.kind {
            Kind::File(contents) => contents.object.len(),
            Kind::Link(target) => target.len() as u64,
            Kind::Directory(_) => abi::PAGE_SIZE as u64,
            Kind::Special => 0,
        };
        self.base.metadata(size, self.blocks)
    }

    fn lru(&self) -> Option<&'static Lru> {
        Some(&ENTRIES)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match self.names() {
            Ok(names) if !names.contains_key(name) => return Err(Errno::ENOENT),
            // What may not be listed may still be searched.
            Ok(_) | Err(Errno::EACCES) => {}
            Err(error) => return Err(error),
        }
        let path = below(&self.path, name)?;
        let session = self.fs.client.session()?;
        session.walk(&path)?;
        let attributes = session.attributes()?;
        let is_link = attributes.mode & g::S_IFMT == g::S_IFLNK;
        let target = if is_link { session.link()? } else { Box::default() };
        drop(session);
        Ok(Self::new(self.fs.clone(), path, &attributes, target)?)
    }

    fn create(&self, _name: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }
    fn symlink(&self, _name: &[u8], _target: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }
    fn tmpfile(&self, _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EROFS)
    }
    fn unlink(&self, _name: &[u8], _victim: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EROFS)
    }
    fn rmdir(&self, _name: &[u8], _victim: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EROFS)
    }
    fn rename(&self, _change: &Rename<'_>) -> Result<()> {
        Err(Errno::EROFS)
    }
    fn setattr(&self, _change: &SetAttr) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn follow(&self) -> Result<Link> {
        match &self.kind {
            Kind::Link(target) => Ok(Link::Path(copied(target)?)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let names = self.names()?.iter().zip(1..).skip(usize::try_from(from).unwrap_or(usize::MAX));
        for ((name, &(ino, kind)), next) in names {
            if !emit(Entry { name, ino, kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        if args.flags & oflag::O_ACCMODE != oflag::O_RDONLY {
            return Err(Errno::EROFS);
        }
        match &self.kind {
            Kind::Directory(_) => _ = self.names()?,
            Kind::File(contents) => contents.open(&self.fs, &self.path)?,
            Kind::Link(_) | Kind::Special => {}
        }
        Ok(self)
    }

    fn object(&self) -> Option<Arc<MemObject>> {
        self.contents().ok().map(|contents| contents.object.clone())
    }
}

impl FileOps for Node {
    fn llseek(&self) -> Llseek {
        Llseek::File
    }

    fn read(&self, file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let contents = self.contents()?;
        let mut done = 0;
        while dst.room() > 0 && !(done > 0 && vm::env::killed()) {
            match contents.read(&self.fs, &self.path, dst, at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        file.accessed();
        Ok(done)
    }

    fn fsync(&self, _file: &File) -> Result<()> {
        // Nothing was written.
        Ok(())
    }

    fn map(&self, file: &File, _shared: bool, _prot: Prot) -> Result<MapTarget> {
        let contents = self.contents().map_err(|_| Errno::ENODEV)?;
        contents.fetch_all(&self.fs, &self.path)?;
        file.accessed();
        Ok(MapTarget::Object(contents.object.clone()))
    }
}
