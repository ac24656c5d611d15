//! Links to what a process runs, where it is, and its namespaces.

use super::Who;
use crate::access::{self, Mode};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use fs::inode::{Inode, InodeBase, Link, OpenArgs};
use fs::pseudo::{DirSource, DynDir, DynLink, Listed, PseudoFs};
use fs::stat::FileType;
use fs::{FileOps, Place};
use sync::Once;

/// The running program.
pub fn exe(who: &Who) -> Result<Link> {
    let process = who.find()?;
    access::check(&process, Mode::ReadFs)?;
    let exe = process.exe.lock().clone().ok_or(Errno::ENOENT)?;
    Ok(Link::Jump(exe.file.place().clone()))
}

fn view(who: &Who) -> Result<Arc<fs::FsView>> {
    let (process, task) = who.living().map_err(|_| Errno::ENOENT)?;
    access::check(&process, Mode::ReadFs)?;
    let task = task.ok_or(Errno::ENOENT)?;
    let context = task.fs.lock().clone();
    Ok(context.view())
}

/// The working directory.
pub fn cwd(who: &Who) -> Result<Link> {
    Ok(Link::Jump(Place::Path(view(who)?.cwd.clone())))
}

/// The root directory.
pub fn root(who: &Who) -> Result<Link> {
    Ok(Link::Jump(Place::Path(view(who)?.root.clone())))
}

/// The namespaces that there are: one of each kind, with Linux's numbers for the first ones.
const NAMESPACES: [(&str, u64); 10] = [
    ("cgroup", 0xeffffffb),
    ("ipc", 0xefffffff),
    ("mnt", 0xf0000001),
    ("net", 0xf0000000),
    ("pid", 0xeffffffc),
    ("pid_for_children", 0xeffffffc),
    ("time", 0xeffffffa),
    ("time_for_children", 0xeffffffa),
    ("user", 0xeffffffd),
    ("uts", 0xeffffffe),
];

/// What a namespace link leads to: something to compare by inode number. It holds no operations.
struct Namespace {
    base: InodeBase,
    name: &'static str,
}

impl Inode for Namespace {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn anonymous_name(&self) -> String {
        format!("{}:[{}]", self.name, self.base.ino)
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

impl FileOps for Namespace {}

fn namespace(index: usize) -> Arc<dyn Inode> {
    static MADE: [Once<Arc<Namespace>>; NAMESPACES.len()] =
        [const { Once::new() }; NAMESPACES.len()];
    let made = MADE[index].get_or_init(|| {
        let (name, ino) = NAMESPACES[index];
        let name = name.strip_suffix("_for_children").unwrap_or(name);
        let dev = fs::DevId::new(0, 4);
        Arc::new(Namespace { base: InodeBase::new(dev, ino, g::S_IFREG | 0o444, 0, 0), name })
    });
    made.clone()
}

struct Namespaces {
    fs: Arc<PseudoFs>,
    who: Who,
}

impl Namespaces {
    fn ino(&self, index: usize) -> u64 {
        1 << 49 | (self.who.id() as u64) << 8 | index as u64
    }
}

/// /proc/PID/ns.
pub fn namespaces(fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    DynDir::new(base, Namespaces { fs: fs.clone(), who })
}

impl DirSource for Namespaces {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let index = NAMESPACES.iter().position(|n| n.0.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let base = super::base(&self.fs, &self.who, self.ino(index), g::S_IFLNK | 0o777);
        let who = self.who.clone();
        Ok(DynLink::with_base(base, 0, move || {
            let (process, task) = who.living()?;
            access::check(&process, Mode::ReadFs)?;
            task.ok_or(Errno::ENOENT)?;
            Ok(Link::Jump(Place::Anonymous(namespace(index))))
        }))
    }

    fn entry(&self, from: u64) -> Result<Option<(u64, Listed)>> {
        Ok(NAMESPACES.get(from as usize).map(|(name, _)| {
            let ino = self.ino(from as usize);
            (from, Listed { name: (*name).into(), ino, kind: FileType::Symlink })
        }))
    }
}
