//! What the calls on files share: descriptors, paths, and who asks.

use super::Ctx;
use crate::task::process::limit;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use fs::context::{At, Lookup};
use fs::{Caller, FdTable, File, Place};
use hal::VirtAddr;

/// Longest path, bytes without the NUL.
const PATH_MAX: usize = 4095;

impl Ctx<'_> {
    /// The description of a descriptor; EBADF.
    #[inline]
    pub fn file(&self, fd: i32) -> Result<Arc<File>> {
        self.task.files.lock().get(fd)
    }

    /// As [`Ctx::file`], but EBADF for one opened with O_PATH.
    #[inline]
    pub fn real_file(&self, fd: i32) -> Result<Arc<File>> {
        let file = self.file(fd)?;
        if file.is_path_only() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// The descriptor table.
    pub fn fd_table(&self) -> Arc<FdTable> {
        self.task.files.lock().clone()
    }

    /// RLIMIT_NOFILE.
    pub fn fd_limit(&self) -> u64 {
        self.task.process.soft_limit(limit::NOFILE)
    }

    /// Gives `file` the lowest free descriptor; EMFILE.
    pub fn install(&self, file: Arc<File>, cloexec: bool) -> Result<i32> {
        self.fd_table().insert(file, cloexec, self.fd_limit())
    }

    /// Gives two files descriptors and stores them at `at`: both or neither.
    pub fn install_pair(
        &self,
        pair: (Arc<File>, Arc<File>),
        cloexec: bool,
        at: VirtAddr,
    ) -> Result<()> {
        let table = self.fd_table();
        let (first, second) = table.insert_pair(pair, cloexec, self.fd_limit())?;
        let stored = hal::user::write(at, &[first, second]);
        if stored.is_err() {
            // Another thread may have closed them already: then there is nothing to take back.
            let _ = table.close(first);
            let _ = table.close(second);
        }
        stored
    }

    /// Runs `work` with the task's credentials, root and working directory.
    pub fn as_caller<R>(&self, work: impl FnOnce(&Caller<'_>) -> R) -> R {
        let creds = self.task.creds.lock().fs.clone();
        let context = self.task.fs.lock().clone();
        work(&Caller::new(&creds, &context))
    }

    /// A path argument; ENAMETOOLONG, EFAULT.
    pub fn path(&self, at: VirtAddr) -> Result<Vec<u8>> {
        hal::user::read_cstr(at, PATH_MAX)
    }

    /// Where a path relative to `dirfd` starts; absolute paths do not look at it.
    pub fn start(&self, dirfd: i32, path: &[u8]) -> Result<Start> {
        if dirfd == g::AT_FDCWD || path.first() == Some(&b'/') {
            return Ok(Start(None));
        }
        self.file(dirfd).map(|file| Start(Some(file)))
    }

    /// What `path` relative to `dirfd` names, handed to `work`.
    pub fn at_place<R>(
        &self,
        dirfd: i32,
        path: VirtAddr,
        how: Lookup,
        work: impl FnOnce(&Caller<'_>, &Place) -> Result<R>,
    ) -> Result<R> {
        let path = self.path(path)?;
        let start = self.start(dirfd, &path)?;
        self.as_caller(|caller| work(caller, &caller.lookup(start.at(), &path, how)?))
    }
}

/// A `dirfd` argument, held for the length of a call.
pub struct Start(Option<Arc<File>>);

impl Start {
    /// From a description, whatever the path.
    pub fn of(file: Arc<File>) -> Self {
        Self(Some(file))
    }

    /// As the path operations take it.
    pub fn at(&self) -> At<'_> {
        match &self.0 {
            None => At::Cwd,
            Some(file) => At::File(file),
        }
    }
}

/// How `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` say to look a path up; EINVAL for bits outside
/// `allowed`.
pub fn lookup_flags(flags: u32, allowed: u32) -> Result<Lookup> {
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Lookup {
        follow: flags & g::AT_SYMLINK_NOFOLLOW == 0,
        empty: flags & g::AT_EMPTY_PATH != 0,
        resolve: 0,
    })
}
