//! Which nodes are tried for a page, in which order, and what happens when they have none left.
//!
//! [`place`] is on the way of every page fault: without a policy it is a table look-up and three
//! stores. It allocates nothing, and the order that it gives is a view of the machine's fallback
//! order. The frame allocator walks [`Placement::nodes`] and takes the first frame that it finds.

use super::{Interleaver, Mode, Policy, Weights, interleave};
use crate::fallback::FallbackOrder;
use crate::ids::NodeId;
use crate::machine::Machine;
use crate::mask::NodeMask;

/// Where and for whom a page is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The weights of weighted interleaving.
    pub weights: &'a Weights,
    /// The nodes that the task may use.
    pub allowed: NodeMask,
    /// The node of the CPU that asks.
    pub local: NodeId,
}

/// A page's position for interleaving.
#[derive(Debug)]
pub enum Position<'a> {
    /// It has a place: its offset in pages within what the VMA maps. For anonymous memory that
    /// counts from address 0 at the time of mmap(2), and mremap(2) does not change it. An object
    /// with a policy of its own adds its inode number, so that small objects do not all begin on
    /// the same node. Every fault has a place, under the task's policy too.
    At(u64),
    /// It has none (page cache, kernel memory): the task's own turn decides, and moves on.
    Next(&'a mut Interleaver),
}

/// Why a frame is on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The task ran there, or that was the nearest node with memory.
    Local = 0,
    /// PREFERRED names the node.
    Preferred = 1,
    /// BIND names the node.
    Bind = 2,
    /// It was the node's turn under INTERLEAVE.
    Interleave = 3,
    /// It was the node's turn under WEIGHTED_INTERLEAVE.
    WeightedInterleave = 4,
    /// A call named exactly this node (move_pages(2), migrate_pages(2)).
    Exact = 5,
    /// PREFERRED_MANY names the node.
    PreferredMany = 6,
    /// The nodes that were wanted had no frame left.
    Fallback = 7,
}

/// The nodes to try for a page.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// The node from which distances count.
    start: NodeId,
    order: &'a FallbackOrder,
    /// The nodes to try first, in `order`.
    within: NodeMask,
    /// The nodes to try then, in `order`.
    beyond: NodeMask,
    reason: Reason,
}

impl<'a> Placement<'a> {
    /// Local memory: the node of the CPU that asks, then the others by distance.
    #[must_use]
    #[inline]
    pub const fn local(machine: &'a Machine, allowed: NodeMask, local: NodeId) -> Self {
        Self::from_node(machine, allowed, local, Reason::Local)
    }

    /// That node or nothing: the target of a migration.
    #[must_use]
    pub const fn exactly(machine: &'a Machine, node: NodeId) -> Self {
        Self {
            start: node,
            order: machine.fallback(node),
            within: NodeMask::single(node),
            beyond: NodeMask::EMPTY,
            reason: Reason::Exact,
        }
    }

    #[inline]
    const fn from_node(
        machine: &'a Machine,
        allowed: NodeMask,
        start: NodeId,
        reason: Reason,
    ) -> Self {
        let order = machine.fallback(start);
        Self { start, order, within: allowed, beyond: NodeMask::EMPTY, reason }
    }

    /// The nodes to try, best first, each once. When all are exhausted the task that asked is out
    /// of memory, whatever other nodes have.
    #[inline]
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + Clone + use<'a> {
        self.order.within(self.within).chain(self.order.within(self.beyond))
    }

    /// Those of [`nodes`](Self::nodes) without what PREFERRED_MANY falls back to: where a huge page
    /// may be migrated to.
    #[inline]
    pub fn nodes_of_policy(&self) -> impl Iterator<Item = NodeId> + Clone + use<'a> {
        self.order.within(self.within)
    }

    /// The nodes to try for a transparent huge page, best first. Where the policy leaves the choice
    /// to the node that distances count from, a huge page elsewhere is worse than small ones there,
    /// unless the caller would wait for memory (`waits`): Linux's alloc_pages_mpol().
    #[inline]
    pub fn nodes_for_huge(&self, waits: bool) -> impl Iterator<Item = NodeId> + Clone + use<'a> {
        let here = match self.reason {
            Reason::Interleave | Reason::WeightedInterleave | Reason::PreferredMany => false,
            Reason::Bind => self.within.contains(self.start),
            _ => true,
        };
        let (within, beyond) = if here && !waits {
            (self.within & NodeMask::single(self.start), NodeMask::EMPTY)
        } else {
            (self.within, self.beyond)
        };
        self.order.within(within).chain(self.order.within(beyond))
    }

    /// The node to try first, against which hits and misses are counted. None when no node may be
    /// tried at all.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Option<NodeId> {
        self.nodes().next()
    }

    /// Whether nodes with memory that the task may use are left out: running out of memory is
    /// then the policy's doing and not the machine's.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        matches!(self.reason, Reason::Bind | Reason::Exact)
    }

    /// Why a page is on `node` when this placement gave it a frame there.
    #[must_use]
    #[inline]
    pub fn reason_on(&self, node: NodeId) -> Reason {
        let wanted = match self.reason {
            Reason::Bind | Reason::Exact => true,
            Reason::PreferredMany => self.within.contains(node),
            _ => Some(node) == self.first(),
        };
        if wanted { self.reason } else { Reason::Fallback }
    }

    /// Whether a frame on `node` counts as interleave_hit in numastat.
    #[must_use]
    #[inline]
    pub fn is_interleave_hit(&self, node: NodeId) -> bool {
        matches!(self.reason, Reason::Interleave | Reason::WeightedInterleave) && node == self.start
    }
}

/// Where a page goes under `policy` (none: local). `position` counts only for interleaving.
#[must_use]
#[inline]
pub fn place<'a>(
    policy: Option<&Policy>,
    site: &Site<'a>,
    position: Position<'_>,
) -> Placement<'a> {
    match policy {
        Some(policy) if policy.mode() != Mode::Local => by_policy(policy, site, position),
        _ => Placement::local(site.machine, site.allowed, site.local),
    }
}

fn by_policy<'a>(policy: &Policy, site: &Site<'a>, position: Position<'_>) -> Placement<'a> {
    let &Site { machine, weights, allowed, local } = site;
    let nodes = policy.nodes();
    let home = policy.home().unwrap_or(local);
    let one = |node: Option<NodeId>, reason| match node {
        Some(node) => Placement::from_node(machine, allowed, node, reason),
        None => Placement::local(machine, allowed, local),
    };
    match policy.mode() {
        Mode::Default | Mode::Local => Placement::local(machine, allowed, local),
        Mode::Preferred => one(nodes.first(), Reason::Preferred),
        // A binding to nodes of which none is allowed any more binds no more.
        Mode::Bind if !nodes.intersects(&allowed) => Placement::local(machine, allowed, home),
        Mode::Bind => Placement::from_node(machine, nodes & allowed, home, Reason::Bind),
        Mode::PreferredMany => Placement {
            beyond: allowed - nodes,
            ..Placement::from_node(machine, nodes & allowed, home, Reason::PreferredMany)
        },
        Mode::Interleave => {
            let node = match position {
                Position::At(position) => interleave::at(position, nodes),
                Position::Next(turn) => turn.next(nodes),
            };
            one(node, Reason::Interleave)
        }
        Mode::WeightedInterleave => {
            let node = match position {
                Position::At(position) => interleave::at_weighted(position, nodes, weights),
                Position::Next(turn) => turn.next_weighted(nodes, weights),
            };
            one(node, Reason::WeightedInterleave)
        }
    }
}
