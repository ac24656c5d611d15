//! Mappings of huge pages: sizes and bounds, reservations, and what the other calls do to them.

use libc::{EACCES, EINVAL, ENOMEM};

use super::*;
use crate::fault::try_write;
use crate::harness::tests;
use crate::memory::{fill, get, madvise, mprotect, mremap, put, resident, verify};
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    a_mapping_reserves_at_once_and_takes_at_the_fault,
    an_empty_pool_refuses_a_mapping,
    a_shared_mapping_reserves_once,
    without_a_reservation_a_missing_page_is_sigbus,
    what_others_have_reserved_is_not_taken,
    lengths_are_rounded_up_and_addresses_must_fit,
    shared_pages_that_are_replaced_are_free_afterwards,
    sizes_that_there_are_not_are_refused,
    a_part_of_a_huge_page_is_not_unmapped,
    halves_of_a_mapping_give_back_what_is_theirs,
    mprotect_goes_by_whole_pages,
    mremap_moves_whole_pages_and_grows_none,
    dontneed_frees_whole_pages_and_reserves_them_again,
    advice_that_huge_pages_do_not_take_is_refused,
    remove_punches_shared_pages_only,
    remove_leaves_the_reservation_of_what_was_never_touched,
    populate_and_mlock_make_pages_present,
    mincore_sees_each_part_of_a_huge_page,
    a_read_of_private_memory_makes_a_page,
    contents_are_zero_and_stay,
];

fn a_mapping_reserves_at_once_and_takes_at_the_fault() {
    let _pool = Pool::of(&[4]);
    for flags in [PRIVATE, SHARED] {
        let at = map(3, flags);
        assert_eq!(counts(), [4, 4, 3, 0]);
        put(at + HUGE + 12345, 1);
        assert_eq!(counts(), [4, 3, 2, 0]);
        touch(at, 3);
        assert_eq!(counts(), [4, 1, 0, 0]);
        unmap(at, 3);
        assert_eq!(counts(), [4, 4, 0, 0]);
    }
}

fn an_empty_pool_refuses_a_mapping() {
    let _pool = Pool::of(&[]);
    fails(try_map(1, PRIVATE), ENOMEM);
    fails(try_map(1, SHARED), ENOMEM);
    write(&of_all("nr"), 1);
    fails(try_map(2, PRIVATE), ENOMEM);
    let at = map(1, PRIVATE);
    fails(try_map(1, SHARED), ENOMEM);
    unmap(at, 1);
    assert_eq!(counts(), [1, 1, 0, 0]);
}

