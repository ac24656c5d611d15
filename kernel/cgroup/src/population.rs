//! Who has tasks: in a group itself, and below it.

use crate::tree::{Id, ROOT, Tree, Watched};

impl<D: Watched> Tree<D> {
    /// A task joins a group. The root counts none: it is always populated.
    pub fn enter(&mut self, id: Id) {
        if id != ROOT {
            self.populate(id, true);
            self.settle_frozen(id);
        }
    }

    /// A task leaves a group, to another one or for good.
    pub fn leave(&mut self, id: Id) {
        if id != ROOT {
            self.populate(id, false);
            self.settle_frozen(id);
        }
    }

    /// Tells those above as far as that makes a difference.
    fn populate(&mut self, id: Id, more: bool) {
        let step = |count: &mut u32| {
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        };
        let mut at = id;
        let mut below = None;
        while let Ok(group) = self.group_mut(at) {
            let before = group.is_populated();
            step(match below {
                None => &mut group.tasks,
                Some(true) => &mut group.populated_threaded,
                Some(false) => &mut group.populated_domains,
            });
            if before == group.is_populated() {
                return;
            }
            group.data.events_changed();
            below = Some(group.threaded);
            let Some(parent) = group.parent else { return };
            at = parent;
        }
    }

    /// A task that has ended goes on naming the group until it is reaped, and one that is about to be
    /// made counts in it.
    pub fn hold(&mut self, id: Id) {
        if let Some(group) = self.any_mut(id).filter(|_| id != ROOT) {
            group.held += 1;
        }
    }

    /// It was reaped, or made.
    pub fn release(&mut self, id: Id) {
        if let Some(group) = self.any_mut(id).filter(|_| id != ROOT) {
            group.held = group.held.saturating_sub(1);
        }
        self.forget_unheld(id);
    }
}
