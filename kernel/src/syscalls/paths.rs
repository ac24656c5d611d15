//! Names: open, make, remove, rename, link; the working directory and the root.

use super::Ctx;
use super::lookup::{Start, lookup_flags};
use abi::raw::general as g;
use abi::{Errno, Result};
use fs::context::{At, Lookup, OpenHow};
use fs::oflag;
use fs::{Cap, DevId};
use hal::VirtAddr;

crate::syscalls! {
    2 open(path: VirtAddr, flags: u32, mode: u32) => open;
    79 getcwd(buf: VirtAddr, size: usize) => getcwd;
    80 chdir(path: VirtAddr) => chdir;
    81 fchdir(fd: i32) => fchdir;
    82 rename(old: VirtAddr, new: VirtAddr) => rename;
    83 mkdir(path: VirtAddr, mode: u32) => mkdir;
    84 rmdir(path: VirtAddr) => rmdir;
    85 creat(path: VirtAddr, mode: u32) => creat;
    86 link(old: VirtAddr, new: VirtAddr) => link;
    87 unlink(path: VirtAddr) => unlink;
    88 symlink(target: VirtAddr, path: VirtAddr) => symlink;
    95 umask(mask: u32) => umask;
    133 mknod(path: VirtAddr, mode: u32, dev: u32) => mknod;
    161 chroot(path: VirtAddr) => chroot;
    257 openat(dirfd: i32, path: VirtAddr, flags: u32, mode: u32) => openat;
    258 mkdirat(dirfd: i32, path: VirtAddr, mode: u32) => mkdirat;
    259 mknodat(dirfd: i32, path: VirtAddr, mode: u32, dev: u32) => mknodat;
    263 unlinkat(dirfd: i32, path: VirtAddr, flags: u32) => unlinkat;
    264 renameat(olddir: i32, old: VirtAddr, newdir: i32, new: VirtAddr) => renameat;
    265 linkat(olddir: i32, old: VirtAddr, newdir: i32, new: VirtAddr, flags: u32) => linkat;
    266 symlinkat(target: VirtAddr, dirfd: i32, path: VirtAddr) => symlinkat;
    316 renameat2(olddir: i32, old: VirtAddr, newdir: i32, new: VirtAddr, flags: u32) => renameat2;
    437 openat2(dirfd: i32, path: VirtAddr, how: VirtAddr, size: usize) => openat2;
}

const CWD: i32 = g::AT_FDCWD;

fn open_how(c: &Ctx<'_>, dirfd: i32, path: VirtAddr, how: OpenHow) -> Result<i32> {
    let path = c.path(path)?;
    let scoped = how.resolve & (g::RESOLVE_IN_ROOT | g::RESOLVE_BENEATH) != 0;
    let start =
        if scoped && dirfd != CWD { Start::of(c.file(dirfd)?) } else { c.start(dirfd, &path)? };
    if how.flags & oflag::O_CREAT != 0 {
        c.fd_table().check_room(c.fd_limit())?;
    }
    let file = c.as_caller(|caller| caller.open(start.at(), &path, &how)).inspect_err(|error| {
        if *error == Errno::ENOENT && (dirfd == CWD || path.first() == Some(&b'/')) {
            crate::missing::note_path(&path, || c.as_caller(|caller| caller.cwd_text()));
        }
    })?;
    c.install(file, how.flags & oflag::O_CLOEXEC != 0)
}

/// Bits that open(2) knows; it drops the others, openat2(2) refuses them.
const OPEN_FLAGS: u32 = oflag::O_ACCMODE
    | oflag::O_CREAT
    | oflag::O_EXCL
    | oflag::O_NOCTTY
    | oflag::O_TRUNC
    | oflag::O_APPEND
    | oflag::O_NONBLOCK
    | oflag::O_SYNC
    | oflag::O_DSYNC
    | oflag::O_ASYNC
    | oflag::O_DIRECT
    | oflag::O_LARGEFILE
    | oflag::O_DIRECTORY
    | oflag::O_NOFOLLOW
    | oflag::O_NOATIME
    | oflag::O_CLOEXEC
    | oflag::O_PATH
    | oflag::O_TMPFILE;

