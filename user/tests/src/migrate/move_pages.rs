//! move_pages(2) on one's own pages: questions, moves, and the status of each page.

use libc::{EFAULT, EINVAL, ENODEV, ENOENT};

use crate::harness::{Test, skip, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    a_question_tells_each_pages_node,
    a_question_takes_any_address_within_a_page,
    a_page_that_is_not_there_is_enoent,
    the_zero_page_is_efault,
    an_address_without_a_mapping_is_efault,
    moved_pages_are_there_with_their_bytes,
    pages_go_each_to_its_own_node,
    a_page_already_there_stays_and_is_told_so,
    pages_move_round_all_nodes,
    pages_not_there_are_not_made_by_moving,
    the_zero_page_does_not_move,
    an_unmapped_page_among_others_is_told_and_the_rest_moves,
    a_page_named_again_while_it_waits_for_its_move_is_ebusy,
    a_page_named_twice_with_two_targets_ends_on_one_of_them,
    a_node_that_does_not_exist_is_enodev,
    a_node_without_memory_is_enodev,
    bad_arguments_are_refused,
    no_flag_is_as_good_as_move,
    ten_thousand_pages_in_one_call,
    an_array_cut_by_a_hole_is_efault,
    a_policy_is_not_changed_by_moving,
    rights_and_locks_survive_the_move,
    shared_and_file_pages_move,
    successes_are_counted,
    the_counters_of_memory_follow_the_pages,
];

fn two() -> (usize, usize) {
    let all = at_least(2);
    (all[0], all[1])
}

/// Pages on a node, filled.
fn placed(pages: usize, node: usize) -> usize {
    let at = map_alone(pages);
    mbind(at, pages, BIND, &[node], 0).unwrap();
    fill(at, pages, 1);
    mbind(at, pages, DEFAULT, &[], 0).unwrap();
    all_on(at, pages, node);
    at
}

/// Moves pages each to its node; the result and statuses.
fn to(pages: &[usize], nodes: &[usize]) -> crate::sys::Result<(usize, Vec<i32>)> {
    let targets: Vec<i32> = nodes.iter().map(|node| *node as i32).collect();
    move_pages(0, pages, Some(&targets), MOVE)
}

fn a_question_tells_each_pages_node() {
    let all = nodes();
    let at = map_alone(32);
    for page in 0..32 {
        mbind(at + page * PAGE, 1, BIND, &[all[page % all.len()]], 0).unwrap();
    }
    touch(at, 32);
    let (left, status) = move_pages(0, &addresses(at, 32), None, 0).unwrap();
    assert_eq!(left, 0);
    for (page, node) in status.into_iter().enumerate() {
        assert_eq!(node, all[page % all.len()] as i32, "page {page}");
    }
}

fn a_question_takes_any_address_within_a_page() {
    let (node, _) = two();
    let at = placed(1, node);
    let (_, status) = move_pages(0, &[at, at + 1, at + 4095], None, 0).unwrap();
    assert_eq!(status, [node as i32; 3]);
}

fn a_page_that_is_not_there_is_enoent() {
    let at = map_alone(3);
    put(at, 1);
    let (_, status) = move_pages(0, &addresses(at, 3), None, 0).unwrap();
    assert!(status[0] >= 0);
    assert_eq!(status[1..], [-ENOENT, -ENOENT]);
    assert_eq!(resident(at, 3).unwrap(), [true, false, false], "asking makes no pages");
}

fn the_zero_page_is_efault() {
    let at = map_alone(1);
    read_each(at, 1);
    assert_eq!(nodes_at(at, 1), [-EFAULT]);
}

fn an_address_without_a_mapping_is_efault() {
    let at = map(2);
    munmap(at, 2).unwrap();
    assert_eq!(nodes_at(at, 2), [-EFAULT, -EFAULT]);
    let (_, status) = move_pages(0, &[0, 1 << 46, 0xffff_8000_0000_0000], None, 0).unwrap();
    assert_eq!(status, [-EFAULT; 3]);
}

fn moved_pages_are_there_with_their_bytes() {
    let (one, other) = two();
    let at = placed(16, one);
    let (left, status) = to(&addresses(at, 16), &[other; 16]).unwrap();
    assert_eq!((left, status), (0, vec![other as i32; 16]));
    all_on(at, 16, other);
    verify(at, 16, 1);
    fill(at, 16, 2);
    verify(at, 16, 2);
}

