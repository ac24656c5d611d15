//! mremap(2): growing, shrinking, moving, and what must not happen to the bytes.

use libc::{EFAULT, EINVAL, ENOMEM, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ};

use crate::fault::{self, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    growing_in_place_keeps_the_address,
    growing_into_a_neighbour_needs_leave_to_move,
    shrinking_unmaps_the_tail,
    a_fixed_move_goes_where_it_is_told_and_replaces,
    a_fixed_move_refuses_an_overlap,
    a_moved_page_is_the_same_page,
    holes_move_as_holes,
    the_middle_of_a_mapping_moves_alone,
    dontunmap_leaves_an_empty_mapping_behind,
    dontunmap_needs_equal_sizes_and_leave_to_move,
    an_old_size_of_zero_doubles_a_shared_mapping,
    bad_arguments_of_mremap_are_refused,
    a_length_that_wraps_is_more_than_there_is,
    a_range_over_two_mappings_does_not_grow,
    a_moved_file_mapping_keeps_its_place_in_the_file,
    rights_move_along,
    a_moved_private_page_is_still_copied_on_write,
    the_limit_of_the_address_space_holds_for_growth,
];

const TO: i32 = MREMAP_FIXED | MREMAP_MAYMOVE;

fn growing_in_place_keeps_the_address() {
    let at = map(8);
    munmap(at + 4 * PAGE, 4).unwrap();
    fill(at, 4, 1);
    assert_eq!(mremap(at, 4, 8, 0, 0), Ok(at));
    verify(at, 4, 1);
    verify_zero(at + 4 * PAGE, 4);
}

fn growing_into_a_neighbour_needs_leave_to_move() {
    let at = map(8);
    mprotect(at + 4 * PAGE, 4, PROT_READ).unwrap();
    fill(at, 4, 1);
    fails(mremap(at, 4, 8, 0, 0), ENOMEM);
    let new = mremap(at, 4, 8, MREMAP_MAYMOVE, 0).unwrap();
    assert_ne!(new, at);
    verify(new, 4, 1);
    verify_zero(new + 4 * PAGE, 4);
    fault::segv(try_read(at), fault::MAPERR, at);
    assert_eq!(get(at + 4 * PAGE), 0);
}

fn shrinking_unmaps_the_tail() {
    let at = map(8);
    fill(at, 8, 1);
    assert_eq!(mremap(at, 8, 3, 0, 0), Ok(at));
    verify(at, 3, 1);
    fault::segv(try_read(at + 3 * PAGE), fault::MAPERR, at + 3 * PAGE);
}

fn a_fixed_move_goes_where_it_is_told_and_replaces() {
    let at = map(4);
    let to = map(8);
    fill(at, 4, 1);
    fill(to, 8, 2);
    assert_eq!(mremap(at, 4, 4, TO, to + 2 * PAGE), Ok(to + 2 * PAGE));
    verify(to + 2 * PAGE, 4, 1);
    fault::segv(try_read(at), fault::MAPERR, at);
    verify(to, 2, 2);
}

fn a_fixed_move_refuses_an_overlap() {
    let at = map(8);
    fails(mremap(at, 4, 4, TO, at + 2 * PAGE), EINVAL);
    fails(mremap(at, 4, 4, TO, at + 100 * PAGE + 1), EINVAL);
    fails(mremap(at, 4, 4, MREMAP_FIXED, at + 100 * PAGE), EINVAL);
}

fn a_moved_page_is_the_same_page() {
    let at = map(4);
    fill(at, 4, 1);
    let before = crate::numa::nodes_at(at, 4);
    let to = map(4);
    mremap(at, 4, 4, TO, to).unwrap();
    assert_eq!(resident(to, 4).unwrap(), [true; 4]);
    assert_eq!(crate::numa::nodes_at(to, 4), before);
}

fn holes_move_as_holes() {
    let at = map(4);
    put(at + 2 * PAGE, 5);
    let to = map(4);
    mremap(at, 4, 4, TO, to).unwrap();
    assert_eq!(resident(to, 4).unwrap(), [false, false, true, false]);
    assert_eq!(get(to + 2 * PAGE), 5);
}

fn the_middle_of_a_mapping_moves_alone() {
    let at = map(6);
    fill(at, 6, 1);
    let words: Vec<u64> = (0..6).map(|page| get64(at + page * PAGE)).collect();
    let new = mremap(at + 2 * PAGE, 2, 4, MREMAP_MAYMOVE, 0).unwrap();
    assert_eq!(get64(new), words[2]);
    assert_eq!(get64(new + PAGE), words[3]);
    assert_eq!(get64(new + 2 * PAGE), 0);
    for page in [0, 1, 4, 5] {
        assert_eq!(get64(at + page * PAGE), words[page]);
    }
    fault::segv(try_read(at + 2 * PAGE), fault::MAPERR, at + 2 * PAGE);
}

fn dontunmap_leaves_an_empty_mapping_behind() {
    let at = map(4);
    fill(at, 4, 1);
    let new = mremap(at, 4, 4, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0).unwrap();
    verify(new, 4, 1);
    assert_eq!(resident(at, 4).unwrap(), [false; 4]);
    verify_zero(at, 4);
    put(at, 9);
    verify(new, 4, 1);
}

