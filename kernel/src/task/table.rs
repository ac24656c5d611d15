//! Ids, and the tables that find tasks and processes by them.

use super::{Process, TaskRef};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use sync::SpinLock;

/// Largest id (kernel.pid_max on a machine of this size).
pub const PID_MAX: i32 = 4_194_304;

struct Ids {
    last: i32,
    used: BTreeMap<i32, ()>,
}

static IDS: SpinLock<Ids> = SpinLock::new(Ids { last: 0, used: BTreeMap::new() });
static TASKS: SpinLock<BTreeMap<i32, TaskRef>> = SpinLock::new(BTreeMap::new());
/// The members of each process group, by the group's and their own ids.
static GROUPS: SpinLock<BTreeMap<(i32, i32), Arc<Process>>> = SpinLock::new(BTreeMap::new());
static PROCESSES: SpinLock<BTreeMap<i32, Arc<Process>>> = SpinLock::new(BTreeMap::new());
/// Tasks ever made (`processes` of /proc/stat).
pub static FORKS: AtomicU64 = AtomicU64::new(0);

/// Threads that have ended and that a tracer has not seen end.
pub static DEAD_TRACEES: AtomicUsize = AtomicUsize::new(0);

/// Serializes changes of the tree: parents, children, threads, groups. Taken before any
/// process's `place`.
pub static TREE: sync::Mutex<()> = sync::Mutex::new(());

/// A fresh id, above the last one given, starting over at 300 as Linux does.
pub fn alloc_tid() -> i32 {
    let mut ids = IDS.lock();
    loop {
        ids.last = if ids.last + 1 >= PID_MAX { 300 } else { ids.last + 1 };
        let id = ids.last;
        if ids.used.insert(id, ()).is_none() {
            return id;
        }
    }
}

/// Gives an id back.
pub fn free_tid(tid: i32) {
    // The idle tasks all have id 0, which is nobody's.
    if tid > 0 {
        IDS.lock().used.remove(&tid);
    }
}

/// The id given last (`last_pid` of /proc/loadavg).
pub fn last_tid() -> i32 {
    IDS.lock().last
}

/// Makes a task findable.
pub fn add_task(task: &TaskRef) {
    FORKS.fetch_add(1, Ordering::Relaxed);
    TASKS.lock().insert(task.tid(), task.clone());
}

/// Makes a task findable by the id that it took over.
pub fn adopt_task(task: &TaskRef) {
    TASKS.lock().insert(task.tid(), task.clone());
}

/// Makes a task unfindable.
pub fn remove_task(tid: i32) {
    let gone = TASKS.lock().remove(&tid);
    drop(gone);
}

/// The task with this id.
pub fn task(tid: i32) -> Option<TaskRef> {
    TASKS.lock().get(&tid).cloned()
}

/// Calls `f` for every task, by id; false if the table is locked (for a panic, which waits for
/// nobody).
pub fn try_each(f: impl FnMut(&TaskRef)) -> bool {
    TASKS.try_lock().map(|tasks| tasks.values().for_each(f)).is_some()
}

/// Makes a process findable.
pub fn add_process(process: &Arc<Process>) {
    PROCESSES.lock().insert(process.pid, process.clone());
}

/// Makes a process unfindable.
pub fn remove_process(pid: i32) {
    let Some(gone) = PROCESSES.lock().remove(&pid) else { return };
    let pgid = gone.place.lock().pgid;
    let member = GROUPS.lock().remove(&(pgid, pid));
    drop((gone, member));
}

/// Puts a process into a group. The tree is locked.
pub fn join_group(process: &Arc<Process>, pgid: i32) {
    let old = core::mem::replace(&mut process.place.lock().pgid, pgid);
    let mut groups = GROUPS.lock();
    let before = groups.remove(&(old, process.pid));
    groups.insert((pgid, process.pid), process.clone());
    drop(groups);
    drop(before);
}

/// The process with this id.
pub fn process(pid: i32) -> Option<Arc<Process>> {
    PROCESSES.lock().get(&pid).cloned()
}

/// All processes, by id, one after the other: those that are there when their turn comes.
pub fn processes() -> impl Iterator<Item = Arc<Process>> {
    let after = |process: &Arc<Process>| next_process(process.pid + 1);
    core::iter::successors(next_process(0), after)
}

/// The first process with an id of at least `pid` (for reading directories step by step).
pub fn next_process(pid: i32) -> Option<Arc<Process>> {
    PROCESSES.lock().range(pid..).next().map(|(_, p)| p.clone())
}

/// Number of tasks, with those that their tracers have not seen end.
pub fn task_count() -> usize {
    TASKS.lock().len() + DEAD_TRACEES.load(Ordering::Relaxed)
}

/// The processes of a process group, by id, as [`processes`].
pub fn group(pgid: i32) -> impl Iterator<Item = Arc<Process>> {
    let from = move |pid: i32| {
        let groups = GROUPS.lock();
        groups.range((pgid, pid)..=(pgid, i32::MAX)).next().map(|(_, p)| p.clone())
    };
    core::iter::successors(from(0), move |process| from(process.pid + 1))
}
