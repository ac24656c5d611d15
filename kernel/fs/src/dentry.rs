//! Directory entries: the tree of names through which inodes are reached.
//!
//! A directory's entry caches those of its children; file systems whose names come and go by
//! themselves opt out ([`Inode::cacheable`]). Entries stay while their file system is in use: their
//! number is bounded by its contents. Where it is not, they can be forgotten ([`Inode::lru`]). Each directory entry carries the sleeping lock
//! under which names in it are created and removed; the map itself is under a spinlock, so that a
//! lookup that hits takes one short lock and no sleep.

mod lru;

use crate::inode::Inode;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use frames::fallible::{TryVec, arc_slice, ready_arc, ready_box, ready_table};
use hashbrown::HashMap;
pub use lru::Lru;
use sync::{Mutex, MutexGuard, SpinLock};

impl Drop for Dentry {
    /// Lets go of the directories above, of which this may have been the last entry, one after the
    /// other: a path is as long as a program makes it, a kernel's stack is not.
    fn drop(&mut self) {
        let mut above = self.link.get_mut().parent.take();
        while let Some(entry) = above {
            above = Arc::into_inner(entry).and_then(|mut last| last.link.get_mut().parent.take());
        }
    }
}

/// Longest name, bytes.
pub const NAME_MAX: usize = 255;

/// A name in a directory, and the inode it stands for.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    link: SpinLock<Position>,
    /// For directories.
    dir: Option<Box<Dir>>,
    /// Its directory's cache holds it (or it is a root). What nothing holds keeps no children, who
    /// would hold it in turn: they would never go.
    listed: bool,
    /// The name is gone.
    deleted: AtomicBool,
    /// Mounts that cover this entry.
    pub(crate) covered: AtomicU32,
}

struct Position {
    /// None for a root.
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

struct Dir {
    children: SpinLock<HashMap<Arc<[u8]>, Arc<Dentry>>>,
    /// Held while names are created, removed, or looked up for the first time.
    names: Mutex<()>,
}

/// Room for a name that is about to be made.
pub(crate) struct Room(Arc<[u8]>);

impl Dentry {
    /// Makes sure of what [`Dentry::build`] needs. ENOMEM.
    fn ready() -> Result<()> {
        ready_arc::<Self>()?;
        ready_box::<Dir>()
    }

    fn build(inode: Arc<dyn Inode>, position: Position, listed: bool) -> Arc<Self> {
        let dir = inode.base().is_dir().then(|| {
            Box::new(Dir { children: SpinLock::new(HashMap::new()), names: Mutex::new(()) })
        });
        Arc::new(Self {
            inode,
            link: SpinLock::new(position),
            dir,
            listed,
            deleted: AtomicBool::new(false),
            covered: AtomicU32::new(0),
        })
    }

    /// The root of a tree. ENOMEM.
    pub fn root(inode: Arc<dyn Inode>) -> Result<Arc<Self>> {
        Self::ready()?;
        Ok(Self::build(inode, Position { parent: None, name: arc_slice(b"/")? }, true))
    }

    /// A name that is not in its directory's cache: of a directory that does not cache, or of a
    /// file that has no name yet. ENOMEM.
    pub fn unlisted(parent: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Result<Arc<Self>> {
        Self::ready()?;
        let position = Position { parent: Some(parent.clone()), name: arc_slice(name)? };
        Ok(Self::build(inode, position, false))
    }

    /// The inode.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// True for a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.dir.is_some()
    }

    /// The directory that holds the name; None for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.link.lock().parent.clone()
    }

    /// The name.
    pub fn name(&self) -> Arc<[u8]> {
        self.link.lock().name.clone()
    }

    /// Parent and name at one moment.
    pub fn position(&self) -> (Option<Arc<Dentry>>, Arc<[u8]>) {
        let link = self.link.lock();
        (link.parent.clone(), link.name.clone())
    }