fn dontunmap_needs_equal_sizes_and_leave_to_move() {
    let at = map(4);
    fails(mremap(at, 4, 5, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0), EINVAL);
    fails(mremap(at, 4, 4, MREMAP_DONTUNMAP, 0), EINVAL);
}

fn an_old_size_of_zero_doubles_a_shared_mapping() {
    let at = map_shared(2);
    put(at, 5);
    let twin = mremap(at, 0, 2, MREMAP_MAYMOVE, 0).unwrap();
    assert_ne!(twin, at);
    assert_eq!(get(twin), 5);
    put(twin + PAGE, 6);
    assert_eq!(get(at + PAGE), 6);
}

fn bad_arguments_of_mremap_are_refused() {
    let at = map(4);
    fails(mremap(at + 1, 1, 2, 0, 0), EINVAL);
    fails(mremap(at, 4, 0, 0, 0), EINVAL);
    fails(mremap(at, 0, 4, MREMAP_MAYMOVE, 0), EINVAL);
    fails(mremap(at, 4, 8, 0x80, 0), EINVAL);
    let gone = map(4);
    munmap(gone, 4).unwrap();
    fails(mremap(gone, 4, 8, MREMAP_MAYMOVE, 0), EFAULT);
}

fn a_range_over_two_mappings_does_not_grow() {
    let at = map(4);
    mprotect(at + 2 * PAGE, 2, PROT_READ).unwrap();
    fails(mremap(at, 4, 8, MREMAP_MAYMOVE, 0), EFAULT);
}

fn a_moved_file_mapping_keeps_its_place_in_the_file() {
    let fd = memfd(8);
    let whole = map_file(fd, 8, libc::MAP_SHARED);
    fill(whole, 8, 3);
    let at = mmap(0, 2 * PAGE, RW, libc::MAP_SHARED, fd, 3 * PAGE).unwrap();
    let to = map(6);
    mremap(at, 2, 4, TO, to).unwrap();
    for page in 0..4 {
        assert_eq!(get64(to + page * PAGE), get64(whole + (3 + page) * PAGE));
    }
    put64(to + 3 * PAGE, 1);
    assert_eq!(get64(whole + 6 * PAGE), 1);
}

fn rights_move_along() {
    let at = map(2);
    put(at, 3);
    mprotect(at, 2, PROT_READ).unwrap();
    let to = map(2);
    mremap(at, 2, 2, TO, to).unwrap();
    assert_eq!(get(to), 3);
    fault::segv(try_write(to, 1), fault::ACCERR, to);
}

fn a_moved_private_page_is_still_copied_on_write() {
    let at = map(1);
    put(at, 1);
    let to = map(1);
    let steps = crate::child::Steps::new();
    let child = crate::child::spawn(|| {
        steps.await_(1);
        assert_eq!(get(at), 1);
    });
    mremap(at, 1, 1, TO, to).unwrap();
    put(to, 2);
    steps.reach(1);
    assert_eq!(crate::child::join(child), 0);
    assert_eq!(get(to), 2);
}

fn the_limit_of_the_address_space_holds_for_growth() {
    let at = map(4);
    put(at, 1);
    let old = crate::task::limits::get(libc::RLIMIT_AS);
    crate::task::limits::set(libc::RLIMIT_AS, 64 << 20, old.1);
    let words = (at, 4 * PAGE, 1usize << 30, MREMAP_MAYMOVE);
    fails(sys!(libc::SYS_mremap, words.0, words.1, words.2, words.3, 0), ENOMEM);
    assert_eq!(get(at), 1);
}

fn a_length_that_wraps_is_more_than_there_is() {
    for flags in [PRIVATE, SHARED].map(|flags| flags | libc::MAP_NORESERVE) {
        let at = mmap(0, 5 * PAGE, RW, flags, -1, 0).unwrap() + PAGE;
        munmap(at + 2 * PAGE, 2).unwrap();
        put(at, 7);
        // To the last page, to the end of all addresses, beyond it to where it is, and half as far.
        for len in [usize::MAX - at - PAGE, usize::MAX - at, usize::MAX - PAGE, 1 << 63] {
            let len = (len + 1) & !(PAGE - 1);
            for how in [0, libc::MREMAP_MAYMOVE] {
                fails(sys!(libc::SYS_mremap, at, 2 * PAGE, len, how), ENOMEM);
            }
        }
        // Cutting a tail off that is too long, and one that begins, round the end of all addresses,
        // in a page below.
        let below = |pages: usize| pages.wrapping_neg() * PAGE;
        fails(sys!(libc::SYS_mremap, at + PAGE, below(1), PAGE, 0), EINVAL);
        assert_eq!(sys!(libc::SYS_mremap, at + PAGE, below(1), below(2), 0), Ok(at + PAGE));
        assert!(try_read(at - PAGE).is_err());
        assert_eq!(get(at), 7);
        put(at + PAGE, 8);
        munmap(at, 2).unwrap();
    }
}
