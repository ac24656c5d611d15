//! Mounted file systems, and places in them.
//!
//! A [`Path`] is a mount and an entry of it. The table maps a covered entry of a mount to the mount
//! on top; entries count what covers them, so that a walk asks the table only where something is
//! mounted.

use crate::dentry::Dentry;
use crate::inode::Inode;
use crate::pseudo::News;
use crate::stat::Statfs;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use frames::fallible::{Grow, TryMap, TryVec, arc, copied, text};
use sync::{Mutex, SpinLock};

/// A file system instance.
pub trait FileSystem: Send + Sync {
    /// The type's name as mount(2) and /proc/mounts know it.
    fn name(&self) -> &'static str;
    /// What statfs(2) tells (without the mount's flags).
    fn statfs(&self) -> Statfs;
    /// Options for /proc/mounts, each with a leading comma (",size=1024k").
    fn options(&self) -> String {
        String::new()
    }
    /// New options of a remount.
    fn remount(&self, _options: &str) -> Result<()> {
        Ok(())
    }
}

/// A file system with its tree of entries; shared by all its mounts.
pub struct Super {
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
}

impl Super {
    /// Around the root inode.
    /// ENOMEM.
    pub fn new(fs: Arc<dyn FileSystem>, root: Arc<dyn Inode>) -> Result<Arc<Self>> {
        arc(Self { fs, root: Dentry::root(root)? })
    }
    /// The root entry.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }
}

impl Drop for Super {
    fn drop(&mut self) {
        self.root.prune();
    }
}

/// Per-mount flags of mount(2) that are kept.
pub const MOUNT_FLAGS: u32 = g::MS_RDONLY
    | g::MS_NOSUID
    | g::MS_NODEV
    | g::MS_NOEXEC
    | g::MS_NOATIME
    | g::MS_NODIRATIME
    | g::MS_RELATIME
    | g::MS_NOSYMFOLLOW;

/// A mounted tree.
pub struct Mount {
    id: u32,
    sb: Arc<Super>,
    root: Arc<Dentry>,
    source: String,
    flags: AtomicU32,
    /// What it covers; None for a root or when detached.
    at: SpinLock<Option<Path>>,
}

