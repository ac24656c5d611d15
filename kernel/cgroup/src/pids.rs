//! The pids controller: how many tasks a group and those below it may have.

use crate::controllers::Controller;
use crate::tree::{Id, ROOT, Tree, Watched};
use abi::{Errno, Result};

/// A group's tasks, those below included. They are counted whether or not the controller is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pids {
    current: u64,
    peak: u64,
    /// pids.max; None is no limit.
    pub max: Option<u64>,
    /// How often the limit of this group, or of one below, has refused a task.
    refused: u64,
    /// The same, without those of groups below.
    refused_here: u64,
}

impl Pids {
    /// Tasks; zombies count until they are reaped.
    #[must_use]
    pub const fn current(&self) -> u64 {
        self.current
    }
    /// The most there ever were.
    #[must_use]
    pub const fn peak(&self) -> u64 {
        self.peak
    }
    /// Refusals by the limit of this group or of one below.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
    /// Refusals by the limit of this very group.
    #[must_use]
    pub const fn refused_here(&self) -> u64 {
        self.refused_here
    }

    pub(crate) const fn reset(&mut self) {
        *self = Self {
            current: self.current,
            peak: self.current,
            max: None,
            refused: 0,
            refused_here: 0,
        };
    }
}

impl<D: Watched> Tree<D> {
    fn each_pids(&mut self, id: Id, mut change: impl FnMut(&mut Pids)) {
        let mut at = Some(id);
        while let Some(id) = at.filter(|id| *id != ROOT) {
            // Zombies count in what was removed, too, and above that.
            let Some(group) = self.any_mut(id) else { return };
            change(&mut group.pids);
            at = Some(group.above);
        }
    }

    /// Counts a task whatever the limits are.
    pub fn count_pid(&mut self, id: Id) {
        self.each_pids(id, |pids| {
            pids.current += 1;
            pids.peak = pids.peak.max(pids.current);
        });
    }

    /// A task less.
    pub fn uncount_pid(&mut self, id: Id) {
        self.each_pids(id, |pids| pids.current = pids.current.saturating_sub(1));
    }

    /// Counts a new task; EAGAIN beyond the limit of a group.
    pub fn charge_pid(&mut self, id: Id) -> Result<()> {
        let over = |id: &Id| {
            let group = self.group(*id);
            let full = group.is_ok_and(|g| g.pids.max.is_some_and(|max| g.pids.current >= max));
            full && self.controllers(*id).has(Controller::Pids)
        };
        let full = core::iter::once(id).chain(self.ancestors(id)).find(over);
        let Some(full) = full else {
            self.count_pid(id);
            return Ok(());
        };
        self.each_pids(full, |pids| pids.refused += 1);
        if let Ok(group) = self.group_mut(full) {
            group.pids.refused_here += 1;
        }
        Err(Errno::EAGAIN)
    }
}