fn pages_go_each_to_its_own_node() {
    let all = at_least(2);
    let at = placed(40, all[0]);
    let targets: Vec<usize> = (0..40).map(|page| all[page * 3 % all.len()]).collect();
    to(&addresses(at, 40), &targets).unwrap();
    let found = nodes_at(at, 40);
    for page in 0..40 {
        assert_eq!(found[page], targets[page] as i32, "page {page}");
    }
    verify(at, 40, 1);
}

fn a_page_already_there_stays_and_is_told_so() {
    let (one, other) = two();
    let at = placed(4, one);
    let (left, status) = to(&addresses(at, 4), &[one, other, one, other]).unwrap();
    assert_eq!((left, status), (0, [one, other, one, other].map(|n| n as i32).to_vec()));
    verify(at, 4, 1);
}

fn pages_move_round_all_nodes() {
    let all = at_least(2);
    let at = placed(8, all[0]);
    for round in 1..=2 * all.len() {
        let node = all[round % all.len()];
        send(at, 8, node);
        verify(at, 8, 1);
    }
}

fn pages_not_there_are_not_made_by_moving() {
    let (one, other) = two();
    let at = map_alone(3);
    mbind(at, 3, BIND, &[one], 0).unwrap();
    put(at + PAGE, 7);
    let (_, status) = to(&addresses(at, 3), &[other; 3]).unwrap();
    assert_eq!(status, [-ENOENT, other as i32, -ENOENT]);
    assert_eq!(resident(at, 3).unwrap(), [false, true, false]);
    assert_eq!(get(at + PAGE), 7);
}

fn the_zero_page_does_not_move() {
    let (_, other) = two();
    let at = map_alone(1);
    read_each(at, 1);
    let (_, status) = to(&[at], &[other]).unwrap();
    assert_eq!(status, [-EFAULT]);
    assert_eq!(get(at), 0);
}

fn an_unmapped_page_among_others_is_told_and_the_rest_moves() {
    let (one, other) = two();
    let at = placed(4, one);
    munmap(at + PAGE, 1).unwrap();
    let (_, status) = to(&addresses(at, 4), &[other; 4]).unwrap();
    let there = other as i32;
    assert_eq!(status, [there, -EFAULT, there, there]);
    all_on(at + 2 * PAGE, 2, other);
}

fn a_page_named_again_while_it_waits_for_its_move_is_ebusy() {
    let (one, other) = two();
    let at = placed(2, one);
    let pages = [at, at, at + PAGE, at + 8];
    let (_, status) = to(&pages, &[other; 4]).unwrap();
    // The second is told so and starts the batch; the fourth finds the page moved.
    let there = other as i32;
    assert_eq!(status, [there, -libc::EBUSY, there, there]);
    // However many wait: more than the kernel takes at a time.
    const MANY: usize = 300;
    let at = placed(MANY, one);
    let mut pages = addresses(at, MANY);
    pages.extend([at, at]);
    let (_, status) = to(&pages, &[other; MANY + 2]).unwrap();
    assert!(status[..MANY].iter().all(|node| *node == there));
    assert_eq!(status[MANY..], [-libc::EBUSY, there]);
    all_on(at, 2, other);
    verify(at, 2, 1);
}

fn a_page_named_twice_with_two_targets_ends_on_one_of_them() {
    let (one, other) = two();
    let at = placed(1, one);
    to(&[at, at], &[other, one]).unwrap();
    let node = node_at(at);
    assert!(node == one as i32 || node == other as i32);
    verify(at, 1, 1);
}

fn a_node_that_does_not_exist_is_enodev() {
    let (one, other) = two();
    let at = placed(3, one);
    for wrong in [-1, 700, 5000, i32::MAX] {
        let targets = [other as i32, wrong, other as i32];
        fails(move_pages(0, &addresses(at, 3), Some(&targets), MOVE), ENODEV);
        verify(at, 3, 1);
    }
}

fn a_node_without_memory_is_enodev() {
    let Some(bare) = online().into_iter().find(|node| !nodes().contains(node)) else {
        skip!("no node without memory here");
    };
    let at = placed(1, nodes()[0]);
    fails(move_pages(0, &[at], Some(&[bare as i32]), MOVE), ENODEV);
}

fn bad_arguments_are_refused() {
    let (one, _) = two();
    let at = placed(1, one);
    for flags in [1, 8, -1] {
        fails(move_pages(0, &[at], Some(&[one as i32]), flags), EINVAL);
    }
    let page = [at];
    let (pages, mut status) = (page.as_ptr(), [0i32; 1]);
    let out = status.as_mut_ptr();
    fails(sys!(libc::SYS_move_pages, 0, 1, 8, 0, out, 0), EFAULT);
    fails(sys!(libc::SYS_move_pages, 0, 1, pages, 8, out, MOVE), EFAULT);
    fails(sys!(libc::SYS_move_pages, 0, 1, pages, 0, 8, 0), EFAULT);
    assert_eq!(sys!(libc::SYS_move_pages, 0, 0, 0, 0, 0, 0), Ok(0));
}