fn openat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, flags: u32, mode: u32) -> Result<i32> {
    open_how(c, dirfd, path, OpenHow { flags: flags & OPEN_FLAGS, mode: mode & 0o7777, resolve: 0 })
}

fn open(c: &mut Ctx<'_>, path: VirtAddr, flags: u32, mode: u32) -> Result<i32> {
    openat(c, CWD, path, flags, mode)
}

fn creat(c: &mut Ctx<'_>, path: VirtAddr, mode: u32) -> Result<i32> {
    openat(c, CWD, path, oflag::O_CREAT | oflag::O_WRONLY | oflag::O_TRUNC, mode)
}

fn openat2(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, how: VirtAddr, size: usize) -> Result<i32> {
    const KNOWN: usize = 24;
    const RESOLVE: u64 = (g::RESOLVE_NO_XDEV
        | g::RESOLVE_NO_MAGICLINKS
        | g::RESOLVE_NO_SYMLINKS
        | g::RESOLVE_BENEATH
        | g::RESOLVE_IN_ROOT
        | g::RESOLVE_CACHED) as u64;
    if size < KNOWN {
        return Err(Errno::EINVAL);
    }
    if size > vm::PAGE as usize {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve]: [u64; 3] = hal::user::read(how)?;
    // What this kernel does not know must not be asked for.
    for at in KNOWN..size {
        if hal::user::read::<u8>(how + at as u64)? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let makes = flags & u64::from(oflag::O_CREAT) != 0
        || flags & u64::from(oflag::O_TMPFILE) == u64::from(oflag::O_TMPFILE);
    let both = u64::from(g::RESOLVE_BENEATH | g::RESOLVE_IN_ROOT);
    if flags & !u64::from(OPEN_FLAGS) != 0
        || resolve & !RESOLVE != 0
        || resolve & both == both
        || (makes && mode & !0o7777 != 0)
        || (!makes && mode != 0)
    {
        return Err(Errno::EINVAL);
    }
    let path_flags = oflag::O_PATH | oflag::O_DIRECTORY | oflag::O_NOFOLLOW | oflag::O_CLOEXEC;
    let flags = flags as u32;
    if flags & oflag::O_PATH != 0 && flags & !path_flags != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve & u64::from(g::RESOLVE_CACHED) != 0 {
        // A lookup that may not wait: nothing here ever waits for a disk, but what would change
        // something is refused.
        if flags & (oflag::O_TRUNC | oflag::O_CREAT) != 0
            || flags & oflag::O_TMPFILE == oflag::O_TMPFILE
        {
            return Err(Errno::EAGAIN);
        }
    }
    let resolve = resolve as u32 & !g::RESOLVE_CACHED;
    open_how(c, dirfd, path, OpenHow { flags, mode: mode as u32, resolve })
}

fn umask(c: &mut Ctx<'_>, mask: u32) -> Result<u32> {
    let context = c.task.fs.lock().clone();
    Ok(context.set_umask(mask))
}

fn getcwd(c: &mut Ctx<'_>, buf: VirtAddr, size: usize) -> Result<usize> {
    let mut text = c.as_caller(|caller| caller.cwd_text())?;
    text.push(0);
    if text.len() > size {
        return Err(Errno::ERANGE);
    }
    hal::user::copy_to(buf, &text)?;
    Ok(text.len())
}

fn chdir(c: &mut Ctx<'_>, path: VirtAddr) -> Result<()> {
    let path = c.path(path)?;
    let to = c.as_caller(|caller| caller.directory(&path))?;
    let context = c.task.fs.lock().clone();
    context.set_cwd(to);
    Ok(())
}

fn fchdir(c: &mut Ctx<'_>, fd: i32) -> Result<()> {
    let file = c.file(fd)?;
    let to = c.as_caller(|caller| caller.directory_of(&file))?;
    let context = c.task.fs.lock().clone();
    context.set_cwd(to);
    Ok(())
}

fn chroot(c: &mut Ctx<'_>, path: VirtAddr) -> Result<()> {
    let path = c.path(path)?;
    let to = c.as_caller(|caller| caller.new_root(&path))?;
    let context = c.task.fs.lock().clone();
    context.set_root(to);
    Ok(())
}

fn mkdirat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, mode: u32) -> Result<()> {
    let path = c.path(path)?;
    let start = c.start(dirfd, &path)?;
    c.as_caller(|caller| caller.mkdir(start.at(), &path, mode))
}

