//! madvise(2): each advice's effect on the bytes, the pages and the children.

use libc::{EINVAL, ENOMEM};

use crate::child::{end_of, run};
use crate::fault::{self, MAPERR, try_read};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    dontneed_makes_anonymous_pages_zero,
    dontneed_brings_back_the_files_bytes,
    dontneed_takes_nothing_from_shared_memory,
    dontneed_takes_nothing_from_the_child,
    free_keeps_the_old_bytes_or_gives_zeroes_page_by_page,
    populate_write_makes_pages_resident_and_owned,
    populate_read_makes_pages_resident,
    populate_refuses_what_cannot_be_accessed,
    dontfork_keeps_memory_from_children,
    wipeonfork_gives_children_zeroes,
    remove_punches_a_hole_into_shared_memory,
    remove_is_seen_through_the_file,
    remove_refuses_private_memory,
    hints_without_effect_keep_the_bytes,
    bad_arguments_of_madvise_are_refused,
    a_hole_is_reported_and_the_rest_is_advised,
    locked_memory_is_dropped_only_by_the_advice_that_says_so,
    process_madvise_refuses_advice_that_could_destroy,
    a_child_of_a_wiped_mapping_dies_no_death,
];

/// Since Linux 5.18.
const MADV_DONTNEED_LOCKED: i32 = 24;

fn dontneed_makes_anonymous_pages_zero() {
    let at = map(8);
    fill(at, 8, 1);
    madvise(at + 2 * PAGE, 4, libc::MADV_DONTNEED).unwrap();
    let expected = [true, true, false, false, false, false, true, true];
    assert_eq!(resident(at, 8).unwrap(), expected);
    verify_zero(at + 2 * PAGE, 4);
    verify(at, 2, 1);
    put(at + 3 * PAGE, 9);
    assert_eq!(get(at + 3 * PAGE), 9);
}

fn dontneed_brings_back_the_files_bytes() {
    let fd = memfd(2);
    let shared = map_file(fd, 2, libc::MAP_SHARED);
    fill(shared, 2, 4);
    let private = map_file(fd, 2, libc::MAP_PRIVATE);
    fill(private, 2, 5);
    madvise(private, 2, libc::MADV_DONTNEED).unwrap();
    verify(private, 2, 4);
}

fn dontneed_takes_nothing_from_shared_memory() {
    let at = map_shared(4);
    fill(at, 4, 3);
    madvise(at, 4, libc::MADV_DONTNEED).unwrap();
    verify(at, 4, 3);
}

fn dontneed_takes_nothing_from_the_child() {
    let at = map(2);
    fill(at, 2, 1);
    run(|| {
        madvise(at, 2, libc::MADV_DONTNEED).unwrap();
        verify_zero(at, 2);
    });
    verify(at, 2, 1);
}

fn free_keeps_the_old_bytes_or_gives_zeroes_page_by_page() {
    let at = map(8);
    fill(at, 8, 1);
    let words: Vec<u64> = (0..8).map(|page| get64(at + page * PAGE)).collect();
    madvise(at, 8, libc::MADV_FREE).unwrap();
    for (page, old) in words.into_iter().enumerate() {
        let word = get64(at + page * PAGE);
        assert!(word == 0 || word == old, "page {page}: {word:#x}");
    }
    put64(at, 42);
    assert_eq!(get64(at), 42);
    fails(madvise(map_shared(1), 1, libc::MADV_FREE), EINVAL);
}

fn populate_write_makes_pages_resident_and_owned() {
    let at = map(8);
    madvise(at + PAGE, 4, libc::MADV_POPULATE_WRITE).unwrap();
    let expected = [false, true, true, true, true, false, false, false];
    assert_eq!(resident(at, 8).unwrap(), expected);
    assert!(crate::numa::nodes_at(at + PAGE, 4).iter().all(|node| *node >= 0));
    verify_zero(at, 8);
}

fn populate_read_makes_pages_resident() {
    let fd = memfd(4);
    let at = map_file(fd, 4, libc::MAP_SHARED);
    madvise(at, 4, libc::MADV_POPULATE_READ).unwrap();
    assert_eq!(resident(at, 4).unwrap(), [true; 4]);
    verify_zero(at, 4);
}

