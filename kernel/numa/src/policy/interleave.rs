//! Dealing pages out over nodes: by position, or in turn.
//!
//! A page with a place (an offset in a VMA or an object) always gets the same node for the same
//! place, so that neighbours alternate in whatever order they are touched. Allocations without a
//! place go by the task's own counter.

use crate::ids::{MAX_NODES, NodeId};
use crate::mask::NodeMask;
use core::sync::atomic::{AtomicU8, Ordering};

/// How many pages in a row each node gets under WEIGHTED_INTERLEAVE, for the whole system.
///
/// Relaxed throughout: a weight is a hint, and nothing else is published with it.
#[derive(Debug)]
pub struct Weights {
    /// Zero stands for "never set", which counts as one.
    table: [AtomicU8; MAX_NODES],
}

impl Default for Weights {
    fn default() -> Self {
        Self::new()
    }
}

impl Weights {
    /// Every node at the default weight of 1.
    #[must_use]
    pub const fn new() -> Self {
        Self { table: [const { AtomicU8::new(0) }; MAX_NODES] }
    }

    /// The weight of `node`, never 0.
    #[must_use]
    pub fn get(&self, node: NodeId) -> u8 {
        self.table[node.index()].load(Ordering::Relaxed).max(1)
    }

    /// Sets the weight of `node`; 0 sets it back to the default.
    pub fn set(&self, node: NodeId, weight: u8) {
        self.table[node.index()].store(weight, Ordering::Relaxed);
    }
}

/// A task's place in its own interleaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interleaver {
    /// The node of the last allocation; none before the first.
    last: Option<NodeId>,
    /// How many more the weighted turn of `last` has.
    left: u8,
}

impl Default for Interleaver {
    fn default() -> Self {
        Self::new()
    }
}

impl Interleaver {
    /// Before the first allocation: what a task has after set_mempolicy(2).
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None, left: 0 }
    }

    /// The node that the next turn would go to.
    fn following(&self, nodes: NodeMask) -> Option<NodeId> {
        self.last.map_or(nodes.first(), |last| nodes.next_in_circle(last))
    }

    /// The next node of `nodes` in turn; none when there are no nodes.
    pub fn next(&mut self, nodes: NodeMask) -> Option<NodeId> {
        let node = self.following(nodes)?;
        self.last = Some(node);
        Some(node)
    }

    /// The next node of `nodes` in turn, each as often as its weight says.
    pub fn next_weighted(&mut self, nodes: NodeMask, weights: &Weights) -> Option<NodeId> {
        let node = match self.last {
            Some(last) if self.left > 0 && nodes.contains(last) => last,
            _ => {
                let node = self.next(nodes)?;
                self.left = weights.get(node);
                node
            }
        };
        self.left -= 1;
        Some(node)
    }

    /// What [`Self::next`] would give, without taking the turn.
    #[must_use]
    pub fn peek(&self, nodes: NodeMask) -> Option<NodeId> {
        self.following(nodes)
    }

    /// What get_mempolicy(2) with MPOL_F_NODE says under weighted interleaving: the present node
    /// while its turn lasts, even when the policy no longer names it.
    #[must_use]
    pub fn peek_weighted(&self, nodes: NodeMask) -> Option<NodeId> {
        if self.left > 0 { self.last } else { self.following(nodes) }
    }
}

/// The node for the page at `position`, one page each; none when there are no nodes.
#[must_use]
#[inline]
pub fn at(position: u64, nodes: NodeMask) -> Option<NodeId> {
    match nodes.count() as u64 {
        0 => None,
        count => nodes.nth((position % count) as usize),
    }
}

/// The node for the page at `position`, as many pages in a row as each node's weight says.
#[must_use]
pub fn at_weighted(position: u64, nodes: NodeMask, weights: &Weights) -> Option<NodeId> {
    // One reading of the table: a weight changed between two would let the walk run off the end.
    let mut each = [0u8; MAX_NODES];
    let mut total = 0;
    for node in nodes {
        each[node.index()] = weights.get(node);
        total += u64::from(each[node.index()]);
    }
    let mut left = position.checked_rem(total)?;
    nodes.iter().find(|node| {
        let weight = u64::from(each[node.index()]);
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    })
}
