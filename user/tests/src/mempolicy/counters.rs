//! numastat: the counters move by the number of pages, on the node where they should.

use crate::child::{on_cpu, run};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;

pub const TESTS: &[Test] = tests![
    bound_pages_are_hits_of_their_node,
    pages_for_a_cpu_of_the_node_are_local,
    pages_for_a_cpu_of_another_node_are_other,
    interleaved_pages_are_interleave_hits_of_each_node,
    bound_pages_are_no_interleave_hits,
    free_memory_goes_down_and_up_by_the_pages,
    anonymous_pages_are_counted_on_their_node,
    shared_pages_are_counted_on_their_node,
];

const N: usize = 512;
/// Page tables, and what the test itself takes meanwhile.
const SLACK: u64 = 64;

#[track_caller]
fn about(found: u64, expected: usize, what: &str) {
    let range = expected as u64..expected as u64 + SLACK;
    assert!(range.contains(&found), "{what} moved by {found}, not {expected}");
}

/// How far a counter of a node moves while pages are touched.
fn moved(node: usize, key: &str, touch: impl FnOnce()) -> u64 {
    let before = numastat(node, key);
    touch();
    numastat(node, key) - before
}

fn bound_pages_are_hits_of_their_node() {
    for node in nodes() {
        let at = map(N);
        mbind(at, N, BIND, &[node], 0).unwrap();
        about(moved(node, "numa_hit", || touch(at, N)), N, "numa_hit");
        munmap(at, N).unwrap();
    }
}

fn pages_for_a_cpu_of_the_node_are_local() {
    for (cpu, node) in cpu_nodes().into_iter().filter(|(_, node)| nodes().contains(node)) {
        let at = map(N);
        let touched = || on_cpu(cpu, || touch(at, N));
        about(moved(node, "local_node", touched), N, "local_node");
        munmap(at, N).unwrap();
    }
}

fn pages_for_a_cpu_of_another_node_are_other() {
    let all = at_least(2);
    let (cpu, near) = cpu_nodes()[0];
    let far = *all.iter().find(|node| **node != near).unwrap();
    let at = map(N);
    mbind(at, N, BIND, &[far], 0).unwrap();
    let touched = || on_cpu(cpu, || touch(at, N));
    about(moved(far, "other_node", touched), N, "other_node");
}

fn interleaved_pages_are_interleave_hits_of_each_node() {
    let all = nodes();
    let at = map(N);
    mbind(at, N, INTERLEAVE, &all, 0).unwrap();
    let before: Vec<u64> = all.iter().map(|node| numastat(*node, "interleave_hit")).collect();
    touch(at, N);
    let found = nodes_at(at, N);
    for (node, before) in all.iter().zip(before) {
        let count = found.iter().filter(|own| **own == *node as i32).count();
        let hits = numastat(*node, "interleave_hit") - before;
        assert_eq!(hits, count as u64, "interleave_hit of node {node}");
    }
}

fn bound_pages_are_no_interleave_hits() {
    let node = nodes()[0];
    let at = map(N);
    mbind(at, N, BIND, &[node], 0).unwrap();
    assert_eq!(moved(node, "interleave_hit", || touch(at, N)), 0);
}

fn free_memory_goes_down_and_up_by_the_pages() {
    for node in nodes() {
        let free = || meminfo(node, "MemFree") as usize / 4;
        // The CPUs' caches of free pages, which are not counted as free, hold less than this.
        let (before, pages) = (free(), free() / 3);
        run(|| {
            let at = map(pages);
            mbind(at, pages, BIND, &[node], 0).unwrap();
            touch(at, pages);
            let taken = before.saturating_sub(free());
            assert!(taken > pages / 4, "{taken} pages of node {node} taken, {pages} touched");
        });
        assert!(free() + pages / 2 > before, "node {node}: {before} free, then {}", free());
    }
}

fn anonymous_pages_are_counted_on_their_node() {
    const PAGES: usize = 1024;
    for node in nodes() {
        let anonymous = || meminfo(node, "AnonPages") / 4;
        let at = map(PAGES);
        mbind(at, PAGES, BIND, &[node], 0).unwrap();
        let before = anonymous();
        touch(at, PAGES);
        let grown = anonymous() - before;
        // Linux counts by CPU and folds from time to time.
        assert!(grown.abs_diff(PAGES as u64) < 256, "AnonPages of node {node} grew by {grown}");
        munmap(at, PAGES).unwrap();
    }
}

fn shared_pages_are_counted_on_their_node() {
    const PAGES: usize = 1024;
    for node in nodes() {
        let shared = || meminfo(node, "Shmem") / 4;
        let at = map_shared(PAGES);
        mbind(at, PAGES, BIND, &[node], 0).unwrap();
        let before = shared();
        touch(at, PAGES);
        let grown = shared() - before;
        assert!(grown.abs_diff(PAGES as u64) < 256, "Shmem of node {node} grew by {grown}");
        munmap(at, PAGES).unwrap();
    }
}
