//! What other placements would have made of the lines that came from memory: computed from the
//! heat of the pages, without a second run.
//!
//! A page's heat is the lines that each node's CPUs took from memory for it. A placement puts each
//! page on a node (or, interleaved, on each with equal chance); every line that a CPU of another
//! node took is remote then. The caches are taken to do what they did.

use std::collections::BTreeMap;

/// A page of something that could be placed otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotPage {
    pub number: u64,
    /// Lines by the CPU's node.
    pub lines: BTreeMap<usize, u64>,
    /// Lines that were remote.
    pub remote: u64,
    pub written: bool,
}

impl HotPage {
    fn total(&self) -> u64 {
        self.lines.values().sum()
    }

    fn of(&self, node: usize) -> u64 {
        self.lines.get(&node).copied().unwrap_or(0)
    }

    /// The node that takes most lines.
    fn best(&self) -> Option<usize> {
        self.lines
            .iter()
            .max_by_key(|(node, lines)| (**lines, std::cmp::Reverse(**node)))
            .map(|(n, _)| *n)
    }
}

/// A way to place pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each page where it is used most, as the first touch by its user does.
    FirstTouch,
    /// All over the nodes, in turns.
    Interleave(Vec<usize>),
    /// All on one node.
    Bind(usize),
    /// Ranges of pages, each on a node: first page, end, node.
    Ranges(Vec<(u64, u64, usize)>),
    /// A copy on each node: only what nobody writes.
    Replicate,
}

/// What a placement would have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub placement: Placement,
    pub remote: u64,
}

/// Ranges that anybody would write down.
const MOST_RANGES: usize = 16;

/// Remote lines as measured.
pub fn measured(pages: &[HotPage]) -> u64 {
    pages.iter().map(|page| page.remote).sum()
}

pub fn total(pages: &[HotPage]) -> u64 {
    pages.iter().map(HotPage::total).sum()
}

/// Remote lines if `pages` lay on `node`.
fn bound(pages: &[HotPage], node: usize) -> u64 {
    pages.iter().map(|page| page.total() - page.of(node)).sum()
}

/// Remote lines if `pages` lay on `nodes` in turns, whichever comes first.
fn interleaved(pages: &[HotPage], nodes: &[usize]) -> u64 {
    let local: u64 = nodes.iter().map(|&n| pages.iter().map(|page| page.of(n)).sum::<u64>()).sum();
    total(pages) - local / (nodes.len() as u64).max(1)
}

/// All placements of `pages` on `nodes` with memory, the fewest remote lines first; of those that
/// make as many, the simplest.
pub fn placements(pages: &[HotPage], nodes: &[usize]) -> Vec<Expected> {
    let mut all = Vec::new();
    let mut add = |placement, remote| all.push(Expected { placement, remote });
    for &node in nodes {
        add(Placement::Bind(node), bound(pages, node));
    }
    if nodes.len() > 1 {
        add(Placement::Interleave(nodes.to_vec()), interleaved(pages, nodes));
    }
    let ranges = ranges(pages, nodes);
    if (2..=MOST_RANGES).contains(&ranges.len()) {
        let on =
            |number: u64| ranges.iter().find(|(first, end, _)| (*first..*end).contains(&number));
        let local: u64 = pages.iter().filter_map(|page| Some(page.of(on(page.number)?.2))).sum();
        let remote = total(pages) - local;
        add(Placement::Ranges(ranges), remote);
    }
    let best = |page: &HotPage| page.best().filter(|node| nodes.contains(node));
    let local: u64 = pages.iter().filter_map(|page| Some(page.of(best(page)?))).sum();
    add(Placement::FirstTouch, total(pages) - local);
    if !pages.is_empty() && pages.iter().all(|page| !page.written) {
        add(Placement::Replicate, 0);
    }
    // Stable: what was added first is the simplest.
    all.sort_by_key(|expected| expected.remote);
    all
}