    /// The name was removed.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Relaxed)
    }

    /// Marks the name as gone (for files that never had one).
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Relaxed);
    }

    /// True if the names that are found in it are kept.
    fn caches(&self) -> bool {
        self.listed && self.inode.cacheable()
    }

    fn dir(&self) -> Result<&Dir> {
        self.dir.as_deref().ok_or(Errno::ENOTDIR)
    }

    /// Looks `name` up: in the cache, else in the file system. ENOENT, ENOTDIR.
    #[inline]
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        let dir = self.dir()?;
        if let Some(child) = dir.children.lock().get(name) {
            return Ok(child.clone());
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if !self.caches() {
            let inode = self.inode.lookup(name)?;
            return Self::unlisted(self, name, inode);
        }
        let names = dir.names.lock();
        self.lookup_locked(&names, name)
    }

    /// As [`Dentry::lookup`], with the directory already locked.
    pub fn lookup_locked(
        self: &Arc<Self>,
        _names: &MutexGuard<'_, ()>,
        name: &[u8],
    ) -> Result<Arc<Dentry>> {
        if let Some(child) = self.dir()?.children.lock().get(name) {
            return Ok(child.clone());
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let inode = self.inode.lookup(name)?;
        if !self.caches() {
            return Self::unlisted(self, name, inode);
        }
        self.add(name, inode)
    }

    /// Locks the directory's names. ENOENT when the directory itself has been removed.
    pub fn lock_names(&self) -> Result<MutexGuard<'_, ()>> {
        let guard = self.dir()?.names.lock();
        if self.is_deleted() { Err(Errno::ENOENT) } else { Ok(guard) }
    }

    /// Enters a name that the file system has; the directory is locked. Refused (ENOMEM), it is
    /// looked up anew by whoever asks for it.
    fn add(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Result<Arc<Dentry>> {
        let room = self.room_for(name)?;
        self.fill(room, inode)
    }

    /// Room for a name that is about to be made; the directory is locked. ENOMEM.
    pub(crate) fn room_for(&self, name: &[u8]) -> Result<Room> {
        let name = arc_slice(name)?;
        let mut children = self.dir()?.children.lock();
        ready_table::<(Arc<[u8]>, Arc<Dentry>)>(children.len(), children.capacity())?;
        children.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        drop(children);
        Self::ready()?;
        Ok(Room(name))
    }

    /// Enters a name that was made in the file system meanwhile; the directory is still locked.
    pub(crate) fn fill(self: &Arc<Self>, room: Room, inode: Arc<dyn Inode>) -> Result<Arc<Dentry>> {
        let position = Position { parent: Some(self.clone()), name: room.0.clone() };
        let child = Self::build(inode, position, true);
        self.dir()?.children.lock().insert(room.0, child.clone());
        if let Some(lru) = child.inode.lru() {
            // Without room for the note it is never forgotten, that is all.
            let _noted = lru.add(&child);
        }
        Ok(child)
    }

    /// Forgets a name that was removed; the directory is locked.
    pub(crate) fn forget(&self, child: &Arc<Dentry>) {
        let name = child.name();
        child.mark_deleted();
        if let Some(dir) = &self.dir {
            let gone = dir.children.lock().remove(&name);
            drop(gone);
        }
    }

    /// Lets go of the cached files of a directory that was removed: they hold it, and it them.
    pub(crate) fn forget_files(&self) {
        if let Some(dir) = &self.dir {
            let files = core::mem::take(&mut *dir.children.lock());
            drop(files);
        }
    }

    /// The directories in it that are in its cache. What there is no memory for is left out.
    pub fn cached_directories(&self) -> Vec<Arc<Dentry>> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let children = dir.children.lock();
        let directories = children.values().filter(|child| child.is_dir());
        Vec::gather(directories.cloned()).unwrap_or_default()
    }

    /// Forgets a name that is in the cache, if its file system has nothing or something else there.
    pub fn forget_if_gone(&self, name: &[u8]) {
        let Some(dir) = &self.dir else { return };
        let _names = dir.names.lock();
        let cached = dir.children.lock().get(name).cloned();
        if let Some(child) = cached
            && !self.inode.lookup(name).is_ok_and(|now| Arc::ptr_eq(&now, child.inode()))
        {
            self.forget(&child);
        }
    }

    /// Gives `child` a new place; both directories are locked, the new name is free.
    pub(crate) fn relocate(
        old_dir: &Arc<Dentry>,
        child: &Arc<Dentry>,
        new_dir: &Arc<Dentry>,
        new_name: Room,
    ) {
        let old_name = child.name();
        let new_name = new_name.0;
        if let Some(dir) = &old_dir.dir {
            dir.children.lock().remove(&old_name);
        }
        let before = {
            let mut link = child.link.lock();
            let next = Position { parent: Some(new_dir.clone()), name: new_name.clone() };
            core::mem::replace(&mut *link, next)
        };
        drop(before);
        if let Some(dir) = &new_dir.dir {
            dir.children.lock().insert(new_name, child.clone());
        }
    }

    /// Swaps the places of two entries; both directories are locked.
    pub(crate) fn exchange(a: &Arc<Dentry>, b: &Arc<Dentry>) {
        let (a_place, b_place) = (a.position(), b.position());
        for (child, place) in [(a, &b_place), (b, &a_place)] {
            *child.link.lock() = Position { parent: place.0.clone(), name: place.1.clone() };
            if let Some(dir) = place.0.as_ref().and_then(|parent| parent.dir.as_ref()) {
                dir.children.lock().insert(place.1.clone(), child.clone());
            }
        }
    }

    /// True when `self` is `other` or lies above it.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = other.clone();
        loop {
            if Arc::ptr_eq(self, &at) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// Empties the caches of the whole tree: entries and their directories hold each other. Nobody
    /// looks at the tree any more, so the directories that are still to be emptied are a list through
    /// their parents: this needs no memory, and no stack, however large and deep the tree is.
    pub(crate) fn prune(self: &Arc<Self>) {
        let mut pending = Some(self.clone());
        while let Some(entry) = pending {
            pending = entry.link.lock().parent.take();
            let Some(dir) = &entry.dir else { continue };
            let children = core::mem::take(&mut *dir.children.lock());
            for child in children.into_values().filter(|child| child.is_dir()) {
                let above = core::mem::replace(&mut child.link.lock().parent, pending.take());
                // Its directory, which is `entry`.
                drop(above);
                pending = Some(child);
            }
        }
    }
}
