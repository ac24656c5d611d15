//! Tasks and address spaces, as the guest's kernel names them.

use std::collections::HashMap;

/// A task that is measured, or was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    pub tid: u32,
    pub pid: u32,
    pub name: String,
    pub measured: bool,
}

/// Everybody so far. Numbers of tasks are given anew when a task's number comes back for another.
#[derive(Default)]
pub struct Registry {
    tasks: Vec<Task>,
    by_tid: HashMap<u32, usize>,
    /// The guest's number of each address space.
    spaces: Vec<u64>,
    by_id: HashMap<u64, u32>,
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
            self.spaces.push(id);
            self.spaces.len() as u32 - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
