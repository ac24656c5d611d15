//! Groups and their places.

use crate::controllers::Controllers;
use crate::cpuset::Cpuset;
use crate::freezer::Freezer;
use crate::pids::Pids;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use frames::fallible::{TryMap, TryVec, boxed, boxed_slice};
use numa::{CpuMask, NodeMask};

/// Names a group, and nothing else ever after.
pub type Id = u64;

/// The group that is always there.
pub const ROOT: Id = 1;

/// What the kernel keeps for each group.
pub trait Watched {
    /// Something in cgroup.events has changed.
    fn events_changed(&self);
}

/// A group.
pub struct Group<D> {
    /// None for the root, and for one that was removed.
    pub(crate) parent: Option<Id>,
    /// Where it was when it was removed.
    pub(crate) above: Id,
    name: Box<[u8]>,
    level: u32,
    by_name: BTreeMap<Box<[u8]>, Id>,
    children: BTreeSet<Id>,
    /// Removed; whoever ended in it has not been reaped.
    dead: bool,
    pub(crate) held: u32,
    /// Removed groups that have it as their parent, and are still there.
    corpses: u32,
    /// Groups below, and those below that were removed and are not gone.
    pub(crate) descendants: u32,
    pub(crate) dying: u32,
    /// cgroup.max.depth and cgroup.max.descendants; None is no limit.
    pub max_depth: Option<u32>,
    pub max_descendants: Option<u32>,
    pub(crate) subtree_control: Controllers,
    pub(crate) threaded: bool,
    pub(crate) threaded_children: u32,
    /// Tasks in the group itself.
    pub(crate) tasks: u32,
    pub(crate) populated_domains: u32,
    pub(crate) populated_threaded: u32,
    pub(crate) cpuset: Cpuset,
    pub pids: Pids,
    pub(crate) freezer: Freezer,
    pub data: D,
}

impl<D> Group<D> {
    fn new(parent: Option<Id>, name: Box<[u8]>, level: u32, cpuset: Cpuset, data: D) -> Self {
        Self {
            parent,
            above: parent.unwrap_or(ROOT),
            name,
            level,
            by_name: BTreeMap::new(),
            children: BTreeSet::new(),
            dead: false,
            held: 0,
            corpses: 0,
            descendants: 0,
            dying: 0,
            max_depth: None,
            max_descendants: None,
            subtree_control: Controllers::NONE,
            threaded: false,
            threaded_children: 0,
            tasks: 0,
            populated_domains: 0,
            populated_threaded: 0,
            cpuset,
            pids: Pids::default(),
            freezer: Freezer::default(),
            data,
        }
    }

    /// The group above.
    #[must_use]
    pub const fn parent(&self) -> Option<Id> {
        self.parent
    }
    /// What it gives to its children.
    #[must_use]
    pub const fn subtree_control(&self) -> Controllers {
        self.subtree_control
    }
    /// Its CPUs and nodes; they count where the group has the controller.
    #[must_use]
    pub const fn cpuset(&self) -> &Cpuset {
        &self.cpuset
    }
    /// Whether it is frozen.
    #[must_use]
    pub const fn freezer(&self) -> &Freezer {
        &self.freezer
    }
    /// Groups below.
    #[must_use]
    pub const fn descendants(&self) -> u32 {
        self.descendants
    }
    /// Groups that were below, and still have zombies.
    #[must_use]
    pub const fn dying(&self) -> u32 {
        self.dying
    }
    /// Whether there are tasks in it or below.
    #[must_use]
    pub const fn is_populated(&self) -> bool {
        self.tasks > 0 || self.populated_domains > 0 || self.populated_threaded > 0
    }
    /// The child of this name.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<Id> {
        self.by_name.get(name).copied()
    }
    /// Its children, the oldest first.
    pub fn children(&self) -> impl Iterator<Item = Id> + '_ {
        self.children.iter().copied()
    }
    /// How many children it has.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.children.len()
    }
    /// The next younger child.
    #[must_use]
    pub fn child_after(&self, id: Id) -> Option<Id> {
        self.children.range(id + 1..).next().copied()
    }
    /// Its name in the group above.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

