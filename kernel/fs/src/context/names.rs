//! Operations on names: mkdir, mknod, link, symlink, unlink, rmdir, rename.

use super::{At, Caller, Lookup};
use crate::creds::{Access, Cap};
use crate::dentry::{Dentry, NAME_MAX};
use crate::file::Place;
use crate::inode::{NewNode, Rename};
use crate::mount::Path;
use crate::stat::{DevId, FileType};
use crate::walk::Last;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use sync::Mutex;

/// renameat2(2): fail when the new name exists.
pub const RENAME_NOREPLACE: u32 = g::RENAME_NOREPLACE;
/// renameat2(2): the two names change places.
pub const RENAME_EXCHANGE: u32 = g::RENAME_EXCHANGE;

/// Held over renames between directories: keeps the shape of the tree still while it is checked
/// that no directory moves below itself.
static RENAME: Mutex<()> = Mutex::new(());

/// A directory and a name in it.
struct Slot {
    dir: Path,
    name: Vec<u8>,
    slash: bool,
}

impl Caller<'_> {
    /// The directory and name that `path` ends in; `special` for a path that ends in "." or "..".
    fn slot(&self, at: At<'_>, path: &[u8], special: Errno) -> Result<Slot> {
        let mut walk = self.walk(at, path, 0)?;
        match walk.parent()? {
            Last::Name { name, slash } if name.len() <= NAME_MAX => {
                Ok(Slot { dir: walk.into_here(), name, slash })
            }
            Last::Name { .. } => Err(Errno::ENAMETOOLONG),
            _ => Err(special),
        }
    }

    /// Creates a name: `make` is called with the directory locked, the name free and the
    /// permission checked.
    fn create_name(
        &self,
        slot: &Slot,
        make: impl FnOnce(&Path) -> Result<Arc<dyn crate::Inode>>,
    ) -> Result<Arc<Dentry>> {
        let dir = &slot.dir;
        // EEXIST comes before EROFS and EACCES.
        let names = dir.dentry.lock_names()?;
        match dir.dentry.lookup_locked(&names, &slot.name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        dir.mount.check_writable()?;
        self.creds.check(dir.dentry.inode().base(), Access::MODIFY_DIR)?;
        let room = dir.dentry.room_for(&slot.name)?;
        let inode = make(dir)?;
        dir.dentry.fill(room, inode)
    }

    /// mkdir(2).
    pub fn mkdir(&self, at: At<'_>, path: &[u8], mode: u32) -> Result<()> {
        let slot = self.slot(at, path, Errno::EEXIST)?;
        let mode = g::S_IFDIR | (mode & 0o1777);
        self.create_name(&slot, |dir| {
            let node = self.new_node(dir, mode, DevId::default());
            dir.dentry.inode().create(&slot.name, &node)
        })?;
        Ok(())
    }

    /// mknod(2): regular files, devices, FIFOs and sockets. EPERM for devices without CAP_MKNOD
    /// and for directories, EINVAL for an unknown type.
    pub fn mknod(&self, at: At<'_>, path: &[u8], mode: u32, rdev: DevId) -> Result<()> {
        self.make_node(at, path, mode, rdev).map(|_| ())
    }

    /// As [`Caller::mknod`]; the new place (a socket's name is bound to it).
    pub fn make_node(&self, at: At<'_>, path: &[u8], mode: u32, rdev: DevId) -> Result<Path> {
        let mode = if mode & g::S_IFMT == 0 { mode | g::S_IFREG } else { mode };
        match FileType::from_mode(mode) {
            Some(FileType::Directory) => return Err(Errno::EPERM),
            None | Some(FileType::Symlink) => return Err(Errno::EINVAL),
            Some(FileType::Char | FileType::Block) => {
                // The name is looked at first.
            }
            Some(_) => {}
        }
        let slot = self.slot(at, path, Errno::EEXIST)?;
        if slot.slash {
            // A name with a slash would have to be a directory.
            return Err(match slot.dir.dentry.lookup(&slot.name) {
                Ok(_) => Errno::EEXIST,
                Err(error) => error,
            });
        }
        let dentry = self.create_name(&slot, |dir| {
            if matches!(FileType::from_mode(mode), Some(FileType::Char | FileType::Block)) {
                self.creds.require(Cap::Mknod)?;
            }
            let node = self.new_node(dir, mode & (g::S_IFMT | 0o7777), rdev);
            dir.dentry.inode().create(&slot.name, &node)
        })?;
        Ok(Path { mount: slot.dir.mount, dentry })
    }

    /// symlink(2). ENOENT for an empty target, ENAMETOOLONG above 4095 bytes.
    pub fn symlink(&self, target: &[u8], at: At<'_>, path: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() > 4095 {
            return Err(Errno::ENAMETOOLONG);
        }
        let slot = self.slot(at, path, Errno::EEXIST)?;
        if slot.slash {
            return Err(match slot.dir.dentry.lookup(&slot.name) {
                Ok(_) => Errno::EEXIST,
                Err(error) => error,
            });
        }
        self.create_name(&slot, |dir| {
            let inode = dir.dentry.inode();
            let node = NewNode {
                mode: g::S_IFLNK | 0o777,
                ..self.new_node(dir, g::S_IFLNK, DevId::default())
            };
            inode.symlink(&slot.name, target, &node)
        })?;
        Ok(())
    }

    /// link(2), linkat(2): `how` says whether a link at the end of the old path is followed, and
    /// whether an empty old path means its start.
    pub fn link(
        &self,
        old_at: At<'_>,
        old: &[u8],
        how: Lookup,
        new_at: At<'_>,
        new: &[u8],
    ) -> Result<()> {
        let target = self.lookup(old_at, old, how)?;
        let Place::Path(target) = target else { return Err(Errno::EXDEV) };
        let inode = target.dentry.inode().clone();
        let slot = self.slot(new_at, new, Errno::EEXIST)?;
        if slot.slash && !inode.base().is_dir() {
            return Err(Errno::ENOENT);
        }
        let dentry = self.create_name(&slot, |dir| {
            if dir.mount.id() != target.mount.id() {
                return Err(Errno::EXDEV);
            }
            if inode.base().is_dir() {
                return Err(Errno::EPERM);
            }
            dir.dentry.inode().link(&slot.name, &inode)?;
            Ok(inode.clone())
        })?;
        drop(dentry);
        Ok(())
    }

    /// unlink(2). EISDIR for a directory.
    pub fn unlink(&self, at: At<'_>, path: &[u8]) -> Result<()> {
        let slot = self.slot(at, path, Errno::EISDIR)?;
        let dir = &slot.dir;
        let names = dir.dentry.lock_names()?;
        let child = dir.dentry.lookup_locked(&names, &slot.name)?;
        let is_dir = child.is_dir();
        if slot.slash {
            return Err(if is_dir { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        self.check_removal(dir, &child)?;
        if is_dir {
            return Err(Errno::EISDIR);
        }
        if child.covered.load(Relaxed) != 0 {
            return Err(Errno::EBUSY);
        }
        dir.dentry.inode().unlink(&slot.name, child.inode())?;
        dir.dentry.forget(&child);
        drop(names);
        Ok(())
    }

    /// rmdir(2).
    pub fn rmdir(&self, at: At<'_>, path: &[u8]) -> Result<()> {
        let mut walk = self.walk(at, path, 0)?;
        let name = match walk.parent()? {
            Last::Name { name, .. } => name,
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
            Last::Root => return Err(Errno::EBUSY),
        };
        let dir = walk.into_here();
        let names = dir.dentry.lock_names()?;
        let child = dir.dentry.lookup_locked(&names, &name)?;
        self.check_removal(&dir, &child)?;
        if !child.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if child.covered.load(Relaxed) != 0 {
            return Err(Errno::EBUSY);
        }
        // Locked from parent to child, as everywhere; nothing can be created in it any more.
        let inner = child.lock_names()?;
        dir.dentry.inode().rmdir(&name, child.inode())?;
        dir.dentry.forget(&child);
        // A control group's files go with it, without being removed one by one.
        child.forget_files();
        drop(inner);
        drop(names);
        Ok(())
    }

    fn check_removal(&self, dir: &Path, child: &Arc<Dentry>) -> Result<()> {
        dir.mount.check_writable()?;
        let base = dir.dentry.inode().base();
        self.creds.check(base, Access::MODIFY_DIR)?;
        self.creds.check_sticky(base, child.inode().base())
    }

    /// rename(2), renameat2(2) with NOREPLACE and EXCHANGE.
    pub fn rename(
        &self,
        old_at: At<'_>,
        old_path: &[u8],
        new_at: At<'_>,
        new_path: &[u8],
        flags: u32,
    ) -> Result<()> {
        let exchange = flags & RENAME_EXCHANGE != 0;
        let noreplace = flags & RENAME_NOREPLACE != 0;
        if flags & !(RENAME_EXCHANGE | RENAME_NOREPLACE) != 0 || (exchange && noreplace) {
            return Err(Errno::EINVAL);
        }
        let old_slot = self.slot(old_at, old_path, Errno::EBUSY)?;
        let special = if noreplace { Errno::EEXIST } else { Errno::EBUSY };
        let new_slot = self.slot(new_at, new_path, special)?;
        let (old_dir, new_dir) = (&old_slot.dir, &new_slot.dir);
        if old_dir.mount.id() != new_dir.mount.id() {
            return Err(Errno::EXDEV);
        }
        let same_dir = Arc::ptr_eq(&old_dir.dentry, &new_dir.dentry);
        let _tree = (!same_dir).then(|| RENAME.lock());
        // Ancestors are locked before what is below them; unrelated directories by address.
        let (first, second) = if same_dir {
            (&old_dir.dentry, None)
        } else if old_dir.dentry.is_ancestor_of(&new_dir.dentry)
            || (!new_dir.dentry.is_ancestor_of(&old_dir.dentry)
                && Arc::as_ptr(&old_dir.dentry) < Arc::as_ptr(&new_dir.dentry))
        {
            (&old_dir.dentry, Some(&new_dir.dentry))
        } else {
            (&new_dir.dentry, Some(&old_dir.dentry))
        };
        let first_names = first.lock_names()?;
        let second_names = second.map(|dir| dir.lock_names()).transpose()?;
        let names = second_names.as_ref().unwrap_or(&first_names);

        let old = old_dir.dentry.lookup_locked(names, &old_slot.name)?;
        let new = match new_dir.dentry.lookup_locked(names, &new_slot.name) {
            Ok(_) if noreplace => return Err(Errno::EEXIST),
            Ok(new) => Some(new),
            Err(Errno::ENOENT) if !exchange => None,
            Err(error) => return Err(error),
        };
        if exchange {
            if new_slot.slash && new.as_ref().is_some_and(|new| !new.is_dir()) {
                return Err(Errno::ENOTDIR);
            }
        } else if !old.is_dir() && (old_slot.slash || new_slot.slash) {
            return Err(Errno::ENOTDIR);
        }
        // A directory cannot move below itself, nor replace one that it is in.
        if old.is_ancestor_of(&new_dir.dentry) {
            return Err(Errno::EINVAL);
        }
        if let Some(new) = &new
            && new.is_ancestor_of(&old_dir.dentry)
        {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        self.check_removal(old_dir, &old)?;
        new_dir.mount.check_writable()?;
        match &new {
            Some(new) => self.check_removal(new_dir, new)?,
            None => self.creds.check(new_dir.dentry.inode().base(), Access::MODIFY_DIR)?,
        }
        if let Some(new) = &new {
            if Arc::ptr_eq(new.inode(), old.inode()) {
                // Two names of one file: nothing happens.
                return Ok(());
            }
            if !exchange {
                match (old.is_dir(), new.is_dir()) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        // A directory that changes its parent has its ".." rewritten.
        if !same_dir && old.is_dir() {
            self.creds.check(old.inode().base(), Access::WRITE)?;
        }
        let covered = |entry: &Arc<Dentry>| entry.covered.load(Relaxed) != 0;
        if covered(&old) || new.as_ref().is_some_and(covered) {
            return Err(Errno::EBUSY);
        }
        let inner = match &new {
            Some(new) if new.is_dir() && !exchange => Some(new.lock_names()?),
            _ => None,
        };
        let room = new_dir.dentry.room_for(&new_slot.name)?;
        old_dir.dentry.inode().rename(&Rename {
            old_name: &old_slot.name,
            old: old.inode(),
            new_dir: new_dir.dentry.inode(),
            new_name: &new_slot.name,
            replaced: new.as_ref().map(|new| new.inode()),
            exchange,
        })?;
        match &new {
            Some(new) if exchange => Dentry::exchange(&old, new),
            _ => {
                if let Some(new) = &new {
                    new_dir.dentry.forget(new);
                }
                Dentry::relocate(&old_dir.dentry, &old, &new_dir.dentry, room);
            }
        }
        drop(inner);
        Ok(())
    }
}
