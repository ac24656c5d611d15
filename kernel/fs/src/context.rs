//! What a task brings to path operations: root, working directory, umask; and with its
//! credentials, a [`Caller`], whose methods are the operations.

mod attributes;
mod names;
mod open;

use crate::creds::{Access, Cap, Creds};
use crate::file::{File, Place};
use crate::mount::Path;
use crate::stat::FileType;
use crate::walk::Walk;
use abi::{Errno, Result};
use alloc::sync::Arc;
use sync::SpinLock;

pub(crate) use attributes::drop_setid;
pub use attributes::{Ownership, statfs_of};
pub use names::{RENAME_EXCHANGE, RENAME_NOREPLACE};
pub use open::{OpenHow, open_place};

/// Root, working directory and umask at one moment.
#[derive(Clone)]
pub struct FsView {
    pub root: Path,
    pub cwd: Path,
    /// Permission bits that new files do not get.
    pub umask: u32,
}

/// A task's file-system context; shared with CLONE_FS, copied by fork.
pub struct FsContext {
    /// Replaced as a whole: taking a snapshot is one reference.
    view: SpinLock<Arc<FsView>>,
}

impl FsContext {
    /// With `root` as root and working directory, umask 022.
    pub fn new(root: Path) -> Self {
        let view = FsView { cwd: root.clone(), root, umask: 0o022 };
        Self { view: SpinLock::new(Arc::new(view)) }
    }

    /// The present state.
    #[inline]
    pub fn view(&self) -> Arc<FsView> {
        self.view.lock().clone()
    }

    fn change(&self, change: impl Fn(&mut FsView)) {
        loop {
            let before = self.view();
            let mut after = FsView::clone(&before);
            change(&mut after);
            let after = Arc::new(after);
            let mut slot = self.view.lock();
            if Arc::ptr_eq(&slot, &before) {
                let old = core::mem::replace(&mut *slot, after);
                drop(slot);
                drop(old);
                return;
            }
        }
    }

    /// umask(2): the old mask.
    pub fn set_umask(&self, mask: u32) -> u32 {
        let old = self.view().umask;
        self.change(|view| view.umask = mask & 0o777);
        old
    }

    /// Sets the working directory (checked by [`Caller::directory`] or
    /// [`Caller::directory_of`]).
    pub fn set_cwd(&self, cwd: Path) {
        self.change(|view| view.cwd = cwd.clone());
    }

    /// Sets the root directory; the working directory stays, as chroot(2) leaves it.
    pub fn set_root(&self, root: Path) {
        self.change(|view| view.root = root.clone());
    }

    /// A copy for fork.
    /// ENOMEM.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self { view: SpinLock::new(self.view()) })
    }
}

/// Where a relative path starts.
#[derive(Clone, Copy)]
pub enum At<'a> {
    /// The working directory (AT_FDCWD).
    Cwd,
    /// An open directory.
    File(&'a File),
}

/// How a path is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    /// Follow a symbolic link at the end.
    pub follow: bool,
    /// AT_EMPTY_PATH: an empty path means the start itself.
    pub empty: bool,
    /// `RESOLVE_*` of openat2(2).
    pub resolve: u32,
}

impl Lookup {
    /// Through a link at the end.
    pub const FOLLOW: Self = Self { follow: true, empty: false, resolve: 0 };
    /// The link itself.
    pub const NOFOLLOW: Self = Self { follow: false, empty: false, resolve: 0 };
}

/// A task's view on the file system for the length of one call.
pub struct Caller<'a> {
    pub creds: &'a Creds,
    pub view: Arc<FsView>,
}

impl<'a> Caller<'a> {
    /// For `creds` in `context`.
    #[inline]
    pub fn new(creds: &'a Creds, context: &FsContext) -> Self {
        Self { creds, view: context.view() }
    }

    fn base<'b>(&'b self, at: At<'b>, path: &[u8]) -> Result<&'b Path> {
        match at {
            // An absolute path does not look at the start.
            _ if path.first() == Some(&b'/') => Ok(&self.view.cwd),
            At::Cwd => Ok(&self.view.cwd),
            At::File(file) => match file.path() {
                Some(path) if path.dentry.is_dir() => Ok(path),
                _ => Err(Errno::ENOTDIR),
            },
        }
    }

    /// Starts a walk.
    #[inline]
    fn walk<'b>(&'b self, at: At<'b>, path: &'b [u8], resolve: u32) -> Result<Walk<'b>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        use abi::raw::general as g;
        let base = if resolve & (g::RESOLVE_IN_ROOT | g::RESOLVE_BENEATH) != 0 {
            self.base(at, b"")?
        } else {
            self.base(at, path)?
        };
        Walk::new(self.creds, &self.view.root, base, path, resolve)
    }

    /// What `path` names.
    pub fn lookup(&self, at: At<'_>, path: &[u8], how: Lookup) -> Result<Place> {
        if path.is_empty() && how.empty {
            return Ok(match at {
                At::Cwd => Place::Path(self.view.cwd.clone()),
                At::File(file) => file.place().clone(),
            });
        }
        self.walk(at, path, how.resolve)?.finish(how.follow)
    }

    /// As [`Caller::lookup`]; EINVAL-free form for what must have a path (mount points, chdir):
    /// an anonymous object is ENOTDIR.
    pub fn lookup_path(&self, at: At<'_>, path: &[u8], how: Lookup) -> Result<Path> {
        match self.lookup(at, path, how)? {
            Place::Path(path) => Ok(path),
            Place::Anonymous(_) => Err(Errno::ENOTDIR),
        }
    }

    /// The directory `path`, for chdir(2) and chroot(2): searchable; ENOTDIR.
    pub fn directory(&self, path: &[u8]) -> Result<Path> {
        let path = self.lookup_path(At::Cwd, path, Lookup::FOLLOW)?;
        self.check_directory(&path)?;
        Ok(path)
    }

    /// The directory that `file` is open on, for fchdir(2).
    pub fn directory_of(&self, file: &File) -> Result<Path> {
        let path = file.path().ok_or(Errno::ENOTDIR)?;
        self.check_directory(path)?;
        Ok(path.clone())
    }

    fn check_directory(&self, path: &Path) -> Result<()> {
        if !path.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.creds.check_inode(path.dentry.inode(), Access::EXEC)
    }

    /// The directory for chroot(2): EPERM without CAP_SYS_CHROOT.
    pub fn new_root(&self, path: &[u8]) -> Result<Path> {
        let path = self.directory(path)?;
        self.creds.require(Cap::SysChroot)?;
        Ok(path)
    }

    /// getcwd(2)'s text; ENOENT when the directory was removed.
    pub fn cwd_text(&self) -> Result<alloc::vec::Vec<u8>> {
        if self.view.cwd.dentry.is_deleted() {
            return Err(Errno::ENOENT);
        }
        self.view.cwd.text(Some(&self.view.root))
    }

    /// A program to execute: a regular file, executable for the caller, on a mount that allows it
    /// (EACCES).
    pub fn open_exec(&self, at: At<'_>, path: &[u8], how: Lookup) -> Result<Arc<File>> {
        let place = self.lookup(at, path, how)?;
        let inode = place.inode();
        match inode.base().file_type() {
            FileType::Regular => {}
            FileType::Symlink => return Err(Errno::ELOOP),
            _ => return Err(Errno::EACCES),
        }
        if place.path().is_some_and(|path| path.mount.noexec()) {
            return Err(Errno::EACCES);
        }
        self.creds.check(inode.base(), Access::EXEC)?;
        open_place(&place, crate::oflag::O_RDONLY | crate::oflag::O_LARGEFILE, self.creds)
    }
}
