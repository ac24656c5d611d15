//! mbind(2) on pages that exist already: STRICT reports them, MOVE and MOVE_ALL bring them.

use libc::EIO;

use crate::child::{Steps, join, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    without_flags_pages_stay,
    strict_reports_misplaced_pages_and_sets_nothing,
    strict_is_content_with_pages_in_place,
    strict_sees_a_single_misplaced_page,
    strict_with_default_is_no_question,
    move_brings_the_pages_with_their_bytes,
    move_with_strict_succeeds_when_all_could_go,
    move_to_every_node_and_back,
    move_into_an_interleave_leaves_pages_that_are_on_any_of_its_nodes,
    move_into_an_interleave_from_outside_goes_round,
    move_touches_only_its_range,
    move_over_pieces_and_untouched_pages,
    pages_shared_after_fork_stay_and_strict_does_not_mind,
    move_all_brings_pages_shared_after_fork,
    shared_memory_of_one_process_moves,
    shared_memory_of_two_processes_needs_move_all,
    locked_pages_move,
    a_moved_read_only_page_stays_read_only,
    pages_beyond_reading_move_too,
    a_thousand_pages_move_in_one_call,
];

const N: usize = 16;

/// Pages on the first node, and another node.
fn misplaced() -> (usize, usize, usize) {
    let all = at_least(2);
    let at = map_alone(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    fill(at, N, 1);
    all_on(at, N, all[0]);
    (at, all[0], all[1])
}

fn without_flags_pages_stay() {
    let (at, old, new) = misplaced();
    mbind(at, N, BIND, &[new], 0).unwrap();
    all_on(at, N, old);
}

fn strict_reports_misplaced_pages_and_sets_nothing() {
    let (at, old, new) = misplaced();
    fails(mbind(at, N, BIND, &[new], STRICT), EIO);
    all_on(at, N, old);
    assert_eq!(policy_at(at), (BIND, vec![old]));
}

fn strict_is_content_with_pages_in_place() {
    let (at, old, new) = misplaced();
    assert_eq!(mbind(at, N, BIND, &[old], STRICT), Ok(0));
    assert_eq!(mbind(at, N, BIND, &[old, new], STRICT), Ok(0));
    let fresh = map(N);
    assert_eq!(mbind(fresh, N, BIND, &[new], STRICT), Ok(0));
}

fn strict_sees_a_single_misplaced_page() {
    let (at, old, new) = misplaced();
    send(at, N, new);
    send(at + 7 * PAGE, 1, old);
    fails(mbind(at, N, BIND, &[new], STRICT), EIO);
}

fn strict_with_default_is_no_question() {
    let (at, _, _) = misplaced();
    assert_eq!(mbind(at, N, DEFAULT, &[], STRICT), Ok(0));
}

fn move_brings_the_pages_with_their_bytes() {
    let (at, _, new) = misplaced();
    mbind(at, N, BIND, &[new], MOVE).unwrap();
    all_on(at, N, new);
    verify(at, N, 1);
    assert_eq!(policy_at(at), (BIND, vec![new]));
}

fn move_with_strict_succeeds_when_all_could_go() {
    let (at, _, new) = misplaced();
    assert_eq!(mbind(at, N, BIND, &[new], MOVE | STRICT), Ok(0));
    all_on(at, N, new);
    verify(at, N, 1);
}

fn move_to_every_node_and_back() {
    let (at, old, _) = misplaced();
    for node in nodes() {
        mbind(at, N, BIND, &[node], MOVE).unwrap();
        all_on(at, N, node);
        verify(at, N, 1);
    }
    mbind(at, N, PREFERRED, &[old], MOVE).unwrap();
    all_on(at, N, old);
}

fn move_into_an_interleave_leaves_pages_that_are_on_any_of_its_nodes() {
    let (at, old, new) = misplaced();
    mbind(at, N, INTERLEAVE, &[old, new], MOVE).unwrap();
    all_on(at, N, old);
}

fn move_into_an_interleave_from_outside_goes_round() {
    let all = at_least(3);
    let at = map_alone(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    fill(at, N, 1);
    let round = [all[1], all[2]];
    mbind(at, N, INTERLEAVE, &round, MOVE).unwrap();
    verify(at, N, 1);
    for (page, node) in nodes_at(at, N).into_iter().enumerate() {
        assert_eq!(node, round[(at / PAGE + page) % 2] as i32, "page {page}");
    }
}

fn move_touches_only_its_range() {
    let (at, old, new) = misplaced();
    mbind(at + 4 * PAGE, 8, BIND, &[new], MOVE).unwrap();
    all_on(at, 4, old);
    all_on(at + 4 * PAGE, 8, new);
    all_on(at + 12 * PAGE, 4, old);
    verify(at, N, 1);
}

fn move_over_pieces_and_untouched_pages() {
    let all = at_least(2);
    let at = map_alone(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    for page in [0, 3, 4, 9] {
        put(at + page * PAGE, 1);
    }
    mprotect(at + 3 * PAGE, 2, libc::PROT_READ).unwrap();
    mbind(at, N, BIND, &all[1..2], MOVE | STRICT).unwrap();
    for page in [0, 3, 4, 9] {
        all_on(at + page * PAGE, 1, all[1]);
    }
    let there = resident(at, N).unwrap().into_iter().filter(|page| *page).count();
    assert_eq!(there, 4, "moving makes no pages");
}

fn pages_shared_after_fork_stay_and_strict_does_not_mind() {
    let (at, old, new) = misplaced();
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    assert_eq!(mbind(at, N, BIND, &[new], MOVE | STRICT), Ok(0));
    all_on(at, N, old);
    fails(mbind(at, N, BIND, &[new], STRICT), EIO);
    assert_eq!(mbind(at, N, BIND, &[new], MOVE), Ok(0));
    all_on(at, N, old);
    steps.reach(1);
    assert_eq!(join(child), 0);
}

fn move_all_brings_pages_shared_after_fork() {
    let (at, _, new) = misplaced();
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        all_on(at, N, new);
        verify(at, N, 1);
        fill(at, N, 2);
    });
    assert_eq!(mbind(at, N, BIND, &[new], MOVE_ALL | STRICT), Ok(0));
    all_on(at, N, new);
    steps.reach(1);
    assert_eq!(join(child), 0);
    verify(at, N, 1);
}

fn shared_memory_of_one_process_moves() {
    let all = at_least(2);
    for at in [map_shared(N), map_file(memfd(N), N, libc::MAP_SHARED)] {
        mbind(at, N, BIND, &all[..1], 0).unwrap();
        fill(at, N, 1);
        mbind(at, N, BIND, &all[1..2], MOVE).unwrap();
        all_on(at, N, all[1]);
        verify(at, N, 1);
    }
}

fn shared_memory_of_two_processes_needs_move_all() {
    let all = at_least(2);
    let at = map_shared(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    fill(at, N, 1);
    let steps = Steps::new();
    let child = spawn(|| {
        read_each(at, N);
        steps.reach(1);
        steps.await_(2);
        all_on(at, N, all[1]);
        verify(at, N, 1);
    });
    steps.await_(1);
    assert_eq!(mbind(at, N, BIND, &all[1..2], MOVE | STRICT), Ok(0));
    all_on(at, N, all[0]);
    mbind(at, N, BIND, &all[1..2], MOVE_ALL | STRICT).unwrap();
    all_on(at, N, all[1]);
    steps.reach(2);
    assert_eq!(join(child), 0);
}

fn locked_pages_move() {
    let (at, _, new) = misplaced();
    crate::sys::sys!(libc::SYS_mlock, at, N * PAGE).unwrap();
    mbind(at, N, BIND, &[new], MOVE | STRICT).unwrap();
    all_on(at, N, new);
    verify(at, N, 1);
    assert_eq!(resident(at, N).unwrap(), [true; N]);
}

fn a_moved_read_only_page_stays_read_only() {
    let (at, _, new) = misplaced();
    mprotect(at, N, libc::PROT_READ).unwrap();
    mbind(at, N, BIND, &[new], MOVE).unwrap();
    all_on(at, N, new);
    let result = crate::fault::try_write(at, 9);
    crate::fault::segv(result, crate::fault::ACCERR, at);
    verify(at, N, 1);
}

fn pages_beyond_reading_move_too() {
    let (at, _, new) = misplaced();
    mprotect(at, N, libc::PROT_NONE).unwrap();
    mbind(at, N, BIND, &[new], MOVE).unwrap();
    mprotect(at, N, RW).unwrap();
    all_on(at, N, new);
    verify(at, N, 1);
}

fn a_thousand_pages_move_in_one_call() {
    let all = at_least(2);
    let at = map_alone(1000);
    mbind(at, 1000, BIND, &all[..1], 0).unwrap();
    fill(at, 1000, 3);
    let before = vmstat("pgmigrate_success");
    mbind(at, 1000, BIND, &all[1..2], MOVE | STRICT).unwrap();
    let moved = vmstat("pgmigrate_success") - before;
    all_on(at, 1000, all[1]);
    verify(at, 1000, 3);
    assert!((1000..1100).contains(&moved), "{moved} migrations counted");
}
