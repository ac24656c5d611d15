//! Directories of this machine that a guest may read (`--share`): QEMU's virtio-9p serves them, read
//! only, and the guest's init mounts each at its own path.
//!
//! QEMU opens each component of a path by itself and follows no symbolic link; the guest follows links,
//! in its own tree. So nothing outside the directory is reached, whatever the guest asks for.

use std::path::{Path, PathBuf};

use crate::error::{Fail, Result};

/// As many as fit on a bus beside the other devices.
const MOST: usize = 16;

/// A directory, at the same path here and in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Without symbolic links.
    pub dir: PathBuf,
    /// As it was asked for, where that leads through links.
    pub asked: Option<PathBuf>,
    pub tag: String,
}

impl Share {
    /// QEMU's arguments.
    pub fn args(&self) -> [String; 4] {
        let (tag, path) = (&self.tag, self.dir.display().to_string().replace(',', ",,"));
        [
            "-fsdev".into(),
            format!("local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap"),
            "-device".into(),
            format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        ]
    }
}

/// The shares that are asked for; one that lies in another adds nothing.
pub fn shares(asked: &[PathBuf]) -> Result<Vec<Share>> {
    let mut dirs: Vec<(PathBuf, Option<PathBuf>)> = Vec::new();
    for dir in asked {
        let shown = dir.display();
        let real = dir.canonicalize().map_err(|e| Fail::usage(format!("--share {shown}: {e}")))?;
        if !real.is_dir() {
            return Err(Fail::usage(format!("--share {shown}: no directory (a file: --with)")));
        }
        std::fs::read_dir(&real).map_err(|e| Fail::usage(format!("--share {shown}: {e}")))?;
        if real.to_str().is_none() {
            return Err(Fail::usage(format!("--share {shown}: its name is no UTF-8")));
        }
        if let Some(why) = refused(&real) {
            return Err(Fail::usage(format!("--share {shown}: {why}")));
        }
        let absolute = std::path::absolute(dir).ok().filter(|path| *path != real);
        dirs.push((real, absolute));
    }
    let inside = |dir: &Path| dirs.iter().any(|(own, _)| own != dir && dir.starts_with(own));
    let mut kept: Vec<Share> = Vec::new();
    for (dir, asked) in dirs.iter().filter(|(dir, _)| !inside(dir)) {
        if kept.iter().all(|share| share.dir != *dir) {
            let tag = format!("share{}", kept.len());
            kept.push(Share { dir: dir.clone(), asked: asked.clone(), tag });
        }
    }
    if kept.len() > MOST {
        return Err(Fail::usage(format!("--share: {} directories, at most {MOST}", kept.len())));
    }
    Ok(kept)
}

/// Why a directory cannot be the host's in the guest: it would hide what is the guest's own.
fn refused(dir: &Path) -> Option<String> {
    if dir == Path::new("/") {
        return Some("share what is needed of it, such as --share /usr".into());
    }
    if dir == Path::new("/etc") {
        return Some("it is the guest's own; share what is needed below it".into());
    }
    ["/proc", "/sys", "/dev", "/etc/proxima"]
        .into_iter()
        .find(|own| dir.starts_with(own))
        .map(|own| format!("{own} is the guest's own"))
}

/// Whether a path of the guest lies in a share.
pub fn covers(shares: &[Share], path: &Path) -> bool {
    shares.iter().any(|share| path.starts_with(&share.dir))
}

/// Where Proxima counts what was used.
pub const COUNTS: &str = "/proc/proxima/shared";

/// A line for a person; none from a kernel that does not count.
pub fn told(counts: &str) -> Option<String> {
    let number = |key: &str| {
        let line = counts.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse::<u64>().ok()
    };
    let (files, bytes) = (number("files ")?, number("bytes ")?);
    let kib = bytes.div_ceil(1024);
    Some(format!("proxima: {files} shared files were opened, and {kib} KiB of them fetched"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_told() {
        let line = told("files 3\nbytes 2097152\n").unwrap();
        assert_eq!(line, "proxima: 3 shared files were opened, and 2048 KiB of them fetched");
        assert_eq!(told(""), None);
    }

    #[test]
    fn a_share_is_a_directory_that_is_not_the_guests_own() {
        let why = |path: &str| shares(&[path.into()]).unwrap_err();
        for (path, word) in [
            ("/", "such as --share /usr"),
            ("/proc", "guest's own"),
            ("/dev/shm", "guest's own"),
            ("/etc", "below it"),
            ("/nowhere-at-all", "No such file"),
            ("/etc/passwd", "no directory"),
        ] {
            let fail = why(path);
            assert!(fail.message.contains(word) && fail.code == 2, "{path}: {}", fail.message);
        }
    }

    #[test]
    fn links_are_resolved_here_and_what_lies_in_another_share_adds_nothing() {
        let work = crate::cleanup::WorkDir::new().unwrap();
        let top = work.path().canonicalize().unwrap();
        let (real, link) = (top.join("a"), top.join("link"));
        std::fs::create_dir_all(real.join("b")).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        let found = shares(&[link.clone(), real.join("b"), real.clone()]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].dir, &found[0].asked), (&real, &Some(link)));
        assert!(covers(&found, &real.join("b/c")) && !covers(&found, &top.join("ab")));
    }

    #[test]
    fn a_comma_in_a_path_is_none_of_qemus() {
        let share = Share { dir: "/a,b".into(), asked: None, tag: "share0".into() };
        assert_eq!(
            share.args()[1],
            "local,id=share0,path=/a,,b,security_model=none,readonly=on,multidevs=remap"
        );
    }
}
