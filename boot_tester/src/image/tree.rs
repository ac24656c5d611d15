//! A root file system in memory: paths, and where each file's bytes come from.
//!
//! Paths go through the symbolic links already in the tree, as they would in the guest: with `bin`
//! a link to `usr/bin`, adding `/bin/sh` makes `usr/bin/sh`. Directories on the way are made.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::cpio::{Header, Writer};
use crate::error::{Context, Fail, Result};

const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
/// Linux's limit on links in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Directory {
        mode: u32,
    },
    Link {
        target: PathBuf,
    },
    Bytes {
        mode: u32,
        data: Vec<u8>,
    },
    /// Copied from the host when the archive is written.
    Host {
        mode: u32,
        from: PathBuf,
    },
    CharDevice {
        mode: u32,
        major: u32,
        minor: u32,
    },
}

#[derive(Default)]
pub struct Tree {
    /// Keys have no leading slash and no link in any parent; a parent sorts before its children.
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// The entry at `path`, a last link not followed.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(&self.resolve_parent(path).ok()?)
    }

    /// True if the path names something, or a link does.
    pub fn has(&self, path: &Path) -> bool {
        self.get(path).is_some()
    }

    pub fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        let key = self.make_parent(path)?;
        if key.as_os_str().is_empty() {
            return Ok(());
        }
        match self.entries.get(&key) {
            Some(Entry::Directory { .. } | Entry::Link { .. }) => Ok(()),
            Some(_) => Err(Fail::usage(format!("{} is a file already", path.display()))),
            None => {
                self.entries.insert(key, Entry::Directory { mode });
                Ok(())
            }
        }
    }

    /// Puts `entry` at `path`, in place of what was there.
    pub fn put(&mut self, path: &Path, entry: Entry) -> Result<()> {
        let mut key = self.make_parent(path)?;
        // A file that is put where a link stands goes where the link points.
        for _ in 0..MAX_LINKS {
            let Some(Entry::Link { target }) = self.entries.get(&key) else { break };
            if matches!(entry, Entry::Link { .. }) {
                break;
            }
            let full = Path::new("/").join(key.parent().unwrap_or(Path::new(""))).join(target);
            key = self.make_parent(&full)?;
        }
        if matches!(self.entries.get(&key), Some(Entry::Directory { .. })) {
            return Err(Fail::usage(format!("{} is a directory in the guest", path.display())));
        }
        self.entries.insert(key, entry);
        Ok(())
    }

    pub fn bytes(&mut self, path: &Path, mode: u32, data: impl Into<Vec<u8>>) -> Result<()> {
        self.put(path, Entry::Bytes { mode, data: data.into() })
    }

    pub fn link(&mut self, path: &Path, target: impl Into<PathBuf>) -> Result<()> {
        self.put(path, Entry::Link { target: target.into() })
    }

    /// Takes what is at `path`, and all below it, out again.
    pub fn remove(&mut self, path: &Path) {
        if let Ok(key) = self.resolve_parent(path) {
            self.entries.retain(|own, _| !own.starts_with(&key));
        }
    }

    /// Copies a host file or directory (with all it holds) to `guest`.
    pub fn host(&mut self, from: &Path, guest: &Path) -> Result<()> {
        let meta =
            fs::metadata(from).map_err(|e| Fail::usage(format!("{}: {e}", from.display())))?;
        let kind = meta.file_type();
        let mode = meta.permissions().mode() & 0o7777;
        if kind.is_file() {
            // A file the person may not read is refused now, by name, and not in the middle of the archive.
            File::open(from).map_err(|e| Fail::usage(format!("{}: {e}", from.display())))?;
            if meta.size() > u64::from(u32::MAX) {
                return Err(Fail::usage(format!("{}: larger than 4 GiB", from.display())));
            }
            return self.put(guest, Entry::Host { mode, from: from.into() });
        }
        if kind.is_dir() {
            return self.host_directory(from, guest, mode);
        }
        let what = if kind.is_socket() { "a socket" } else { "no regular file" };
        Err(Fail::usage(format!(
            "{} is {what}: only files and directories can be added",
            from.display()
        )))
    }

    fn host_directory(&mut self, from: &Path, guest: &Path, mode: u32) -> Result<()> {
        self.directory(guest, mode)?;
        let entries =
            fs::read_dir(from).map_err(|e| Fail::usage(format!("{}: {e}", from.display())))?;
        for entry in entries {
            let entry = entry.context(from.display())?;
            let target = guest.join(entry.file_name());
            let kind = entry.file_type().context(entry.path().display())?;
            if kind.is_symlink() {
                self.link(&target, fs::read_link(entry.path()).context(entry.path().display())?)?;
            } else if kind.is_file() || kind.is_dir() {
                self.host(&entry.path(), &target)?;
            }
        }
        Ok(())
    }

    /// Copies a host file to its own path, with every symbolic link that leads there.
    pub fn mirror(&mut self, path: &Path) -> Result<()> {
        let mut todo: Vec<PathBuf> = parts(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == Path::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let meta = fs::symlink_metadata(&next)
                .map_err(|e| Fail::usage(format!("{}: {e}", path.display())))?;
            if !meta.file_type().is_symlink() {
                at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Fail::usage(format!("{}: too many symbolic links", path.display())));
            }
            let target = fs::read_link(&next).context(next.display())?;
            if !self.has(&next) {
                self.link(&next, &target)?;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            todo.extend(parts(&target));
        }
        self.host(&at, &at)
    }

    /// Writes the archive.
    pub fn write(&self, to: &Path) -> Result<()> {
        let file = File::create(to).context(to.display())?;
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, file));
        for (path, entry) in &self.entries {
            write_entry(&mut writer, path.as_os_str(), entry)
                .context(format!("image: {}", path.display()))?;
        }
        writer.finish().context(to.display())?;
        Ok(())
    }

    /// The key of `path`: links in its parents followed, `.` and `..` gone.
    fn resolve_parent(&self, path: &Path) -> Result<PathBuf> {
        let mut todo = parts(path);
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == Path::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            match self.entries.get(&next) {
                Some(Entry::Link { target }) if !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Fail::usage(format!("{}: a circle of links", path.display())));
                    }
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    todo.extend(parts(target));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    fn make_parent(&mut self, path: &Path) -> Result<PathBuf> {
        let key = self.resolve_parent(path)?;
        let mut parents: Vec<_> = key.ancestors().skip(1).map(Path::to_path_buf).collect();
        parents.retain(|parent| !parent.as_os_str().is_empty());
        for parent in parents.into_iter().rev() {
            match self.entries.get(&parent) {
                None => {
                    self.entries.insert(parent, Entry::Directory { mode: 0o755 });
                }
                Some(Entry::Directory { .. }) => {}
                Some(_) => {
                    return Err(Fail::usage(format!(
                        "{}: /{} is no directory in the guest",
                        path.display(),
                        parent.display()
                    )));
                }
            }
        }
        Ok(key)
    }
}

