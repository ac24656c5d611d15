//! Attributes of files: stat, modes, owners, times, access, links' texts, extended attributes.

use super::Ctx;
use super::lookup::lookup_flags;
use abi::raw::general as g;
use abi::uapi::{Timespec, Timeval};
use abi::{Errno, Result};
use fs::context::{At, Lookup, Ownership, statfs_of};
use fs::{Metadata, Place, TimeChange};
use hal::VirtAddr;

crate::syscalls! {
    4 stat(path: VirtAddr, buf: VirtAddr) => stat;
    5 fstat(fd: i32, buf: VirtAddr) => fstat;
    6 lstat(path: VirtAddr, buf: VirtAddr) => lstat;
    21 access(path: VirtAddr, mode: u32) => access;
    76 truncate(path: VirtAddr, len: i64) => truncate;
    89 readlink(path: VirtAddr, buf: VirtAddr, size: i32) => readlink;
    90 chmod(path: VirtAddr, mode: u32) => chmod;
    91 fchmod(fd: i32, mode: u32) => fchmod;
    92 chown(path: VirtAddr, uid: u32, gid: u32) => chown;
    93 fchown(fd: i32, uid: u32, gid: u32) => fchown;
    94 lchown(path: VirtAddr, uid: u32, gid: u32) => lchown;
    132 utime(path: VirtAddr, times: VirtAddr) => utime;
    137 statfs(path: VirtAddr, buf: VirtAddr) => statfs;
    138 fstatfs(fd: i32, buf: VirtAddr) => fstatfs;
    235 utimes(path: VirtAddr, times: VirtAddr) => utimes;
    260 fchownat(dirfd: i32, path: VirtAddr, uid: u32, gid: u32, flags: u32) => fchownat;
    261 futimesat(dirfd: i32, path: VirtAddr, times: VirtAddr) => futimesat;
    262 newfstatat(dirfd: i32, path: VirtAddr, buf: VirtAddr, flags: u32) => newfstatat;
    267 readlinkat(dirfd: i32, path: VirtAddr, buf: VirtAddr, size: i32) => readlinkat;
    268 fchmodat(dirfd: i32, path: VirtAddr, mode: u32) => fchmodat;
    269 faccessat(dirfd: i32, path: VirtAddr, mode: u32) => faccessat;
    280 utimensat(dirfd: i32, path: VirtAddr, times: VirtAddr, flags: u32) => utimensat;
    332 statx(dirfd: i32, path: VirtAddr, flags: u32, mask: u32, buf: VirtAddr) => statx;
    439 faccessat2(dirfd: i32, path: VirtAddr, mode: u32, flags: u32) => faccessat2;
    452 fchmodat2(dirfd: i32, path: VirtAddr, mode: u32, flags: u32) => fchmodat2;
}

const CWD: i32 = g::AT_FDCWD;

fn store_stat(buf: VirtAddr, meta: &Metadata) -> Result<()> {
    hal::user::copy_to(buf, &meta.stat_bytes())
}

fn stat(c: &mut Ctx<'_>, path: VirtAddr, buf: VirtAddr) -> Result<()> {
    newfstatat(c, CWD, path, buf, 0)
}

fn lstat(c: &mut Ctx<'_>, path: VirtAddr, buf: VirtAddr) -> Result<()> {
    newfstatat(c, CWD, path, buf, g::AT_SYMLINK_NOFOLLOW)
}

fn fstat(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr) -> Result<()> {
    store_stat(buf, &c.file(fd)?.metadata())
}

/// The metadata of what `dirfd`, `path` and `flags` name; a null path with AT_EMPTY_PATH is the
/// descriptor itself.
fn metadata(c: &Ctx<'_>, dirfd: i32, path: VirtAddr, flags: u32, how: Lookup) -> Result<Metadata> {
    if flags & g::AT_EMPTY_PATH != 0 && dirfd >= 0 {
        // The usual form of fstat in glibc: an empty path, which need not be walked.
        let empty = path.raw() == 0 || hal::user::read::<u8>(path)? == 0;
        if empty {
            return Ok(c.file(dirfd)?.metadata());
        }
    }
    let path = c.path(path)?;
    let start = c.start(dirfd, &path)?;
    c.as_caller(|caller| caller.stat(start.at(), &path, how))
}

fn newfstatat(
    c: &mut Ctx<'_>,
    dirfd: i32,
    path: VirtAddr,
    buf: VirtAddr,
    flags: u32,
) -> Result<()> {
    let how = lookup_flags(flags, g::AT_SYMLINK_NOFOLLOW | g::AT_EMPTY_PATH | g::AT_NO_AUTOMOUNT)?;
    store_stat(buf, &metadata(c, dirfd, path, flags, how)?)
}

