//! Policies of ranges when mappings split, merge, move, grow and come anew.

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;

pub const TESTS: &[Test] = tests![
    a_policy_in_the_middle_splits_and_keeps_to_its_range,
    neighbours_of_one_policy_become_one_mapping,
    a_policy_over_several_mappings_reaches_all,
    overlapping_policies_the_later_one_holds,
    a_policy_stays_over_mprotect,
    a_policy_stays_on_both_sides_of_a_hole,
    memory_mapped_anew_has_no_policy,
    a_moved_mapping_takes_its_policy_along,
    a_grown_mapping_has_its_policy_all_over,
    interleaving_goes_on_over_a_moved_mapping,
    interleaving_is_not_changed_by_a_split,
    growing_the_stack_keeps_the_tasks_policy,
    a_policy_on_part_of_the_stack_holds_there,
    a_thousand_pieces_each_keep_their_policy,
    a_thousand_untouched_pieces_become_one_again,
];

fn first_and_last() -> (usize, usize) {
    let all = at_least(2);
    (all[0], *all.last().unwrap())
}

/// The mapping's pieces as numa_maps shows them: how many begin inside.
fn pieces(at: usize, pages: usize) -> usize {
    (0..pages).filter(|page| numa_maps_line(at + page * PAGE).is_some()).count()
}

fn a_policy_in_the_middle_splits_and_keeps_to_its_range() {
    let (_, node) = first_and_last();
    let at = map_alone(9);
    mbind(at + 3 * PAGE, 3, BIND, &[node], 0).unwrap();
    for page in 0..9 {
        let expected = if (3..6).contains(&page) { (BIND, vec![node]) } else { (DEFAULT, vec![]) };
        assert_eq!(policy_at(at + page * PAGE), expected, "page {page}");
    }
    touch(at + 3 * PAGE, 3);
    all_on(at + 3 * PAGE, 3, node);
    assert_eq!(pieces(at, 9), 3);
}

fn neighbours_of_one_policy_become_one_mapping() {
    let (node, _) = first_and_last();
    let at = map_alone(9);
    for third in [0, 6, 3] {
        mbind(at + third * PAGE, 3, BIND, &[node], 0).unwrap();
    }
    assert_eq!(pieces(at, 9), 1);
    mbind(at + 3 * PAGE, 3, PREFERRED, &[node], 0).unwrap();
    assert_eq!(pieces(at, 9), 3);
    mbind(at + 3 * PAGE, 3, BIND, &[node], 0).unwrap();
    assert_eq!(pieces(at, 9), 1);
}

fn a_policy_over_several_mappings_reaches_all() {
    let (_, node) = first_and_last();
    let at = map_alone(8);
    mprotect(at + 2 * PAGE, 2, libc::PROT_READ).unwrap();
    mbind(at + PAGE, 6, BIND, &[node], 0).unwrap();
    let expected = [DEFAULT, BIND, BIND, BIND, BIND, BIND, BIND, DEFAULT];
    for (page, mode) in expected.into_iter().enumerate() {
        assert_eq!(policy_at(at + page * PAGE).0, mode, "page {page}");
    }
    mprotect(at + 2 * PAGE, 2, RW).unwrap();
    touch(at + PAGE, 6);
    all_on(at + PAGE, 6, node);
}

fn overlapping_policies_the_later_one_holds() {
    let (one, two) = first_and_last();
    let at = map_alone(8);
    mbind(at, 6, BIND, &[one], 0).unwrap();
    mbind(at + 4 * PAGE, 4, BIND, &[two], 0).unwrap();
    touch(at, 8);
    all_on(at, 4, one);
    all_on(at + 4 * PAGE, 4, two);
}

fn a_policy_stays_over_mprotect() {
    let (_, node) = first_and_last();
    let at = map_alone(6);
    mbind(at, 6, BIND, &[node], 0).unwrap();
    mprotect(at + 2 * PAGE, 2, libc::PROT_NONE).unwrap();
    mprotect(at + 2 * PAGE, 2, RW).unwrap();
    touch(at, 6);
    all_on(at, 6, node);
    assert_eq!(pieces(at, 6), 1);
}

fn a_policy_stays_on_both_sides_of_a_hole() {
    let (_, node) = first_and_last();
    let at = map_alone(6);
    mbind(at, 6, BIND, &[node], 0).unwrap();
    munmap(at + 2 * PAGE, 2).unwrap();
    touch(at, 2);
    touch(at + 4 * PAGE, 2);
    all_on(at, 2, node);
    all_on(at + 4 * PAGE, 2, node);
}

