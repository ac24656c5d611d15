//! The threads of a process, by their ids.

use super::TaskRef;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Values;

/// The threads of a process of which `leader` is the id. Joining, leaving and finding one take
/// time by the logarithm of their number.
pub struct Threads {
    leader: i32,
    by_id: BTreeMap<i32, TaskRef>,
}

impl Threads {
    /// No threads yet.
    pub const fn new(leader: i32) -> Self {
        Self { leader, by_id: BTreeMap::new() }
    }

    /// Adds a thread.
    pub fn join(&mut self, task: TaskRef) {
        self.by_id.insert(task.tid(), task);
    }

    /// Takes the thread with this id out.
    pub fn leave(&mut self, tid: i32) -> Option<TaskRef> {
        self.by_id.remove(&tid)
    }

    /// The thread with this id.
    pub fn get(&self, tid: i32) -> Option<&TaskRef> {
        self.by_id.get(&tid)
    }

    /// The first thread; when that has ended, another one that speaks for the process.
    pub fn first(&self) -> Option<&TaskRef> {
        self.get(self.leader).or_else(|| self.by_id.values().next())
    }

    /// The thread with the lowest id of at least `tid`.
    pub fn next(&self, tid: i32) -> Option<&TaskRef> {
        self.by_id.range(tid..).next().map(|(_, task)| task)
    }

    /// All threads, by id.
    pub fn iter(&self) -> Values<'_, i32, TaskRef> {
        self.by_id.values()
    }

    /// All threads, by id, those with an id of at least `tid` first.
    pub fn from(&self, tid: i32) -> impl Iterator<Item = &TaskRef> {
        let ranges = self.by_id.range(tid..).chain(self.by_id.range(..tid));
        ranges.map(|(_, task)| task)
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True without threads.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl<'a> IntoIterator for &'a Threads {
    type Item = &'a TaskRef;
    type IntoIter = Values<'a, i32, TaskRef>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
