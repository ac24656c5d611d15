//! Tasks and address spaces, as the guest's kernel names them.

use std::collections::{BTreeMap, HashMap};

/// A task that is measured, or was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    pub tid: u32,
    pub pid: u32,
    pub name: String,
    pub measured: bool,
}

/// An address space: which files' code is mapped where.
#[derive(Clone, Debug, Default)]
struct Space {
    /// By the first address: end, file, offset in it.
    code: BTreeMap<u64, (u64, u32, u64)>,
}

impl Space {
    /// Whatever is mapped from `start` to `end` is not there any more.
    fn clear(&mut self, start: u64, end: u64) {
        let first = self.code.range(..start).next_back().filter(|(_, area)| area.0 > start);
        let first = first.map_or(start, |(&at, _)| at);
        let hit: Vec<u64> = self.code.range(first..end).map(|(&at, _)| at).collect();
        for at in hit {
            let Some((old_end, file, offset)) = self.code.remove(&at) else { continue };
            if at < start {
                self.code.insert(at, (start, file, offset));
            }
            if old_end > end {
                self.code.insert(end, (old_end, file, offset + (end - at)));
            }
        }
    }

    fn find(&self, address: u64) -> Option<(u32, u64)> {
        let (at, &(end, file, offset)) = self.code.range(..=address).next_back()?;
        (address < end).then_some((file, offset + (address - at)))
    }
}

/// Everybody so far. Numbers of tasks are given anew when a task's number comes back for another.
#[derive(Default)]
pub struct Registry {
    tasks: Vec<Task>,
    by_tid: HashMap<u32, usize>,
    spaces: Vec<Space>,
    /// By the guest's number.
    by_id: HashMap<u64, u32>,
    /// Paths of files with code.
    objects: Vec<String>,
    by_path: HashMap<String, u32>,
    /// The task that was begun with, and the address space it had last.
    pub root: Option<usize>,
    pub root_space: Option<u32>,
}

impl Registry {
    pub fn task(&mut self, tid: u32) -> usize {
        *self.by_tid.entry(tid).or_insert_with(|| {
            self.tasks.push(Task { tid, pid: tid, ..Task::default() });
            self.tasks.len() - 1
        })
    }

    pub fn get(&mut self, task: usize) -> Option<&mut Task> {
        self.tasks.get_mut(task)
    }

    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// A child is born to `parent`: whoever had its number before is somebody else.
    pub fn born(&mut self, tid: u32, parent: usize) {
        self.by_tid.remove(&tid);
        let (measured, name) =
            self.tasks.get(parent).map_or((false, String::new()), |p| (p.measured, p.name.clone()));
        let child = self.task(tid);
        if let Some(child) = self.tasks.get_mut(child) {
            child.measured = measured;
            child.name = name;
        }
    }

    /// A task's number is free.
    pub fn ended(&mut self, task: usize) {
        if let Some(tid) = self.tasks.get(task).map(|task| task.tid)
            && self.by_tid.get(&tid) == Some(&task)
        {
            self.by_tid.remove(&tid);
        }
    }

    pub fn space(&mut self, id: u64) -> u32 {
        *self.by_id.entry(id).or_insert_with(|| {
            self.spaces.push(Space::default());
            self.spaces.len() as u32 - 1
        })
    }

    /// Code of a file lies in a space from now on; without a path, code that is no file's.
    pub fn mapped(&mut self, space: u64, start: u64, len: u64, offset: u64, path: &str) {
        let (space, end) = (self.space(space) as usize, start.saturating_add(len));
        self.spaces[space].clear(start, end);
        if path.is_empty() || end == start {
            return;
        }
        let file = *self.by_path.entry(path.into()).or_insert_with(|| {
            self.objects.push(path.into());
            self.objects.len() as u32 - 1
        });
        self.spaces[space].code.insert(start, (end, file, offset));
    }

    /// A new space begins as a copy of another.
    pub fn copied(&mut self, to: u64, from: u64) {
        let (to, from) = (self.space(to) as usize, self.space(from) as usize);
        self.spaces[to] = self.spaces[from].clone();
    }

    /// The file (its number in [`Self::objects`]) and the offset in it of code at `address`.
    pub fn code(&self, space: u32, address: u64) -> Option<(u32, u64)> {
        self.spaces.get(space as usize)?.find(address)
    }

    /// Paths of all files with code.
    pub fn objects(&self) -> &[String] {
        &self.objects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_by_file_and_offset_wherever_it_is_mapped() {
        let mut registry = Registry::default();
        registry.mapped(5, 0x1000, 0x4000, 0x2000, "/a");
        registry.copied(6, 5);
        registry.mapped(6, 0x2000, 0x1000, 0, "/b");
        registry.mapped(6, 0x4000, 0x1000, 0, "");
        let (five, six) = (registry.space(5), registry.space(6));
        assert_eq!(registry.code(five, 0x2010), Some((0, 0x3010)));
        assert_eq!(registry.code(six, 0x1fff), Some((0, 0x2fff)));
        assert_eq!(registry.code(six, 0x2010), Some((1, 0x10)));
        assert_eq!(registry.code(six, 0x3010), Some((0, 0x4010)));
        assert_eq!(registry.code(six, 0x4010), None);
        assert_eq!(registry.code(five, 0x5000), None);
        assert_eq!(registry.objects(), ["/a", "/b"]);
    }

    #[test]
    fn children_of_measured_tasks_are_measured_and_numbers_come_back() {
        let mut registry = Registry::default();
        let root = registry.task(7);
        registry.get(root).unwrap().measured = true;
        registry.born(8, root);
        let child = registry.task(8);
        assert!(registry.get(child).unwrap().measured);
        registry.ended(child);
        let other = registry.task(8);
        assert_ne!(other, child);
        assert!(!registry.get(other).unwrap().measured);
    }
}
