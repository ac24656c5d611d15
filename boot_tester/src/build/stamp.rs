//! Whether sources have changed: a digest of every file's path, size and modification time, kept
//! beside what was built from them.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub struct Stamp {
    file: PathBuf,
    digest: String,
}

impl Stamp {
    /// The present state of `sources` (files or directories), to be compared with `file`.
    pub fn of(file: &Path, sources: &[PathBuf]) -> Self {
        let mut hasher = DefaultHasher::new();
        // A tool that builds differently builds anew.
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        std::env::var_os("PROXIMA_TOOLCHAIN").hash(&mut hasher);
        for source in sources {
            visit(source, &mut hasher);
        }
        Self { file: file.into(), digest: format!("{:016x}", hasher.finish()) }
    }

    pub fn is_current(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| text == self.digest)
    }

    /// Remembers the state as it was when this stamp was taken, so that an edit made during the
    /// build is not missed.
    pub fn write(&self) {
        let _ = fs::write(&self.file, &self.digest);
    }
}

fn visit(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    path.hash(hasher);
    if !meta.is_dir() {
        (meta.size(), meta.mtime(), meta.mtime_nsec()).hash(hasher);
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names.iter().filter(|name| *name != "target" && *name != ".git") {
        visit(&path.join(name), hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_current_until_a_file_changes_appears_or_goes() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("src");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a"), "1").unwrap();
        let now = || Stamp::of(&dir.path().join("stamp"), std::slice::from_ref(&source));
        assert!(!now().is_current());
        now().write();
        assert!(now().is_current());
        fs::write(source.join("a"), "12").unwrap();
        assert!(!now().is_current());
        now().write();
        fs::write(source.join("b"), "").unwrap();
        assert!(!now().is_current());
        fs::remove_file(source.join("b")).unwrap();
        assert!(now().is_current());
    }
}
