//! On which node an address space's private memory lies: counts by node, and the node that has most.
//!
//! The scheduler draws a task there. The counts are exact; the home is looked up anew whenever a
//! node's count passes a multiple of [`STEP`], so that its cost for each page does not grow with the
//! number of nodes. Memory that is shared with others, or comes from files, says little about where
//! this process should run, and is not counted here.

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use numa::{MAX_NODES, NodeId};

/// Pages between looks; with less than this on a node it is nobody's home (64 pages = 256 KiB: less
/// than that a CPU's own caches hold).
const STEP: i32 = 64;

/// No node.
const NONE: u32 = u32::MAX;

/// The private pages of an address space, by node.
pub struct PagesByNode {
    /// Enough for 8 TiB on a node.
    pages: [AtomicI32; MAX_NODES],
    home: AtomicU32,
}

/// The node with more than half of all pages, if it has at least [`STEP`].
fn majority(pages: impl Iterator<Item = i64>) -> Option<usize> {
    let (mut all, mut most, mut place) = (0, 0, 0);
    for (node, pages) in pages.enumerate() {
        all += pages;
        if pages > most {
            (most, place) = (pages, node);
        }
    }
    (most >= i64::from(STEP) && most > all - most).then_some(place)
}

impl Default for PagesByNode {
    fn default() -> Self {
        Self::new()
    }
}

impl PagesByNode {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: [const { AtomicI32::new(0) }; MAX_NODES], home: AtomicU32::new(NONE) }
    }

    /// Counts `n` more pages on `node`. True when the home is another one now.
    #[inline]
    pub fn count(&self, node: NodeId, n: i32) -> bool {
        let pages = self.pages[node.index()].fetch_add(n, Ordering::Relaxed) + n;
        pages & (STEP - 1) == 0 && self.look()
    }

    #[cold]
    fn look(&self) -> bool {
        let home = majority(self.each()).map_or(NONE, |node| node as u32);
        self.home.swap(home, Ordering::Relaxed) != home
    }

    fn each(&self) -> impl Iterator<Item = i64> + '_ {
        let nodes = crate::env::machine().node_ids();
        self.pages[..nodes].iter().map(|pages| i64::from(pages.load(Ordering::Relaxed)))
    }

    /// The pages of all nodes.
    pub fn sum(&self) -> i64 {
        self.each().sum()
    }

    /// The node where most of the pages lie; `None` when there is none with more than half, or
    /// hardly any memory at all.
    #[inline]
    pub fn home(&self) -> Option<NodeId> {
        NodeId::try_new(self.home.load(Ordering::Relaxed) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_where_more_than_half_of_enough_memory_lies() {
        let home = |pages: &[i64]| majority(pages.iter().copied());
        assert_eq!(home(&[]), None);
        assert_eq!(home(&[0, 63]), None, "too little");
        assert_eq!(home(&[0, 64]), Some(1));
        assert_eq!(home(&[64, 64]), None, "half is not more than half");
        assert_eq!(home(&[64, 65]), Some(1));
        assert_eq!(home(&[100, 90, 80]), None);
        assert_eq!(home(&[10, 200, 189]), Some(1));
    }
}
