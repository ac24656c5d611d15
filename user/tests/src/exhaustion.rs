//! A node filled up, and what each policy does then.
//!
//! Filling takes time, so the smallest node is filled; a machine with one node is spared, since
//! there is nowhere to spill to.

use crate::child::{Steps, end_of, join, pin, run, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::*;
use crate::numa::*;

pub const TESTS: &[Test] = tests![
    a_bound_process_that_wants_more_than_its_node_has_is_killed_alone,
    when_a_node_is_full_each_policy_does_as_it_promises,
    moving_to_a_full_node_loses_nothing,
];

/// The node to fill, and the others.
fn smallest() -> (usize, Vec<usize>) {
    let all = at_least(2);
    let size = |node: &usize| meminfo(*node, "MemTotal");
    // Of about equals the last one: the first holds the kernel.
    let node = all.iter().rev().copied().min_by_key(|node| size(node) >> 17).unwrap();
    if size(&node) > 1536 << 10 {
        skip!("the smallest node has more than 1.5 GiB");
    }
    (node, all.into_iter().filter(|own| *own != node).collect())
}

/// Who is to be killed for want of memory: 1000 is the caller, -1000 anybody else. Linux prefers the
/// largest, which need not be the asker.
fn kill_order(score: &str) {
    let _ = std::fs::write("/proc/self/oom_score_adj", score);
}

/// Fills a node until pages go elsewhere; ready at step 1, ends at step 2.
fn hog(node: usize, steps: Steps) -> i32 {
    spawn(|| {
        kill_order("-1000");
        let total = meminfo(node, "MemTotal") as usize / 4 + 16384;
        let at = map(total);
        mbind(at, total, PREFERRED, &[node], 0).unwrap();
        const BATCH: usize = 64;
        let mut elsewhere = 0;
        for batch in 0..total / BATCH {
            let batch = at + batch * BATCH * PAGE;
            touch(batch, BATCH);
            let all = nodes_at(batch, BATCH).iter().all(|own| *own != node as i32);
            elsewhere = if all { elsewhere + BATCH } else { 0 };
            // Not just a fluctuation while the kernel empties its caches.
            if elsewhere == 4096 {
                break;
            }
        }
        assert!(elsewhere > 0, "the node took more pages than it has");
        steps.reach(1);
        steps.await_(2);
    })
}

fn a_bound_process_that_wants_more_than_its_node_has_is_killed_alone() {
    let (node, _) = smallest();
    let steps = Steps::new();
    let witness = spawn(|| {
        let at = map(64);
        fill(at, 64, 1);
        steps.await_(1);
        verify(at, 64, 1);
    });
    let end = end_of(|| {
        kill_order("1000");
        set_mempolicy(BIND, &[node]).unwrap();
        let pages = meminfo(node, "MemTotal") as usize / 4 + 4096;
        let at = map(pages);
        touch(at, pages);
    });
    assert_eq!(end, 128 + libc::SIGKILL);
    steps.reach(1);
    assert_eq!(join(witness), 0, "the witness lives");
    // What it held is free again.
    run(|| {
        let at = map(1024);
        mbind(at, 1024, BIND, &[node], 0).unwrap();
        touch(at, 1024);
        all_on(at, 1024, node);
    });
}

fn when_a_node_is_full_each_policy_does_as_it_promises() {
    let (node, others) = smallest();
    let steps = Steps::new();
    let hog = hog(node, steps);
    steps.await_(1);
    // More than what the kernel wins back by emptying its caches.
    const PAGES: usize = 4096;
    let spilled = |at: usize, from: usize| {
        let mut found = nodes_at(at, PAGES);
        found.sort();
        found.dedup();
        let near = nearest(from, &others);
        let right = |own: &i32| near.contains(&(*own as usize)) || *own == node as i32;
        assert!(found.iter().all(right), "not on {node} nor its nearest {near:?}: {found:?}");
        assert!(found != [node as i32], "the node is not full");
    };
    let (cpu, local) = cpu_nodes()[0];
    for mode in [PREFERRED, PREFERRED_MANY, INTERLEAVE, WEIGHTED] {
        run(|| {
            pin(cpu);
            let at = map(PAGES);
            mbind(at, PAGES, mode, &[node], 0).unwrap();
            touch(at, PAGES);
            // One node spills to its own neighbours, several to those of the toucher.
            spilled(at, if mode == PREFERRED_MANY { local } else { node });
        });
    }
    if let Some(cpu) = cpus_of(node).first() {
        run(|| {
            pin(*cpu);
            let at = map(PAGES);
            mbind(at, PAGES, LOCAL, &[], 0).unwrap();
            touch(at, PAGES);
            spilled(at, node);
        });
    }
    // Bound to another node there is room, and bound to both as well.
    run(|| {
        let at = map(2 * PAGES);
        mbind(at, PAGES, BIND, &others[..1], 0).unwrap();
        mbind(at + PAGES * PAGE, PAGES, BIND, &[node, others[0]], 0).unwrap();
        touch(at, 2 * PAGES);
        all_on(at, PAGES, others[0]);
    });
    // Bound to the full node there is none: the asker dies, and only it.
    let end = end_of(|| {
        kill_order("1000");
        set_mempolicy(BIND, &[node]).unwrap();
        let at = map(16384);
        touch(at, 16384);
    });
    assert_eq!(end, 128 + libc::SIGKILL);
    assert_ne!(crate::child::state_of(hog), Some('Z'), "the other one lives");
    steps.reach(2);
    assert_eq!(join(hog), 0);
    // Free again: pages go home.
    for mode in [PREFERRED, BIND, PREFERRED_MANY, INTERLEAVE] {
        run(|| {
            let at = map(PAGES);
            mbind(at, PAGES, mode, &[node], 0).unwrap();
            touch(at, PAGES);
            all_on(at, PAGES, node);
        });
    }
}

fn moving_to_a_full_node_loses_nothing() {
    let (node, others) = smallest();
    let steps = Steps::new();
    let hog = hog(node, steps);
    steps.await_(1);
    run(|| {
        const PAGES: usize = 2048;
        let at = map(PAGES);
        mbind(at, PAGES, BIND, &others[..1], 0).unwrap();
        fill(at, PAGES, 1);
        mbind(at, PAGES, DEFAULT, &[], 0).unwrap();
        let targets = vec![node as i32; PAGES];
        let result = move_pages(0, &addresses(at, PAGES), Some(&targets), MOVE);
        verify(at, PAGES, 1);
        let found = nodes_at(at, PAGES);
        assert!(found.iter().all(|own| *own == node as i32 || *own == others[0] as i32));
        if let Ok((0, status)) = result {
            for (own, status) in found.iter().zip(status) {
                assert!(*own == status || status < 0, "told {status}, found {own}");
            }
        }
    });
    steps.reach(2);
    assert_eq!(join(hog), 0);
}
