//! Groups as directories.

use super::files::{ENTRIES, GroupFile};
use super::{CHANGES, Data, groups};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cgroup::{Controller, Id, ROOT};
use frames::fallible::{TryVec, arc};
use fs::FileOps;
use fs::file::Llseek;
use fs::inode::{Entry, Inode, InodeBase, NewNode, OpenArgs};
use fs::pseudo::News;
use fs::stat::{DevId, FileType};
use sync::SpinLock;

/// Positions of groups in a directory begin here; below are the files.
const GROUPS_FROM: u64 = 1 << 10;
/// A group's inode is its id times this; its files have the numbers between.
const NUMBERS: u64 = 1 << 8;

/// A group's directory.
pub struct GroupDir {
    base: InodeBase,
    pub id: Id,
    /// Changes of cgroup.events.
    pub events: News,
    /// Changes of pids.events.
    pub pids_events: News,
    /// Files that somebody looked at: they keep their owners and modes.
    files: SpinLock<Vec<(usize, Arc<GroupFile>)>>,
    /// Who made the files: those of the group itself, and those of each controller.
    makers: SpinLock<[Maker; 1 + Controller::ALL.len()]>,
}

/// A user and a group.
type Maker = (u32, u32);

/// Where a controller's maker stands.
fn place(controller: Option<Controller>) -> usize {
    let at = controller.and_then(|one| Controller::ALL.iter().position(|other| *other == one));
    at.map_or(0, |at| at + 1)
}

impl GroupDir {
    /// The root's.
    pub fn root(dev: DevId) -> Arc<Self> {
        Arc::new(Self::build(InodeBase::new(dev, 1, g::S_IFDIR | 0o555, 0, 0), ROOT))
    }

    fn build(base: InodeBase, id: Id) -> Self {
        let maker = (base.uid(), base.gid());
        Self {
            base,
            id,
            events: News::new(),
            pids_events: News::new(),
            files: SpinLock::new(Vec::new()),
            makers: SpinLock::new([maker; 1 + Controller::ALL.len()]),
        }
    }

    /// The file of this number in [`ENTRIES`]: its maker owns it to begin with. ENOMEM.
    pub fn file(&self, index: usize) -> Result<Arc<GroupFile>> {
        let find = |files: &[(usize, Arc<GroupFile>)]| {
            files.iter().find(|(at, _)| *at == index).map(|(_, file)| file.clone())
        };
        if let Some(file) = find(&self.files.lock()) {
            return Ok(file);
        }
        let mode = g::S_IFREG | ENTRIES[index].mode;
        let ino = self.id * NUMBERS + index as u64 + 1;
        let (uid, gid) = self.makers.lock()[place(ENTRIES[index].controller)];
        let base = InodeBase::new(self.base.dev, ino, mode, uid, gid);
        let made = arc(GroupFile::new(base, self.id, &ENTRIES[index]))?;
        let mut files = self.files.lock();
        if let Some(file) = find(&files) {
            return Ok(file);
        }
        files.try_push((index, made.clone()))?;
        Ok(made)
    }

    /// The group gains or loses a controller: its files of before are gone, those to come are made by
    /// the running task.
    pub fn renew(&self, controller: Controller) {
        let who = crate::task::current().credentials().fs.clone();
        self.makers.lock()[place(Some(controller))] = (who.uid, who.gid);
        let mut files = self.files.lock();
        while let Some(at) = files.iter().position(|f| f.1.entry.controller == Some(controller)) {
            let (_, file) = files.swap_remove(at);
            file.end();
        }
    }

    /// cgroup.procs: who may write to it may move processes. ENOMEM.
    pub fn procs(&self) -> Result<Arc<GroupFile>> {
        let index = ENTRIES.iter().position(|entry| entry.name == "cgroup.procs");
        self.file(index.ok_or(Errno::ENOENT)?)
    }
}

impl Inode for GroupDir {
    fn base(&self) -> &InodeBase {
        &self.base
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let groups = groups();
        let group = groups.group(self.id).map_err(|_| Errno::ENOENT)?;
        if let Some(child) = group.child(name) {
            return Ok(groups.group(child)?.data.dir.clone());
        }
        let stands = |entry: &&super::files::Entry| entry.name.as_bytes() == name;
        let entry = ENTRIES.iter().find(stands).filter(|entry| entry.is_in(&groups, self.id));
        let index = entry.and_then(|entry| ENTRIES.iter().position(|e| core::ptr::eq(e, entry)));
        drop(groups);
        Ok(self.file(index.ok_or(Errno::ENOENT)?)?)
    }

    /// Groups can be made, nothing else.
    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        match node.mode & g::S_IFMT {
            g::S_IFDIR => {}
            g::S_IFREG => return Err(Errno::EACCES),
            _ => return Err(Errno::EPERM),
        }
        let _changes = CHANGES.lock();
        let mut groups = groups();
        let id = groups.next_id();
        let base = InodeBase::new(self.base.dev, id * NUMBERS, node.mode, node.uid, node.gid);
        let dir = arc(Self::build(base, id))?;
        let made = groups.make(self.id, name, Data { dir: dir.clone() });
        made.map_err(|error| if error == Errno::ENODEV { Errno::ENOENT } else { error })?;
        self.base.add_nlink(1);
        Ok(dir)
    }

    fn rmdir(&self, _name: &[u8], victim: &Arc<dyn Inode>) -> Result<()> {
        let any: Arc<dyn core::any::Any + Send + Sync> = victim.clone();
        let victim = any.downcast::<Self>().map_err(|_| Errno::EPERM)?;
        let _changes = CHANGES.lock();
        groups().remove(victim.id)?;
        self.base.add_nlink(-1);
        // Files hold no group, but whoever polls them is told that there is nothing any more.
        victim.events.tell();
        Ok(())
    }

    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let groups = groups();
        let Ok(group) = groups.group(self.id) else { return Ok(()) };
        for (at, entry) in ENTRIES.iter().enumerate().skip(from as usize) {
            let (ino, next) = (self.id * NUMBERS + at as u64 + 1, at as u64 + 1);
            let name = entry.name.as_bytes();
            if entry.is_in(&groups, self.id)
                && !emit(Entry { name, ino, kind: FileType::Regular, next })
            {
                return Ok(());
            }
        }
        let mut child = group.child_after(from.saturating_sub(GROUPS_FROM).max(1) - 1);
        while let Some(id) = child {
            let (ino, next) = (id * NUMBERS, GROUPS_FROM + id + 1);
            let name = groups.group(id)?.name();
            if !emit(Entry { name, ino, kind: FileType::Directory, next }) {
                return Ok(());
            }
            child = group.child_after(id);
        }
        Ok(())
    }

    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

impl FileOps for GroupDir {
    fn llseek(&self) -> Llseek {
        Llseek::Small
    }
}
