//! Domains and threaded groups: where processes and where threads may be.

use crate::controllers::Controllers;
use crate::tree::{Id, ROOT, Tree, Watched};
use abi::{Errno, Result};

/// What cgroup.type tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary group.
    Domain,
    /// Its processes' threads may be in threaded groups below.
    ThreadRoot,
    /// Below a thread root, and not threaded (yet): it takes no processes.
    Invalid,
    /// A group of threads.
    Threaded,
}

impl Kind {
    /// The text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::ThreadRoot => "domain threaded",
            Self::Invalid => "domain invalid",
            Self::Threaded => "threaded",
        }
    }
}

impl<D: Watched> Tree<D> {
    /// The nearest group at or above `id` that is no threaded one: processes in it count there.
    #[must_use]
    pub fn domain_of(&self, mut id: Id) -> Id {
        while let Ok(group) = self.group(id)
            && group.threaded
            && let Some(parent) = group.parent
        {
            id = parent;
        }
        id
    }

    /// A domain of which threads are, or may be, in groups below.
    pub(crate) fn is_thread_root(&self, id: Id) -> bool {
        let Ok(group) = self.group(id) else { return false };
        let gives_threaded = !group.subtree_control.and(Controllers::THREADED).is_empty();
        !group.threaded && (group.threaded_children > 0 || group.tasks > 0 && gives_threaded)
    }

    /// It has neither processes in domains below nor controllers that want domains.
    pub(crate) fn can_be_thread_root(&self, id: Id) -> bool {
        let only_threaded = |group: &crate::Group<D>| {
            group.populated_domains == 0
                && group.subtree_control.without(Controllers::THREADED).is_empty()
        };
        id == ROOT || self.group(id).is_ok_and(only_threaded)
    }

    /// Not threaded, and not below what is threaded. The root may have both below it.
    pub(crate) fn is_valid_domain(&self, id: Id) -> bool {
        if self.group(id).is_ok_and(|group| group.threaded) {
            return false;
        }
        let spoils = |above: Id| {
            above != ROOT
                && (self.is_thread_root(above) || self.group(above).is_ok_and(|g| g.threaded))
        };
        !self.ancestors(id).any(spoils)
    }

    /// What cgroup.type tells. ENODEV.
    pub fn kind(&self, id: Id) -> Result<Kind> {
        Ok(if self.group(id)?.threaded {
            Kind::Threaded
        } else if !self.is_valid_domain(id) {
            Kind::Invalid
        } else if self.is_thread_root(id) {
            Kind::ThreadRoot
        } else {
            Kind::Domain
        })
    }

    /// Makes a group threaded, for good. EOPNOTSUPP for one that has processes below it, or where the
    /// domain above cannot be a thread root.
    pub fn make_threaded(&mut self, id: Id) -> Result<()> {
        let group = self.group(id)?;
        if group.threaded {
            return Ok(());
        }
        let parent = group.parent.ok_or(Errno::EOPNOTSUPP)?;
        let domain = self.domain_of(parent);
        let wants_domains = !group.subtree_control.without(Controllers::THREADED).is_empty();
        if group.is_populated()
            || wants_domains
            || !self.is_valid_domain(domain)
            || !self.can_be_thread_root(domain)
        {
            return Err(Errno::EOPNOTSUPP);
        }
        self.group_mut(id)?.threaded = true;
        self.group_mut(parent)?.threaded_children += 1;
        Ok(())
    }

    /// Whether tasks may move from one group to another: a process (`whole`) or one thread of it.
    /// EOPNOTSUPP into an invalid domain, or for a thread out of its domain; EBUSY into a group that
    /// has children compete.
    pub fn vet_move(&self, from: Id, to: Id, whole: bool) -> Result<()> {
        let target = self.group(to)?;
        if !self.is_valid_domain(self.domain_of(to)) {
            return Err(Errno::EOPNOTSUPP);
        }
        let takes_threads = target.threaded || self.can_be_thread_root(to);
        if !takes_threads && !target.subtree_control.is_empty() {
            return Err(Errno::EBUSY);
        }
        if !whole && self.domain_of(from) != self.domain_of(to) {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }
}
