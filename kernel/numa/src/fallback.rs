//! In which order nodes are tried when the wanted one has no memory left.
//!
//! The order of a node is fixed at boot and is Linux's: itself, then the nearest, and among
//! equally near ones those numbered above it first. So that not all nodes overflow to the same
//! neighbour, a node that already leads a group of equals for some other node gives way to one
//! that does not.

use crate::distances::Distances;
use crate::ids::{MAX_NODES, NodeId};
use crate::mask::NodeMask;
use core::fmt;

/// The nodes with memory, best first, as seen from one node.
///
/// A node with memory stands first in its own order; a memoryless node is not in any order. The
/// entries are bytes, so that an order fills one cache line and a count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FallbackOrder {
    len: u8,
    nodes: [u8; MAX_NODES],
}

const _: () = assert!(MAX_NODES <= u8::MAX as usize, "a node number no longer fits a byte");

impl FallbackOrder {
    /// The order without nodes.
    pub const EMPTY: Self = Self { len: 0, nodes: [0; MAX_NODES] };

    /// How many nodes the order has.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no node has memory.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The node to try first.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Option<NodeId> {
        self.get(0)
    }

    /// The node to try after `position` others.
    #[must_use]
    #[inline]
    pub fn get(&self, position: usize) -> Option<NodeId> {
        let node = *self.nodes[..self.len()].get(position)?;
        NodeId::try_new(usize::from(node))
    }

    /// The nodes, best first.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.nodes[..self.len()].iter().filter_map(|n| NodeId::try_new(usize::from(*n)))
    }

    /// The nodes of `mask`, best first.
    #[inline]
    pub fn within(&self, mask: NodeMask) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.iter().filter(move |node| mask.contains(*node))
    }

    fn push(&mut self, node: NodeId) {
        self.nodes[self.len()] = node.index() as u8;
        self.len += 1;
    }
}

impl Default for FallbackOrder {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for FallbackOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// How often each node leads a group of equally distant nodes in the orders built so far.
type Lead = [u16; MAX_NODES];

/// The orders of all `nodes`, by node number; those of nodes that are not there are empty.
pub(crate) fn build(
    nodes: NodeMask,
    memory: NodeMask,
    distances: &Distances,
    orders: &mut [FallbackOrder; MAX_NODES],
) {
    let mut lead: Lead = [0; MAX_NODES];
    for local in nodes {
        orders[local.index()] = order_of(local, memory, distances, &mut lead);
    }
}

fn order_of(
    local: NodeId,
    memory: NodeMask,
    distances: &Distances,
    lead: &mut Lead,
) -> FallbackOrder {
    let mut order = FallbackOrder::EMPTY;
    let mut left = memory;
    if left.remove(local) {
        order.push(local);
    }
    let mut group = distances.get(local, local);
    while let Some(node) = best(local, left, distances, lead) {
        let distance = distances.get(local, node);
        if distance != group {
            lead[node.index()] += 1;
        }
        group = distance;
        left.remove(node);
        order.push(node);
    }
    order
}

/// The best of `left`: a lower number costs one unit of distance, and only then does it matter
/// who has led before. The lowest number wins what is left undecided.
fn best(local: NodeId, left: NodeMask, distances: &Distances, lead: &Lead) -> Option<NodeId> {
    left.iter().min_by_key(|node| {
        let cost = u16::from(distances.get(local, *node)) + u16::from(*node < local);
        (cost, lead[node.index()], *node)
    })
}
