//! What an installed tool carries inside itself (see build.rs): kernel, guest programs, plugin. A file is
//! unpacked into the cache when it is first needed, below the digest of all of them, so that tools of
//! different builds do not meet; it appears whole or not at all, however many start at once.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lzma_rust2::{LzipOptions, LzipReader, LzipWriter};

use crate::error::{Context, Result};
use crate::paths;

include!(concat!(env!("OUT_DIR"), "/parts.rs"));

/// One file, compressed.
struct Part {
    name: &'static str,
    /// Bytes when it is unpacked.
    size: u64,
    packed: &'static [u8],
}

/// The top of the source tree that this tool was built in, if it carries nothing.
pub fn source() -> Option<&'static Path> {
    SOURCE.map(Path::new)
}

/// The digest of all that is carried; None for a tool that builds what it needs.
pub fn digest() -> Option<&'static str> {
    (!PARTS.is_empty()).then_some(DIGEST)
}

/// The path of a carried file, unpacked if it is not there; None if there is no such file inside.
pub fn file(name: &str) -> Result<Option<PathBuf>> {
    let Some(part) = PARTS.iter().find(|part| part.name == name) else { return Ok(None) };
    part.file(&dir()?).map(Some)
}

/// Where carried files are unpacked to.
fn dir() -> Result<PathBuf> {
    Ok(paths::cache()?.join("parts").join(DIGEST))
}

impl Part {
    /// The file below `dir`. One that is not as long as it should be (a cache is anybody's to clean up) is
    /// replaced.
    fn file(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(self.name);
        let whole = |path: &Path| path.metadata().is_ok_and(|meta| meta.len() == self.size);
        if whole(&path) {
            return Ok(path);
        }
        fs::create_dir_all(dir).context(dir.display())?;
        let mut new = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempfile_in(dir)
            .context(dir.display())?;
        unpack(self.packed, new.as_file_mut()).context(path.display())?;
        // After a loss of power a name without its bytes would stay.
        new.as_file().sync_all().context(path.display())?;
        new.persist(&path).map_err(|error| error.error).context(path.display())?;
        Ok(path)
    }
}

/// How much effort compressing is worth.
#[derive(Clone, Copy)]
pub enum Effort {
    /// Done once for many readers.
    Most,
    /// Somebody waits.
    Little,
}

/// `bytes` as an lzip file.
pub fn pack(bytes: &[u8], effort: Effort) -> io::Result<Vec<u8>> {
    let preset = match effort {
        Effort::Most => 9,
        Effort::Little => 1,
    };
    let mut writer = LzipWriter::new(Vec::new(), LzipOptions::with_preset(preset));
    writer.write_all(bytes)?;
    writer.finish()
}

/// Reads what an lzip file holds; what is none, or is damaged, is an error of the reads.
pub fn reader(packed: impl Read) -> impl Read {
    LzipReader::new(packed)
}

/// Writes what an lzip file holds.
fn unpack(packed: impl Read, to: &mut impl Write) -> io::Result<u64> {
    io::copy(&mut reader(packed), to)
}

/// Writes each file compressed to `dir`, and a list of them with their sizes: what build.rs takes in.
pub fn write_packed(files: &[PathBuf], dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context(dir.display())?;
    let mut list = String::new();
    for file in files {
        let bytes = fs::read(file).context(file.display())?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let packed = pack(&bytes, Effort::Most).context(file.display())?;
        let path = dir.join(format!("{name}.lz"));
        fs::write(&path, packed).context(path.display())?;
        list += &format!("{name} {}\n", bytes.len());
    }
    fs::write(dir.join("list"), list).context(dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8]) -> Part {
        let packed = pack(bytes, Effort::Most).unwrap().leak();
        Part { name: "kernel", size: bytes.len() as u64, packed }
    }

    #[test]
    fn what_is_packed_comes_back_and_damage_is_told() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
        for effort in [Effort::Most, Effort::Little] {
            let packed = pack(&bytes, effort).unwrap();
            assert!(packed.len() < bytes.len() / 4);
            let mut out = Vec::new();
            unpack(&*packed, &mut out).unwrap();
            assert!(out == bytes);
            let mut damaged = packed.clone();
            damaged[packed.len() / 2] ^= 1;
            assert!(unpack(&*damaged, &mut Vec::new()).is_err());
            assert!(unpack(&packed[..packed.len() / 2], &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_file_is_unpacked_once_and_mended_when_it_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("digest");
        let part = part(b"all of the kernel");
        let path = part.file(&below).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all of the kernel");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o700, 0o700);
        // What is whole is not written again.
        fs::write(&path, "ALL OF THE KERNEL").unwrap();
        part.file(&below).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ALL OF THE KERNEL");
        fs::write(&path, "all of").unwrap();
        part.file(&below).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all of the kernel");
        assert_eq!(fs::read_dir(&below).unwrap().count(), 1);
    }

    #[test]
    fn many_that_start_at_once_see_whole_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n / 3) as u8).collect();
        let part = part(&bytes);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..10 {
                        let path = part.file(&dir.path().join(round.to_string())).unwrap();
                        assert!(fs::read(&path).unwrap() == bytes);
                    }
                });
            }
        });
    }
}