fn statx(
    c: &mut Ctx<'_>,
    dirfd: i32,
    path: VirtAddr,
    flags: u32,
    mask: u32,
    buf: VirtAddr,
) -> Result<()> {
    const RESERVED: u32 = 1 << 31;
    let sync = flags & g::AT_STATX_SYNC_TYPE;
    if mask & RESERVED != 0 || sync == g::AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let allowed =
        g::AT_SYMLINK_NOFOLLOW | g::AT_EMPTY_PATH | g::AT_NO_AUTOMOUNT | g::AT_STATX_SYNC_TYPE;
    let how = lookup_flags(flags, allowed)?;
    hal::user::copy_to(buf, &metadata(c, dirfd, path, flags, how)?.statx_bytes())
}

fn access(c: &mut Ctx<'_>, path: VirtAddr, mode: u32) -> Result<()> {
    faccessat2(c, CWD, path, mode, 0)
}

fn faccessat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, mode: u32) -> Result<()> {
    faccessat2(c, dirfd, path, mode, 0)
}

fn faccessat2(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, mode: u32, flags: u32) -> Result<()> {
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let how = lookup_flags(flags, g::AT_EACCESS | g::AT_SYMLINK_NOFOLLOW | g::AT_EMPTY_PATH)?;
    let path = c.path(path)?;
    let start = c.start(dirfd, &path)?;
    let creds = c.task.credentials();
    let real;
    let by = if flags & g::AT_EACCESS != 0 {
        &*creds.fs
    } else {
        // Real ids; the capabilities that a program of the real user would have.
        let caps = if creds.uid == 0 { creds.cap_permitted } else { 0 };
        real = fs::Creds { uid: creds.uid, gid: creds.gid, groups: creds.fs.groups.clone(), caps };
        &real
    };
    c.as_caller(|caller| caller.access(by, start.at(), &path, mode, how))
}

fn truncate(c: &mut Ctx<'_>, path: VirtAddr, len: i64) -> Result<()> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    let path = c.path(path)?;
    super::io::or_signal(c.as_caller(|caller| caller.truncate(&path, len)))
}

fn readlink(c: &mut Ctx<'_>, path: VirtAddr, buf: VirtAddr, size: i32) -> Result<usize> {
    let path = c.path(path)?;
    put_link(buf, size, || c.as_caller(|caller| caller.readlink(At::Cwd, &path)))
}

fn readlinkat(
    c: &mut Ctx<'_>,
    dirfd: i32,
    path: VirtAddr,
    buf: VirtAddr,
    size: i32,
) -> Result<usize> {
    let path = c.path(path)?;
    let start = c.start(dirfd, &path)?;
    put_link(buf, size, || c.as_caller(|caller| caller.readlink(start.at(), &path)))
}

fn put_link(
    buf: VirtAddr,
    size: i32,
    read: impl FnOnce() -> Result<alloc::vec::Vec<u8>>,
) -> Result<usize> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let text = read()?;
    let len = text.len().min(size as usize);
    hal::user::copy_to(buf, &text[..len])?;
    Ok(len)
}

fn fchmodat2(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, mode: u32, flags: u32) -> Result<()> {
    let how = lookup_flags(flags, g::AT_SYMLINK_NOFOLLOW | g::AT_EMPTY_PATH)?;
    c.at_place(dirfd, path, how, |caller, place| caller.chmod(place, mode))
}

fn fchmodat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, mode: u32) -> Result<()> {
    fchmodat2(c, dirfd, path, mode, 0)
}

fn chmod(c: &mut Ctx<'_>, path: VirtAddr, mode: u32) -> Result<()> {
    fchmodat2(c, CWD, path, mode, 0)
}

fn fchmod(c: &mut Ctx<'_>, fd: i32, mode: u32) -> Result<()> {
    let file = c.real_file(fd)?;
    c.as_caller(|caller| caller.chmod(file.place(), mode))
}

/// -1 leaves an id as it is.
fn ownership(uid: u32, gid: u32) -> Ownership {
    let given = |id: u32| (id != u32::MAX).then_some(id);
    Ownership { uid: given(uid), gid: given(gid) }
}

