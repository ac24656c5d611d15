//! Huge pages that move: whole, into the target's pool, with the pools' sizes as on Linux.

use libc::{EBUSY, ENOENT};

use super::*;
use crate::child::{Steps, join, spawn};
use crate::harness::tests;
use crate::memory::{fill, get, put, verify};
use crate::numa::{
    BIND, INTERLEAVE, MOVE, MOVE_ALL, at_least, mbind, migrate_pages, move_pages, set_mempolicy,
    vmstat,
};

pub const TESTS: &[Test] = tests![
    mbind_moves_huge_pages_with_their_contents,
    an_address_in_the_middle_means_the_huge_page,
    a_huge_page_moves_once_in_a_call,
    a_page_goes_into_a_free_one_of_the_target,
    without_a_free_page_the_pools_size_moves_along,
    reserved_pages_are_not_moved_into,
    surplus_moves_along,
    migrate_pages_takes_huge_pages_too,
    shared_pages_move_with_all_who_map_them,
    interleave_spreads_pages_that_are_there,
    moving_does_not_disturb_who_writes,
];

fn bound(at: usize, pages: usize, nodes: &[usize]) {
    mbind(at, pages * PAGES, BIND, nodes, 0).unwrap();
}

fn mbind_moves_huge_pages_with_their_contents() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    for flags in [PRIVATE, SHARED] {
        let at = map(2, flags);
        bound(at, 2, &nodes[..1]);
        fill(at, 2 * PAGES, 5);
        let before = vmstat("pgmigrate_success");
        mbind(at, 2 * PAGES, BIND, &nodes[1..2], MOVE).unwrap();
        assert_eq!(where_are(at, 2), [nodes[1] as i32; 2]);
        assert!(vmstat("pgmigrate_success") - before >= 2 * PAGES as u64);
        verify(at, 2 * PAGES, 5);
        put(at, 1);
        unmap(at, 2);
        assert_eq!(counts(), [4, 4, 0, 0]);
        assert_eq!(counts_on(nodes[0]), [2, 2, 0]);
    }
}

fn an_address_in_the_middle_means_the_huge_page() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[1, 1]);
    let at = map(1, PRIVATE);
    let middle = at + 77 * PAGE;
    assert_eq!(move_pages(0, &[middle], None, 0).unwrap().1, [-ENOENT]);
    bound(at, 1, &nodes[..1]);
    touch(at, 1);
    assert_eq!(move_pages(0, &[at, middle], None, 0).unwrap().1, [nodes[0] as i32; 2]);
    let to = nodes[1] as i32;
    assert_eq!(move_pages(0, &[middle], Some(&[to]), MOVE), Ok((0, vec![to])));
    assert_eq!(where_are(at, 1), [to]);
    assert_eq!(crate::numa::node_by_policy(at + 5 * PAGE), to);
    assert_eq!(get(at), 1);
    unmap(at, 1);
}

fn a_huge_page_moves_once_in_a_call() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let at = map(2, PRIVATE);
    bound(at, 2, &nodes[..1]);
    touch(at, 2);
    let to = nodes[1] as i32;
    let asked = [at, at + PAGE, at + HUGE, at + 2 * PAGE];
    let (left, status) = move_pages(0, &asked, Some(&[to; 4]), MOVE).unwrap();
    assert_eq!((left, status), (0, vec![to, -EBUSY, to, to]));
    unmap(at, 2);
}

