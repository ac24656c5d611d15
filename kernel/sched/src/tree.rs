//! Waiting tasks in order, in a tree made of their own boxes.
//!
//! A treap: sorted by key, and a heap by random numbers, which keeps it about `2 ln n` deep
//! whatever the keys are. Each node knows the least vruntime below it, so that the first node in
//! order that satisfies a bound on vruntime is found on one way down. Nothing is allocated or
//! freed here, and no operation is more than that way down and back.

use crate::entity::{Key, Link, Node};
use crate::vtime::VTime;
use alloc::boxed::Box;
use core::cmp::Ordering;

/// The waiting tasks of a class.
pub(crate) struct Tree<H> {
    root: Link<H>,
    len: usize,
    /// State of the generator of heights (xorshift, Marsaglia 2003); never 0.
    random: u32,
}

impl<H> Tree<H> {
    pub(crate) const fn new() -> Self {
        Self { root: None, len: 0, random: 0x9E37_79B9 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds `node` at its key, which no other node has.
    pub(crate) fn insert(&mut self, mut node: Box<Node<H>>) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        node.height = self.random;
        node.least = node.vruntime;
        self.root = Some(insert(self.root.take(), node));
        self.len += 1;
    }

    /// Takes out the node at `key`.
    pub(crate) fn remove(&mut self, key: &Key) -> Link<H> {
        let node = remove(&mut self.root, key);
        self.len -= usize::from(node.is_some());
        node
    }

    /// The node at `key`.
    pub(crate) fn get(&self, key: &Key) -> Option<&Node<H>> {
        let mut node = self.root.as_deref()?;
        loop {
            node = match key.cmp(&node.key) {
                Ordering::Less => node.before.as_deref()?,
                Ordering::Greater => node.after.as_deref()?,
                Ordering::Equal => return Some(node),
            };
        }
    }

    /// The first node.
    pub(crate) fn first(&self) -> Option<&Node<H>> {
        let mut node = self.root.as_deref()?;
        while let Some(before) = node.before.as_deref() {
            node = before;
        }
        Some(node)
    }

    /// The first node whose vruntime satisfies `fits`, which must hold for every vruntime below
    /// one for which it holds.
    pub(crate) fn first_where(&self, fits: impl Fn(VTime) -> bool) -> Option<&Node<H>> {
        let mut node = self.root.as_deref().filter(|root| fits(root.least))?;
        loop {
            match node.before.as_deref() {
                Some(before) if fits(before.least) => node = before,
                _ if fits(node.vruntime) => return Some(node),
                _ => node = node.after.as_deref()?,
            }
        }
    }

    /// The first (or, `backwards`, the last) node that `wanted` accepts. It is asked of one after
    /// the other.
    pub(crate) fn find(
        &self,
        backwards: bool,
        wanted: &mut dyn FnMut(&Node<H>) -> bool,
    ) -> Option<&Node<H>> {
        find(&self.root, backwards, wanted)
    }
}

impl<H> Node<H> {
    /// Brings `least` up to date after a change below.
    fn refresh(&mut self) {
        let below = [&self.before, &self.after].into_iter().flatten().map(|node| node.least);
        self.least = below.fold(self.vruntime, VTime::min);
    }
}

fn insert<H>(tree: Link<H>, mut new: Box<Node<H>>) -> Box<Node<H>> {
    let Some(mut top) = tree else { return new };
    if new.height > top.height {
        (new.before, new.after) = split(Some(top), &new.key);
        new.refresh();
        return new;
    }
    let side = if new.key < top.key { &mut top.before } else { &mut top.after };
    *side = Some(insert(side.take(), new));
    top.refresh();
    top
}

/// The nodes before `key` and those after.
fn split<H>(tree: Link<H>, key: &Key) -> (Link<H>, Link<H>) {
    let Some(mut top) = tree else { return (None, None) };
    if top.key < *key {
        let (before, after) = split(top.after.take(), key);
        top.after = before;
        top.refresh();
        (Some(top), after)
    } else {
        let (before, after) = split(top.before.take(), key);
        top.before = after;
        top.refresh();
        (before, Some(top))
    }
}

/// One tree of two, of which the first lies wholly before the second.
fn join<H>(first: Link<H>, second: Link<H>) -> Link<H> {
    match (first, second) {
        (None, tree) | (tree, None) => tree,
        (Some(mut a), Some(mut b)) => {
            if a.height > b.height {
                a.after = join(a.after.take(), Some(b));
                a.refresh();
                Some(a)
            } else {
                b.before = join(Some(a), b.before.take());
                b.refresh();
                Some(b)
            }
        }
    }
}

fn remove<H>(tree: &mut Link<H>, key: &Key) -> Link<H> {
    let top = tree.as_mut()?;
    let side = match key.cmp(&top.key) {
        Ordering::Less => &mut top.before,
        Ordering::Greater => &mut top.after,
        Ordering::Equal => {
            let mut found = tree.take()?;
            *tree = join(found.before.take(), found.after.take());
            return Some(found);
        }
    };
    let found = remove(side, key);
    top.refresh();
    found
}

fn find<'a, H>(
    tree: &'a Link<H>,
    backwards: bool,
    wanted: &mut dyn FnMut(&Node<H>) -> bool,
) -> Option<&'a Node<H>> {
    let node = tree.as_deref()?;
    let (near, far) =
        if backwards { (&node.after, &node.before) } else { (&node.before, &node.after) };
    if let Some(found) = find(near, backwards, wanted) {
        return Some(found);
    }
    if wanted(node) { Some(node) } else { find(far, backwards, wanted) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::entity::Entity;
    use crate::params::{Class, Params};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn node(deadline: i64, turn: i64, vruntime: i64) -> Box<Node<()>> {
        let mut node = Entity::new(Params::new(Class::default(), 0)).0;
        node.key = Key { first: VTime::ZERO.plus(deadline), turn };
        node.vruntime = VTime::ZERO.plus(vruntime);
        node
    }

    fn depth(tree: &Link<()>) -> usize {
        tree.as_ref().map_or(0, |node| 1 + depth(&node.before).max(depth(&node.after)))
    }

    proptest! {
        #[test]
        fn a_tree_is_a_sorted_map(
            steps in proptest::collection::vec((any::<bool>(), -50i64..50, -50i64..50), 0..200),
        ) {
            let mut tree = Tree::new();
            let mut model = BTreeMap::new();
            for (turn, (add, deadline, vruntime)) in steps.into_iter().enumerate() {
                let turn = turn as i64;
                if add {
                    tree.insert(node(deadline, turn, vruntime));
                    model.insert((deadline, turn), vruntime);
                } else if let Some((deadline, turn)) =
                    model.range((deadline, 0)..).next().map(|(key, _)| *key)
                {
                    let key = Key { first: VTime::ZERO.plus(deadline), turn };
                    prop_assert!(tree.get(&key).is_some_and(|node| node.key == key));
                    let vruntime = tree.remove(&key).unwrap().vruntime.since(VTime::ZERO);
                    prop_assert_eq!(model.remove(&(deadline, turn)), Some(vruntime));
                    prop_assert!(tree.get(&key).is_none() && tree.remove(&key).is_none());
                }
                let pair = |node: &Node<()>| (node.key.first.since(VTime::ZERO), node.key.turn);
                prop_assert_eq!(tree.len(), model.len());
                prop_assert_eq!(tree.first().map(pair), model.keys().next().copied());
                for bound in [-20, 0, 20] {
                    let found = tree.first_where(|v| v.since(VTime::ZERO) <= bound);
                    let expected = model.iter().find(|(_, v)| **v <= bound);
                    prop_assert_eq!(found.map(pair), expected.map(|(key, _)| *key));
                }
                let mut forwards = Vec::new();
                tree.find(false, &mut |node| {
                    forwards.push(pair(node));
                    false
                });
                prop_assert_eq!(&forwards, &model.keys().copied().collect::<Vec<_>>());
                let mut backwards = Vec::new();
                tree.find(true, &mut |node| {
                    backwards.push(pair(node));
                    false
                });
                backwards.reverse();
                prop_assert_eq!(forwards, backwards);
            }
        }
    }

    #[test]
    fn ten_thousand_sorted_keys_make_a_shallow_tree() {
        let mut tree = Tree::new();
        for n in 0..10_000 {
            tree.insert(node(n, n, 0));
        }
        assert!(depth(&tree.root) < 50, "{}", depth(&tree.root));
    }
}
