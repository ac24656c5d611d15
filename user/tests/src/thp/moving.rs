//! Huge pages that move: whole where there is room for them, in parts where there is not.

use libc::{EACCES, EBUSY};

use super::*;
use crate::child::{Steps, join, spawn};
use crate::harness::{skip, tests};
use crate::memory::{fill, get, madvise, munmap, put, verify};
use crate::numa::{
    BIND, INTERLEAVE, MOVE, MOVE_ALL, all_on, at_least, mbind, migrate_pages, move_pages, node_at,
    vmstat,
};

pub const TESTS: &[Test] = tests![
    mbind_moves_it_whole,
    an_address_in_the_middle_means_all_of_it,
    it_moves_once_in_a_call,
    migrate_pages_takes_it_along,
    interleave_spreads_what_is_there,
    a_shared_one_moves_with_all_who_map_it,
    a_copied_one_moves_in_parts,
    what_was_split_moves_by_the_page,
    for_which_there_is_no_block_it_moves_in_parts,
    moving_does_not_disturb_who_writes,
    who_moves_it_all_the_time_keeps_nobody_from_it,
];

/// Huge pages with contents on a node.
#[track_caller]
fn on_node(pages: usize, node: usize, seed: u64) -> usize {
    let at = map(pages);
    mbind(at, pages * PAGES, BIND, &[node], 0).unwrap();
    fill(at, pages * PAGES, seed);
    if huge_kib(at) != pages as u64 * KIB {
        skip!("too few huge pages are free on node {node}");
    }
    mbind(at, pages * PAGES, crate::numa::DEFAULT, &[], 0).unwrap();
    at
}

fn mbind_moves_it_whole() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(2, nodes[0], 1);
    let before = ["pgmigrate_success", "thp_migration_success"].map(vmstat);
    mbind(at, 2 * PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    all_on(at, 2 * PAGES, nodes[1]);
    assert_eq!(huge_kib(at), 2 * KIB);
    let now = ["pgmigrate_success", "thp_migration_success"].map(vmstat);
    assert!(
        now[0] - before[0] >= 2 * PAGES as u64 && now[1] - before[1] >= 2,
        "{before:?} {now:?}"
    );
    verify(at, 2 * PAGES, 1);
    put(at, 1);
    munmap(at, 2 * PAGES).unwrap();
}

fn an_address_in_the_middle_means_all_of_it() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(1, nodes[0], 2);
    let (middle, to) = (at + 77 * PAGE, nodes[1] as i32);
    assert_eq!(move_pages(0, &[at, middle], None, 0).unwrap().1, [nodes[0] as i32; 2]);
    assert_eq!(move_pages(0, &[middle], Some(&[to]), MOVE), Ok((0, vec![to])));
    all_on(at, PAGES, nodes[1]);
    assert_eq!(crate::numa::node_by_policy(at + 5 * PAGE), to);
    assert_eq!(huge_kib(at), KIB);
    verify(at, PAGES, 2);
}

fn it_moves_once_in_a_call() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(2, nodes[0], 3);
    let to = nodes[1] as i32;
    let asked = [at, at + PAGE, at + HUGE, at + 2 * PAGE];
    let (left, status) = move_pages(0, &asked, Some(&[to; 4]), MOVE).unwrap();
    assert_eq!((left, status), (0, vec![to, -EBUSY, to, to]));
    all_on(at, 2 * PAGES, nodes[1]);
    verify(at, 2 * PAGES, 3);
}

fn migrate_pages_takes_it_along() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(3, nodes[0], 4);
    migrate_pages(0, &nodes[..1], &nodes[1..2]).unwrap();
    all_on(at, 3 * PAGES, nodes[1]);
    assert_eq!(huge_kib(at), 3 * KIB);
    verify(at, 3 * PAGES, 4);
}

fn interleave_spreads_what_is_there() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(4, nodes[0], 5);
    // The nodes that are named have the pages already, so those stay.
    mbind(at, 4 * PAGES, INTERLEAVE, &nodes, MOVE).unwrap();
    all_on(at, 4 * PAGES, nodes[0]);
    if nodes.len() > 2 {
        mbind(at, 4 * PAGES, INTERLEAVE, &nodes[1..3], MOVE).unwrap();
        let expected = |page: usize| nodes[1 + (at / HUGE + page) % 2] as i32;
        let expected: Vec<i32> = (0..4).map(expected).collect();
        assert_eq!(where_are(at, 4), expected);
        assert_eq!(huge_kib(at), 4 * KIB);
    }
    verify(at, 4 * PAGES, 5);
}