fn fchownat(
    c: &mut Ctx<'_>,
    dirfd: i32,
    path: VirtAddr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<()> {
    let how = lookup_flags(flags, g::AT_SYMLINK_NOFOLLOW | g::AT_EMPTY_PATH)?;
    c.at_place(dirfd, path, how, |caller, place| caller.chown(place, ownership(uid, gid)))
}

fn chown(c: &mut Ctx<'_>, path: VirtAddr, uid: u32, gid: u32) -> Result<()> {
    fchownat(c, CWD, path, uid, gid, 0)
}

fn lchown(c: &mut Ctx<'_>, path: VirtAddr, uid: u32, gid: u32) -> Result<()> {
    fchownat(c, CWD, path, uid, gid, g::AT_SYMLINK_NOFOLLOW)
}

fn fchown(c: &mut Ctx<'_>, fd: i32, uid: u32, gid: u32) -> Result<()> {
    let file = c.real_file(fd)?;
    c.as_caller(|caller| caller.chown(file.place(), ownership(uid, gid)))
}

/// One time of utimensat(2): UTIME_NOW, UTIME_OMIT, or a time. EINVAL.
fn change(time: Timespec) -> Result<TimeChange> {
    const UTIME_NOW: i64 = 0x3fff_ffff;
    const UTIME_OMIT: i64 = 0x3fff_fffe;
    match time.nsec {
        UTIME_NOW => Ok(TimeChange::Now),
        UTIME_OMIT => Ok(TimeChange::Keep),
        0..=999_999_999 => {
            Ok(TimeChange::Set(time.sec.saturating_mul(1_000_000_000).saturating_add(time.nsec)))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Access and modification time.
type Times = (TimeChange, TimeChange);

/// Both from `struct timeval`s; null is now.
fn from_timevals(times: VirtAddr) -> Result<Times> {
    if times.raw() == 0 {
        return Ok((TimeChange::Now, TimeChange::Now));
    }
    let [a, m]: [Timeval; 2] = hal::user::read(times)?;
    let one = |t: Timeval| match t.usec {
        0..=999_999 => change(Timespec { sec: t.sec, nsec: t.usec * 1000 }),
        _ => Err(Errno::EINVAL),
    };
    Ok((one(a)?, one(m)?))
}

fn utimensat(
    c: &mut Ctx<'_>,
    dirfd: i32,
    path: VirtAddr,
    times: VirtAddr,
    flags: u32,
) -> Result<()> {
    let (atime, mtime) = if times.raw() == 0 {
        (TimeChange::Now, TimeChange::Now)
    } else {
        let [a, m]: [Timespec; 2] = hal::user::read(times)?;
        (change(a)?, change(m)?)
    };
    if (atime, mtime) == (TimeChange::Keep, TimeChange::Keep) {
        return Ok(());
    }
    if path.raw() == 0 && dirfd != CWD {
        // futimens(3).
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let file = c.real_file(dirfd)?;
        return c.as_caller(|caller| caller.set_times(file.place(), atime, mtime));
    }
    let how = lookup_flags(flags, g::AT_SYMLINK_NOFOLLOW | g::AT_EMPTY_PATH)?;
    c.at_place(dirfd, path, how, |caller, place| caller.set_times(place, atime, mtime))
}

fn futimesat(c: &mut Ctx<'_>, dirfd: i32, path: VirtAddr, times: VirtAddr) -> Result<()> {
    let (atime, mtime) = from_timevals(times)?;
    if path.raw() == 0 && dirfd != CWD {
        let file = c.real_file(dirfd)?;
        return c.as_caller(|caller| caller.set_times(file.place(), atime, mtime));
    }
    c.at_place(dirfd, path, Lookup::FOLLOW, |caller, place| caller.set_times(place, atime, mtime))
}

fn utimes(c: &mut Ctx<'_>, path: VirtAddr, times: VirtAddr) -> Result<()> {
    futimesat(c, CWD, path, times)
}

fn utime(c: &mut Ctx<'_>, path: VirtAddr, times: VirtAddr) -> Result<()> {
    let (atime, mtime) = if times.raw() == 0 {
        (TimeChange::Now, TimeChange::Now)
    } else {
        let [a, m]: [i64; 2] = hal::user::read(times)?;
        (change(Timespec { sec: a, nsec: 0 })?, change(Timespec { sec: m, nsec: 0 })?)
    };
    c.at_place(CWD, path, Lookup::FOLLOW, |caller, place| caller.set_times(place, atime, mtime))
}

fn store_statfs(buf: VirtAddr, place: &Place) -> Result<()> {
    hal::user::copy_to(buf, &statfs_of(place).bytes())
}

fn statfs(c: &mut Ctx<'_>, path: VirtAddr, buf: VirtAddr) -> Result<()> {
    c.at_place(CWD, path, Lookup::FOLLOW, |_, place| store_statfs(buf, place))
}

fn fstatfs(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr) -> Result<()> {
    store_statfs(buf, c.file(fd)?.place())
}
