//! mount(2), umount2(2), pivot_root(2).

use super::Ctx;
use abi::{Errno, Result};
use alloc::string::String;
use alloc::vec::Vec;
use fs::{Cap, mount};
use hal::VirtAddr;

crate::syscalls! {
    155 pivot_root(new_root: VirtAddr, put_old: VirtAddr) => pivot_root;
    165 mount(source: VirtAddr, target: VirtAddr, kind: VirtAddr, flags: u64, data: VirtAddr) => mount_at;
    166 umount2(target: VirtAddr, flags: u32) => umount2;
}

/// A string argument that may be left out.
fn text(at: VirtAddr) -> Result<Vec<u8>> {
    if at.raw() == 0 { Ok(Vec::new()) } else { hal::user::read_cstr(at, 4095) }
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Errno::EINVAL)
}

fn mount_at(
    c: &mut Ctx<'_>,
    source: VirtAddr,
    target: VirtAddr,
    kind: VirtAddr,
    flags: u64,
    data: VirtAddr,
) -> Result<()> {
    let (source, target) = (text(source)?, c.path(target)?);
    let kind = utf8(text(kind)?)?;
    // Options are text; what is not (a structure of some network file system) has no type here.
    let options = utf8(text(data)?)?;
    c.as_caller(|caller| caller.mount(&source, &target, &kind, flags as u32, &options)).inspect_err(
        |error| {
            if *error == Errno::ENODEV {
                crate::missing::note(crate::missing::Asked::FileSystem, kind.as_bytes());
            }
        },
    )
}

/// MNT_EXPIRE is not there: EINVAL.
fn umount2(c: &mut Ctx<'_>, target: VirtAddr, flags: u32) -> Result<()> {
    const FORCE: u32 = 1;
    const DETACH: u32 = 2;
    const NOFOLLOW: u32 = 8;
    if flags & !(FORCE | DETACH | NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = c.path(target)?;
    c.as_caller(|caller| caller.umount(&target, flags & DETACH != 0, flags & NOFOLLOW != 0))
}

/// The old root's users move to the new one, as Linux moves them.
fn pivot_root(c: &mut Ctx<'_>, new_root: VirtAddr, put_old: VirtAddr) -> Result<()> {
    let (new_root, put_old) = (c.path(new_root)?, c.path(put_old)?);
    let (root, new) = c.as_caller(|caller| -> Result<_> {
        caller.creds.require(Cap::SysAdmin)?;
        let new = caller.directory(&new_root)?;
        let old = caller.directory(&put_old)?;
        let root = caller.view.root.clone();
        mount::pivot(&root, &new, &old)?;
        Ok((root, new))
    })?;
    for process in crate::task::table::processes() {
        for task in process.threads() {
            let context = task.fs.lock().clone();
            let view = context.view();
            if view.root == root {
                context.set_root(new.clone());
            }
            if view.cwd == root {
                context.set_cwd(new.clone());
            }
        }
    }
    Ok(())
}