/// The named components of a path, last first, to be popped one by one.
fn parts(path: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            _ => None,
        })
        .collect();
    list.reverse();
    list
}

fn write_entry<W: Write>(
    writer: &mut Writer<W>,
    name: &OsStr,
    entry: &Entry,
) -> std::io::Result<()> {
    let mut header = Header { name: name.as_bytes(), mode: 0, links: 1, size: 0, device: (0, 0) };
    match entry {
        Entry::Directory { mode } => {
            (header.mode, header.links) = (S_IFDIR | mode, 2);
            writer.entry(&header, &[])
        }
        Entry::Link { target } => {
            let target = target.as_os_str().as_bytes();
            (header.mode, header.size) = (S_IFLNK | 0o777, target.len() as u32);
            writer.entry(&header, target)
        }
        Entry::Bytes { mode, data } => {
            (header.mode, header.size) = (S_IFREG | mode, data.len() as u32);
            writer.entry(&header, data)
        }
        Entry::Host { mode, from } => {
            let mut file = File::open(from)?;
            (header.mode, header.size) = (S_IFREG | mode, file.metadata()?.len() as u32);
            writer.entry_from(&header, &mut file)
        }
        Entry::CharDevice { mode, major, minor } => {
            (header.mode, header.device) = (S_IFCHR | mode, (*major, *minor));
            writer.entry(&header, &[])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(tree: &Tree) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        tree.write(&path).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn files_go_through_links_of_directories() {
        let mut tree = Tree::default();
        tree.link(Path::new("/bin"), "usr/bin").unwrap();
        tree.bytes(Path::new("/bin/sh"), 0o755, "x").unwrap();
        assert!(tree.entries.contains_key(Path::new("usr/bin/sh")));
        assert!(tree.has(Path::new("/bin/../bin/sh")));
    }

    #[test]
    fn a_file_cannot_stand_where_a_directory_must() {
        let mut tree = Tree::default();
        tree.bytes(Path::new("/a"), 0o644, "x").unwrap();
        assert!(tree.bytes(Path::new("/a/b"), 0o644, "x").is_err());
        tree.directory(Path::new("/d/e"), 0o755).unwrap();
        assert!(tree.bytes(Path::new("/d"), 0o644, "x").is_err());
    }

    #[test]
    fn circles_of_links_are_refused() {
        let mut tree = Tree::default();
        tree.link(Path::new("/a"), "b").unwrap();
        tree.link(Path::new("/b"), "a").unwrap();
        assert!(tree.bytes(Path::new("/a/x"), 0o644, "").is_err());
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_in_any_order_of_making() {
        let mut one = Tree::default();
        one.bytes(Path::new("/z"), 0o644, "1").unwrap();
        one.bytes(Path::new("/a/b"), 0o600, "2").unwrap();
        let mut two = Tree::default();
        two.bytes(Path::new("/a/b"), 0o600, "2").unwrap();
        two.bytes(Path::new("/z"), 0o644, "1").unwrap();
        assert_eq!(archive(&one), archive(&two));
    }

    #[test]
    fn mirroring_keeps_the_links_that_lead_to_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", root.join("dir")).unwrap();
        std::os::unix::fs::symlink("file", root.join("real/name")).unwrap();
        let mut tree = Tree::default();
        tree.mirror(&root.join("dir/name")).unwrap();
        assert_eq!(tree.get(&root.join("dir")), Some(&Entry::Link { target: "real".into() }));
        assert_eq!(tree.get(&root.join("real/name")), Some(&Entry::Link { target: "file".into() }));
        assert!(matches!(tree.get(&root.join("real/file")), Some(Entry::Host { .. })));
    }
}
