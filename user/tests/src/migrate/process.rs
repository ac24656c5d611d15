//! migrate_pages(2): a whole process from nodes to nodes.

use libc::{EFAULT, EINVAL, EIO, EPERM};

use crate::child::{Steps, join, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::{fails, sys};
use crate::task::credentials::without_nice;

pub const TESTS: &[Test] = tests![
    everything_on_a_node_goes_to_the_other,
    pages_on_other_nodes_stay,
    two_nodes_change_places,
    the_relative_order_of_nodes_is_kept,
    several_nodes_fold_onto_fewer,
    a_node_that_is_in_both_masks_stays_where_it_counts_the_same,
    all_memory_goes_when_all_nodes_are_named,
    another_process_is_moved,
    pages_shared_after_fork_go_with_privilege_only,
    policies_stay_as_they_were,
    moving_nothing_returns_zero,
    nodes_that_are_not_there_are_refused,
    a_target_without_memory_is_left_out,
    new_nodes_beyond_the_targets_need_privilege,
    masks_that_cannot_be_read_are_efault,
    shared_memory_and_files_go_along,
    pages_mapped_twice_move_and_count_as_left_behind,
];

const N: usize = 32;

/// Pages on a node, without a policy of their own.
fn placed(node: usize, seed: u64) -> usize {
    let at = map_alone(N);
    mbind(at, N, BIND, &[node], 0).unwrap();
    fill(at, N, seed);
    mbind(at, N, DEFAULT, &[], 0).unwrap();
    at
}

fn everything_on_a_node_goes_to_the_other() {
    let all = at_least(2);
    let at = placed(all[0], 1);
    let heap = vec![3u8; 64 * PAGE];
    migrate_pages(0, &all[..1], &all[1..2]).unwrap();
    all_on(at, N, all[1]);
    verify(at, N, 1);
    let heap_at = (heap.as_ptr() as usize).next_multiple_of(PAGE);
    assert!(nodes_at(heap_at, 62).iter().all(|node| *node != all[0] as i32));
    assert!(heap.iter().all(|byte| *byte == 3));
}

fn pages_on_other_nodes_stay() {
    let all = at_least(3);
    let (one, two) = (placed(all[0], 1), placed(all[2], 2));
    migrate_pages(0, &all[..1], &all[1..2]).unwrap();
    all_on(one, N, all[1]);
    all_on(two, N, all[2]);
    verify(one, N, 1);
    verify(two, N, 2);
}

fn two_nodes_change_places() {
    let all = at_least(2);
    let (one, two) = (placed(all[0], 1), placed(all[1], 2));
    migrate_pages(0, &[all[0], all[1]], &[all[0], all[1]]).unwrap();
    all_on(one, N, all[0]);
    all_on(two, N, all[1]);
}

fn the_relative_order_of_nodes_is_kept() {
    let all = at_least(4);
    let (one, two) = (placed(all[0], 1), placed(all[1], 2));
    migrate_pages(0, &all[..2], &all[2..4]).unwrap();
    all_on(one, N, all[2]);
    all_on(two, N, all[3]);
    verify(one, N, 1);
    verify(two, N, 2);
}

fn several_nodes_fold_onto_fewer() {
    let all = at_least(3);
    let (one, two) = (placed(all[0], 1), placed(all[1], 2));
    migrate_pages(0, &all[..2], &all[2..3]).unwrap();
    all_on(one, N, all[2]);
    all_on(two, N, all[2]);
    verify(one, N, 1);
    verify(two, N, 2);
}

fn a_node_that_is_in_both_masks_stays_where_it_counts_the_same() {
    let all = at_least(3);
    let (one, two) = (placed(all[0], 1), placed(all[1], 2));
    // The first of the old goes to the first of the new: itself.
    migrate_pages(0, &[all[0], all[1]], &[all[0], all[2]]).unwrap();
    all_on(one, N, all[0]);
    all_on(two, N, all[2]);
}

fn all_memory_goes_when_all_nodes_are_named() {
    let all = at_least(2);
    let at: Vec<usize> = all.iter().map(|node| placed(*node, *node as u64)).collect();
    migrate_pages(0, &all, &all[..1]).unwrap();
    for (at, node) in at.iter().zip(&all) {
        all_on(*at, N, all[0]);
        verify(*at, N, *node as u64);
    }
}

fn another_process_is_moved() {
    let all = at_least(2);
    let at = map_alone(N);
    let steps = Steps::new();
    let child = spawn(|| {
        mbind(at, N, BIND, &all[..1], 0).unwrap();
        fill(at, N, 5);
        steps.reach(1);
        steps.await_(2);
        all_on(at, N, all[1]);
        verify(at, N, 5);
        assert_eq!(policy_at(at), (BIND, all[..1].to_vec()));
    });
    steps.await_(1);
    migrate_pages(child, &all[..1], &all[1..2]).unwrap();
    steps.reach(2);
    assert_eq!(join(child), 0);
}

fn pages_shared_after_fork_go_with_privilege_only() {
    let all = at_least(2);
    let at = placed(all[0], 1);
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    crate::child::run(|| {
        without_nice();
        assert_eq!(migrate_pages(0, &all[..1], &all[1..2]), Ok(0));
    });
    all_on(at, N, all[0]);
    migrate_pages(0, &all[..1], &all[1..2]).unwrap();
    all_on(at, N, all[1]);
    verify(at, N, 1);
    steps.reach(1);
    assert_eq!(join(child), 0);
}

fn policies_stay_as_they_were() {
    let all = at_least(2);
    set_mempolicy(BIND, &all[..1]).unwrap();
    let at = map_alone(N);
    mbind(at, N, PREFERRED, &all[..1], 0).unwrap();
    fill(at, N, 1);
    migrate_pages(0, &all[..1], &all[1..2]).unwrap();
    all_on(at, N, all[1]);
    assert_eq!(policy(), (BIND, all[..1].to_vec()));
    assert_eq!(policy_at(at), (PREFERRED, all[..1].to_vec()));
}

fn moving_nothing_returns_zero() {
    let all = nodes();
    assert_eq!(migrate_pages(0, &[], &all), Ok(0));
    assert_eq!(migrate_pages(0, &all, &all), Ok(0));
}

fn nodes_that_are_not_there_are_refused() {
    let all = nodes();
    fails(migrate_pages(0, &all, &[]), EINVAL);
    fails(migrate_pages(0, &all, &[700]), EINVAL);
    assert_eq!(migrate_pages(0, &[700], &all), Ok(0));
}

fn a_target_without_memory_is_left_out() {
    let Some(bare) = online().into_iter().find(|node| !nodes().contains(node)) else {
        skip!("no node without memory here");
    };
    fails(migrate_pages(0, &nodes()[..1], &[bare]), EINVAL);
}

fn new_nodes_beyond_the_targets_need_privilege() {
    // Every node is allowed to every task here; without that, EPERM.
    crate::task::credentials::become_user(1234);
    let result = migrate_pages(0, &nodes(), &nodes());
    assert!(result == Ok(0) || result == Err(crate::sys::Errno(EPERM)), "{result:?}");
}

fn masks_that_cannot_be_read_are_efault() {
    let good = mask(&nodes());
    let at = good.as_ptr() as usize;
    fails(sys!(libc::SYS_migrate_pages, 0, MAXNODE, 8, at), EFAULT);
    fails(sys!(libc::SYS_migrate_pages, 0, MAXNODE, at, 8), EFAULT);
    fails(sys!(libc::SYS_migrate_pages, 0, 4096 * 8 + 2, at, at), EINVAL);
}

fn shared_memory_and_files_go_along() {
    let all = at_least(2);
    let (shared, file) = (map_shared(N), map_file(memfd(N), N, libc::MAP_SHARED));
    for at in [shared, file] {
        mbind(at, N, BIND, &all[..1], 0).unwrap();
        fill(at, N, 6);
    }
    migrate_pages(0, &all[..1], &all[1..2]).unwrap();
    for at in [shared, file] {
        all_on(at, N, all[1]);
        verify(at, N, 6);
    }
}

fn pages_mapped_twice_move_and_count_as_left_behind() {
    let all = at_least(2);
    // More pages than the kernel takes at a time, and fewer.
    for pages in [300, 3] {
        let fd = memfd(pages);
        let at = map_alone(2 * pages);
        for half in [at, at + pages * PAGE] {
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            mmap(half, pages * PAGE, prot, flags | libc::MAP_FIXED, fd, 0).unwrap();
        }
        mbind(at, pages, BIND, &all[..1], 0).unwrap();
        fill(at, pages, 1);
        verify(at + pages * PAGE, pages, 1);
        // Met at one address a page is taken; met again it cannot be.
        fails(mbind(at, 2 * pages, BIND, &all[1..2], MOVE_ALL | STRICT), EIO);
        all_on(at, 2 * pages, all[1]);
        // By itself each mapping shows the pages once.
        mbind(at, pages, BIND, &all[..1], MOVE_ALL | STRICT).unwrap();
        all_on(at + pages * PAGE, pages, all[0]);
        let left = migrate_pages(0, &all[..1], &all[1..2]).unwrap();
        assert!(left >= pages, "{left} of {pages} were met again");
        all_on(at, 2 * pages, all[1]);
        verify(at, pages, 1);
    }
}
