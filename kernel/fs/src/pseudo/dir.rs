//! Directories.

use super::{DynLink, PseudoFs, Store, Text, TextFile};
use crate::file::{FileOps, Llseek};
use crate::inode::{Entry, Inode, InodeBase, Link, NewNode, OpenArgs};
use crate::stat::FileType;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use sync::SpinLock;

/// A directory whose names are entered (and, if it is volatile, taken out) by the kernel.
pub struct Dir {
    base: InodeBase,
    fs: Arc<PseudoFs>,
    volatile: bool,
    names: SpinLock<Names>,
}

/// A name and what it stands for.
type Named = (Box<[u8]>, Arc<dyn Inode>);

#[derive(Default)]
struct Names {
    index: BTreeMap<Box<[u8]>, usize>,
    /// In order of entry; removed ones leave a hole.
    list: Vec<Option<Named>>,
}

impl Dir {
    /// A directory that only grows.
    pub fn new(fs: &Arc<PseudoFs>) -> Arc<Self> {
        Self::build(fs, fs.base(g::S_IFDIR | 0o555), false)
    }

    /// The root directory (inode 1).
    pub fn root(fs: &Arc<PseudoFs>) -> Arc<Self> {
        Self::build(fs, fs.base_with(1, g::S_IFDIR | 0o555, 0, 0), false)
    }

    /// A directory from which names can be removed.
    pub fn volatile(fs: &Arc<PseudoFs>) -> Arc<Self> {
        Self::build(fs, fs.base(g::S_IFDIR | 0o555), true)
    }

    fn build(fs: &Arc<PseudoFs>, base: InodeBase, volatile: bool) -> Arc<Self> {
        Arc::new(Self { base, fs: fs.clone(), volatile, names: SpinLock::default() })
    }

    /// Enters an inode; one of the same name is replaced (in volatile directories visibly so).
    pub fn add(&self, name: &str, inode: Arc<dyn Inode>) {
        if inode.base().is_dir() {
            self.base.add_nlink(1);
        }
        let mut names = self.names.lock();
        let at = names.list.len();
        let old = names.index.insert(Box::from(name.as_bytes()), at);
        names.list.push(Some((Box::from(name.as_bytes()), inode)));
        let gone = old.and_then(|at| names.list[at].take());
        drop(names);
        drop(gone);
    }

    /// Enters an empty directory, or finds the one that is there.
    pub fn dir(&self, name: &str) -> Arc<Dir> {
        if let Some(present) = self.get(name.as_bytes()) {
            let any: Arc<dyn core::any::Any + Send + Sync> = present;
            if let Ok(dir) = any.downcast() {
                return dir;
            }
        }
        let dir = Dir::new(&self.fs);
        self.add(name, dir.clone());
        dir
    }

    /// Enters a read-only text file (mode 0444).
    pub fn text(&self, name: &str, show: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static) {
        self.add(name, TextFile::new(&self.fs, 0o444, Box::new(show), None));
    }

    /// Enters a text file that can be written: `store` gets what one write(2) wrote.
    pub fn attribute(
        &self,
        name: &str,
        mode: u32,
        show: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) {
        let store: Store = Box::new(store);
        self.add(name, TextFile::new(&self.fs, mode, Box::new(show), Some(store)));
    }

    /// Enters a symbolic link.
    pub fn link(&self, name: &str, target: &str) {
        let target = target.as_bytes().to_vec();
        self.add(name, DynLink::new(&self.fs, move || Ok(Link::Path(target.clone()))));
    }

    /// Takes a name out of a volatile directory; false when it is not there.
    pub fn remove(&self, name: &str) -> bool {
        debug_assert!(self.volatile, "names of this directory are cached");
        let mut names = self.names.lock();
        let gone = match names.index.remove(name.as_bytes()) {
            Some(at) => names.list[at].take(),
            None => None,
        };
        drop(names);
        if gone.as_ref().is_some_and(|(_, inode)| inode.base().is_dir()) {
            self.base.add_nlink(-1);
        }
        gone.is_some()
    }

