//! Policies of a shared object: they lie on ranges of its pages, are seen by everyone who maps it,
//! and outlive the process that set them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use numa::policy::Policy;

/// Disjoint ranges of page indices `[start, end)` with a policy each.
#[derive(Default)]
pub struct SharedPolicy {
    ranges: BTreeMap<u64, (u64, Arc<Policy>)>,
}

impl SharedPolicy {
    /// No policy anywhere.
    pub const fn new() -> Self {
        Self { ranges: BTreeMap::new() }
    }

    /// The policy of page `index`.
    pub fn get(&self, index: u64) -> Option<&Arc<Policy>> {
        let (_, (end, policy)) = self.ranges.range(..=index).next_back()?;
        (index < *end).then_some(policy)
    }

    /// Sets (or, with None, removes) the policy of the pages `[start, end)`.
    pub fn set(&mut self, start: u64, end: u64, policy: Option<Arc<Policy>>) {
        let touched: Vec<u64> = self
            .ranges
            .range(..end)
            .rev()
            .take_while(|(_, (e, _))| *e > start)
            .map(|(&s, _)| s)
            .collect();
        for s in touched {
            let Some((e, old)) = self.ranges.remove(&s) else { continue };
            if s < start {
                self.ranges.insert(s, (start, old.clone()));
            }
            if e > end {
                self.ranges.insert(end, (e, old));
            }
        }
        if let Some(policy) = policy {
            self.ranges.insert(start, (end, policy));
        }
    }

    /// True without any policy.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use numa::policy::{ModeWord, Request};
    use numa::{NodeId, NodeMask};
    use proptest::prelude::*;

    fn bind(node: u16) -> Arc<Policy> {
        let nodes = NodeMask::single(NodeId::new(node));
        let word = ModeWord::parse(2).expect("MPOL_BIND");
        let policy = Request::new(word, nodes)
            .and_then(|r| r.resolve(NodeMask::first_n(8), NodeMask::first_n(8)))
            .expect("a valid policy");
        Arc::new(policy.expect("not the default"))
    }

    proptest! {
        #[test]
        fn agrees_with_a_policy_per_page(
            ops in proptest::collection::vec((0u64..40, 1u64..20, proptest::option::of(0u16..8)), 1..40)
        ) {
            let mut ranges = SharedPolicy::new();
            let mut pages = [None::<u16>; 60];
            for (start, len, node) in ops {
                ranges.set(start, start + len, node.map(bind));
                pages[start as usize..(start + len) as usize].fill(node);
                for (i, want) in pages.iter().enumerate() {
                    let got = ranges
                        .get(i as u64)
                        .and_then(|p| p.nodes().first())
                        .map(|n| n.index() as u16);
                    prop_assert_eq!(got, *want);
                }
            }
        }
    }
}