/// All groups.
pub struct Tree<D> {
    groups: BTreeMap<Id, Box<Group<D>>>,
    next: Id,
}

impl<D: Watched> Tree<D> {
    /// The root alone, with everything that the machine has. `nodes` can be named, those of `mems`
    /// have memory.
    pub fn new(cpus: CpuMask, nodes: NodeMask, mems: NodeMask, data: D) -> Self {
        let cpuset = Cpuset { mems: nodes, ..Cpuset::root(cpus, mems) };
        let root = Group::new(None, Box::default(), 0, cpuset, data);
        // Made once, at boot.
        Self { groups: BTreeMap::from([(ROOT, Box::new(root))]), next: ROOT + 1 }
    }

    /// A group that is there. ENODEV for one that was removed.
    pub fn group(&self, id: Id) -> Result<&Group<D>> {
        self.groups.get(&id).map(|group| &**group).filter(|group| !group.dead).ok_or(Errno::ENODEV)
    }

    /// As [`Tree::group`], to be changed.
    pub fn group_mut(&mut self, id: Id) -> Result<&mut Group<D>> {
        self.any_mut(id).filter(|group| !group.dead).ok_or(Errno::ENODEV)
    }

    pub(crate) fn any_mut(&mut self, id: Id) -> Option<&mut Group<D>> {
        self.groups.get_mut(&id).map(|group| &mut **group)
    }

    /// The id of the group that is made next.
    #[must_use]
    pub const fn next_id(&self) -> Id {
        self.next
    }

