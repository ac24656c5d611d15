//! munmap(2): holes, splits and what is left of a mapping.

use libc::{EINVAL, PROT_READ};

use crate::fault::{self, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa;
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    an_unmapped_page_is_gone,
    a_hole_in_the_middle_leaves_both_ends,
    a_hole_is_filled_with_fresh_zeroes,
    one_call_unmaps_several_mappings_and_the_gaps_between,
    unmapping_nothing_is_no_error,
    bad_arguments_of_munmap_are_refused,
    a_length_of_munmap_is_rounded_up_to_pages,
    memory_is_given_back,
    many_mappings_are_possible,
];

fn an_unmapped_page_is_gone() {
    let at = map(2);
    fill(at, 2, 1);
    munmap(at, 2).unwrap();
    fault::segv(try_read(at), fault::MAPERR, at);
    fault::segv(try_write(at + PAGE + 17, 1), fault::MAPERR, at + PAGE + 17);
}

fn a_hole_in_the_middle_leaves_both_ends() {
    let at = map(9);
    for page in 0..9 {
        put(at + page * PAGE, page as u8 + 1);
    }
    munmap(at + 3 * PAGE, 3).unwrap();
    for page in [0, 1, 2, 6, 7, 8] {
        assert_eq!(get(at + page * PAGE), page as u8 + 1);
    }
    for page in 3..6 {
        fault::segv(try_read(at + page * PAGE), fault::MAPERR, at + page * PAGE);
    }
}

fn a_hole_is_filled_with_fresh_zeroes() {
    let at = map(3);
    fill(at, 3, 1);
    munmap(at + PAGE, 1).unwrap();
    mmap(at + PAGE, PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    verify_zero(at + PAGE, 1);
}

fn one_call_unmaps_several_mappings_and_the_gaps_between() {
    let at = map_alone(10);
    mprotect(at + 2 * PAGE, 2, PROT_READ).unwrap();
    munmap(at + 5 * PAGE, 2).unwrap();
    touch(at + 7 * PAGE, 3);
    munmap(at + PAGE, 8).unwrap();
    for page in 1..9 {
        fault::segv(try_read(at + page * PAGE), fault::MAPERR, at + page * PAGE);
    }
    assert_eq!(get(at), 0);
    assert_eq!(get(at + 9 * PAGE), 3);
}

fn unmapping_nothing_is_no_error() {
    let at = map(2);
    munmap(at, 2).unwrap();
    assert_eq!(munmap(at, 2), Ok(0));
}

fn bad_arguments_of_munmap_are_refused() {
    let at = map(2);
    fails(sys!(libc::SYS_munmap, at + 1, PAGE), EINVAL);
    fails(sys!(libc::SYS_munmap, at, 0), EINVAL);
    fails(sys!(libc::SYS_munmap, 1usize << 47, PAGE), EINVAL);
    fails(sys!(libc::SYS_munmap, at, usize::MAX - 8192), EINVAL);
    put(at, 1);
}

fn a_length_of_munmap_is_rounded_up_to_pages() {
    let at = map(2);
    sys!(libc::SYS_munmap, at, 1).unwrap();
    fault::segv(try_read(at + PAGE - 1), fault::MAPERR, at + PAGE - 1);
    put(at + PAGE, 1);
}

fn memory_is_given_back() {
    let free = || -> u64 { numa::nodes().iter().map(|node| numa::meminfo(*node, "MemFree")).sum() };
    let before = free();
    for _ in 0..16 {
        let at = map(4096);
        touch(at, 4096);
        munmap(at, 4096).unwrap();
    }
    // Of 256 MiB that came and went at most 32 are still held in caches.
    assert!(free() + (32 << 10) > before, "{before} kB free, then {} kB", free());
}

fn many_mappings_are_possible() {
    const COUNT: usize = 2000;
    let at = map_alone(2 * COUNT);
    for i in 0..COUNT {
        mprotect(at + 2 * i * PAGE, 1, PROT_READ).unwrap();
    }
    touch(at + PAGE, 1);
    fault::segv(try_write(at + 2 * 777 * PAGE, 1), fault::ACCERR, at + 2 * 777 * PAGE);
    assert_eq!(try_write(at + (2 * 777 + 1) * PAGE, 1), Ok(()));
    munmap(at, 2 * COUNT).unwrap();
}
