//! What every guest's root holds beside the program: the files of sysroot/root.toml, init, and
//! busybox with a link for each of its commands that the host's programs do not already take.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::elf::{self, Kind};
use super::libs::Finder;
use super::program::in_path;
use super::tree::{Entry, Tree};
use crate::apt;
use crate::error::{Context, Result};
use crate::paths;

const MANIFEST: &str = include_str!("../../../sysroot/root.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    links: Vec<(PathBuf, PathBuf)>,
    directories: Vec<(PathBuf, u32)>,
    devices: Vec<(PathBuf, u32, u32)>,
    file: Vec<ManifestFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    path: PathBuf,
    mode: u32,
    text: String,
}

/// The root before the program is added: links such as /bin must stand first.
pub fn skeleton() -> Result<Tree> {
    let manifest: Manifest = toml::from_str(MANIFEST).context("sysroot/root.toml")?;
    let mut tree = Tree::default();
    for (path, mode) in &manifest.directories {
        tree.directory(path, *mode)?;
    }
    for (path, target) in &manifest.links {
        tree.link(path, target)?;
    }
    for (path, major, minor) in &manifest.devices {
        tree.put(path, Entry::CharDevice { mode: 0o600, major: *major, minor: *minor })?;
    }
    for file in manifest.file {
        tree.bytes(&file.path, file.mode, file.text)?;
    }
    Ok(tree)
}

/// Adds init and, where it can be had, busybox. True if there is a busybox.
pub fn finish(tree: &mut Tree, init: &Path) -> Result<bool> {
    tree.host(init, Path::new("/init"))?;
    add_busybox(tree)
}

/// Adds busybox and its commands' names where nothing else has them.
pub fn add_busybox(tree: &mut Tree) -> Result<bool> {
    let Some(busybox) = busybox() else { return Ok(false) };
    tree.host(&busybox, Path::new("/bin/busybox"))?;
    if let Ok(Kind::Dynamic(dynamic)) = elf::read(&busybox) {
        Finder::new(None).add(tree, &busybox, dynamic)?;
    }
    for applet in applets(&busybox)? {
        let path = Path::new("/").join(&applet);
        if !tree.has(&path) && applet != Path::new("bin/busybox") {
            tree.link(&path, "/bin/busybox")?;
        }
    }
    Ok(true)
}

/// The host's static busybox, or Debian's, fetched once.
fn busybox() -> Option<PathBuf> {
    let own = in_path("busybox");
    if let Some(path) = &own
        && elf::read(path) == Ok(Kind::Static)
    {
        return own;
    }
    apt::file_of("busybox-static", "bin/busybox").ok().or(own)
}

/// Paths of all commands, as `busybox --list-full` names them; asked for once.
fn applets(busybox: &Path) -> Result<Vec<PathBuf>> {
    let meta = std::fs::metadata(busybox).context(busybox.display())?;
    let list = paths::cache()?.join(format!("busybox-{}.list", meta.len()));
    let text = match std::fs::read_to_string(&list) {
        Ok(text) => text,
        Err(_) => {
            let output =
                Command::new(busybox).arg("--list-full").output().context(busybox.display())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            std::fs::write(&list, &text).context(list.display())?;
            text
        }
    };
    Ok(text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect())
}