fn mkdir(c: &mut Ctx<'_>, path: VirtAddr, mode: u32) -> Result<()> {
    mkdirat(c, CWD, path, mode)
}

fn mknodat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, mode: u32, dev: u32) -> Result<()> {
    let path = c.path(path)?;
    let start = c.start(dirfd, &path)?;
    c.as_caller(|caller| caller.mknod(start.at(), &path, mode, DevId::decode(u64::from(dev))))
}

fn mknod(c: &mut Ctx<'_>, path: VirtAddr, mode: u32, dev: u32) -> Result<()> {
    mknodat(c, CWD, path, mode, dev)
}

fn unlinkat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, flags: u32) -> Result<()> {
    if flags & !g::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = c.path(path)?;
    let start = c.start(dirfd, &path)?;
    c.as_caller(|caller| match flags {
        0 => caller.unlink(start.at(), &path),
        _ => caller.rmdir(start.at(), &path),
    })
}

fn unlink(c: &mut Ctx<'_>, path: VirtAddr) -> Result<()> {
    unlinkat(c, CWD, path, 0)
}

fn rmdir(c: &mut Ctx<'_>, path: VirtAddr) -> Result<()> {
    unlinkat(c, CWD, path, g::AT_REMOVEDIR)
}

fn renameat2(
    c: &mut Ctx<'_>,
    olddir: i32,
    old: VirtAddr,
    newdir: i32,
    new: VirtAddr,
    flags: u32,
) -> Result<()> {
    let (old, new) = (c.path(old)?, c.path(new)?);
    let (from, to) = (c.start(olddir, &old)?, c.start(newdir, &new)?);
    c.as_caller(|caller| caller.rename(from.at(), &old, to.at(), &new, flags))
}

fn renameat(c: &mut Ctx<'_>, olddir: i32, old: VirtAddr, newdir: i32, new: VirtAddr) -> Result<()> {
    renameat2(c, olddir, old, newdir, new, 0)
}

fn rename(c: &mut Ctx<'_>, old: VirtAddr, new: VirtAddr) -> Result<()> {
    renameat2(c, CWD, old, CWD, new, 0)
}

fn linkat(
    c: &mut Ctx<'_>,
    olddir: i32,
    old: VirtAddr,
    newdir: i32,
    new: VirtAddr,
    flags: u32,
) -> Result<()> {
    let how = Lookup {
        follow: flags & g::AT_SYMLINK_FOLLOW != 0,
        ..lookup_flags(flags & !g::AT_SYMLINK_FOLLOW, g::AT_EMPTY_PATH)?
    };
    let (old, new) = (c.path(old)?, c.path(new)?);
    let (from, to) = (c.start(olddir, &old)?, c.start(newdir, &new)?);
    // Whoever was handed a descriptor gives its file no name: Linux 6.10 and later.
    if flags & g::AT_EMPTY_PATH != 0
        && olddir != CWD
        && old.first() != Some(&b'/')
        && !c.file(olddir)?.opened_by_caller()
        && !crate::creds::capable(Cap::DacReadSearch)
    {
        return Err(Errno::ENOENT);
    }
    c.as_caller(|caller| caller.link(from.at(), &old, how, to.at(), &new))
}

fn link(c: &mut Ctx<'_>, old: VirtAddr, new: VirtAddr) -> Result<()> {
    linkat(c, CWD, old, CWD, new, 0)
}

fn symlinkat(c: &mut Ctx<'_>, target: VirtAddr, dirfd: i32, path: VirtAddr) -> Result<()> {
    let (target, path) = (c.path(target)?, c.path(path)?);
    let start = c.start(dirfd, &path)?;
    c.as_caller(|caller| caller.symlink(&target, start.at(), &path))
}

fn symlink(c: &mut Ctx<'_>, target: VirtAddr, path: VirtAddr) -> Result<()> {
    let (target, path) = (c.path(target)?, c.path(path)?);
    c.as_caller(|caller| caller.symlink(&target, At::Cwd, &path))
}
