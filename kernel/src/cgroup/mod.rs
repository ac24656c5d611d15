//! Control groups: the one hierarchy of version 2, and what it does to tasks.
//!
//! The crate `cgroup` has the rules; [`dir`] and [`files`] show them as the file system `cgroup2`,
//! [`attach`] moves tasks, [`birth`] and [`end`] follow them from fork to being reaped, [`cpuset`]
//! makes masks true.
//!
//! Locks: [`CHANGES`] is held over every change together with what follows from it. Then, where a task
//! joins or leaves a group, `table::TREE`; then [`groups`]. Tasks of the root group take none of them.

pub mod attach;
pub mod birth;
pub mod cpuset;
pub mod dir;
pub mod end;
pub mod files;
pub mod freeze;
pub mod kill;
mod numbers;
mod show;
mod store;

pub use show::of_all;

use abi::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use cgroup::{Id, ROOT, Tree, Watched};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dir::GroupDir;
use fs::mount::{FileSystem, Super};
use fs::stat::{DevId, Statfs};
use sync::{Mutex, MutexGuard, Once};

/// What is kept for each group: its directory.
pub struct Data {
    pub dir: Arc<GroupDir>,
}

impl Watched for Data {
    fn events_changed(&self) {
        self.dir.events.tell();
    }
}

/// The groups as they are here.
pub type Groups = Tree<Data>;

/// Held over changes of groups and what follows from them (Linux's cgroup_mutex).
pub static CHANGES: Mutex<()> = Mutex::new(());

static GROUPS: Once<Mutex<Groups>> = Once::new();
/// Counts moves of tasks and changes of cpusets: a task that was copied from another meanwhile is
/// looked at again.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);
/// Somebody has mounted the hierarchy: only then /proc/PID/cgroup tells of it.
static VISIBLE: AtomicBool = AtomicBool::new(false);

struct Cgroup2;

impl FileSystem for Cgroup2 {
    fn name(&self) -> &'static str {
        "cgroup2"
    }
    fn statfs(&self) -> Statfs {
        Statfs::plain(0x6367_7270)
    }
}

/// Registers the type.
pub fn register() {
    fs::mount::register("cgroup2", Box::new(|_, options| mount(options)));
}

/// There are no options. EINVAL.
fn mount(options: &str) -> Result<Arc<Super>> {
    static INSTANCE: Once<Arc<Super>> = Once::new();
    if !options.is_empty() {
        return Err(abi::Errno::EINVAL);
    }
    let mounted = INSTANCE.get_or_try_init(|| {
        Super::new(frames::fallible::arc(Cgroup2)?, groups().group(ROOT)?.data.dir.clone())
    })?;
    VISIBLE.store(true, Ordering::Release);
    Ok(mounted.clone())
}

/// Whether /proc/PID/cgroup tells of the hierarchy.
pub fn is_visible() -> bool {
    VISIBLE.load(Ordering::Acquire)
}

/// The device number of the file system.
fn device() -> DevId {
    static DEVICE: Once<DevId> = Once::new();
    *DEVICE.get_or_init(fs::tmpfs::anonymous_dev)
}

/// The groups, locked.
pub fn groups() -> MutexGuard<'static, Groups> {
    let all = || {
        let machine = crate::machine();
        let data = Data { dir: GroupDir::root(device()) };
        let (nodes, mems) = (machine.nodes(), machine.memory_nodes());
        Mutex::new(Tree::new(crate::boot::cpus::online(), nodes, mems, data))
    };
    GROUPS.get_or_init(all).lock()
}

/// Notes that tasks copied from now on may have missed something.
fn note_change() {
    SEQUENCE.fetch_add(1, Ordering::AcqRel);
}

/// The text of a group's path, " (deleted)" included. ENOMEM.
pub fn path_of(id: Id, out: &mut fs::pseudo::Text) -> Result<()> {
    let (path, dead) = groups().path(id)?;
    out.bytes(&path);
    out.bytes(if dead { b" (deleted)" } else { b"" });
    Ok(())
}