/// A place in the mounted tree.
#[derive(Clone)]
pub struct Path {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// Notes a reading access on the inode, unless the mount forbids it.
    pub fn accessed(&self) {
        let base = self.dentry.inode().base();
        if !self.mount.keeps_atime(base.is_dir()) {
            base.touch_accessed();
        }
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

/// (mount id, address of the covered entry): what is mounted there.
type Covers = BTreeMap<(u32, usize), Arc<Mount>>;
static COVERS: SpinLock<Covers> = SpinLock::new(BTreeMap::new());
/// Told of every change of the mount tree.
pub static NEWS: News = News::new();
/// Serializes changes of the mount tree.
static CHANGES: Mutex<()> = Mutex::new(());

fn key(path: &Path) -> (u32, usize) {
    (path.mount.id, Arc::as_ptr(&path.dentry) as usize)
}

impl Mount {
    /// A mount of the whole file system that covers nothing (yet).
    /// ENOMEM.
    pub fn new(sb: Arc<Super>, source: &str, flags: u32) -> Result<Arc<Self>> {
        let root = sb.root.clone();
        Self::of(sb, root, source, flags)
    }

    fn of(sb: Arc<Super>, root: Arc<Dentry>, source: &str, flags: u32) -> Result<Arc<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let source = text(format_args!("{source}"))?;
        arc(Self {
            id: NEXT.fetch_add(1, Relaxed),
            sb,
            root,
            source,
            flags: AtomicU32::new(flags & MOUNT_FLAGS),
            at: SpinLock::new(None),
        })
    }

    /// A unique number.
    pub fn id(&self) -> u32 {
        self.id
    }
    /// The entry at its top.
    #[inline]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }
    /// The file system.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.sb.fs
    }
    /// What was given as the device.
    pub fn source(&self) -> &str {
        &self.source
    }
    /// `MS_*` flags.
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }
    /// Reading accesses of a directory, or of anything else, are not noted (MS_NOATIME,
    /// MS_NODIRATIME, MS_RDONLY).
    fn keeps_atime(&self, dir: bool) -> bool {
        let none = g::MS_NOATIME | g::MS_RDONLY;
        self.flags() & if dir { none | g::MS_NODIRATIME } else { none } != 0
    }
    /// Programs may not be executed from it.
    pub fn noexec(&self) -> bool {
        self.flags() & g::MS_NOEXEC != 0
    }
    /// Set-user-id bits are ignored.
    pub fn nosuid(&self) -> bool {
        self.flags() & g::MS_NOSUID != 0
    }
    /// EROFS on a read-only mount.
    pub fn check_writable(&self) -> Result<()> {
        if self.flags() & g::MS_RDONLY != 0 { Err(Errno::EROFS) } else { Ok(()) }
    }
    /// What it covers.
    pub fn mountpoint(&self) -> Option<Path> {
        self.at.lock().clone()
    }
    /// Its top as a path.
    pub fn top(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// statfs(2).
    pub fn statfs(&self) -> Statfs {
        let flags = self.flags();
        // ST_RDONLY, NOSUID, NODEV and NOEXEC equal the MS_ bits; the others are shifted.
        let mut st = flags & (g::MS_RDONLY | g::MS_NOSUID | g::MS_NODEV | g::MS_NOEXEC);
        for (ms, bit) in
            [(g::MS_NOATIME, 0x400), (g::MS_NODIRATIME, 0x800), (g::MS_RELATIME, 0x1000)]
        {
            if flags & ms != 0 {
                st |= bit;
            }
        }
        Statfs { flags: st as u64, ..self.sb.fs.statfs() }
    }

    /// Option words for /proc/mounts: "rw,nosuid,relatime,size=8k".
    pub fn option_text(&self) -> String {
        let flags = self.flags();
        let mut out = String::from(if flags & g::MS_RDONLY != 0 { "ro" } else { "rw" });
        for (bit, word) in [
            (g::MS_NOSUID, ",nosuid"),
            (g::MS_NODEV, ",nodev"),
            (g::MS_NOEXEC, ",noexec"),
            (g::MS_NOATIME, ",noatime"),
            (g::MS_NODIRATIME, ",nodiratime"),
            (g::MS_RELATIME, ",relatime"),
            (g::MS_NOSYMFOLLOW, ",nosymfollow"),
        ] {
            if flags & bit != 0 {
                out.push_str(word);
            }
        }
        out.push_str(&self.sb.fs.options());
        out
    }
}

impl Path {
    /// The topmost mount on this place.
    #[inline]
    pub fn descend(mut self) -> Self {
        while self.dentry.covered.load(Relaxed) != 0 {
            let Some(mount) = COVERS.lock().get(&key(&self)).cloned() else { break };
            let dentry = mount.root.clone();
            self = Self { mount, dentry };
        }
        self
    }

    /// The place above, not leaving `root`.
    pub fn ascend(&self, root: &Path) -> Self {
        let mut here = self.clone();
        loop {
            if here == *root {
                return here;
            }
            if !Arc::ptr_eq(&here.dentry, &here.mount.root) {
                return match here.dentry.parent() {
                    Some(parent) => Self { mount: here.mount, dentry: parent }.descend(),
                    None => here,
                };
            }
            match here.mount.mountpoint() {
                Some(below) => here = below,
                None => return here,
            }
        }
    }

    /// Inode number of the directory above within the file system.
    pub fn parent_ino(&self) -> u64 {
        self.dentry.parent().map_or(self.dentry.inode().base().ino, |p| p.inode().base().ino)
    }

    /// The absolute path as seen from `root` (None: from wherever the mounts end), with
    /// " (deleted)" for a name that is gone, and "(unreachable)" before a path that `root` does
    /// not contain.
    /// ENOMEM.
    pub fn text(&self, root: Option<&Path>) -> Result<Vec<u8>> {
        let mut parts: Vec<Arc<[u8]>> = Vec::new();
        let mut here = self.clone();
        let reached = loop {
            if root.is_some_and(|root| here == *root) {
                break true;
            }
            if Arc::ptr_eq(&here.dentry, &here.mount.root) {
                match here.mount.mountpoint() {
                    Some(below) => here = below,
                    None => break root.is_none(),
                }
                continue;
            }
            let (parent, name) = here.dentry.position();
            parts.try_push(name)?;
            match parent {
                Some(parent) => here.dentry = parent,
                None => break root.is_none(),
            }
        };
        let mut out = Vec::new();
        if !reached {
            out.try_extend(b"(unreachable)")?;
        }
        for part in parts.iter().rev() {
            out.room_for(part.len() + 1)?;
            out.push(b'/');
            out.extend_from_slice(part);
        }
        if parts.is_empty() {
            out.try_push(b'/')?;
        }
        if self.dentry.is_deleted() {
            out.try_extend(b" (deleted)")?;
        }
        Ok(out)
    }
}

