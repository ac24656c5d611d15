//! Stacks that grow: the process's own, and mappings that ask for it.

use std::hint::black_box;

use crate::fault::{self, MAPERR, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;

pub const TESTS: &[Test] = tests![
    the_stack_grows_by_megabytes,
    the_stack_grows_by_a_leap,
    the_stack_does_not_grow_beyond_its_limit,
    endless_recursion_ends_in_sigsegv,
    a_growsdown_mapping_grows_down_when_touched_below,
    a_growsdown_mapping_takes_a_leap_with_all_between,
    a_growsdown_mapping_stops_before_its_neighbour,
    a_kernel_copy_grows_the_stack_as_well,
    threads_have_stacks_of_their_own,
];

/// Uses about `depth` pages of stack.
#[inline(never)]
fn deep(depth: usize) -> usize {
    let block = black_box([depth as u8; PAGE]);
    let below = if depth > 0 { deep(depth - 1) } else { 0 };
    below + usize::from(black_box(block)[depth % PAGE] == depth as u8)
}

fn here() -> usize {
    let place = 0u8;
    black_box(&raw const place as usize)
}

/// A page that grows downwards, with a free mebibyte below it.
fn growing() -> usize {
    let at = map_alone(1024);
    munmap(at, 1024).unwrap();
    let flags = PRIVATE | libc::MAP_FIXED | libc::MAP_GROWSDOWN;
    mmap(at + 1023 * PAGE, PAGE, RW, flags, -1, 0).unwrap()
}

fn the_stack_grows_by_megabytes() {
    assert_eq!(deep(1000), 1001);
}

fn the_stack_grows_by_a_leap() {
    let at = here() - (2 << 20);
    assert_eq!(try_read(at), Ok(0));
    assert_eq!(try_write(at + 1, 1), Ok(()));
}

fn the_stack_does_not_grow_beyond_its_limit() {
    let old = crate::task::limits::get(libc::RLIMIT_STACK);
    crate::task::limits::set(libc::RLIMIT_STACK, 1 << 20, old.1);
    let at = here() - (3 << 20);
    fault::segv(try_read(at), MAPERR, at);
    let near = here() - (512 << 10);
    assert_eq!(try_write(near, 1), Ok(()));
}

fn endless_recursion_ends_in_sigsegv() {
    let end = crate::child::end_of(|| {
        black_box(deep(1 << 20));
    });
    assert_eq!(end, 128 + libc::SIGSEGV);
}

fn a_growsdown_mapping_grows_down_when_touched_below() {
    let top = growing();
    put(top, 1);
    for page in 1..=64 {
        assert_eq!(try_write(top - page * PAGE, page as u8), Ok(()), "page {page} below");
    }
    assert_eq!(get(top - 64 * PAGE), 64);
    assert_eq!(get(top), 1);
}

fn a_growsdown_mapping_takes_a_leap_with_all_between() {
    let top = growing();
    put(top - 100 * PAGE, 7);
    verify_zero(top - 99 * PAGE, 99);
}

fn a_growsdown_mapping_stops_before_its_neighbour() {
    let top = growing();
    let below = top - 400 * PAGE;
    mmap(below, PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    // The guard gap is 256 pages.
    assert_eq!(try_write(top - 130 * PAGE, 1), Ok(()));
    let close = top - 300 * PAGE;
    fault::segv(try_write(close, 1), MAPERR, close);
}

fn a_kernel_copy_grows_the_stack_as_well() {
    let (reader, writer) = crate::sys::pipe().unwrap();
    crate::sys::write(writer, b"abc").unwrap();
    let at = here() - (1 << 20);
    let read = crate::sys::sys!(libc::SYS_read, reader, at, 3);
    assert_eq!(read, Ok(3));
    assert_eq!(get(at), b'a');
}

fn threads_have_stacks_of_their_own() {
    let places: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (deep(100), here()))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .map(|(depth, place)| {
                assert_eq!(depth, 101);
                place
            })
            .collect()
    });
    for place in &places {
        assert!(place.abs_diff(here()) > PAGE);
    }
}
