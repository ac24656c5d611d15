//! Where things are: the source tree, built files, the cache, and files that a person asks for.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::error::{Context, Fail, Result};
use crate::parts;

/// The top of the source tree that a tool without anything inside builds from, if it is still there.
pub fn source() -> Option<&'static Path> {
    parts::source().filter(|top| top.join("kernel/Cargo.toml").exists())
}

/// Cargo's target directory.
pub fn target() -> Option<PathBuf> {
    let top = source()?;
    Some(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => top.join("target"),
    })
}

/// $XDG_CACHE_HOME/proxima, made if absent: fetched packages and what is drawn from them.
pub fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .ok_or_else(|| Fail::broken("neither XDG_CACHE_HOME nor HOME is set"))?;
    let dir = base.join("proxima");
    std::fs::create_dir_all(&dir).context(dir.display())?;
    Ok(dir)
}

/// Bytes beyond which nobody describes a machine, its caches or a test directory.
pub const DESCRIPTION: u64 = 1 << 20;
/// Bytes beyond which no record of a run or of a sequence goes.
pub const RECORD: u64 = 1 << 30;

/// The text of a file that a person names, or of a device as far as `most` bytes.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_string());
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(wrong("it is a directory"));
    }
    // Nobody may ever write into it.
    if kind.is_fifo() {
        return Err(wrong("it is a pipe: give a file"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(wrong(&format!("it is longer than {} MiB", most >> 20)));
    }
    String::from_utf8(text).map_err(|_| wrong("it is no text"))
}

/// A path as it is shown to people: relative to where they stand, if below it.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// An option's file that the tool is to write: one that cannot be written is refused before any work
/// is done for it.
pub fn output() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| writable(&path).map(|()| path))
}

fn writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if there.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        // A pipe's reader would see it opened and closed.
        Ok(_) => Ok(()),
        Err(_) => {
            OpenOptions::new().append(true).create(true).open(path)?;
            fs::remove_file(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_tried_out_and_left_as_it_was() {
        let dir = crate::cleanup::WorkDir::new().unwrap();
        let file = dir.path().join("new");
        writable(&file).unwrap();
        assert!(!file.exists());
        fs::write(&file, "kept").unwrap();
        writable(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        assert!(writable(dir.path()).is_err());
        assert!(writable(&file.join("below")).is_err());
    }
}