/// Neighbouring pages that the same node uses most, as ranges without gaps.
fn ranges(pages: &[HotPage], nodes: &[usize]) -> Vec<(u64, u64, usize)> {
    let mut ranges: Vec<(u64, u64, usize)> = Vec::new();
    for page in pages {
        let Some(node) = page.best().filter(|node| nodes.contains(node)) else { continue };
        match ranges.last_mut() {
            Some(last) if last.2 == node => last.1 = page.number + 1,
            Some(last) => {
                last.1 = page.number;
                ranges.push((page.number, page.number + 1, node));
            }
            None => ranges.push((page.number, page.number + 1, node)),
        }
    }
    ranges
}

/// Lines that a task took from each node's memory while on CPUs of `from`: on which node it had
/// better run, and the remote lines before and after.
pub fn better_node(
    by_memory: &[u64],
    from: usize,
    with_cpus: &[usize],
) -> Option<(usize, u64, u64)> {
    let all: u64 = by_memory.iter().sum();
    let at = |node: usize| all - by_memory.get(node).copied().unwrap_or(0);
    let best = *with_cpus.iter().min_by_key(|&&node| (at(node), node))?;
    (at(best) < at(from)).then(|| (best, at(from), at(best)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(number: u64, lines: [u64; 2], on: usize) -> HotPage {
        HotPage {
            number,
            lines: lines.into_iter().enumerate().filter(|(_, n)| *n > 0).collect(),
            remote: lines[1 - on],
            written: true,
        }
    }

    #[test]
    fn halves_that_two_nodes_use_are_two_ranges() {
        let pages: Vec<_> =
            (0..8).map(|n| page(n, if n < 4 { [9, 1] } else { [0, 10] }, 0)).collect();
        assert_eq!((measured(&pages), total(&pages)), (44, 80));
        let best = &placements(&pages, &[0, 1])[0];
        assert_eq!(best.placement, Placement::Ranges(vec![(0, 4, 0), (4, 8, 1)]));
        assert_eq!(best.remote, 4);
    }

    #[test]
    fn one_user_is_bound_and_equal_users_are_interleaved_or_left() {
        let one: Vec<_> = (0..8).map(|n| page(n, [0, 7], 0)).collect();
        assert_eq!(
            placements(&one, &[0, 1])[0],
            Expected { placement: Placement::Bind(1), remote: 0 }
        );
        let both: Vec<_> = (0..8).map(|n| page(n, [5, 5], 0)).collect();
        let all = placements(&both, &[0, 1]);
        assert!(all.iter().all(|expected| expected.remote == 40), "{all:?}");
    }

    #[test]
    fn what_nobody_writes_may_be_copied() {
        let pages = [HotPage { written: false, ..page(0, [5, 5], 0) }];
        assert_eq!(placements(&pages, &[0, 1])[0].placement, Placement::Replicate);
    }

    #[test]
    fn a_thread_moves_to_where_its_lines_are() {
        assert_eq!(better_node(&[1, 9, 0], 0, &[0, 1, 2]), Some((1, 9, 1)));
        assert_eq!(better_node(&[1, 9, 0], 0, &[0, 2]), None);
        assert_eq!(better_node(&[], 0, &[]), None);
    }

    proptest! {
        #[test]
        fn no_placement_beats_the_first_touch_by_each_pages_user_or_makes_more_than_all(
            heats in prop::collection::vec((0u64..50, 0u64..50), 1..40)
        ) {
            let pages: Vec<_> =
                heats.iter().enumerate().map(|(n, &(a, b))| page(n as u64, [a, b], 0)).collect();
            let all = placements(&pages, &[0, 1]);
            let touch = all.iter().find(|e| e.placement == Placement::FirstTouch).unwrap().remote;
            for expected in &all {
                prop_assert!(expected.remote >= touch && expected.remote <= total(&pages));
            }
        }
    }
}
