//! Which pages a migration moves, and where to.
//!
//! mbind(2) moves what [`Request::is_misplaced`](super::Request::is_misplaced) names to where
//! [`place`](super::place) puts a page of that position under the new policy (without one: the
//! task's). move_pages(2) names each page's node itself. What is here is migrate_pages(2).

use super::FarNodes;
use super::remap::remap_node;
use crate::ids::NodeId;
use crate::mask::NodeMask;

/// Why migrate_pages(2) does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateError {
    /// The target task may not use all of the new nodes, and the caller lacks CAP_SYS_NICE: EPERM.
    NotAllowed,
    /// The caller may use none of the new nodes: EINVAL.
    NoUsableNodes,
}

/// The nodes that migrate_pages(2) may use of the `new` ones that the caller named. `target` and
/// `caller` are the nodes allowed to the two tasks; `privileged` is the caller's CAP_SYS_NICE.
pub fn permitted_targets(
    new: NodeMask,
    target: NodeMask,
    caller: NodeMask,
    privileged: bool,
) -> Result<NodeMask, MigrateError> {
    if !privileged && !new.is_subset(&target) {
        return Err(MigrateError::NotAllowed);
    }
    let usable = new & caller;
    if usable.is_empty() { Err(MigrateError::NoUsableNodes) } else { Ok(usable) }
}

/// The moves of migrate_pages(2), to be done one after the other: all pages on the first node of
/// a pair go to the second.
///
/// Nodes keep their rank: the third of the old goes to the third of the new. When there are not
/// as many of each, pages that are on a new node already stay. The order is such that a node is
/// left before others move in, as far as there is such an order, so that pages are not moved
/// twice.
#[derive(Clone, Debug)]
pub struct Moves {
    from: NodeMask,
    to: NodeMask,
    left: NodeMask,
    /// There are as many of the old as of the new.
    ranks_agree: bool,
}

/// The moves from the nodes of `from` to those of `to`. As on Linux, bits of the old mask that this
/// kernel has no nodes for (`far`) count, though nothing is there to be moved.
#[must_use]
pub fn moves(from: NodeMask, far: FarNodes, to: NodeMask) -> Moves {
    let ranks_agree = from.count() + far.count() == to.count();
    Moves { from, to, left: from, ranks_agree }
}

impl Iterator for Moves {
    type Item = (NodeId, NodeId);

    fn next(&mut self) -> Option<(NodeId, NodeId)> {
        let mut last = None;
        for source in self.left {
            if !self.ranks_agree && self.to.contains(source) {
                continue;
            }
            let target = remap_node(source, self.from, self.to);
            if source == target {
                continue;
            }
            last = Some((source, target));
            if !self.left.contains(target) {
                break;
            }
        }
        self.left.remove(last?.0);
        last
    }
}
