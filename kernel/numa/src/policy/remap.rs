//! Arithmetic on node masks that keeps the order of nodes: how a mask follows when the allowed
//! nodes change, and what a relative mask means.

use crate::ids::NodeId;
use crate::mask::NodeMask;

/// Where `node` goes when the nodes of `old` become those of `new`: the third of the old goes to
/// the third of the new, and round again when the new are fewer. A node outside `old` stays, and
/// so does every node when `new` is empty.
#[must_use]
pub fn remap_node(node: NodeId, old: NodeMask, new: NodeMask) -> NodeId {
    let to = new.count();
    if to == 0 || !old.contains(node) {
        return node;
    }
    new.nth(old.rank(node) % to).unwrap_or(node)
}

/// The nodes of `mask`, each where [`remap_node`] sends it.
#[must_use]
pub fn remap(mask: NodeMask, old: NodeMask, new: NodeMask) -> NodeMask {
    mask.iter().map(|node| remap_node(node, old, new)).collect()
}

/// The nodes of `base` that a relative mask names: number `n` is the nth of `base`, counted round
/// and round. Empty when either is.
#[must_use]
pub fn relative(mask: NodeMask, base: NodeMask) -> NodeMask {
    let size = base.count();
    if size == 0 {
        return NodeMask::EMPTY;
    }
    mask.iter().filter_map(|node| base.nth(node.index() % size)).collect()
}
