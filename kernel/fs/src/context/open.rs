//! open(2), openat2(2).

use super::{At, Caller, Lookup};
use crate::creds::{Access, Cap, Creds};
use crate::dentry::Dentry;
use crate::file::{File, FileOps, PathOnly, Place};
use crate::inode::{NewNode, OpenArgs, SetAttr, TimeChange};
use crate::mount::Path;
use crate::oflag as o;
use crate::stat::{DevId, FileType};
use crate::walk::Last;
use crate::{dev, pipe};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use frames::fallible::text;
use sync::Once;

/// `struct open_how`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: u32,
    /// Permission bits of a file that is created.
    pub mode: u32,
    /// `RESOLVE_*`.
    pub resolve: u32,
}

/// The bit that tells O_TMPFILE from O_DIRECTORY.
const TMPFILE_BIT: u32 = o::O_TMPFILE & !o::O_DIRECTORY;

impl Caller<'_> {
    /// Opens `path`. Flags that contradict each other give EINVAL.
    pub fn open(&self, at: At<'_>, path: &[u8], how: &OpenHow) -> Result<Arc<File>> {
        let mut flags = how.flags;
        if flags & o::O_PATH != 0 {
            flags &= o::O_PATH | o::O_DIRECTORY | o::O_NOFOLLOW | o::O_CLOEXEC;
        } else {
            flags |= o::O_LARGEFILE;
        }
        if flags & TMPFILE_BIT != 0 {
            if flags & o::O_TMPFILE != o::O_TMPFILE
                || flags & o::O_CREAT != 0
                || flags & o::O_ACCMODE == o::O_RDONLY
            {
                return Err(Errno::EINVAL);
            }
            return self.open_tmpfile(at, path, flags, how);
        }
        if flags & o::O_CREAT != 0 {
            if flags & o::O_DIRECTORY != 0 {
                return Err(Errno::EINVAL);
            }
            return self.open_create(at, path, flags, how);
        }
        let place = self.walk(at, path, how.resolve)?.finish(flags & o::O_NOFOLLOW == 0)?;
        self.open_existing(&place, flags)
    }

    fn open_create(&self, at: At<'_>, path: &[u8], flags: u32, how: &OpenHow) -> Result<Arc<File>> {
        let mut walk = self.walk(at, path, how.resolve)?;
        loop {
            let (name, slash) = match walk.parent()? {
                Last::Name { name, slash } => (name, slash),
                _ if flags & o::O_EXCL != 0 => return Err(Errno::EEXIST),
                _ => return self.open_existing(&Place::Path(walk.into_here()), flags),
            };
            if slash {
                return Err(Errno::EISDIR);
            }
            match walk.child_of_parent(&name) {
                Ok(_) if flags & o::O_EXCL != 0 => return Err(Errno::EEXIST),
                Ok(child) => {
                    let is_link = child.dentry.inode().base().file_type() == FileType::Symlink;
                    if !is_link || flags & o::O_NOFOLLOW != 0 {
                        return self.open_existing(&Place::Path(child), flags);
                    }
                    if let Some(place) = walk.follow(&child)? {
                        return self.open_existing(&place, flags);
                    }
                }
                Err(Errno::ENOENT) => {
                    if let Some(file) = self.create_and_open(walk.here(), &name, flags, how.mode)? {
                        return Ok(file);
                    }
                    // Somebody else created it meanwhile: look again.
                    let here = walk.here().clone();
                    let child =
                        Path { mount: here.mount.clone(), dentry: here.dentry.lookup(&name)? };
                    if flags & o::O_EXCL != 0 {
                        return Err(Errno::EEXIST);
                    }
                    return self.open_existing(&Place::Path(child.descend()), flags);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// None when the name is taken.
    fn create_and_open(
        &self,
        dir: &Path,
        name: &[u8],
        flags: u32,
        mode: u32,
    ) -> Result<Option<Arc<File>>> {
        dir.mount.check_writable()?;
        let inode = dir.dentry.inode();
        self.creds.check(inode.base(), Access::MODIFY_DIR)?;
        let dentry = {
            let names = dir.dentry.lock_names()?;
            match dir.dentry.lookup_locked(&names, name) {
                Ok(_) => return Ok(None),
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
            let node = self.new_node(dir, g::S_IFREG | (mode & 0o7777), DevId::default());
            let room = dir.dentry.room_for(name)?;
            let fresh = inode.create(name, &node)?;
            dir.dentry.fill(room, fresh)?
        };
        let place = Place::Path(Path { mount: dir.mount.clone(), dentry });
        // Whoever creates a file may open it as asked, whatever its mode says.
        open_place(&place, flags, self.creds).map(Some)
    }

    fn open_tmpfile(
        &self,
        at: At<'_>,
        path: &[u8],
        flags: u32,
        how: &OpenHow,
    ) -> Result<Arc<File>> {
        let lookup = Lookup { follow: true, empty: false, resolve: how.resolve };
        let dir = self.lookup_path(at, path, lookup)?;
        if !dir.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        dir.mount.check_writable()?;
        let inode = dir.dentry.inode();
        self.creds.check(inode.base(), Access::MODIFY_DIR)?;
        let node = self.new_node(&dir, g::S_IFREG | (how.mode & 0o7777), DevId::default());
        let fresh = inode.tmpfile(&node)?;
        let name = text(format_args!("#{}", fresh.base().ino))?;
        let dentry = Dentry::unlisted(&dir.dentry, name.as_bytes(), fresh)?;
        dentry.mark_deleted();
        let place = Place::Path(Path { mount: dir.mount, dentry });
        open_place(&place, flags & !o::O_DIRECTORY, self.creds)
    }

    /// What a new node in `dir` gets: umask applied, the group of a set-group-id directory.
    pub(super) fn new_node(&self, dir: &Path, mode: u32, rdev: DevId) -> NewNode {
        let parent = dir.dentry.inode().base();
        let mut mode = mode & !self.view.umask;
        let mut gid = self.creds.gid;
        if parent.mode() & g::S_ISGID != 0 {
            gid = parent.gid();
            if mode & g::S_IFMT == g::S_IFDIR {
                mode |= g::S_ISGID;
            } else if mode & (g::S_ISGID | 0o010) == g::S_ISGID | 0o010
                && !self.creds.in_group(gid)
                && !self.creds.has(Cap::Fsetid)
            {
                mode &= !g::S_ISGID;
            }
        }
        NewNode { mode, uid: self.creds.uid, gid, rdev }
    }

    /// Opens what a path led to, with all checks.
    pub fn open_existing(&self, place: &Place, flags: u32) -> Result<Arc<File>> {
        let inode = place.inode();
        let base = inode.base();
        let kind = base.file_type();
        if flags & o::O_DIRECTORY != 0 && kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if flags & o::O_PATH != 0 {
            static NOTHING: Once<Arc<dyn FileOps>> = Once::new();
            let ops = NOTHING.get_or_init(|| Arc::new(PathOnly)).clone();
            return File::new(ops, place.clone(), flags);
        }
        let access = match flags & o::O_ACCMODE {
            o::O_RDONLY => 4,
            o::O_WRONLY => 2,
            _ => 6,
        };
        let truncates = flags & o::O_TRUNC != 0;
        let access = Access(if truncates { access | 2 } else { access });
        match kind {
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::Directory if access.0 & 2 != 0 || flags & o::O_CREAT != 0 => {
                return Err(Errno::EISDIR);
            }
            FileType::Char | FileType::Block
                if place.path().is_some_and(|path| path.mount.flags() & g::MS_NODEV != 0) =>
            {
                return Err(Errno::EACCES);
            }
            FileType::Regular | FileType::Directory if access.0 & 2 != 0 => {
                if let Some(path) = place.path() {
                    path.mount.check_writable()?;
                }
            }
            _ => {}
        }
        self.creds.check_inode(inode, access)?;
        if flags & o::O_NOATIME != 0 && !self.creds.owns(base) {
            return Err(Errno::EPERM);
        }
        let file = open_place(place, flags, self.creds)?;
        if flags & o::O_DIRECT != 0 && !file.ops().direct_io() {
            return Err(Errno::EINVAL);
        }
        if truncates && kind == FileType::Regular {
            let cut = SetAttr { size: Some(0), mtime: TimeChange::Now, ..SetAttr::default() };
            inode.setattr(&cut)?;
        }
        Ok(file)
    }
}

/// Opens `place` without permission checks.
pub fn open_place(place: &Place, flags: u32, creds: &Creds) -> Result<Arc<File>> {
    let inode = place.inode();
    let args = OpenArgs { flags, place, creds };
    let kind = inode.base().file_type();
    let ops = match kind {
        FileType::Regular | FileType::Directory => inode.clone().open(&args)?,
        FileType::Char => dev::open_char(inode.base().rdev, &args)?,
        FileType::Block | FileType::Socket => return Err(Errno::ENXIO),
        FileType::Fifo => pipe::open_fifo(&args)?,
        FileType::Symlink => return Err(Errno::ELOOP),
    };
    if kind == FileType::Regular && flags & o::O_ACCMODE != o::O_RDONLY {
        return File::new_writer(ops, place.clone(), flags);
    }
    File::new(ops, place.clone(), flags)
}