fn cover(mount: &Arc<Mount>, at: &Path) {
    *mount.at.lock() = Some(at.clone());
    at.dentry.covered.fetch_add(1, Relaxed);
    COVERS.lock().insert(key(at), mount.clone());
}

fn uncover(mount: &Arc<Mount>) -> Option<Path> {
    let at = mount.at.lock().take()?;
    COVERS.lock().remove(&key(&at));
    at.dentry.covered.fetch_sub(1, Relaxed);
    Some(at)
}

fn same_kind(root: &Dentry, at: &Path) -> Result<()> {
    if root.is_dir() == at.dentry.is_dir() { Ok(()) } else { Err(Errno::ENOTDIR) }
}

/// Mounts `sb` on `at` (the topmost place there).
pub fn attach(sb: Arc<Super>, source: &str, flags: u32, at: &Path) -> Result<Arc<Mount>> {
    let _changes = CHANGES.lock();
    let at = at.clone().descend();
    same_kind(&sb.root, &at)?;
    if at.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let mount = Mount::new(sb, source, flags)?;
    COVERS.lock().room_for_one()?;
    cover(&mount, &at);
    NEWS.tell();
    Ok(mount)
}

/// Mounts what is at `from` also on `at` (MS_BIND); with `recursive`, what is mounted below too.
pub fn bind(from: &Path, at: &Path, recursive: bool) -> Result<Arc<Mount>> {
    let _changes = CHANGES.lock();
    let at = at.clone().descend();
    same_kind(&from.dentry, &at)?;
    let copy = |mount: &Arc<Mount>, root: &Arc<Dentry>| {
        Mount::of(mount.sb.clone(), root.clone(), &mount.source, mount.flags())
    };
    let mount = copy(&from.mount, &from.dentry)?;
    let mut pairs = Vec::from([(from.mount.clone(), mount.clone())]);
    let mut copied = 0;
    // The copies are made before anything is attached: a tree bound into itself stays finite.
    while recursive && copied < pairs.len() {
        let (original, twin) = pairs[copied].clone();
        copied += 1;
        for child in children(&original)? {
            let Some(below) = child.mountpoint() else { continue };
            if !from.dentry.is_ancestor_of(&below.dentry) && Arc::ptr_eq(&original, &from.mount) {
                continue;
            }
            let child_twin = copy(&child, &child.root)?;
            let place = Path { mount: twin.clone(), dentry: below.dentry };
            *child_twin.at.lock() = Some(place);
            pairs.try_push((child, child_twin))?;
        }
    }
    cover(&mount, &at);
    for (_, twin) in pairs.iter().skip(1) {
        if let Some(place) = twin.mountpoint() {
            cover(twin, &place);
        }
    }
    NEWS.tell();
    Ok(mount)
}

/// Moves a mount to `at` (MS_MOVE). EINVAL when `from` is no mount's top or the root, ELOOP when
/// `at` lies in it.
pub fn relocate(from: &Path, at: &Path) -> Result<()> {
    let _changes = CHANGES.lock();
    let at = at.clone().descend();
    let mount = &from.mount;
    if !Arc::ptr_eq(&from.dentry, &mount.root) || mount.mountpoint().is_none() {
        return Err(Errno::EINVAL);
    }
    same_kind(&mount.root, &at)?;
    let mut above = Some(at.clone());
    while let Some(place) = above {
        if Arc::ptr_eq(&place.mount, mount) {
            return Err(Errno::ELOOP);
        }
        above = place.mount.mountpoint();
    }
    uncover(mount);
    cover(mount, &at);
    NEWS.tell();
    Ok(())
}

/// Changes flags and options of the mount at `at` (MS_REMOUNT). With `bind`, only the flags.
pub fn remount(at: &Path, flags: u32, options: &str, bind: bool) -> Result<()> {
    let _changes = CHANGES.lock();
    if !Arc::ptr_eq(&at.dentry, &at.mount.root) {
        return Err(Errno::EINVAL);
    }
    if !bind {
        at.mount.sb.fs.remount(options)?;
    }
    at.mount.flags.store(flags & MOUNT_FLAGS, Relaxed);
    NEWS.tell();
    Ok(())
}

