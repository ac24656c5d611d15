//! brk(2). Nothing here allocates from the heap while the break is moved.

use crate::fault::{self, MAPERR, try_read};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::sys;

pub const TESTS: &[Test] = tests![
    the_break_moves_up_to_the_byte,
    new_memory_is_zero_and_keeps_what_is_written,
    memory_given_back_is_gone_and_comes_back_zero,
    a_break_below_the_start_is_refused,
    a_break_beyond_the_address_space_is_refused,
    a_break_does_not_run_into_a_mapping,
    the_data_limit_holds,
    a_child_has_a_break_of_its_own,
    the_heap_is_named_in_maps,
];

fn brk(to: usize) -> usize {
    sys!(libc::SYS_brk, to).unwrap()
}

/// A break at the end of a page, well above what the library may have.
fn fresh() -> usize {
    let base = brk(0).next_multiple_of(PAGE) + PAGE;
    assert_eq!(brk(base), base);
    base
}

fn the_break_moves_up_to_the_byte() {
    let base = brk(0);
    assert_eq!(brk(base + 12345), base + 12345);
    assert_eq!(brk(0), base + 12345);
    put(base + 12344, 1);
    assert_eq!(brk(base), base);
}

fn new_memory_is_zero_and_keeps_what_is_written() {
    let base = fresh();
    assert_eq!(brk(base + 16 * PAGE), base + 16 * PAGE);
    verify_zero(base, 16);
    fill(base, 16, 5);
    verify(base, 16, 5);
    assert_eq!(brk(base), base);
}

fn memory_given_back_is_gone_and_comes_back_zero() {
    let base = fresh();
    brk(base + 4 * PAGE);
    fill(base, 4, 5);
    assert_eq!(brk(base), base);
    fault::segv(try_read(base + PAGE), MAPERR, base + PAGE);
    assert_eq!(brk(base + 4 * PAGE), base + 4 * PAGE);
    verify_zero(base, 4);
    brk(base);
}

fn a_break_below_the_start_is_refused() {
    let now = brk(0);
    assert_eq!(brk(1), now);
    assert_eq!(brk(0), now);
}

fn a_break_beyond_the_address_space_is_refused() {
    let now = brk(0);
    assert_eq!(brk(usize::MAX & !0xfff), now);
    assert_eq!(brk(0), now);
}

fn a_break_does_not_run_into_a_mapping() {
    let base = fresh();
    let wall = base + 32 * PAGE;
    mmap(wall, PAGE, RW, PRIVATE | libc::MAP_FIXED_NOREPLACE, -1, 0).unwrap();
    put(wall, 7);
    assert_eq!(brk(wall + 8 * PAGE), base);
    assert_eq!(get(wall), 7);
    munmap(wall, 1).unwrap();
}

fn the_data_limit_holds() {
    let base = fresh();
    let old = crate::task::limits::get(libc::RLIMIT_DATA);
    crate::task::limits::set(libc::RLIMIT_DATA, 4 << 20, old.1);
    assert_eq!(brk(base + (64 << 20)), base);
}

fn a_child_has_a_break_of_its_own() {
    let base = fresh();
    brk(base + PAGE);
    put(base, 1);
    crate::child::run(|| {
        assert_eq!(brk(0), base + PAGE);
        assert_eq!(get(base), 1);
        brk(base + 8 * PAGE);
        put(base, 2);
    });
    assert_eq!(brk(0), base + PAGE);
    assert_eq!(get(base), 1);
    brk(base);
}

fn the_heap_is_named_in_maps() {
    let base = fresh();
    brk(base + PAGE);
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = text.lines().rfind(|line| line.ends_with("[heap]")).expect("a [heap] line");
    let end = line.split([' ', '-']).nth(1).map(|word| usize::from_str_radix(word, 16));
    assert_eq!(end, Some(Ok(base + PAGE)));
}