    /// The inode under a name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<dyn Inode>> {
        let names = self.names.lock();
        let at = *names.index.get(name)?;
        names.list[at].as_ref().map(|(_, inode)| inode.clone())
    }

    /// Number of places in the list of names: positions below are this directory's, for those who
    /// list names of their own after it.
    pub fn len(&self) -> u64 {
        self.names.lock().list.len() as u64
    }

    /// True when there never was a name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Emits from position `from`; false when `emit` had enough.
    pub fn emit(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> bool {
        let names = self.names.lock();
        for (at, slot) in names.list.iter().enumerate().skip(from as usize) {
            let Some((name, inode)) = slot else { continue };
            let base = inode.base();
            let (ino, kind, next) = (base.ino, base.file_type(), at as u64 + 1);
            if !emit(Entry { name, ino, kind, next }) {
                return false;
            }
        }
        true
    }
}

impl Inode for Dir {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn cacheable(&self) -> bool {
        !self.volatile
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.get(name).ok_or(Errno::ENOENT)
    }
    fn create(&self, _name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(self.fs.refusal(node.mode & g::S_IFMT == g::S_IFREG))
    }
    fn symlink(&self, _name: &[u8], _target: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(self.fs.refusal(false))
    }
    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        self.emit(from, emit);
        Ok(())
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

impl FileOps for Dir {
    fn llseek(&self) -> Llseek {
        Llseek::Small
    }
}

/// An entry that a [`DirSource`] lists.
pub struct Listed {
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: FileType,
}

/// Names that are computed.
pub trait DirSource: Any + Send + Sync {
    /// The inode under a name; ENOENT.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>>;
    /// The first entry whose key is at least `from`, with its key. Keys order the entries (pids,
    /// descriptor numbers, indices).
    fn entry(&self, from: u64) -> Result<Option<(u64, Listed)>>;
    /// Asked when the directory is opened: an error refuses it.
    fn open(&self) -> Result<()> {
        Ok(())
    }
    /// See [`Inode::grants`].
    fn grants(&self) -> bool {
        false
    }
    /// Names that stand before the computed ones.
    fn fixed(&self) -> Option<&Arc<Dir>> {
        None
    }
}

/// A directory whose names a source computes at each lookup.
pub struct DynDir {
    base: InodeBase,
    source: Box<dyn DirSource>,
}

impl DynDir {
    /// Around a source. `base` comes from [`PseudoFs::base_with`].
    pub fn new(base: InodeBase, source: impl DirSource + 'static) -> Arc<Self> {
        Arc::new(Self { base, source: Box::new(source) })
    }

    /// The source as a concrete type.
    pub fn source_as<T: DirSource>(&self) -> Option<&T> {
        (&*self.source as &dyn Any).downcast_ref()
    }
}

impl Inode for DynDir {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn grants(&self) -> bool {
        self.source.grants()
    }
    fn cacheable(&self) -> bool {
        false
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if let Some(found) = self.source.fixed().and_then(|fixed| fixed.get(name)) {
            return Ok(found);
        }
        self.source.lookup(name)
    }
    fn create(&self, _name: &[u8], _node: &NewNode) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }
    fn readdir(&self, from: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        /// Positions of computed entries start here; below are the fixed ones.
        const COMPUTED: u64 = 1 << 20;
        if from < COMPUTED
            && let Some(fixed) = self.source.fixed()
            && !fixed.emit(from, emit)
        {
            return Ok(());
        }
        let mut key = from.saturating_sub(COMPUTED);
        while let Some((found, listed)) = self.source.entry(key)? {
            let (ino, kind) = (listed.ino, listed.kind);
            key = found + 1;
            if !emit(Entry { name: &listed.name, ino, kind, next: COMPUTED + key }) {
                break;
            }
        }
        Ok(())
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        self.source.open()?;
        Ok(self)
    }
}

impl FileOps for DynDir {
    fn llseek(&self) -> Llseek {
        Llseek::Small
    }
}
