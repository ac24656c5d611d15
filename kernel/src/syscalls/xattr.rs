//! Extended attributes: no file has any. What Linux's tmpfs answers for files without.

use super::Ctx;
use abi::raw::general as g;
use abi::{Errno, Result};
use fs::Place;
use fs::context::{Lookup, statfs_of};
use hal::VirtAddr;

crate::syscalls! {
    188 setxattr(path: VirtAddr, name: VirtAddr, value: VirtAddr, size: usize, flags: u32) => setxattr;
    189 lsetxattr(path: VirtAddr, name: VirtAddr, value: VirtAddr, size: usize, flags: u32) => lsetxattr;
    190 fsetxattr(fd: i32, name: VirtAddr, value: VirtAddr, size: usize, flags: u32) => fsetxattr;
    191 getxattr(path: VirtAddr, name: VirtAddr, value: VirtAddr, size: usize) => getxattr;
    192 lgetxattr(path: VirtAddr, name: VirtAddr, value: VirtAddr, size: usize) => lgetxattr;
    193 fgetxattr(fd: i32, name: VirtAddr, value: VirtAddr, size: usize) => fgetxattr;
    194 listxattr(path: VirtAddr, list: VirtAddr, size: usize) => listxattr;
    195 llistxattr(path: VirtAddr, list: VirtAddr, size: usize) => llistxattr;
    196 flistxattr(fd: i32, list: VirtAddr, size: usize) => flistxattr;
    197 removexattr(path: VirtAddr, name: VirtAddr) => removexattr;
    198 lremovexattr(path: VirtAddr, name: VirtAddr) => lremovexattr;
    199 fremovexattr(fd: i32, name: VirtAddr) => fremovexattr;
}

const TMPFS: u32 = 0x0102_1994;

/// What asking for the attribute `name` of `place` gives: ENODATA where it could be but is not,
/// EOPNOTSUPP where such names cannot be.
fn absent(place: &Place, name: VirtAddr) -> Errno {
    let name = match hal::user::read_cstr(name, 255) {
        Ok(name) if !name.is_empty() => name,
        Ok(_) | Err(Errno::ENAMETOOLONG) => return Errno::ERANGE,
        Err(error) => return error,
    };
    let known: [&[u8]; 5] = [
        b"user.",
        b"trusted.",
        b"security.",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    ];
    let possible = known.iter().any(|prefix| name.starts_with(prefix));
    if possible && statfs_of(place).magic == TMPFS { Errno::ENODATA } else { Errno::EOPNOTSUPP }
}

fn get(place: &Place, name: VirtAddr) -> Result<usize> {
    Err(absent(place, name))
}

/// Values cannot be kept: EOPNOTSUPP.
fn set(place: &Place, name: VirtAddr, flags: u32) -> Result<()> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    match absent(place, name) {
        Errno::ENODATA => Err(Errno::EOPNOTSUPP),
        error => Err(error),
    }
}

fn by_path<R>(
    c: &Ctx<'_>,
    path: VirtAddr,
    how: Lookup,
    work: impl FnOnce(&Place) -> Result<R>,
) -> Result<R> {
    c.at_place(g::AT_FDCWD, path, how, |_, place| work(place))
}

fn setxattr(
    c: &mut Ctx<'_>,
    path: VirtAddr,
    name: VirtAddr,
    _: VirtAddr,
    _: usize,
    flags: u32,
) -> Result<()> {
    by_path(c, path, Lookup::FOLLOW, |place| set(place, name, flags))
}

fn lsetxattr(
    c: &mut Ctx<'_>,
    path: VirtAddr,
    name: VirtAddr,
    _: VirtAddr,
    _: usize,
    flags: u32,
) -> Result<()> {
    by_path(c, path, Lookup::NOFOLLOW, |place| set(place, name, flags))
}

fn fsetxattr(
    c: &mut Ctx<'_>,
    fd: i32,
    name: VirtAddr,
    _: VirtAddr,
    _: usize,
    flags: u32,
) -> Result<()> {
    set(c.real_file(fd)?.place(), name, flags)
}

fn getxattr(
    c: &mut Ctx<'_>,
    path: VirtAddr,
    name: VirtAddr,
    _: VirtAddr,
    _: usize,
) -> Result<usize> {
    by_path(c, path, Lookup::FOLLOW, |place| get(place, name))
}

fn lgetxattr(
    c: &mut Ctx<'_>,
    path: VirtAddr,
    name: VirtAddr,
    _: VirtAddr,
    _: usize,
) -> Result<usize> {
    by_path(c, path, Lookup::NOFOLLOW, |place| get(place, name))
}

fn fgetxattr(c: &mut Ctx<'_>, fd: i32, name: VirtAddr, _: VirtAddr, _: usize) -> Result<usize> {
    get(c.real_file(fd)?.place(), name)
}

fn listxattr(c: &mut Ctx<'_>, path: VirtAddr, _: VirtAddr, _: usize) -> Result<usize> {
    by_path(c, path, Lookup::FOLLOW, |_| Ok(0))
}

fn llistxattr(c: &mut Ctx<'_>, path: VirtAddr, _: VirtAddr, _: usize) -> Result<usize> {
    by_path(c, path, Lookup::NOFOLLOW, |_| Ok(0))
}

fn flistxattr(c: &mut Ctx<'_>, fd: i32, _: VirtAddr, _: usize) -> Result<usize> {
    c.real_file(fd).map(|_| 0)
}

fn removexattr(c: &mut Ctx<'_>, path: VirtAddr, name: VirtAddr) -> Result<()> {
    by_path(c, path, Lookup::FOLLOW, |place| Err(absent(place, name)))
}

fn lremovexattr(c: &mut Ctx<'_>, path: VirtAddr, name: VirtAddr) -> Result<()> {
    by_path(c, path, Lookup::NOFOLLOW, |place| Err(absent(place, name)))
}

fn fremovexattr(c: &mut Ctx<'_>, fd: i32, name: VirtAddr) -> Result<()> {
    Err(absent(c.real_file(fd)?.place(), name))
}
