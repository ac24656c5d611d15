//! The mounts every program expects. A mount that fails is reported on the console and the boot
//! goes on: the program may not need it.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::complain;

/// Source, target, type, flags, data.
type Mount = (&'static str, &'static str, &'static str, MountFlags, &'static str);

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

const MOUNTS: &[Mount] = &[
    ("proc", "/proc", "proc", SAFE.union(MountFlags::NOEXEC), ""),
    ("sysfs", "/sys", "sysfs", SAFE.union(MountFlags::NOEXEC), ""),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", SAFE.union(MountFlags::NOEXEC), ""),
    ("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", "devpts", MountFlags::NOSUID, "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "tmpfs", SAFE, "mode=1777"),
    ("tmpfs", "/tmp", "tmpfs", SAFE, "mode=1777"),
    ("tmpfs", "/run", "tmpfs", SAFE, "mode=0755"),
];

/// Mounts everything in [`MOUNTS`], and makes the links of /dev that POSIX programs use.
pub fn mount_all() {
    for &(source, target, kind, flags, data) in MOUNTS {
        // The image may carry the program itself under /tmp: a mount would hide it.
        if !target.starts_with("/dev") && has_entries(target) {
            continue;
        }
        let _ = fs::create_dir_all(target);
        let data = std::ffi::CString::new(data).ok();
        if let Err(error) = mount(source, target, kind, flags, data.as_deref()) {
            complain(target, &error);
        }
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        if !Path::new(link).exists() {
            let _ = std::os::unix::fs::symlink(target, link);
        }
    }
}

/// The machine's name, as /etc/hostname gives it.
pub fn set_hostname() {
    if let Ok(name) = fs::read_to_string("/etc/hostname")
        && let Err(error) = rustix::system::sethostname(name.trim().as_bytes())
    {
        complain("hostname", &error);
    }
}

fn has_entries(dir: &str) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}
