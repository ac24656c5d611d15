//! Linux, the kernel to compare with: fetched as Debian or Ubuntu package it, without root, and kept
//! in the cache both as packaged and unpacked.

mod bzimage;
mod modules;
mod package;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt::Apt;
use crate::error::{Context, Fail, Result};
use crate::paths;
use crate::progress::Progress;

/// The series that Proxima follows: what `--kernel linux` boots wherever an archive has it.
pub const SERIES: &str = "6.12";

/// Which Linux is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The series that Proxima follows; without it in the archives, the newest of the host's release.
    #[default]
    Followed,
    /// The newest whose version begins with these numbers, such as `7.3` or `6.12.95`.
    Asked(String),
}

impl Version {
    /// Takes what stands behind `linux:`.
    pub fn parse(text: &str) -> Result<Self> {
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if text.split('.').all(number) && text.split('.').count() <= 3 {
            return Ok(Self::Asked(text.into()));
        }
        Err(Fail::usage(format!("--kernel linux:{text}: a version is 6.12 or 6.12.95")))
    }

    /// The directory below the cache where it is kept.
    fn dir(&self) -> Result<PathBuf> {
        Ok(paths::cache()?.join(match self {
            Self::Followed => "linux".to_string(),
            Self::Asked(version) => format!("linux-{version}"),
        }))
    }

    /// The kernel file to boot, fetched if the cache does not hold it.
    pub fn kernel(&self, progress: &Progress) -> Result<PathBuf> {
        let dir = self.dir()?;
        if !dir.join("vmlinuz").exists() {
            progress.wait_for("fetching a Linux kernel, once");
            self.fetch(&dir)?;
        }
        let unpacked = dir.join("vmlinux");
        Ok(if unpacked.exists() { unpacked } else { dir.join("vmlinuz") })
    }

    /// The release of the cached kernel, such as `6.12.95+deb12-amd64`.
    pub fn release(&self) -> Option<String> {
        fs::read_to_string(self.dir().ok()?.join("release")).ok()
    }

    fn fetch(&self, dir: &Path) -> Result<()> {
        let work = tempfile::tempdir_in(paths::cache()?).context("cache")?;
        let (release, image) = match self {
            Self::Asked(version) => newest(Apt::all(), Some(version), work.path()),
            Self::Followed => newest(Apt::own(), Some(SERIES), work.path())
                .or_else(|_| newest([Apt::host()], None, work.path())),
        }?;
        let new = work.path().join("new");
        fs::create_dir(&new).context(new.display())?;
        fs::rename(&image, new.join("vmlinuz")).context(image.display())?;
        fs::write(new.join("release"), release).context(new.display())?;
        let packed = fs::read(new.join("vmlinuz")).context("vmlinuz")?;
        // Without the decompressor at hand the packaged kernel does, only slower.
        if let Some(elf) = bzimage::unpack(&packed) {
            fs::write(new.join("vmlinux"), elf).context("vmlinux")?;
        }
        let renamed = fs::rename(&new, dir);
        if dir.join("vmlinuz").exists() { Ok(()) } else { renamed.context(dir.display()) }
    }
}

/// The release and the image of the newest kernel of `version` (of any, without one) that the first
/// of the archives to have one holds.
fn newest(
    archives: impl IntoIterator<Item = Apt>,
    version: Option<&str>,
    work: &Path,
) -> Result<(String, PathBuf)> {
    let mut last = None;
    for apt in archives {
        let names = apt.search("^linux-(image|binary)-(unsigned-)?[0-9]");
        // A package may hold but the scripts of a kernel that lies in another: then the next does.
        for name in package::candidates(&names, version).into_iter().take(4) {
            match apt.download(&name, work).and_then(|deb| image_of(&deb, work)) {
                Ok(found) => return Ok(found),
                Err(fail) => last = Some(fail),
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        let what = version.map_or("Linux".into(), |version| format!("Linux {version}"));
        Fail::broken(format!(
            "apt finds no kernel package of {what} (did apt-get update run? what there is: \
             apt-cache search --names-only '^linux-image-')"
        ))
    }))
}

/// Takes out of a package only its kernel; the modules are of no use here.
fn image_of(deb: &Path, work: &Path) -> Result<(String, PathBuf)> {
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb")?;
    let root = work.join("root");
    fs::create_dir_all(&root).context(root.display())?;
    let tar = Command::new("tar")
        .args(["-x", "--wildcards", "--no-anchored", "boot/vmlinuz-*", "modules/*/vmlinuz"])
        .current_dir(&root)
        .stdin(dpkg.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .output()
        .context("tar")?;
    let _ = dpkg.wait();
    let found = package::kernel_below(&root);
    let _ = fs::remove_file(deb);
    found.ok_or_else(|| {
        let why = String::from_utf8_lossy(&tar.stderr);
        let why = why.lines().next().unwrap_or_default();
        Fail::broken(format!("{} holds no kernel: {why}", deb.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_numbers_between_dots() {
        for good in ["6", "6.12", "7.3.4"] {
            assert_eq!(Version::parse(good).ok(), Some(Version::Asked(good.into())));
        }
        for bad in ["", ".", "6.", "six", "6.12.95.1", "../x", "6.12+deb13"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
    }
}