fn populate_refuses_what_cannot_be_accessed() {
    let none = mmap(0, PAGE, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    fails(madvise(none, 1, libc::MADV_POPULATE_READ), EINVAL);
    let read_only = mmap(0, PAGE, libc::PROT_READ, PRIVATE, -1, 0).unwrap();
    fails(madvise(read_only, 1, libc::MADV_POPULATE_WRITE), EINVAL);
    let at = map_alone(4);
    munmap(at + 2 * PAGE, 1).unwrap();
    fails(madvise(at, 4, libc::MADV_POPULATE_WRITE), ENOMEM);
    assert_eq!(resident(at, 2).unwrap(), [true; 2]);
}

fn dontfork_keeps_memory_from_children() {
    let at = map(2);
    fill(at, 2, 1);
    madvise(at, 1, libc::MADV_DONTFORK).unwrap();
    run(|| {
        fault::segv(try_read(at), MAPERR, at);
        assert_ne!(get(at + PAGE), 0);
    });
    madvise(at, 1, libc::MADV_DOFORK).unwrap();
    run(|| verify(at, 2, 1));
}

fn wipeonfork_gives_children_zeroes() {
    let at = map(2);
    fill(at, 2, 1);
    madvise(at, 2, libc::MADV_WIPEONFORK).unwrap();
    run(|| {
        verify_zero(at, 2);
        put(at, 7);
        run(|| verify_zero(at, 2));
    });
    verify(at, 2, 1);
    madvise(at, 2, libc::MADV_KEEPONFORK).unwrap();
    run(|| verify(at, 2, 1));
    fails(madvise(map_shared(1), 1, libc::MADV_WIPEONFORK), EINVAL);
}

fn remove_punches_a_hole_into_shared_memory() {
    let at = map_shared(4);
    fill(at, 4, 1);
    let words: Vec<u64> = (0..4).map(|page| get64(at + page * PAGE)).collect();
    madvise(at + PAGE, 2, libc::MADV_REMOVE).unwrap();
    verify_zero(at + PAGE, 2);
    assert_eq!((get64(at), get64(at + 3 * PAGE)), (words[0], words[3]));
}

fn remove_is_seen_through_the_file() {
    let fd = memfd(4);
    let at = map_file(fd, 4, libc::MAP_SHARED);
    fill(at, 4, 1);
    madvise(at, 1, libc::MADV_REMOVE).unwrap();
    let mut bytes = [1u8; PAGE];
    assert_eq!(sys!(libc::SYS_pread64, fd, bytes.as_mut_ptr(), PAGE, 0), Ok(PAGE));
    assert!(bytes.iter().all(|byte| *byte == 0));
    let mut stat: libc::stat = sys::zeroed();
    sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
    assert_eq!((stat.st_size, stat.st_blocks), (4 * PAGE as i64, 3 * 8));
}

fn remove_refuses_private_memory() {
    fails(madvise(map(1), 1, libc::MADV_REMOVE), EINVAL);
}

fn hints_without_effect_keep_the_bytes() {
    let at = map(4);
    fill(at, 4, 1);
    for advice in [
        libc::MADV_NORMAL,
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
        libc::MADV_COLD,
        libc::MADV_PAGEOUT,
        libc::MADV_DONTDUMP,
        libc::MADV_DODUMP,
    ] {
        assert_eq!(madvise(at, 4, advice), Ok(0), "advice {advice}");
        verify(at, 4, 1);
    }
    let fd = memfd(4);
    let file = map_file(fd, 4, libc::MAP_SHARED);
    assert_eq!(madvise(file, 4, libc::MADV_WILLNEED), Ok(0));
}

fn bad_arguments_of_madvise_are_refused() {
    let at = map(2);
    fails(madvise(at, 1, 9999), EINVAL);
    fails(madvise(at + 1, 1, libc::MADV_DONTNEED), EINVAL);
    fails(sys!(libc::SYS_madvise, at, usize::MAX - PAGE, libc::MADV_DONTNEED), EINVAL);
    assert_eq!(madvise(at, 0, libc::MADV_DONTNEED), Ok(0));
    munmap(at, 2).unwrap();
    fails(madvise(at, 2, libc::MADV_DONTNEED), ENOMEM);
}

fn a_hole_is_reported_and_the_rest_is_advised() {
    let at = map_alone(6);
    fill(at, 6, 1);
    munmap(at + 2 * PAGE, 1).unwrap();
    fails(madvise(at, 6, libc::MADV_DONTNEED), ENOMEM);
    verify_zero(at, 2);
    verify_zero(at + 3 * PAGE, 3);
}

fn locked_memory_is_dropped_only_by_the_advice_that_says_so() {
    let at = map(2);
    fill(at, 2, 1);
    sys!(libc::SYS_mlock, at, 2 * PAGE).unwrap();
    fails(madvise(at, 2, libc::MADV_DONTNEED), EINVAL);
    verify(at, 2, 1);
    madvise(at, 2, MADV_DONTNEED_LOCKED).unwrap();
    verify_zero(at, 2);
}

fn process_madvise_refuses_advice_that_could_destroy() {
    crate::harness::not_on_proxima("process_madvise(2)");
    let at = map(1);
    fill(at, 1, 1);
    let pid = sys!(libc::SYS_pidfd_open, sys::getpid(), 0).unwrap();
    let vector = libc::iovec { iov_base: at as *mut _, iov_len: PAGE };
    let nr = libc::SYS_process_madvise;
    fails(sys!(nr, pid, &raw const vector, 1, 9999, 0), EINVAL);
    assert_eq!(sys!(nr, pid, &raw const vector, 1, libc::MADV_COLD, 0), Ok(PAGE));
    verify(at, 1, 1);
}

fn a_child_of_a_wiped_mapping_dies_no_death() {
    let at = map(1);
    madvise(at, 1, libc::MADV_WIPEONFORK).unwrap();
    assert_eq!(end_of(|| put(at, 1)), 0);
}
