//! Debian's Linux, the kernel to compare with: fetched from the backports where they can be had,
//! else from the release, and kept in the cache both as packaged and unpacked.
//!
//! The unpacked vmlinux boots through the same PVH entry as Proxima, which saves the seconds that a
//! kernel under emulation takes to decompress itself.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt::Apt;
use crate::error::{Context, Fail, Result};
use crate::paths;
use crate::progress::Progress;

/// Meta packages in order of preference; the last two are Ubuntu's.
const META: &[&str] = &["linux-image-amd64", "linux-image-virtual", "linux-image-generic"];

/// The kernel file to boot.
pub fn kernel(progress: &Progress) -> Result<PathBuf> {
    let dir = paths::cache()?.join("linux");
    if !dir.join("vmlinuz").exists() {
        progress.say("fetching Debian's kernel");
        fetch(&dir)?;
    }
    let unpacked = dir.join("vmlinux");
    Ok(if unpacked.exists() { unpacked } else { dir.join("vmlinuz") })
}

/// The release of the cached kernel, such as `6.12.95+deb12-amd64`.
pub fn release() -> Option<String> {
    fs::read_to_string(paths::cache().ok()?.join("linux/release")).ok()
}

fn fetch(dir: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(paths::cache()?).context("cache")?;
    let deb = Apt::backports()
        .and_then(|apt| download(&apt, work.path()).ok())
        .map_or_else(|| download(&Apt::host(), work.path()), Ok)?;
    let (release, image) = vmlinuz_in(&deb, work.path())?;
    let new = work.path().join("linux");
    fs::create_dir(&new).context(new.display())?;
    fs::rename(&image, new.join("vmlinuz")).context(image.display())?;
    fs::write(new.join("release"), release).context(new.display())?;
    let packed = fs::read(new.join("vmlinuz")).context("vmlinuz")?;
    // Without the decompressor at hand the packaged kernel does, only slower.
    if let Some(elf) = unpack(&packed) {
        fs::write(new.join("vmlinux"), elf).context("vmlinux")?;
    }
    let renamed = fs::rename(&new, dir);
    if dir.join("vmlinuz").exists() { Ok(()) } else { renamed.context(dir.display()) }
}

fn download(apt: &Apt, work: &Path) -> Result<PathBuf> {
    let name =
        META.iter().find_map(|meta| apt.real_name(meta, "linux-image-")).ok_or_else(|| {
            Fail::broken("apt knows no linux-image package (did apt-get update run?)")
        })?;
    apt.download(&name, work)
}

/// Only the kernel is taken out of the package: its modules are of no use here.
fn vmlinuz_in(deb: &Path, work: &Path) -> Result<(String, PathBuf)> {
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb")?;
    let tar = Command::new("tar")
        .args(["-x", "--wildcards", "--no-anchored", "boot/vmlinuz-*"])
        .current_dir(work)
        .stdin(dpkg.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .output()
        .context("tar")?;
    let _ = dpkg.wait();
    let boot = work.join("boot");
    let found = fs::read_dir(&boot).into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-")?.to_string();
        Some((name, entry.path()))
    });
    found.ok_or_else(|| {
        let why = String::from_utf8_lossy(&tar.stderr);
        Fail::broken(format!("{} holds no kernel: {}", deb.display(), why.trim()))
    })
}

/// The ELF kernel inside a bzImage (Linux/x86 boot protocol: setup_sects at 0x1f1, payload_offset
/// at 0x248, payload_length at 0x24c; the last four bytes of the payload are its unpacked size).
fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = (sectors + 1) * 512 + word(0x248)? as usize;
    let end = start.checked_add(word(0x24c)? as usize)?.checked_sub(4)?;
    let payload = image.get(start..end)?;
    let tool = match payload.get(..4)? {
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        [0xfd, b'7', b'z', b'X'] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        _ => return None,
    };
    let elf = filter(tool, payload)?;
    elf.starts_with(b"\x7fELF").then_some(elf)
}

fn filter(tool: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(tool)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().ok()?;
    let _ = feeder.join();
    Some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_bzimage_are_left_alone() {
        assert_eq!(unpack(b""), None);
        assert_eq!(unpack(&[0; 4096]), None);
        let mut image = vec![0; 4096];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&image), None);
    }
}