/// Unmounts the mount whose top `at` is. EINVAL when it is none, EBUSY while it is in use, unless
/// `detach` (MNT_DETACH), which takes it and what is mounted below out of the tree at once.
pub fn detach(at: Path, lazy: bool) -> Result<()> {
    let changes = CHANGES.lock();
    let Path { mount, dentry } = at;
    if !Arc::ptr_eq(&dentry, &mount.root) || mount.mountpoint().is_none() {
        return Err(Errno::EINVAL);
    }
    let mut gone: Vec<(Arc<Mount>, Option<Path>)> = Vec::new();
    if lazy {
        // All are found before the first one goes.
        gone.try_push((mount, None))?;
        let mut at = 0;
        while at < gone.len() {
            for child in children(&gone[at].0)? {
                gone.try_push((child, None))?;
            }
            at += 1;
        }
        for (mount, place) in &mut gone {
            *place = uncover(mount);
        }
    } else {
        // The table's reference and ours.
        if Arc::strong_count(&mount) > 2 {
            return Err(Errno::EBUSY);
        }
        gone.room_for(1)?;
        let place = uncover(&mount);
        gone.push((mount, place));
    }
    NEWS.tell();
    drop(changes);
    drop(gone);
    Ok(())
}

fn children(mount: &Arc<Mount>) -> Result<Vec<Arc<Mount>>> {
    let table = COVERS.lock();
    let range = (mount.id, 0)..=(mount.id, usize::MAX);
    Vec::gather(table.range(range).map(|(_, child)| child.clone()))
}

/// pivot_root(2): `new_root` (a mount's top) becomes the top of the tree, the old one (`root`) goes
/// to `put_old` below it. The caller moves roots and working directories.
pub fn pivot(root: &Path, new_root: &Path, put_old: &Path) -> Result<()> {
    let _changes = CHANGES.lock();
    let is_top = |path: &Path| Arc::ptr_eq(&path.dentry, &path.mount.root);
    if Arc::ptr_eq(&new_root.mount, &root.mount) || Arc::ptr_eq(&put_old.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    // The root of the whole tree (rootfs) cannot be pivoted away.
    let (true, true, Some(root_at)) = (is_top(root), is_top(new_root), root.mount.mountpoint())
    else {
        return Err(Errno::EINVAL);
    };
    if !new_root.dentry.is_ancestor_of(&put_old.dentry) && put_old.mount.id == new_root.mount.id {
        return Err(Errno::EINVAL);
    }
    uncover(&new_root.mount);
    uncover(&root.mount);
    cover(&root.mount, put_old);
    cover(&new_root.mount, &root_at);
    NEWS.tell();
    Ok(())
}

/// All mounts that can be reached from `root`, parents first (for /proc/mounts).
pub fn list(root: &Path) -> Result<Vec<Arc<Mount>>> {
    let mut found = copied(core::slice::from_ref(&root.mount))?;
    let mut at = 0;
    while at < found.len() {
        let below = children(&found[at])?;
        found.try_extend(&below)?;
        at += 1;
    }
    found[1..].sort_unstable_by_key(|mount| mount.id);
    Ok(found)
}

/// Makes an instance of a file system type from mount(2)'s source and options.
pub type MakeSuper = Box<dyn Fn(&str, &str) -> Result<Arc<Super>> + Send + Sync>;

struct Kind {
    name: &'static str,
    make: MakeSuper,
}

static KINDS: Mutex<Vec<Kind>> = Mutex::new(Vec::new());

/// Registers a file system type; a name registered before is replaced.
pub fn register(name: &'static str, make: MakeSuper) {
    let mut kinds = KINDS.lock();
    kinds.retain(|kind| kind.name != name);
    kinds.push(Kind { name, make });
}

/// Registered names (for /proc/filesystems; none of them needs a device).
pub fn kinds() -> Vec<&'static str> {
    KINDS.lock().iter().map(|kind| kind.name).collect()
}

/// An instance of the type `name`; ENODEV when there is no such type.
pub fn instantiate(name: &str, source: &str, options: &str) -> Result<Arc<Super>> {
    let kinds = KINDS.lock();
    let kind = kinds.iter().find(|kind| kind.name == name).ok_or(Errno::ENODEV)?;
    (kind.make)(source, options)
}
