//! Freezing: a group's tasks stand still, and its cgroup.events tells when all of them do.

use crate::tree::{Id, ROOT, Tree, Watched};
use abi::Result;

/// What a group knows of freezing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freezer {
    /// What was written to cgroup.freeze.
    pub(crate) asked: bool,
    /// It is asked for here or above.
    pub(crate) freezing: bool,
    /// Tasks of the group itself that stand still.
    tasks: u32,
    /// Children of which everybody does.
    children: u32,
    /// Everybody does, here and below.
    frozen: bool,
}

impl Freezer {
    /// What was written to cgroup.freeze.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.asked
    }
    /// Whether everybody stands still, here and below.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.frozen
    }
}

impl<D: Watched> Tree<D> {
    /// Whether tasks of a group are to stand still.
    #[must_use]
    pub fn is_freezing(&self, id: Id) -> bool {
        id != ROOT && self.group(id).is_ok_and(|group| group.freezer.freezing)
    }

    /// Asks for a group to be frozen, or not any more. ENODEV.
    pub fn set_freeze(&mut self, top: Id, asked: bool) -> Result<()> {
        self.group_mut(top)?.freezer.asked = asked;
        let mut at = Some(top);
        while let Some(id) = at {
            let above = self.group(id)?.parent.is_some_and(|parent| self.is_freezing(parent));
            let freezer = &mut self.group_mut(id)?.freezer;
            freezer.freezing = freezer.asked || above;
            self.settle_frozen(id);
            at = self.next(id, top, false);
        }
        Ok(())
    }

    /// A task of the group has come to stand still, or goes on.
    pub fn count_frozen(&mut self, id: Id, more: bool) {
        if let Ok(group) = self.group_mut(id) {
            let tasks = &mut group.freezer.tasks;
            *tasks = if more { *tasks + 1 } else { tasks.saturating_sub(1) };
        }
        self.settle_frozen(id);
    }

    /// A child that was frozen has been removed.
    pub(crate) fn lose_frozen_child(&mut self, id: Id) {
        if let Ok(group) = self.group_mut(id) {
            group.freezer.children = group.freezer.children.saturating_sub(1);
        }
    }

    /// Finds out whether everybody stands still, here and as far up as that makes a difference.
    pub(crate) fn settle_frozen(&mut self, id: Id) {
        let mut at = id;
        while at != ROOT
            && let Ok(group) = self.group_mut(at)
        {
            let all = group.child_count() as u32;
            let freezer = &mut group.freezer;
            let now = freezer.freezing && freezer.tasks == group.tasks && freezer.children == all;
            if now == freezer.frozen {
                return;
            }
            freezer.frozen = now;
            group.data.events_changed();
            let Some(parent) = group.parent else { return };
            if let Ok(above) = self.group_mut(parent) {
                let children = &mut above.freezer.children;
                *children = if now { *children + 1 } else { children.saturating_sub(1) };
            }
            at = parent;
        }
    }
}