fn a_page_goes_into_a_free_one_of_the_target() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 1]);
    let at = map(1, PRIVATE);
    bound(at, 1, &nodes[..1]);
    touch(at, 1);
    mbind(at, PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    assert_eq!(counts_on(nodes[0]), [2, 2, 0]);
    assert_eq!(counts_on(nodes[1]), [1, 0, 0]);
    unmap(at, 1);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn without_a_free_page_the_pools_size_moves_along() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 0]);
    let at = map(1, PRIVATE);
    touch(at, 1);
    mbind(at, PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    assert_eq!(where_are(at, 1), [nodes[1] as i32]);
    assert_eq!(counts_on(nodes[0]), [1, 1, 0]);
    assert_eq!(counts_on(nodes[1]), [1, 0, 0]);
    unmap(at, 1);
    assert_eq!(counts_on(nodes[1]), [1, 1, 0]);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn reserved_pages_are_not_moved_into() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[1, 1]);
    let at = map(1, PRIVATE);
    bound(at, 1, &nodes[..1]);
    touch(at, 1);
    // The only free page is on the target, and promised.
    let other = map(1, PRIVATE);
    assert_eq!(counts(), [2, 1, 1, 0]);
    mbind(at, PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    assert_eq!(where_are(at, 1), [nodes[1] as i32]);
    assert_eq!(counts_on(nodes[0]), [0, 0, 0]);
    assert_eq!(counts_on(nodes[1]), [2, 1, 0]);
    unmap(other, 1);
    unmap(at, 1);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn surplus_moves_along() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[]);
    write(&of_all("nr_overcommit"), 1);
    let at = map(1, PRIVATE);
    touch(at, 1);
    let from = where_are(at, 1)[0] as usize;
    let to = *nodes.iter().find(|node| **node != from).unwrap();
    assert_eq!(counts_on(from), [1, 0, 1]);
    mbind(at, PAGES, BIND, &[to], MOVE).unwrap();
    assert_eq!(counts_on(from), [0, 0, 0]);
    assert_eq!(counts_on(to), [1, 0, 1]);
    unmap(at, 1);
    assert_eq!(counts(), [0, 0, 0, 0]);
}

fn migrate_pages_takes_huge_pages_too() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let at = map(2, PRIVATE);
    set_mempolicy(BIND, &nodes[..1]).unwrap();
    fill(at, 2 * PAGES, 3);
    set_mempolicy(crate::numa::DEFAULT, &[]).unwrap();
    migrate_pages(0, &nodes[..1], &nodes[1..2]).unwrap();
    assert_eq!(where_are(at, 2), [nodes[1] as i32; 2]);
    verify(at, 2 * PAGES, 3);
    unmap(at, 2);
}

fn shared_pages_move_with_all_who_map_them() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let (private, shared) = (map(1, PRIVATE), map(1, SHARED));
    bound(private, 1, &nodes[..1]);
    bound(shared, 1, &nodes[..1]);
    fill(private, PAGES, 1);
    fill(shared, PAGES, 2);
    let steps = Steps::new();
    let pid = spawn(|| {
        verify(shared, PAGES, 2);
        steps.reach(1);
        steps.await_(2);
        for at in [private, shared] {
            assert_eq!(where_are(at, 1), [nodes[1] as i32]);
        }
        verify(private, PAGES, 1);
        verify(shared, PAGES, 2);
        put(shared, 99);
    });
    steps.await_(1);
    for at in [private, shared] {
        // Pages of several processes stay without MOVE_ALL.
        mbind(at, PAGES, BIND, &nodes[1..2], MOVE).unwrap();
        assert_eq!(where_are(at, 1), [nodes[0] as i32]);
        mbind(at, PAGES, BIND, &nodes[1..2], MOVE_ALL).unwrap();
        assert_eq!(where_are(at, 1), [nodes[1] as i32]);
    }
    steps.reach(2);
    assert_eq!(join(pid), 0);
    assert_eq!(get(shared), 99);
    verify(private, PAGES, 1);
    unmap(private, 1);
    unmap(shared, 1);
    assert_eq!(counts(), [4, 4, 0, 0]);
}

fn interleave_spreads_pages_that_are_there() {
    let nodes = at_least(3);
    let _pool = Pool::of(&[4, 4, 4]);
    let at = map(4, PRIVATE);
    bound(at, 4, &nodes[..1]);
    touch(at, 4);
    mbind(at, 4 * PAGES, INTERLEAVE, &nodes[1..3], MOVE).unwrap();
    let found = where_are(at, 4);
    let turns: Vec<i32> = (0..4).map(|page| nodes[1 + page % 2] as i32).collect();
    assert_eq!(found, turns);
    unmap(at, 4);
}

fn moving_does_not_disturb_who_writes() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let at = map(2, PRIVATE);
    touch(at, 2);
    let stop = Steps::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..30 {
                let to = nodes[round % 2];
                mbind(at, 2 * PAGES, BIND, &[to], MOVE).unwrap();
                assert_eq!(where_are(at, 2), [to as i32; 2]);
            }
            stop.reach(1);
        });
        let mut count = 0u64;
        while stop.now() == 0 {
            for word in [at + 8, at + HUGE + 16 * PAGE] {
                assert_eq!(crate::memory::get64(word), count);
                crate::memory::put64(word, count + 1);
            }
            count += 1;
        }
    });
    unmap(at, 2);
    assert_eq!(counts(), [4, 4, 0, 0]);
}