fn a_shared_one_moves_with_all_who_map_it() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(1, nodes[0], 6);
    let steps = Steps::new();
    let child = spawn(|| {
        steps.reach(1);
        steps.await_(2);
        all_on(at, PAGES, nodes[1]);
        assert_eq!(huge_kib(at), KIB);
        verify(at, PAGES, 6);
        put(at, 1);
    });
    steps.await_(1);
    let to = nodes[1] as i32;
    assert_eq!(move_pages(0, &[at], Some(&[to]), MOVE), Ok((0, vec![-EACCES])));
    mbind(at, PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    all_on(at, PAGES, nodes[0]);
    assert_eq!(move_pages(0, &[at + PAGE], Some(&[to]), MOVE_ALL), Ok((0, vec![to])));
    all_on(at, PAGES, nodes[1]);
    assert_eq!(huge_kib(at), KIB);
    steps.reach(2);
    assert_eq!(join(child), 0);
    verify(at, PAGES, 6);
}

fn a_copied_one_moves_in_parts() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(1, nodes[0], 7);
    let steps = Steps::new();
    let child = spawn(|| {
        put(at + 5 * PAGE, !get(at + 5 * PAGE));
        steps.reach(1);
        steps.await_(2);
        let mut found = crate::numa::nodes_at(at, PAGES);
        found.remove(5);
        assert!(found.iter().all(|node| *node == nodes[1] as i32), "{found:?}");
        verify(at, 5, 7);
    });
    steps.await_(1);
    mbind(at, PAGES, BIND, &nodes[1..2], MOVE_ALL).unwrap();
    all_on(at, PAGES, nodes[1]);
    steps.reach(2);
    assert_eq!(join(child), 0);
    verify(at, PAGES, 7);
    put(at, 1);
}

fn what_was_split_moves_by_the_page() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(1, nodes[0], 8);
    madvise(at + 100 * PAGE, 100, libc::MADV_DONTNEED).unwrap();
    mbind(at, PAGES, BIND, &nodes[1..2], MOVE).unwrap();
    all_on(at, 100, nodes[1]);
    all_on(at + 200 * PAGE, PAGES - 200, nodes[1]);
    assert_eq!(smaps(at, ["Rss"]), [KIB - 400]);
    verify(at, 100, 8);
    put(at + 150 * PAGE, 1);
    assert_eq!(node_at(at + 150 * PAGE), nodes[1] as i32);
}

fn for_which_there_is_no_block_it_moves_in_parts() {
    use crate::hugetlb::{Pool, of_node, write};
    let _settings = Settings::always();
    let nodes = at_least(2);
    let (from, to) = (nodes[0], nodes[1]);
    let at = on_node(1, from, 9);
    let _pool = Pool::of(&[]);
    // All that could be a huge page there is in the pool; what is left are single pages, and few.
    write(&of_node(to, "nr"), crate::numa::meminfo(to, "MemTotal") / KIB);
    let split = vmstat("thp_migration_split");
    // Whether all of it found room is another question.
    let _moved = mbind(at, PAGES, BIND, &[to], MOVE);
    let on: Vec<usize> =
        crate::numa::nodes_at(at, PAGES).into_iter().map(|node| node as usize).collect();
    let there = on.iter().filter(|node| **node == to).count();
    assert!(on.iter().all(|node| [from, to].contains(node)), "{on:?}");
    verify(at, PAGES, 9);
    if vmstat("thp_migration_split") == split {
        assert_eq!((there, huge_kib(at)), (0, KIB));
        skip!("nothing was moved");
    }
    assert_eq!(huge_kib(at), 0);
    // Linux has nothing left there, or does not give it.
    assert!(there > 0 || !crate::harness::on_proxima(), "{there} pages");
}

fn moving_does_not_disturb_who_writes() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(2, nodes[0], 9);
    let done = crate::memory::map_shared(1);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let mut count = 0u8;
                while get(done) == 0 {
                    for page in (thread..2 * PAGES).step_by(97) {
                        put(at + page * PAGE + thread, count);
                        assert_eq!(get(at + page * PAGE + thread), count, "page {page}");
                    }
                    count = count.wrapping_add(1);
                }
            });
        }
        for round in 0..20 {
            let node = nodes[(round + 1) % 2];
            mbind(at, 2 * PAGES, BIND, &[node], MOVE).unwrap();
            all_on(at, 2 * PAGES, node);
        }
        put(done, 1);
    });
    assert_eq!(huge_kib(at), 2 * KIB);
}

fn who_moves_it_all_the_time_keeps_nobody_from_it() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let _settings = Settings::always();
    let nodes = at_least(2);
    let at = on_node(1, nodes[0], 9);
    let (moves, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each has come through between other moves than the one before.
            let mut last = 0;
            while done.load(SeqCst) < 20 {
                put(at + 5 * PAGE, 1);
                let now = moves.load(SeqCst);
                if now != last {
                    last = now;
                    done.fetch_add(1, SeqCst);
                }
            }
        });
        while done.load(SeqCst) < 20 {
            let to = nodes[moves.fetch_add(1, SeqCst) % 2];
            let _moved = move_pages(0, &[at], Some(&[to as i32]), MOVE);
        }
    });
}