fn memory_mapped_anew_has_no_policy() {
    let (_, node) = first_and_last();
    let at = map_alone(6);
    mbind(at, 6, BIND, &[node], 0).unwrap();
    mmap(at + 2 * PAGE, 2 * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    assert_eq!(policy_at(at + 2 * PAGE), (DEFAULT, vec![]));
    assert_eq!(policy_at(at + PAGE), (BIND, vec![node]));
}

fn a_moved_mapping_takes_its_policy_along() {
    let (_, node) = first_and_last();
    for touched in [0, 2] {
        let at = map_alone(4);
        mbind(at, 4, BIND, &[node], 0).unwrap();
        touch(at, touched);
        let to = map_alone(4);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        mremap(at, 4, 4, flags, to).unwrap();
        assert_eq!(policy_at(to), (BIND, vec![node]));
        touch(to, 4);
        all_on(to, 4, node);
    }
}

fn a_grown_mapping_has_its_policy_all_over() {
    let (_, node) = first_and_last();
    let at = map_alone(4);
    mbind(at, 4, BIND, &[node], 0).unwrap();
    let grown = mremap(at, 4, 32, libc::MREMAP_MAYMOVE, 0).unwrap();
    touch(grown, 32);
    all_on(grown, 32, node);
}

fn interleaving_goes_on_over_a_moved_mapping() {
    let all = at_least(2);
    let at = map_alone(16);
    mbind(at, 16, INTERLEAVE, &all, 0).unwrap();
    touch(at, 8);
    let to = map_alone(16);
    mremap(at, 16, 16, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to).unwrap();
    touch(to, 16);
    // Its place in the round is the address at which it was made, once pages are in.
    for (page, node) in nodes_at(to, 16).into_iter().enumerate() {
        assert_eq!(node, all[(at / PAGE + page) % all.len()] as i32, "page {page}");
    }
}

fn interleaving_is_not_changed_by_a_split() {
    let all = at_least(2);
    let at = map_alone(16);
    mbind(at, 16, INTERLEAVE, &all, 0).unwrap();
    munmap(at + 5 * PAGE, 1).unwrap();
    mprotect(at + 9 * PAGE, 3, libc::PROT_READ).unwrap();
    mprotect(at + 9 * PAGE, 3, RW).unwrap();
    for page in (0..16).filter(|page| *page != 5) {
        put(at + page * PAGE, 1);
        let expected = all[(at / PAGE + page) % all.len()];
        assert_eq!(node_at(at + page * PAGE), expected as i32, "page {page}");
    }
}

fn growing_the_stack_keeps_the_tasks_policy() {
    let (_, node) = first_and_last();
    set_mempolicy(BIND, &[node]).unwrap();
    let here = 0u8;
    let at = (std::hint::black_box(&raw const here) as usize & !(PAGE - 1)) - 512 * PAGE;
    for page in 0..8 {
        put(at + page * PAGE, 1);
    }
    all_on(at, 8, node);
}

fn a_policy_on_part_of_the_stack_holds_there() {
    let (_, node) = first_and_last();
    let here = 0u8;
    let at = (std::hint::black_box(&raw const here) as usize & !(PAGE - 1)) - 512 * PAGE;
    let _ = crate::fault::try_read(at - PAGE);
    mbind(at, 8, BIND, &[node], 0).unwrap();
    touch(at, 8);
    all_on(at, 8, node);
    assert_eq!(policy_at(at + 8 * PAGE).0, DEFAULT);
}

fn a_thousand_pieces_each_keep_their_policy() {
    let all = nodes();
    let pages = 1000;
    let at = map_alone(pages);
    for page in 0..pages {
        mbind(at + page * PAGE, 1, BIND, &[all[page * 7 % all.len()]], 0).unwrap();
    }
    touch(at, pages);
    for (page, node) in nodes_at(at, pages).into_iter().enumerate() {
        assert_eq!(node, all[page * 7 % all.len()] as i32, "page {page}");
    }
}

fn a_thousand_untouched_pieces_become_one_again() {
    let all = at_least(2);
    let pages = 1000;
    let at = map_alone(pages);
    for page in 0..pages {
        mbind(at + page * PAGE, 1, BIND, &[all[page % all.len()]], 0).unwrap();
    }
    assert_eq!(pieces(at, pages), pages);
    mbind(at, pages, DEFAULT, &[], 0).unwrap();
    assert_eq!(pieces(at, pages), 1);
}
