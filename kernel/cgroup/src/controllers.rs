//! Which controllers there are, which a group has, and which it gives to its children.

use crate::tree::{Id, ROOT, Tree, Watched};
use abi::{Errno, Result};
use core::fmt;

/// A controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Controller {
    Cpuset = 1,
    Pids = 2,
}

impl Controller {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 2] = [Self::Cpuset, Self::Pids];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
        }
    }

    /// Tells one by its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| controller.name() == name)
    }
}

/// A set of controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers(u8);

impl Controllers {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every controller that there is.
    pub const ALL: Self = Self(Controller::Cpuset as u8 | Controller::Pids as u8);
    /// Those that can do with tasks of one process in several groups.
    pub const THREADED: Self = Self::ALL;

    /// Whether it has this one.
    #[must_use]
    pub const fn has(self, controller: Controller) -> bool {
        self.0 & controller as u8 != 0
    }
    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The set with this one.
    #[must_use]
    pub const fn with(self, controller: Controller) -> Self {
        Self(self.0 | controller as u8)
    }
    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// What is not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Its members, in order.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |controller| self.has(*controller))
    }
}

/// The names with blanks between, as cgroup.controllers has them.
impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, controller) in self.iter().enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(f, "{gap}{}", controller.name())?;
        }
        Ok(())
    }
}

/// What a write to cgroup.subtree_control asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub enable: Controllers,
    pub disable: Controllers,
}

impl Change {
    /// Reads "+cpuset -pids"; of what is named twice the last word counts. EINVAL.
    pub fn parse(text: &str) -> Result<Self> {
        let mut change = Self::default();
        for word in text.trim().split(' ').filter(|word| !word.is_empty()) {
            let (sign, name) = word.split_at_checked(1).ok_or(Errno::EINVAL)?;
            let one = Controllers::NONE.with(Controller::by_name(name).ok_or(Errno::EINVAL)?);
            let (to, from) = match sign {
                "+" => (&mut change.enable, &mut change.disable),
                "-" => (&mut change.disable, &mut change.enable),
                _ => return Err(Errno::EINVAL),
            };
            *to = to.or(one);
            *from = from.without(one);
        }
        Ok(change)
    }
}

impl<D: Watched> Tree<D> {
    /// The controllers that a group has, and may give to its children (cgroup.controllers).
    #[must_use]
    pub fn controllers(&self, id: Id) -> Controllers {
        match self.group(id).ok().and_then(|group| group.parent) {
            None if id == ROOT => Controllers::ALL,
            None => Controllers::NONE,
            Some(parent) => self.group(parent).map_or(Controllers::NONE, |p| p.subtree_control),
        }
    }

    /// What of a change to cgroup.subtree_control is one, and is allowed: ENOENT for a controller that
    /// the group does not have, EBUSY for one that a child still gives on, or that would compete with
    /// tasks of the group itself, EOPNOTSUPP where threads keep it out.
    pub fn vet_change(&self, id: Id, change: Change) -> Result<Change> {
        let group = self.group(id)?;
        let present = group.subtree_control;
        let enable = change.enable.without(present);
        if !enable.without(self.controllers(id)).is_empty() {
            return Err(Errno::ENOENT);
        }
        let disable = change.disable.and(present);
        let mut children = group.children();
        if children.any(|child| {
            self.group(child).is_ok_and(|child| !child.subtree_control.and(disable).is_empty())
        }) {
            return Err(Errno::EBUSY);
        }
        if !enable.is_empty() {
            self.vet_enable(id, enable)?;
        }
        Ok(Change { enable, disable })
    }

    fn vet_enable(&self, id: Id, enable: Controllers) -> Result<()> {
        if !self.is_valid_domain(self.domain_of(id)) {
            return Err(Errno::EOPNOTSUPP);
        }
        if id == ROOT {
            return Ok(());
        }
        let threaded = self.group(id)?.threaded;
        if !enable.without(Controllers::THREADED).is_empty() {
            if threaded || self.is_thread_root(id) {
                return Err(Errno::EOPNOTSUPP);
            }
        } else if threaded || self.can_be_thread_root(id) {
            return Ok(());
        }
        // Children would compete with the group's own tasks.
        if self.group(id)?.tasks > 0 { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Does what [`Tree::vet_change`] has allowed. What children had of a controller is forgotten.
    pub fn change(&mut self, id: Id, change: Change) -> Result<()> {
        let group = self.group_mut(id)?;
        group.subtree_control = group.subtree_control.or(change.enable).without(change.disable);
        let mut next = group.children().next();
        while let Some(child) = next {
            self.reset(child, change);
            next = self.group(id)?.child_after(child);
        }
        Ok(())
    }

    /// A child begins anew with what it gains or loses.
    fn reset(&mut self, child: Id, change: Change) {
        let changed = change.enable.or(change.disable);
        if changed.has(Controller::Cpuset) {
            self.reset_cpuset(child);
        }
        if changed.has(Controller::Pids)
            && let Ok(group) = self.group_mut(child)
        {
            group.pids.reset();
        }
    }
}
