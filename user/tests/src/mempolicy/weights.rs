//! Weighted interleaving and its weights in sysfs.

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys;

pub const TESTS: &[Test] = tests![
    every_possible_node_has_a_weight_of_one,
    a_write_of_nothing_changes_no_weight,
    weights_are_written_and_read_back,
    zero_brings_the_default_back,
    pages_of_a_range_go_by_weight_and_address,
    pages_of_a_task_go_by_weight_and_address,
    a_weight_changed_later_counts_for_later_pages,
    the_next_node_is_told_under_weights,
    a_node_with_most_of_the_weight_gets_most_of_the_pages,
];

const DIRECTORY: &str = "/sys/kernel/mm/mempolicy/weighted_interleave";

fn weight(node: usize) -> String {
    std::fs::read_to_string(format!("{DIRECTORY}/node{node}")).unwrap().trim().to_string()
}

fn set_weight(node: usize, text: &str) -> std::io::Result<()> {
    std::fs::write(format!("{DIRECTORY}/node{node}"), text)
}

/// Weights for a test, put back to 1 afterwards also when it fails (in the child's parent).
fn with_weights(weights: &[(usize, usize)], body: impl FnOnce()) {
    for (node, weight) in weights {
        set_weight(*node, &weight.to_string()).unwrap();
    }
    let end = crate::child::end_of(body);
    for (node, _) in weights {
        set_weight(*node, "1").unwrap();
    }
    assert_eq!(end, 0);
}

/// The node of a place in the round.
fn model(weights: &[(usize, usize)], place: usize) -> usize {
    let total: usize = weights.iter().map(|(_, weight)| weight).sum();
    let mut left = place % total;
    for (node, weight) in weights {
        if left < *weight {
            return *node;
        }
        left -= weight;
    }
    unreachable!("the place is below the total")
}

fn every_possible_node_has_a_weight_of_one() {
    let possible = std::fs::read_to_string("/sys/devices/system/node/possible").unwrap();
    let last: usize = possible.trim().rsplit('-').next().unwrap().parse().unwrap();
    assert_eq!(std::fs::read_dir(DIRECTORY).unwrap().count(), last + 1);
    for node in 0..=last {
        assert_eq!(weight(node), "1", "node {node}");
    }
}

fn a_write_of_nothing_changes_no_weight() {
    let node = nodes()[0];
    set_weight(node, "9").unwrap();
    let fd = sys::open(&format!("{DIRECTORY}/node{node}"), libc::O_WRONLY, 0).unwrap();
    let nothing = sys::write(fd, b"");
    let left = weight(node);
    set_weight(node, "0").unwrap();
    assert_eq!((nothing, left.as_str()), (Ok(0), "9"));
}

fn weights_are_written_and_read_back() {
    let node = nodes()[0];
    for text in ["1", "7", "255"] {
        set_weight(node, text).unwrap();
        assert_eq!(weight(node), text);
    }
    for wrong in ["256", "-1", "abc", "1000000000000"] {
        assert!(set_weight(node, wrong).is_err(), "{wrong} is taken");
        assert_eq!(weight(node), "255");
    }
    set_weight(node, "1").unwrap();
}

fn zero_brings_the_default_back() {
    let node = nodes()[0];
    set_weight(node, "9").unwrap();
    set_weight(node, "0").unwrap();
    assert_eq!(weight(node), "1");
}

fn pages_of_a_range_go_by_weight_and_address() {
    let all = at_least(2);
    let weights: Vec<_> = all.iter().enumerate().map(|(i, node)| (*node, i % 4 + 1)).collect();
    with_weights(&weights, || {
        let at = map(256);
        mbind(at, 256, WEIGHTED, &all, 0).unwrap();
        touch(at, 256);
        for (page, node) in nodes_at(at, 256).into_iter().enumerate() {
            assert_eq!(node as usize, model(&weights, at / PAGE + page), "page {page}");
        }
    });
}

fn pages_of_a_task_go_by_weight_and_address() {
    let all = at_least(2);
    let weights = [(all[0], 3), (all[1], 2)];
    with_weights(&weights, || {
        set_mempolicy(WEIGHTED, &all[..2]).unwrap();
        let at = map(64);
        touch(at, 64);
        for (page, node) in nodes_at(at, 64).into_iter().enumerate() {
            assert_eq!(node as usize, model(&weights, at / PAGE + page), "page {page}");
        }
    });
}

fn a_weight_changed_later_counts_for_later_pages() {
    let all = at_least(2);
    let at = map(64);
    mbind(at, 64, WEIGHTED, &all[..2], 0).unwrap();
    touch(at, 32);
    let before = nodes_at(at, 32);
    let weights = [(all[0], 1), (all[1], 5)];
    with_weights(&weights, || {
        touch(at + 32 * PAGE, 32);
        assert_eq!(nodes_at(at, 32), before);
        for (page, node) in nodes_at(at, 64).into_iter().enumerate().skip(32) {
            assert_eq!(node as usize, model(&weights, at / PAGE + page), "page {page}");
        }
    });
}

fn the_next_node_is_told_under_weights() {
    let all = nodes();
    set_mempolicy(WEIGHTED, &all).unwrap();
    assert_eq!(get_mempolicy(F_NODE, 0).unwrap().0, all[0] as i32);
}

fn a_node_with_most_of_the_weight_gets_most_of_the_pages() {
    let all = at_least(2);
    with_weights(&[(all[0], 255), (all[1], 1)], || {
        let at = map(512);
        mbind(at, 512, WEIGHTED, &all[..2], 0).unwrap();
        touch(at, 512);
        let second = nodes_at(at, 512).iter().filter(|node| **node == all[1] as i32).count();
        assert_eq!(second, 2);
    });
}
