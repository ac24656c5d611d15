//! Directories of the host that the run file names, mounted read only (9p over virtio).

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use rustix::mount::{MountFlags, mount};
use rustix::system::finit_module;

use crate::spec::Spec;

/// Nothing in a share gives anybody more than he has.
const FLAGS: MountFlags = MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV);

/// How Linux is to fetch: in pieces of this size, and what came stays (a mapping needs it there).
const OPTIONS: &str = "trans=virtio,version=9p2000.L,cache=loose,msize=262144";

/// Loads what the kernel needs for them, and mounts them. A program that relies on a share is not
/// started without it.
pub fn mount_all(spec: &Spec) -> Result<(), String> {
    for path in &spec.modules {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.to_string_lossy());
        let module = File::open(path).map_err(|e| said(&e))?;
        match finit_module(&module, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(said(&error)),
        }
    }
    for (tag, path) in &spec.shares {
        let options = CString::new(OPTIONS).map_err(|e| e.to_string())?;
        mount(tag, path.as_bytes(), "9p", FLAGS, Some(options.as_c_str()))
            .map_err(|error| format!("--share {}: {error}", path.to_string_lossy()))?;
    }
    Ok(())
}
