//! Bringing the file layer up: device drivers, file system types, and the nodes of /dev.

use crate::context::{At, Caller, FsContext};
use crate::creds::Creds;
use crate::dev::mem;
use crate::mount::{self, Mount, Super};
use crate::stat::DevId;
use crate::tmpfs::Tmpfs;
use crate::tty;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;

/// Runs `work` as the kernel itself, with `root` as root directory.
pub fn as_kernel<R>(root: &mount::Path, work: impl FnOnce(&Caller<'_>) -> R) -> R {
    let creds = Creds::root();
    let context = FsContext::new(root.clone());
    context.set_umask(0);
    work(&Caller::new(&creds, &context))
}

/// Makes a node in a file system (devtmpfs), with the directories above it. `mode` includes the
/// type.
pub fn add_node(sb: &Arc<Super>, path: &str, mode: u32, rdev: DevId) -> Result<()> {
    let root = Mount::new(sb.clone(), "devtmpfs", 0)?.top();
    as_kernel(&root, |caller| {
        for (at, _) in path.match_indices('/') {
            match caller.mkdir(At::Cwd, &path.as_bytes()[..at], 0o755) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        caller.mknod(At::Cwd, path.as_bytes(), mode, rdev)
    })
}

/// Makes a symbolic link in a file system (devtmpfs).
pub fn add_link(sb: &Arc<Super>, path: &str, target: &str) -> Result<()> {
    let root = Mount::new(sb.clone(), "devtmpfs", 0)?.top();
    as_kernel(&root, |caller| caller.symlink(target.as_bytes(), At::Cwd, path.as_bytes()))
}

/// Registers the memory devices and the types tmpfs, ramfs, devtmpfs and devpts; returns the one
/// devtmpfs, which holds the nodes of the memory devices, the terminals' common nodes, and the
/// directories and links that Linux's devtmpfs and its first user, udev, put there.
pub fn init() -> Result<Arc<Super>> {
    mem::register();
    mount::register("tmpfs", Box::new(|_, options| Tmpfs::mount(options)));
    mount::register("hugetlbfs", Box::new(|_, options| Tmpfs::hugetlbfs(options)));
    mount::register("ramfs", Box::new(|_, _| Tmpfs::ramfs("ramfs")));
    mount::register("devpts", Box::new(|_, options| tty::devpts(options)));
    let devtmpfs = Tmpfs::devtmpfs()?;
    let instance = devtmpfs.clone();
    mount::register("devtmpfs", Box::new(move |_, _| Ok(instance.clone())));
    let char = |name: &str, mode: u32, major: u32, minor: u32| {
        add_node(&devtmpfs, name, g::S_IFCHR | mode, DevId::new(major, minor))
    };
    for (name, minor, mode) in mem::NODES {
        char(name, mode, 1, minor)?;
    }
    char("tty", 0o666, 5, 0)?;
    char("console", 0o600, 5, 1)?;
    char("ptmx", 0o666, 5, 2)?;
    let root = Mount::new(devtmpfs.clone(), "devtmpfs", 0)?.top();
    as_kernel(&root, |caller| -> Result<()> {
        caller.mkdir(At::Cwd, b"pts", 0o755)?;
        caller.mkdir(At::Cwd, b"shm", 0o1777)?;
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            caller.symlink(target.as_bytes(), At::Cwd, name.as_bytes())?;
        }
        Ok(())
    })?;
    Ok(devtmpfs)
}
