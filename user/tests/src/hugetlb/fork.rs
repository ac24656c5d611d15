//! Fork: pages are shared until they are written, and reservations stay with the parent.

use super::*;
use crate::child::{Steps, end_of, join, run, spawn};
use crate::fault::{try_read, try_write};
use crate::harness::tests;
use crate::memory::{get, put};

pub const TESTS: &[Test] = tests![
    private_pages_are_copied_when_they_are_written,
    the_child_has_no_reservation,
    the_parent_keeps_its_page_and_the_child_loses_it,
    a_child_that_finds_no_page_for_its_copy_dies,
    the_last_one_keeps_the_page_it_has,
    dontfork_leaves_huge_pages_out,
];

fn private_pages_are_copied_when_they_are_written() {
    let _pool = Pool::of(&[4]);
    let at = map(2, PRIVATE);
    touch(at, 2);
    run(|| {
        assert_eq!(counts(), [4, 2, 0, 0]);
        assert_eq!((get(at), get(at + HUGE)), (1, 2));
        put(at, 50);
        assert_eq!(counts(), [4, 1, 0, 0]);
        assert_eq!((get(at), get(at + HUGE)), (50, 2));
    });
    assert_eq!((get(at), counts()), (1, [4, 2, 0, 0]));
    put(at, 60);
    assert_eq!((get(at), counts()), (60, [4, 2, 0, 0]));
    unmap(at, 2);
}

fn the_child_has_no_reservation() {
    let _pool = Pool::of(&[2]);
    let at = map(2, PRIVATE);
    assert_eq!(counts(), [2, 2, 2, 0]);
    // All that is free is the parent's.
    run(|| bus_error(at));
    assert_eq!(counts(), [2, 2, 2, 0]);
    touch(at, 2);
    assert_eq!(counts(), [2, 0, 0, 0]);
    unmap(at, 2);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn the_parent_keeps_its_page_and_the_child_loses_it() {
    let _pool = Pool::of(&[2]);
    let at = map(2, PRIVATE);
    touch(at, 2);
    let steps = Steps::new();
    let pid = spawn(|| {
        assert_eq!(get(at), 1);
        steps.reach(1);
        steps.await_(2);
        // The page is gone, the one beside it is not.
        bus_error(at);
        assert_eq!(get(at + HUGE), 2);
    });
    steps.await_(1);
    put(at, 9);
    assert_eq!(counts(), [2, 0, 0, 0]);
    steps.reach(2);
    assert_eq!(join(pid), 0);
    assert_eq!((get(at), get(at + HUGE)), (9, 2));
    unmap(at, 2);
    assert_eq!(counts(), [2, 2, 0, 0]);
}

fn a_child_that_finds_no_page_for_its_copy_dies() {
    let _pool = Pool::of(&[1]);
    let at = map(1, PRIVATE);
    touch(at, 1);
    assert_eq!(end_of(|| put(at, 2)), 128 + libc::SIGBUS);
    run(|| {
        let fault = try_write(at, 2).expect_err("SIGBUS");
        assert_eq!(fault.signal, libc::SIGBUS);
        // To read it is still there.
        assert_eq!(try_read(at), Ok(1));
    });
    assert_eq!(get(at), 1);
    unmap(at, 1);
}

fn the_last_one_keeps_the_page_it_has() {
    let _pool = Pool::of(&[1]);
    let at = map(1, PRIVATE);
    touch(at, 1);
    let steps = Steps::new();
    let pid = spawn(|| {
        steps.await_(1);
        put(at, 7);
        assert_eq!((get(at), counts()[1]), (7, 0));
    });
    unmap(at, 1);
    // (Linux tells of one reservation less than none while the child has the page.)
    assert_eq!(counts()[..2], [1, 0]);
    steps.reach(1);
    assert_eq!(join(pid), 0);
    assert_eq!(counts(), [1, 1, 0, 0]);
}

fn dontfork_leaves_huge_pages_out() {
    let _pool = Pool::of(&[1]);
    let at = map(1, PRIVATE);
    touch(at, 1);
    crate::memory::madvise(at, PAGES, libc::MADV_DONTFORK).unwrap();
    run(|| assert_eq!(try_read(at).map_err(|f| f.signal), Err(libc::SIGSEGV)));
    assert_eq!((get(at), counts()), (1, [1, 0, 0, 0]));
    unmap(at, 1);
}
