//! The cpuset controller: which CPUs and nodes the tasks of a group may use.
//!
//! A group wants some, and gets of those what is in effect above it; where that leaves none, or it
//! wants none, it gets all of that.

use crate::controllers::Controller;
use crate::tree::{Id, ROOT, Tree, Watched};
use abi::{Errno, Result};
use numa::{CpuMask, NodeMask};

/// A group's CPUs and nodes.
#[derive(Clone, Copy, Debug)]
pub struct Cpuset {
    /// What was written.
    pub cpus: CpuMask,
    pub mems: NodeMask,
    /// What counts.
    pub effective_cpus: CpuMask,
    pub effective_mems: NodeMask,
    /// The nodes on which its tasks' pages are: what was in effect when they were last moved.
    pub old_mems: NodeMask,
    /// What is in effect has changed, and tasks have not been told.
    pub stale_cpus: bool,
    pub stale_mems: bool,
}

/// One half of a cpuset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Cpus(CpuMask),
    Mems(NodeMask),
}

impl Cpuset {
    pub(crate) const fn root(cpus: CpuMask, mems: NodeMask) -> Self {
        Self {
            cpus,
            mems,
            effective_cpus: cpus,
            effective_mems: mems,
            old_mems: mems,
            stale_cpus: false,
            stale_mems: false,
        }
    }

    /// One that wants nothing of its own.
    pub(crate) const fn below(parent: &Self) -> Self {
        Self {
            cpus: CpuMask::EMPTY,
            mems: NodeMask::EMPTY,
            ..Self::root(parent.effective_cpus, parent.effective_mems)
        }
    }

    /// Takes what is in effect above into account; true if that made a difference.
    fn refresh(&mut self, parent: &Self) -> bool {
        let cpus = self.cpus & parent.effective_cpus;
        let cpus = if cpus.is_empty() { parent.effective_cpus } else { cpus };
        let mems = self.mems & parent.effective_mems;
        let mems = if mems.is_empty() { parent.effective_mems } else { mems };
        let changed = (cpus != self.effective_cpus, mems != self.effective_mems);
        (self.effective_cpus, self.effective_mems) = (cpus, mems);
        self.stale_cpus |= changed.0;
        self.stale_mems |= changed.1;
        changed.0 || changed.1
    }
}

impl<D: Watched> Tree<D> {
    /// The group whose cpuset counts for the tasks of `id`: the nearest that has the controller.
    #[must_use]
    pub fn cpuset_group(&self, id: Id) -> Id {
        let has = |id: Id| self.controllers(id).has(Controller::Cpuset);
        if has(id) { id } else { self.ancestors(id).find(|id| has(*id)).unwrap_or(ROOT) }
    }

    /// The cpuset that counts for the tasks of `id`.
    #[must_use]
    pub fn cpuset_of(&self, id: Id) -> Cpuset {
        let owner = self.group(self.cpuset_group(id)).or_else(|_| self.group(ROOT));
        owner.map_or(Cpuset::root(CpuMask::EMPTY, NodeMask::EMPTY), |group| group.cpuset)
    }

    /// Writes one half of a group's cpuset, and works out what is in effect there and below. EINVAL
    /// for what the machine does not have, ENOSPC for nothing where there are tasks.
    pub fn set_cpuset(&mut self, id: Id, which: Which) -> Result<()> {
        let root = self.group(ROOT)?.cpuset;
        let group = self.group_mut(id)?;
        let (known, cleared) = match which {
            Which::Cpus(cpus) => {
                (cpus.is_subset(&root.cpus), cpus.is_empty() && !group.cpuset.cpus.is_empty())
            }
            Which::Mems(mems) => {
                (mems.is_subset(&root.mems), mems.is_empty() && !group.cpuset.mems.is_empty())
            }
        };
        if !known {
            return Err(Errno::EINVAL);
        }
        if cleared && group.is_populated() {
            return Err(Errno::ENOSPC);
        }
        match which {
            Which::Cpus(cpus) => group.cpuset.cpus = cpus,
            Which::Mems(mems) => group.cpuset.mems = mems,
        }
        self.refresh(id);
        Ok(())
    }

    /// A group's cpuset wants nothing any more.
    pub(crate) fn reset_cpuset(&mut self, id: Id) {
        let Ok(group) = self.group_mut(id) else { return };
        (group.cpuset.cpus, group.cpuset.mems) = (CpuMask::EMPTY, NodeMask::EMPTY);
        self.refresh(id);
    }

    /// As [`Tree::reset_cpuset`], for a controller that is about to be taken away.
    pub fn clear_cpuset(&mut self, id: Id) {
        self.reset_cpuset(id);
    }

    /// Works out what is in effect in `top` and below.
    fn refresh(&mut self, top: Id) {
        let mut at = Some(top);
        while let Some(id) = at {
            let above = self.group(id).ok().and_then(|group| group.parent);
            let parent = above.and_then(|id| self.group(id).ok()).map(|group| group.cpuset);
            let changed = match (self.group_mut(id), parent) {
                (Ok(group), Some(parent)) => group.cpuset.refresh(&parent),
                _ => false,
            };
            // Nothing changes below what has not.
            at = self.next(id, top, !changed);
        }
    }

    /// Tasks have been told of all that changed in `top` and below.
    pub fn settle(&mut self, top: Id) {
        let mut at = Some(top);
        while let Some(id) = at {
            if let Ok(group) = self.group_mut(id) {
                let cpuset = &mut group.cpuset;
                (cpuset.stale_cpus, cpuset.stale_mems) = (false, false);
                cpuset.old_mems = cpuset.effective_mems;
            }
            at = self.next(id, top, false);
        }
    }
}