fn no_flag_is_as_good_as_move() {
    let (one, other) = two();
    let at = placed(2, one);
    move_pages(0, &addresses(at, 2), Some(&[other as i32; 2]), 0).unwrap();
    all_on(at, 2, other);
}

fn ten_thousand_pages_in_one_call() {
    const PAGES: usize = 2500;
    let all = at_least(2);
    let at = map_alone(PAGES);
    mbind(at, PAGES, INTERLEAVE, &all, 0).unwrap();
    for page in 0..PAGES {
        put64(at + page * PAGE, page as u64 ^ 0x5555);
    }
    // Each page is named four times, the last time with where it shall be.
    let pages: Vec<usize> = (0..4).flat_map(|_| addresses(at, PAGES)).collect();
    let (_, before) = move_pages(0, &pages, None, 0).unwrap();
    assert_eq!(before[..PAGES], before[3 * PAGES..]);
    let targets: Vec<i32> = (0..4 * PAGES).map(|i| all[i % PAGES % 7 % all.len()] as i32).collect();
    let (_, status) = move_pages(0, &pages, Some(&targets), MOVE).unwrap();
    assert_eq!(status, targets);
    assert_eq!(nodes_at(at, PAGES), targets[..PAGES]);
    for page in 0..PAGES {
        assert_eq!(get64(at + page * PAGE), page as u64 ^ 0x5555, "page {page}");
    }
}

fn an_array_cut_by_a_hole_is_efault() {
    let (one, _) = two();
    let at = placed(1, one);
    let array = map(2);
    munmap(array + PAGE, 1).unwrap();
    for i in 0..512 {
        put64(array + i * 8, at as u64);
    }
    let mut status = [0i32; 600];
    fails(sys!(libc::SYS_move_pages, 0, 600, array, 0, status.as_mut_ptr(), 0), EFAULT);
}

fn a_policy_is_not_changed_by_moving() {
    let (one, other) = two();
    let at = placed(2, one);
    mbind(at, 2, BIND, &[one], 0).unwrap();
    send(at, 2, other);
    assert_eq!(policy_at(at), (BIND, vec![one]));
    madvise(at, 2, libc::MADV_DONTNEED).unwrap();
    touch(at, 2);
    all_on(at, 2, one);
}

fn rights_and_locks_survive_the_move() {
    let (one, other) = two();
    let at = placed(4, one);
    sys!(libc::SYS_mlock, at, 2 * PAGE).unwrap();
    mprotect(at + 2 * PAGE, 2, libc::PROT_READ).unwrap();
    send(at, 4, other);
    verify(at, 4, 1);
    put(at, 1);
    assert!(crate::fault::try_write(at + 2 * PAGE, 1).is_err());
    let locked = crate::signal::status_field("VmLck").unwrap();
    assert_eq!(locked.trim_end_matches("kB").trim(), "8");
}

fn shared_and_file_pages_move() {
    let (one, other) = two();
    let fd = memfd(8);
    for at in [map_shared(8), map_file(fd, 8, libc::MAP_SHARED)] {
        mbind(at, 8, BIND, &[one], 0).unwrap();
        fill(at, 8, 4);
        send(at, 8, other);
        verify(at, 8, 4);
    }
    let mut bytes = [0u8; 8];
    assert_eq!(sys!(libc::SYS_pread64, fd, bytes.as_mut_ptr(), 8, 0), Ok(8));
    assert_ne!(bytes, [0; 8]);
}

fn successes_are_counted() {
    let (one, other) = two();
    let at = placed(100, one);
    let before = vmstat("pgmigrate_success");
    send(at, 100, other);
    let moved = vmstat("pgmigrate_success") - before;
    assert!((100..110).contains(&moved), "{moved}");
}

fn the_counters_of_memory_follow_the_pages() {
    const PAGES: usize = 2048;
    let (one, other) = two();
    let at = placed(PAGES, one);
    let count = |node: usize| meminfo(node, "AnonPages") as i64 / 4;
    let (from, to) = (count(one), count(other));
    send(at, PAGES, other);
    let (gone, come) = (from - count(one), count(other) - to);
    for moved in [gone, come] {
        assert!((moved - PAGES as i64).abs() < 512, "{gone} gone, {come} come");
    }
}
