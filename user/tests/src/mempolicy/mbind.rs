//! What mbind(2) refuses.

use libc::{EFAULT, EINVAL, EPERM};

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    modes_that_do_not_exist_are_refused,
    flags_that_do_not_exist_are_refused,
    masks_are_checked_against_the_mode,
    an_address_within_a_page_is_refused,
    a_length_is_rounded_up_to_pages,
    a_length_of_zero_does_nothing_but_the_mode_is_checked,
    a_range_that_wraps_is_refused,
    unmapped_memory_is_efault,
    a_hole_in_the_middle_is_efault,
    a_hole_at_the_end_is_efault,
    the_default_policy_passes_over_holes,
    the_default_policy_of_nothing_at_all_is_efault,
    a_mask_that_cannot_be_read_is_efault,
    a_maxnode_of_more_than_a_page_is_refused,
    move_all_needs_the_capability,
    balancing_is_taken_with_bind,
    every_mode_and_flag_is_taken_or_refused_as_one,
];

fn raw(at: usize, len: usize, mode: i32, mask: usize, maxnode: usize) -> crate::sys::Result<usize> {
    sys!(libc::SYS_mbind, at, len, mode, mask, maxnode, 0)
}

fn modes_that_do_not_exist_are_refused() {
    let at = map(1);
    for mode in [7, 50, -1, BIND | 1 << 12, BIND | STATIC | RELATIVE, INTERLEAVE | BALANCING] {
        fails(mbind(at, 1, mode, &nodes(), 0), EINVAL);
    }
}

fn flags_that_do_not_exist_are_refused() {
    let at = map(1);
    for flags in [8, 16, 1 << 20, -1] {
        fails(mbind(at, 1, BIND, &nodes(), flags), EINVAL);
    }
}

fn masks_are_checked_against_the_mode() {
    let at = map(1);
    let one = &nodes()[..1];
    fails(mbind(at, 1, DEFAULT, one, 0), EINVAL);
    fails(mbind(at, 1, LOCAL, one, 0), EINVAL);
    for mode in [BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED] {
        fails(mbind(at, 1, mode, &[], 0), EINVAL);
        fails(mbind(at, 1, mode, &[700], 0), EINVAL);
    }
    assert_eq!(policy_at(at), (DEFAULT, vec![]));
}

fn an_address_within_a_page_is_refused() {
    let at = map(2);
    fails(mbind(at + 1, 1, BIND, &nodes(), 0), EINVAL);
    fails(mbind(at + 4095, 0, BIND, &nodes(), 0), EINVAL);
}

fn a_length_is_rounded_up_to_pages() {
    let at = map(2);
    let mask = mask(&nodes()[..1]);
    raw(at, 1, BIND, mask.as_ptr() as usize, MAXNODE).unwrap();
    assert_eq!(policy_at(at).0, BIND);
    assert_eq!(policy_at(at + PAGE).0, DEFAULT);
}

fn a_length_of_zero_does_nothing_but_the_mode_is_checked() {
    let at = map(1);
    assert_eq!(mbind(at, 0, BIND, &nodes(), 0), Ok(0));
    assert_eq!(policy_at(at), (DEFAULT, vec![]));
    fails(mbind(at, 0, 77, &nodes(), 0), EINVAL);
    let gone = map(1);
    munmap(gone, 1).unwrap();
    assert_eq!(mbind(gone, 0, BIND, &nodes(), 0), Ok(0));
}

fn a_range_that_wraps_is_refused() {
    let at = map(1);
    let mask = mask(&nodes()[..1]);
    fails(raw(at, usize::MAX - PAGE, BIND, mask.as_ptr() as usize, MAXNODE), EINVAL);
}

fn unmapped_memory_is_efault() {
    let nodes = nodes();
    let at = map(2);
    munmap(at, 2).unwrap();
    fails(mbind(at, 2, BIND, &nodes, 0), EFAULT);
    fails(mbind(at, 2, INTERLEAVE, &nodes, MOVE), EFAULT);
}

fn a_hole_in_the_middle_is_efault() {
    // Asked for before there is a hole, which reading files could fill.
    let nodes = nodes();
    let at = map_alone(6);
    munmap(at + 2 * PAGE, 1).unwrap();
    fails(mbind(at, 6, BIND, &nodes, 0), EFAULT);
    fails(mbind(at, 6, BIND, &nodes, MOVE), EFAULT);
    fails(mbind(at, 6, BIND, &nodes, STRICT), EFAULT);
}

fn a_hole_at_the_end_is_efault() {
    let nodes = nodes();
    let at = map(6) + PAGE;
    munmap(at - PAGE, 1).unwrap();
    munmap(at + 4 * PAGE, 1).unwrap();
    fails(mbind(at, 5, BIND, &nodes, 0), EFAULT);
    fails(mbind(at - PAGE, 5, BIND, &nodes, 0), EFAULT);
}

fn the_default_policy_passes_over_holes() {
    let at = map_alone(6);
    mbind(at, 6, BIND, &nodes(), 0).unwrap();
    munmap(at + 2 * PAGE, 1).unwrap();
    assert_eq!(mbind(at, 6, DEFAULT, &[], 0), Ok(0));
    assert_eq!(policy_at(at).0, DEFAULT);
    assert_eq!(policy_at(at + 5 * PAGE).0, DEFAULT);
}

fn the_default_policy_of_nothing_at_all_is_efault() {
    let at = map(2);
    munmap(at, 2).unwrap();
    fails(mbind(at, 2, DEFAULT, &[], 0), EFAULT);
}

fn a_mask_that_cannot_be_read_is_efault() {
    let at = map(1);
    fails(raw(at, PAGE, BIND, 8, 65), EFAULT);
}

fn a_maxnode_of_more_than_a_page_is_refused() {
    let at = map(1);
    let long = map(4);
    put64(long, 1 << nodes()[0]);
    raw(at, PAGE, BIND, long, 4096 * 8).unwrap();
    fails(raw(at, PAGE, BIND, long, 4096 * 8 + 2), EINVAL);
}

fn move_all_needs_the_capability() {
    let at = map(1);
    put(at, 1);
    assert_eq!(mbind(at, 1, BIND, &nodes(), MOVE_ALL), Ok(0));
    crate::task::credentials::without_nice();
    fails(mbind(at, 1, BIND, &nodes(), MOVE_ALL), EPERM);
    assert_eq!(mbind(at, 1, BIND, &nodes(), MOVE), Ok(0));
}

fn balancing_is_taken_with_bind() {
    let at = map(1);
    mbind(at, 1, BIND | BALANCING, &nodes(), 0).unwrap();
    assert_eq!(policy_at(at), (BIND | BALANCING, nodes()));
}

fn every_mode_and_flag_is_taken_or_refused_as_one() {
    // The task's policy and a range's go through the same door.
    let at = map(1);
    let all = nodes();
    for mode in 0..9 {
        for flags in 0..8 {
            let word = mode | flags << 13;
            for chosen in [&[][..], &all[..1], &all[..]] {
                let task = set_mempolicy(word, chosen);
                let range = mbind(at, 1, word, chosen, 0);
                assert_eq!(task, range, "mode {word:#x} with {chosen:?}");
                if task.is_ok() && mode != DEFAULT {
                    assert_eq!(policy(), policy_at(at), "mode {word:#x}");
                }
            }
        }
    }
}