    /// Groups that are there, the root included.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.groups.get(&ROOT).map_or(0, |root| root.descendants + 1)
    }

    /// The groups above one, the nearest first.
    pub fn ancestors(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        let above = |id: Id| self.groups.get(&id).and_then(|group| group.parent);
        core::iter::successors(above(id), move |id| above(*id))
    }

    /// Whether `id` is `top` or below it.
    #[must_use]
    pub fn is_within(&self, id: Id, top: Id) -> bool {
        id == top || self.ancestors(id).any(|above| above == top)
    }

    /// The nearest group that is at or above both.
    #[must_use]
    pub fn common_ancestor(&self, mut a: Id, mut b: Id) -> Id {
        let level = |id: Id| self.groups.get(&id).map_or(0, |group| group.level);
        let above = |id: Id| self.groups.get(&id).and_then(|group| group.parent).unwrap_or(ROOT);
        while a != b {
            if level(a) >= level(b) {
                a = above(a);
            } else {
                b = above(b);
            }
        }
        a
    }

    /// The group after `id` on a walk through `top` and what is below it, a group before its children;
    /// `past` leaves out what is below `id`.
    #[must_use]
    pub fn next(&self, id: Id, top: Id, past: bool) -> Option<Id> {
        let group = self.groups.get(&id)?;
        if !past && let Some(first) = group.children.first() {
            return Some(*first);
        }
        let mut at = id;
        while at != top {
            let parent = self.groups.get(&at)?.parent?;
            if let Some(next) = self.groups.get(&parent)?.child_after(at) {
                return Some(next);
            }
            at = parent;
        }
        None
    }

    /// Makes a group. EINVAL for a name with a line's end, ENODEV below one that was removed, EEXIST,
    /// EAGAIN at a limit of a group above, ENOMEM.
    // Apart, so that its caller's stack is not larger for it.
    #[inline(never)]
    pub fn make(&mut self, parent: Id, name: &[u8], data: D) -> Result<Id> {
        if name.contains(&b'\n') {
            return Err(Errno::EINVAL);
        }
        let above = self.group(parent)?;
        if above.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let level = above.level + 1;
        let full = |id: Id| {
            let Some(group) = self.groups.get(&id) else { return false };
            let many = group.max_descendants.is_some_and(|most| group.descendants >= most);
            many || group.max_depth.is_some_and(|most| level - group.level > most)
        };
        if full(parent) || self.ancestors(parent).any(full) {
            return Err(Errno::EAGAIN);
        }
        let cpuset = Cpuset::below(&above.cpuset);
        let freezing = above.freezer.freezing;
        let group = boxed(Group::new(Some(parent), boxed_slice(name)?, level, cpuset, data))?;
        let key = boxed_slice(name)?;
        let id = self.next;
        self.groups.try_insert_in(id, group)?;
        let listed = self.group_mut(parent).and_then(|above| {
            above.children.try_insert_in(id, ())?;
            above.by_name.try_insert_in(key, id)
        });
        if let Err(error) = listed {
            self.group_mut(parent)?.children.remove(&id);
            self.groups.remove(&id);
            return Err(error);
        }
        self.next += 1;
        self.each_above(id, |group| group.descendants += 1);
        self.group_mut(id)?.freezer.freezing = freezing;
        self.settle_frozen(id);
        Ok(id)
    }

    fn each_above(&mut self, id: Id, mut change: impl FnMut(&mut Group<D>)) {
        let mut at = self.groups.get(&id).map(|group| group.above).filter(|_| id != ROOT);
        while let Some(group) = at.and_then(|id| self.groups.get_mut(&id)) {
            change(group);
            // The root is above itself.
            at = at.filter(|id| *id != ROOT).map(|_| group.above);
        }
    }

    /// Removes a group. EBUSY for the root, one with tasks or one with children.
    pub fn remove(&mut self, id: Id) -> Result<()> {
        let group = self.group_mut(id)?;
        if id == ROOT || group.is_populated() || !group.children.is_empty() {
            return Err(Errno::EBUSY);
        }
        let parent = group.parent.take().unwrap_or(ROOT);
        let (threaded, frozen) = (group.threaded, group.freezer.is_frozen());
        group.dead = true;
        let name = core::mem::take(&mut group.name);
        let above = self.group_mut(parent)?;
        above.children.remove(&id);
        above.by_name.remove(&name);
        above.corpses += 1;
        above.threaded_children -= u32::from(threaded);
        if let Some(group) = self.any_mut(id) {
            group.name = name;
        }
        self.each_above(id, |group| {
            group.descendants -= 1;
            group.dying += 1;
        });
        if frozen {
            self.lose_frozen_child(parent);
        }
        self.settle_frozen(parent);
        self.forget_unheld(id);
        Ok(())
    }

    /// Forgets a removed group that nobody names any more, and those above it for which it was the
    /// last to name them.
    pub(crate) fn forget_unheld(&mut self, id: Id) {
        let mut at = id;
        while self.groups.get(&at).is_some_and(|g| g.dead && g.held == 0 && g.corpses == 0) {
            self.each_above(at, |group| group.dying -= 1);
            let Some(gone) = self.groups.remove(&at) else { return };
            at = gone.above;
            if let Some(above) = self.groups.get_mut(&at) {
                above.corpses -= 1;
            }
        }
    }

    /// The path from the root ("/a/b"), and whether the group was removed. ENOMEM.
    pub fn path(&self, id: Id) -> Result<(Vec<u8>, bool)> {
        let mut length = 0;
        let mut at = id;
        while at != ROOT {
            let Some(group) = self.groups.get(&at) else { break };
            length += group.name.len() + 1;
            at = group.above;
        }
        let mut path = Vec::with_room(length.max(1))?;
        path.resize(length.max(1), b'/');
        let mut end = length;
        at = id;
        while at != ROOT {
            let Some(group) = self.groups.get(&at) else { break };
            path[end - group.name.len()..end].copy_from_slice(&group.name);
            end -= group.name.len() + 1;
            at = group.above;
        }
        Ok((path, self.groups.get(&id).is_none_or(|group| group.dead)))
    }
}
