//! Modules of a packaged Linux: those by which it sees shared directories, which Debian and Ubuntu do
//! not build in. They are fetched when they are first needed, from the packages of the very kernel that
//! the cache holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Version;
use crate::apt::Apt;
use crate::error::{Context, Fail, Result};
use crate::paths;
use crate::progress::Progress;

/// By name, each after those that it needs. A kernel that has one built in has no file of it.
const NAMES: &[&str] = &["virtio_pci", "netfs", "9pnet", "9pnet_virtio", "9p"];
/// Without these there is no use in the others.
const LAST: &str = "9p";

impl Version {
    /// The modules that it needs to see shared directories, in their order.
    pub fn modules(&self, progress: &Progress) -> Result<Vec<PathBuf>> {
        let release = self.release().ok_or("no release").context("the cached Linux")?;
        let dir = paths::cache()?.join(format!("modules-{release}"));
        if !dir.exists() {
            progress.wait_for("fetching Linux's modules, once");
            fetch(&release, &dir)?;
        }
        let file = |name: &&str| dir.join(format!("{name}.ko"));
        Ok(NAMES.iter().map(file).filter(|path| path.exists()).collect())
    }
}

fn fetch(release: &str, dir: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(paths::cache()?).context("cache")?;
    let new = work.path().join("new");
    fs::create_dir(&new).context(new.display())?;
    let plain = release.replace(['+', '.'], ".");
    for apt in Apt::all() {
        let names = apt.search(&format!("^linux-(modules|image)-(unsigned-)?{plain}(-unsigned)?$"));
        for name in names {
            let Ok(deb) = apt.download(&name, work.path()) else { continue };
            unpack(&deb, work.path(), &new)?;
            if new.join(format!("{LAST}.ko")).exists() {
                let renamed = fs::rename(&new, dir);
                return if dir.exists() { Ok(()) } else { renamed.context(dir.display()) };
            }
        }
    }
    Err(Fail::broken(format!(
        "the archives have no modules of Linux {release} any more: remove {} to have a newer kernel, or \
         bring files with --with",
        paths::cache()?.join("linux").display()
    )))
}

/// Takes the modules out of a package, and out of what they are packed in.
fn unpack(deb: &Path, work: &Path, into: &Path) -> Result<()> {
    let root = work.join("modules");
    fs::create_dir_all(&root).context(root.display())?;
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb")?;
    let patterns = NAMES.iter().map(|name| format!("*/{name}.ko*"));
    // It complains of patterns that match nothing: what is built in.
    let _ = Command::new("tar")
        .args(["-x", "--wildcards"])
        .args(patterns)
        .current_dir(&root)
        .stdin(dpkg.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::null())
        .status()
        .context("tar")?;
    let _ = dpkg.wait();
    let _ = fs::remove_file(deb);
    let mut dirs = vec![root];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).context(dir.display())?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Some((name, packed)) = module_of(&path) {
                let bytes = match packed {
                    Some(tool) => plain(tool, &path)?,
                    None => fs::read(&path).context(path.display())?,
                };
                fs::write(into.join(name), bytes).context(into.display())?;
            }
        }
    }
    Ok(())
}

/// A module's own name, and what unpacks it.
fn module_of(path: &Path) -> Option<(String, Option<&'static str>)> {
    let name = path.file_name()?.to_str()?;
    let at = name.find(".ko")? + 3;
    let tool = match &name[at..] {
        "" => None,
        ".xz" => Some("xz"),
        ".zst" => Some("zstd"),
        ".gz" => Some("gzip"),
        _ => return None,
    };
    Some((name[..at].replace('-', "_"), tool))
}

fn plain(tool: &str, path: &Path) -> Result<Vec<u8>> {
    let output = Command::new(tool).arg("-dc").arg(path).output().context(tool)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(Fail::broken(format!("{tool} cannot unpack {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_name_is_told_from_its_packing() {
        let of = |name: &str| module_of(&Path::new("/lib/modules/6.12/kernel/fs").join(name));
        assert_eq!(of("9p.ko.xz"), Some(("9p.ko".into(), Some("xz"))));
        assert_eq!(of("virtio-pci.ko"), Some(("virtio_pci.ko".into(), None)));
        assert_eq!(of("9p.ko.zst"), Some(("9p.ko".into(), Some("zstd"))));
        assert_eq!(of("modules.dep"), None);
    }
}