fn a_shared_mapping_reserves_once() {
    let _pool = Pool::of(&[2]);
    let at = map(2, SHARED);
    // Its children map the same pages, and the reservation is the memory's.
    crate::child::run(|| {
        assert_eq!(counts(), [2, 2, 2, 0]);
        put(at, 7);
        assert_eq!(counts(), [2, 1, 1, 0]);
    });
    assert_eq!(get(at), 7);
    assert_eq!(counts(), [2, 1, 1, 0]);
    unmap(at, 2);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn without_a_reservation_a_missing_page_is_sigbus() {
    let _pool = Pool::of(&[1]);
    for flags in [PRIVATE, SHARED] {
        let at = map(2, flags | libc::MAP_NORESERVE);
        assert_eq!(counts(), [1, 1, 0, 0]);
        touch(at, 1);
        bus_error(at + HUGE);
        assert!(try_write(at + HUGE + 5, 1).is_err());
        assert_eq!(counts(), [1, 0, 0, 0]);
        unmap(at, 2);
    }
}

fn what_others_have_reserved_is_not_taken() {
    let _pool = Pool::of(&[2]);
    let mine = map(1, PRIVATE);
    let theirs = map(2, PRIVATE | libc::MAP_NORESERVE);
    touch(theirs, 1);
    bus_error(theirs + HUGE);
    touch(mine, 1);
    assert_eq!(counts(), [2, 0, 0, 0]);
    unmap(theirs, 2);
    unmap(mine, 1);
}

fn lengths_are_rounded_up_and_addresses_must_fit() {
    let _pool = Pool::of(&[3]);
    let at = mmap(0, HUGE + PAGE, RW, PRIVATE, -1, 0).unwrap();
    assert_eq!(at % HUGE, 0);
    assert_eq!(counts(), [3, 3, 2, 0]);
    touch(at, 2);
    unmap(at, 2);
    // A hint is rounded down, a fixed address is not.
    let hint = mmap(at + HUGE - PAGE, HUGE, RW, PRIVATE, -1, 0).unwrap();
    assert_eq!(hint, at);
    unmap(hint, 1);
    fails(mmap(at + PAGE, HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0), EINVAL);
    let fixed = mmap(at, HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    assert_eq!(fixed, at);
    // It is replaced by small pages, and back.
    let small = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    put(at, 1);
    mmap(at, HUGE, RW, small, -1, 0).unwrap();
    assert_eq!(counts(), [3, 3, 0, 0]);
    crate::memory::touch(at, PAGES);
    mmap(at, HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    assert_eq!(get(at + 5 * PAGE), 0);
    unmap(at, 1);
    fails(mmap(0, 0, RW, PRIVATE, -1, 0), EINVAL);
}

fn shared_pages_that_are_replaced_are_free_afterwards() {
    let _pool = Pool::of(&[4]);
    // Room of the test's own, so that nothing else is replaced.
    let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let room = mmap(0, 6 * HUGE, libc::PROT_NONE, none, -1, 0).unwrap().next_multiple_of(HUGE);
    let map = |pages: usize, flags: i32| {
        mmap(room, pages * HUGE, RW, flags | libc::MAP_FIXED, -1, 0).unwrap()
    };
    let at = map(3, SHARED);
    // What they have reserved cannot serve what replaces them, and they are gone all the same.
    fails(mmap(at, 2 * HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0), ENOMEM);
    assert_eq!(counts(), [4, 4, 3, 0]);
    unmap(at, 3);
    let at = map(2, SHARED);
    fails(mmap(at, 3 * HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0), ENOMEM);
    assert_eq!(counts(), [4, 4, 0, 0]);
    assert_eq!(crate::fault::try_read(at).map_err(|f| f.signal), Err(libc::SIGSEGV));
    // What is private can.
    let at = map(3, PRIVATE);
    mmap(at, 4 * HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    assert_eq!(counts(), [4, 4, 4, 0]);
    unmap(at, 4);
}

fn sizes_that_there_are_not_are_refused() {
    let _pool = Pool::of(&[1]);
    let size = |log: i32| log << libc::MAP_HUGE_SHIFT;
    unmap(mmap(0, HUGE, RW, PRIVATE | size(21), -1, 0).unwrap(), 1);
    for log in [12, 20, 22, 63] {
        fails(mmap(0, HUGE, RW, PRIVATE | size(log), -1, 0), EINVAL);
    }
    // Of a descriptor that has no huge pages.
    let file = sys!(libc::SYS_memfd_create, c"small".as_ptr(), 0).unwrap() as i32;
    fails(mmap(0, HUGE, RW, libc::MAP_SHARED | libc::MAP_HUGETLB, file, 0), EINVAL);
}

fn a_part_of_a_huge_page_is_not_unmapped() {
    let _pool = Pool::of(&[2]);
    let at = map(2, PRIVATE);
    fails(munmap(at, 1), EINVAL);
    fails(munmap(at + PAGE, PAGES), EINVAL);
    fails(munmap(at, PAGES + 1), EINVAL);
    fails(munmap(at + HUGE - PAGE, 1), EINVAL);
    touch(at, 2);
    assert_eq!(counts(), [2, 0, 0, 0]);
    unmap(at, 2);
}

fn halves_of_a_mapping_give_back_what_is_theirs() {
    let _pool = Pool::of(&[4]);
    for flags in [PRIVATE, SHARED] {
        let at = map(4, flags);
        put(at + HUGE, 3);
        unmap(at + 2 * HUGE, 1);
        // A shared object keeps what is reserved for it until it goes.
        let left = if flags == PRIVATE { 2 } else { 3 };
        assert_eq!(counts(), [4, 3, left, 0], "flags {flags:#x}");
        assert_eq!(get(at + HUGE), 3);
        unmap(at, 2);
        unmap(at + 3 * HUGE, 1);
        assert_eq!(counts(), [4, 4, 0, 0]);
    }
}

fn mprotect_goes_by_whole_pages() {
    let _pool = Pool::of(&[2]);
    let at = map(2, PRIVATE);
    touch(at, 2);
    fails(mprotect(at + PAGE, 1, libc::PROT_READ), EINVAL);
    fails(mprotect(at, 1, libc::PROT_READ), EINVAL);
    mprotect(at, PAGES, libc::PROT_READ).unwrap();
    assert_eq!(try_write(at, 1).map_err(|f| f.signal), Err(libc::SIGSEGV));
    put(at + HUGE, 9);
    mprotect(at, PAGES, libc::PROT_NONE).unwrap();
    assert_eq!(crate::fault::try_read(at).map_err(|f| f.signal), Err(libc::SIGSEGV));
    mprotect(at, PAGES, RW).unwrap();
    assert_eq!((get(at), get(at + HUGE)), (1, 9));
    put(at, 5);
    assert_eq!(counts(), [2, 0, 0, 0]);
    unmap(at, 2);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn mremap_moves_whole_pages_and_grows_none() {
    let _pool = Pool::of(&[4]);
    let place = map(4, PRIVATE);
    unmap(place, 4);
    let at = mmap(place, 2 * HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    put(at, 1);
    let (to, moves) = (at + 2 * HUGE, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
    fails(mremap(at, 2 * PAGES, 3 * PAGES, libc::MREMAP_MAYMOVE, 0), EINVAL);
    fails(mremap(at + PAGE, PAGES, PAGES, moves, to), EINVAL);
    fails(mremap(at, PAGES, PAGES, moves, to + PAGE), EINVAL);
    assert_eq!(mremap(at, 2 * PAGES, 2 * PAGES, moves, to), Ok(to));
    assert_eq!(get(to), 1);
    assert_eq!(counts(), [4, 3, 1, 0]);
    put(to + HUGE, 2);
    assert_eq!(counts(), [4, 2, 0, 0]);
    // The address is looked at even where it does not count.
    fails(mremap(to, 2 * PAGES, PAGES, libc::MREMAP_MAYMOVE, at + PAGE), EINVAL);
    // Shrunk, it gives back.
    assert_eq!(mremap(to, 2 * PAGES, PAGES, 0, 0), Ok(to));
    assert_eq!(counts(), [4, 3, 0, 0]);
    unmap(to, 1);
    assert_eq!(counts(), [4, 4, 0, 0]);
}

fn dontneed_frees_whole_pages_and_reserves_them_again() {
    let _pool = Pool::of(&[3]);
    let at = map(2, PRIVATE);
    touch(at, 2);
    assert_eq!(counts(), [3, 1, 0, 0]);
    fails(madvise(at + PAGE, 1, libc::MADV_DONTNEED), EINVAL);
    // Less than a whole page is nothing.
    madvise(at, PAGES - 1, libc::MADV_DONTNEED).unwrap();
    assert_eq!(get(at), 1);
    madvise(at, PAGES + 1, libc::MADV_DONTNEED).unwrap();
    assert_eq!(counts(), [3, 2, 1, 0]);
    assert_eq!((get(at), get(at + HUGE)), (0, 2));
    assert_eq!(counts(), [3, 1, 0, 0]);
    unmap(at, 2);
    let at = map(2, SHARED);
    touch(at, 2);
    madvise(at, 2 * PAGES, libc::MADV_DONTNEED).unwrap();
    assert_eq!((get(at), get(at + HUGE)), (1, 2));
    unmap(at, 2);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn advice_that_huge_pages_do_not_take_is_refused() {
    let _pool = Pool::of(&[1]);
    let at = map(1, PRIVATE);
    touch(at, 1);
    for advice in [libc::MADV_FREE, libc::MADV_COLD, libc::MADV_PAGEOUT, libc::MADV_WIPEONFORK] {
        fails(madvise(at, PAGES, advice), EINVAL);
    }
    for advice in [
        libc::MADV_WILLNEED,
        libc::MADV_SEQUENTIAL,
        libc::MADV_NORMAL,
        libc::MADV_DONTFORK,
        libc::MADV_DOFORK,
        libc::MADV_DONTDUMP,
        libc::MADV_DODUMP,
    ] {
        assert!(madvise(at, PAGES, advice).is_ok(), "advice {advice}");
    }
    fails(madvise(at, 1, libc::MADV_DONTFORK), EINVAL);
    assert_eq!(get(at), 1);
    unmap(at, 1);
}

fn remove_punches_shared_pages_only() {
    let _pool = Pool::of(&[2]);
    let at = map(2, SHARED);
    touch(at, 2);
    madvise(at, PAGES, libc::MADV_REMOVE).unwrap();
    assert_eq!(counts(), [2, 1, 0, 0]);
    assert_eq!((get(at + HUGE), get(at)), (2, 0));
    assert_eq!(counts(), [2, 0, 0, 0]);
    // Parts of a page are cleared.
    put(at + HUGE + PAGE, 8);
    madvise(at + HUGE, 1, libc::MADV_REMOVE).unwrap();
    assert_eq!((get(at + HUGE), get(at + HUGE + PAGE)), (0, 8));
    unmap(at, 2);
    let at = map(1, PRIVATE);
    fails(madvise(at, PAGES, libc::MADV_REMOVE), EACCES);
    unmap(at, 1);
}

fn remove_leaves_the_reservation_of_what_was_never_touched() {
    let _pool = Pool::of(&[3]);
    let at = map(2, SHARED);
    madvise(at, 2 * PAGES, libc::MADV_REMOVE).unwrap();
    assert_eq!(counts(), [3, 3, 2, 0]);
    touch(at, 1);
    assert_eq!(counts(), [3, 2, 1, 0]);
    madvise(at, 2 * PAGES, libc::MADV_REMOVE).unwrap();
    assert_eq!(counts(), [3, 3, 1, 0]);
    touch(at, 2);
    assert_eq!(counts(), [3, 1, 0, 0]);
    unmap(at, 2);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn populate_and_mlock_make_pages_present() {
    let _pool = Pool::of(&[4]);
    let at = mmap(0, 2 * HUGE, RW, PRIVATE | libc::MAP_POPULATE, -1, 0).unwrap();
    assert_eq!(counts(), [4, 2, 0, 0]);
    unmap(at, 2);
    let at = map(2, PRIVATE);
    sys!(libc::SYS_mlock, at + HUGE, PAGE).unwrap();
    assert_eq!(counts(), [4, 3, 1, 0]);
    // Also by MLOCK_ONFAULT.
    sys!(libc::SYS_mlock2, at, PAGE, 1).unwrap();
    assert_eq!(counts(), [4, 2, 0, 0]);
    // They are not counted as locked, and can be given up.
    madvise(at, 2 * PAGES, libc::MADV_DONTNEED).unwrap();
    assert_eq!(counts(), [4, 4, 2, 0]);
    sys!(libc::SYS_madvise, at, 2 * HUGE, 23).unwrap();
    assert_eq!(counts(), [4, 2, 0, 0]);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("VmLck:\t       0 kB"), "{status}");
    unmap(at, 2);
}

fn mincore_sees_each_part_of_a_huge_page() {
    let _pool = Pool::of(&[2]);
    let at = map(2, PRIVATE);
    put(at + HUGE, 1);
    assert_eq!(resident(at + HUGE - 2 * PAGE, 4).unwrap(), [false, false, true, true]);
    unmap(at, 2);
}

fn a_read_of_private_memory_makes_a_page() {
    let _pool = Pool::of(&[1]);
    let at = map(1, PRIVATE);
    assert_eq!(get(at + 777), 0);
    assert_eq!(counts(), [1, 0, 0, 0]);
    put(at + 777, 4);
    assert_eq!((get(at + 777), counts()), (4, [1, 0, 0, 0]));
    unmap(at, 1);
}

fn contents_are_zero_and_stay() {
    let _pool = Pool::of(&[1]);
    for flags in [PRIVATE, SHARED] {
        let at = map(1, flags);
        assert!((0..HUGE).step_by(8).all(|byte| crate::memory::get64(at + byte) == 0));
        fill(at, PAGES, 11);
        verify(at, PAGES, 11);
        unmap(at, 1);
    }
}
