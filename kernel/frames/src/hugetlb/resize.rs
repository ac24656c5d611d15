//! Growing and shrinking the pool: node by node in turn over those that are named.

use super::{Counts, ORDER, POOL, Pool, block_from, give_back};
use crate::meta::frame;
use numa::{NodeId, NodeMask};
use sync::Mutex;

/// Who wants another size.
pub trait Writer {
    /// Whether it has been killed.
    fn stops(&self) -> bool;
    /// Makes a block on a node that has none at once: true when there is one.
    fn makes_block(&self, node: NodeId) -> bool;
}

/// Held while the pool grows or shrinks: one writer's wish is met before the next one's.
static RESIZING: Mutex<()> = Mutex::new(());

/// The node in `nodes` whose turn it is; the next one is next.
pub(super) fn turn(next: &mut Option<NodeId>, nodes: NodeMask) -> Option<NodeId> {
    let wanted = next.filter(|node| nodes.contains(*node));
    let node = wanted.or_else(|| match *next {
        Some(node) => nodes.next_in_circle(node),
        None => nodes.first(),
    })?;
    *next = nodes.next_in_circle(node);
    Some(node)
}

impl Pool {
    /// Turns a surplus page into one of the pool's own (`more`), or the other way round.
    fn adopt(&mut self, nodes: NodeMask, more: bool) -> bool {
        for _ in 0..nodes.count() {
            let next = if more { &mut self.grows_at } else { &mut self.shrinks_at };
            let Some(node) = turn(next, nodes) else { return false };
            let Counts { total, surplus, .. } = self.nodes[node.index()];
            if more && surplus > 0 {
                self.remove_surplus(node);
                return true;
            }
            if !more && surplus < total {
                self.add_surplus(node);
                return true;
            }
        }
        false
    }
}

/// Sets the pool's size to `count` pages, or (`only`) that of one node's part of it, by pages on
/// `nodes`. Ends early, with less, when they have no memory left, or when the writer stops. Pages that
/// are in use or reserved stay, as surplus.
pub fn resize(count: u64, only: Option<NodeId>, nodes: NodeMask, writer: &impl Writer) {
    let _one = RESIZING.lock();
    // Where memory was compacted in vain, it is not again.
    let mut hopeful = nodes;
    let count = {
        let mut pool = POOL.lock();
        let count = match only {
            Some(node) => {
                let here = pool.nodes[node.index()];
                count.saturating_add(pool.persistent() - (here.total - here.surplus))
            }
            None => count,
        };
        while pool.all.surplus > 0 && count > pool.persistent() && pool.adopt(nodes, true) {}
        count
    };
    while count > POOL.lock().persistent() {
        if !grow(nodes, &mut hopeful, writer) || writer.stops() {
            return;
        }
    }
    let keep = {
        let pool = POOL.lock();
        count.max(pool.all.reserved + pool.all.total - pool.all.free)
    };
    loop {
        let mut pool = POOL.lock();
        if keep >= pool.persistent() {
            break;
        }
        let Some(pfn) = pool.shrink(nodes, false) else { break };
        drop(pool);
        give_back(pfn);
    }
    let mut pool = POOL.lock();
    while count < pool.persistent() && pool.adopt(nodes, false) {}
}

/// Adds a page from the next node in turn that has memory for one. A node that has none is to make
/// some, if it is among the hopeful ones.
fn grow(nodes: NodeMask, hopeful: &mut NodeMask, writer: &impl Writer) -> bool {
    for _ in 0..nodes.count() {
        let Some(node) = turn(&mut POOL.lock().grows_at, nodes) else { return false };
        let has = crate::node(node).is_some_and(|node| node.has_block(ORDER));
        if !has && hopeful.contains(node) && !writer.makes_block(node) {
            *hopeful = hopeful.without(node);
        }
        if let Some(pfn) = block_from(core::iter::once(node)) {
            let mut pool = POOL.lock();
            pool.add(frame(pfn).node(), false);
            pool.keep(pfn);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_turns_and_those_that_are_not_named_are_passed_over() {
        let nodes = |list: &[u16]| {
            list.iter().fold(NodeMask::EMPTY, |mask, node| mask.with(NodeId::new(*node)))
        };
        let mut next = None;
        let mut turns = |of: &[u16], count: usize| -> std::vec::Vec<usize> {
            (0..count).filter_map(|_| turn(&mut next, nodes(of)).map(NodeId::index)).collect()
        };
        assert_eq!(turns(&[0, 2, 5], 4), [0, 2, 5, 0]);
        assert_eq!(turns(&[5], 2), [5, 5]);
        assert_eq!(turns(&[0, 2], 3), [0, 2, 0], "it goes on behind the last one");
        assert_eq!(turns(&[], 1), []);
    }
}
