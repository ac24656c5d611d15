//! mmap(2): where mappings go, what they hold, what is refused.

use libc::{EACCES, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, PROT_READ};

use crate::fault::{self, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    anonymous_pages_read_as_zero,
    reused_frames_are_cleared,
    pages_appear_when_they_are_touched_and_not_before,
    populate_makes_every_page_resident,
    a_free_hint_is_taken,
    a_hint_is_rounded_to_a_page,
    an_occupied_hint_is_passed_over_and_nothing_is_lost,
    fixed_replaces_what_was_there,
    fixed_refuses_an_address_within_a_page,
    fixed_refuses_the_kernels_half,
    noreplace_refuses_an_overlap_and_leaves_it,
    noreplace_takes_a_free_place_exactly,
    bad_arguments_of_mmap_are_refused,
    a_length_of_mmap_is_rounded_up_to_pages,
    shared_validate_refuses_flags_it_does_not_know,
    a_file_opened_for_reading_is_not_mapped_shared_and_writable,
    what_has_no_pages_is_not_mapped,
    noreserve_maps_more_than_there_is_memory,
    a_mapping_that_memory_could_never_back_is_refused,
    a_32_bit_mapping_lies_below_2_gib,
    dev_zero_maps_as_zero_pages,
    the_map_count_and_rights_are_shown_in_maps,
    neighbours_of_one_kind_become_one_mapping,
    an_unreadable_mapping_holds_its_place_only,
    write_without_read_is_readable_too_on_this_machine,
    the_address_space_limit_holds,
    the_data_limit_holds_for_writable_private_memory,
    a_wild_pointer_given_to_a_call_is_efault,
    a_write_from_a_range_cut_by_a_hole_is_cut_there,
];

const FIXED: i32 = PRIVATE | libc::MAP_FIXED;
const NOREPLACE: i32 = PRIVATE | libc::MAP_FIXED_NOREPLACE;

/// Lines of /proc/self/maps that overlap a range: start, end, rights.
fn lines_of(at: usize, pages: usize) -> Vec<(usize, usize, String)> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |word: &str| usize::from_str_radix(word, 16).unwrap();
    text.lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            (hex(start), hex(end), rest.split(' ').next().unwrap().to_string())
        })
        .filter(|(start, end, _)| *start < at + pages * PAGE && *end > at)
        .collect()
}

fn anonymous_pages_read_as_zero() {
    let at = map(64);
    verify_zero(at, 64);
    fill(at, 64, 1);
    verify(at, 64, 1);
}

fn reused_frames_are_cleared() {
    for _ in 0..8 {
        let at = map(128);
        verify_zero(at, 128);
        fill(at, 128, 7);
        munmap(at, 128).unwrap();
    }
}

fn pages_appear_when_they_are_touched_and_not_before() {
    let at = map(8);
    assert_eq!(resident(at, 8).unwrap(), [false; 8]);
    put(at + 3 * PAGE, 1);
    let expected = [false, false, false, true, false, false, false, false];
    assert_eq!(resident(at, 8).unwrap(), expected);
}

fn populate_makes_every_page_resident() {
    let at = mmap(0, 16 * PAGE, RW, PRIVATE | libc::MAP_POPULATE, -1, 0).unwrap();
    assert_eq!(resident(at, 16).unwrap(), [true; 16]);
    verify_zero(at, 16);
}

fn a_free_hint_is_taken() {
    let at = map(4);
    munmap(at, 4).unwrap();
    assert_eq!(mmap(at, 2 * PAGE, RW, PRIVATE, -1, 0), Ok(at));
}

fn a_hint_is_rounded_to_a_page() {
    let at = map(4);
    munmap(at, 4).unwrap();
    assert_eq!(mmap(at + 100, PAGE, RW, PRIVATE, -1, 0), Ok(at));
}

fn an_occupied_hint_is_passed_over_and_nothing_is_lost() {
    let at = map(4);
    put(at, 5);
    let other = mmap(at, 4 * PAGE, RW, PRIVATE, -1, 0).unwrap();
    assert!(other >= at + 4 * PAGE || other + 4 * PAGE <= at);
    assert_eq!(get(at), 5);
}

fn fixed_replaces_what_was_there() {
    let at = map(4);
    fill(at, 4, 3);
    assert_eq!(mmap(at + PAGE, 2 * PAGE, RW, FIXED, -1, 0), Ok(at + PAGE));
    verify_zero(at + PAGE, 2);
    assert_ne!(get64(at), 0);
    assert_ne!(get64(at + 3 * PAGE), 0);
}

fn fixed_refuses_an_address_within_a_page() {
    let at = map(4);
    fails(mmap(at + 8, PAGE, RW, FIXED, -1, 0), EINVAL);
}

fn fixed_refuses_the_kernels_half() {
    fails(mmap(1 << 47, PAGE, RW, FIXED, -1, 0), ENOMEM);
    fails(mmap((1 << 47) - PAGE, PAGE, RW, FIXED, -1, 0), ENOMEM);
}

fn noreplace_refuses_an_overlap_and_leaves_it() {
    let at = map(4);
    put(at + 2 * PAGE, 9);
    fails(mmap(at + 2 * PAGE, 4 * PAGE, RW, NOREPLACE, -1, 0), EEXIST);
    assert_eq!(get(at + 2 * PAGE), 9);
}

fn noreplace_takes_a_free_place_exactly() {
    let at = map(4);
    munmap(at, 4).unwrap();
    assert_eq!(mmap(at + PAGE, PAGE, RW, NOREPLACE, -1, 0), Ok(at + PAGE));
    put(at + PAGE, 1);
}

fn bad_arguments_of_mmap_are_refused() {
    fails(mmap(0, 0, RW, PRIVATE, -1, 0), EINVAL);
    fails(mmap(0, PAGE, RW, libc::MAP_ANONYMOUS, -1, 0), EINVAL);
    fails(mmap(0, PAGE, RW, libc::MAP_PRIVATE, -1, 0), EBADF);
    fails(mmap(0, PAGE, RW, libc::MAP_PRIVATE, memfd(1), 1), EINVAL);
    fails(mmap(0, usize::MAX - 10, RW, PRIVATE, -1, 0), ENOMEM);
    fails(mmap(0, 1 << 47, RW, PRIVATE | libc::MAP_NORESERVE, -1, 0), ENOMEM);
}

fn a_length_of_mmap_is_rounded_up_to_pages() {
    let at = map(4);
    munmap(at, 4).unwrap();
    assert_eq!(mmap(at, PAGE + 1, RW, FIXED, -1, 0), Ok(at));
    put(at + 2 * PAGE - 1, 1);
    fault::segv(try_read(at + 2 * PAGE), fault::MAPERR, at + 2 * PAGE);
}

fn shared_validate_refuses_flags_it_does_not_know() {
    let fd = memfd(1);
    let flags = libc::MAP_SHARED_VALIDATE;
    let at = mmap(0, PAGE, RW, flags, fd, 0).unwrap();
    put(at, 3);
    let mut byte = [0u8];
    sys::read(fd, &mut byte).unwrap();
    assert_eq!(byte, [3]);
    fails(mmap(0, PAGE, RW, flags | libc::MAP_SYNC, fd, 0), EOPNOTSUPP);
}

fn a_file_opened_for_reading_is_not_mapped_shared_and_writable() {
    let path = "/tmp/tests-map-ro";
    std::fs::write(path, [7u8; 100]).unwrap();
    let fd = sys::open(path, libc::O_RDONLY, 0).unwrap();
    fails(mmap(0, PAGE, RW, libc::MAP_SHARED, fd, 0), EACCES);
    let at = mmap(0, PAGE, RW, libc::MAP_PRIVATE, fd, 0).unwrap();
    put(at, 1);
    assert_eq!(get(at + 1), 7);
    let fd = sys::open(path, libc::O_WRONLY, 0).unwrap();
    fails(mmap(0, PAGE, libc::PROT_WRITE, libc::MAP_SHARED, fd, 0), EACCES);
    fails(mmap(0, PAGE, PROT_READ, libc::MAP_PRIVATE, fd, 0), EACCES);
    let _ = std::fs::remove_file(path);
}

fn what_has_no_pages_is_not_mapped() {
    let fd = sys::open("/tmp", libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
    fails(mmap(0, PAGE, PROT_READ, libc::MAP_PRIVATE, fd, 0), ENODEV);
    let (reader, _) = sys::pipe().unwrap();
    fails(mmap(0, PAGE, PROT_READ, libc::MAP_PRIVATE, reader, 0), ENODEV);
}

fn noreserve_maps_more_than_there_is_memory() {
    let pages = (64 << 30) / PAGE;
    let flags = PRIVATE | libc::MAP_NORESERVE;
    let at = mmap(0, pages * PAGE, RW, flags, -1, 0).unwrap();
    put(at, 1);
    put(at + (pages - 1) * PAGE, 2);
    assert_eq!((get(at), get(at + (pages - 1) * PAGE)), (1, 2));
    munmap(at, pages).unwrap();
}

fn a_mapping_that_memory_could_never_back_is_refused() {
    fails(mmap(0, 1 << 45, RW, PRIVATE, -1, 0), ENOMEM);
}

fn a_32_bit_mapping_lies_below_2_gib() {
    let at = mmap(0, 4 * PAGE, RW, PRIVATE | libc::MAP_32BIT, -1, 0).unwrap();
    assert!(at + 4 * PAGE <= 1 << 31, "{at:#x}");
    fill(at, 4, 2);
    verify(at, 4, 2);
}

fn dev_zero_maps_as_zero_pages() {
    let fd = sys::open("/dev/zero", libc::O_RDWR, 0).unwrap();
    let private = mmap(0, 2 * PAGE, RW, libc::MAP_PRIVATE, fd, 0).unwrap();
    let shared = mmap(0, 2 * PAGE, RW, libc::MAP_SHARED, fd, 0).unwrap();
    verify_zero(private, 2);
    verify_zero(shared, 2);
    crate::child::run(|| {
        put(private, 1);
        put(shared, 1);
    });
    assert_eq!((get(private), get(shared)), (0, 1));
}

fn the_map_count_and_rights_are_shown_in_maps() {
    let at = map_alone(6);
    mprotect(at + 2 * PAGE, 2, PROT_READ).unwrap();
    let rights: Vec<String> = lines_of(at, 6).into_iter().map(|line| line.2).collect();
    assert_eq!(rights, ["rw-p", "r--p", "rw-p"]);
    let shared = map_shared(1);
    assert_eq!(lines_of(shared, 1)[0].2, "rw-s");
}

fn neighbours_of_one_kind_become_one_mapping() {
    let at = map_alone(6);
    mprotect(at + 2 * PAGE, 2, PROT_READ).unwrap();
    assert_eq!(lines_of(at, 6).len(), 3);
    mprotect(at + 2 * PAGE, 2, RW).unwrap();
    assert_eq!(lines_of(at, 6), [(at, at + 6 * PAGE, "rw-p".to_string())]);
}

fn an_unreadable_mapping_holds_its_place_only() {
    let at = mmap(0, 2 * PAGE, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    fault::segv(try_read(at), fault::ACCERR, at);
    fault::segv(try_write(at + 5, 0), fault::ACCERR, at + 5);
    assert_eq!(resident(at, 2).unwrap(), [false; 2]);
}

fn write_without_read_is_readable_too_on_this_machine() {
    let at = mmap(0, PAGE, libc::PROT_WRITE, PRIVATE, -1, 0).unwrap();
    put(at, 4);
    assert_eq!(try_read(at), Ok(4));
}

fn the_address_space_limit_holds() {
    let old = crate::task::limits::get(libc::RLIMIT_AS);
    crate::task::limits::set(libc::RLIMIT_AS, 64 << 20, old.1);
    fails(mmap(0, 1 << 30, RW, PRIVATE, -1, 0), ENOMEM);
    let at = map(4);
    put(at, 1);
}

fn the_data_limit_holds_for_writable_private_memory() {
    let old = crate::task::limits::get(libc::RLIMIT_DATA);
    crate::task::limits::set(libc::RLIMIT_DATA, 1 << 20, old.1);
    fails(mmap(0, 64 << 20, RW, PRIVATE, -1, 0), ENOMEM);
    mmap(0, 64 << 20, PROT_READ, PRIVATE, -1, 0).unwrap();
    mmap(0, 64 << 20, RW, SHARED, -1, 0).unwrap();
}

fn a_wild_pointer_given_to_a_call_is_efault() {
    let at = map(2);
    munmap(at + PAGE, 1).unwrap();
    let (_, writer) = sys::pipe().unwrap();
    let none = mmap(0, PAGE, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    for wild in [0, 8, at + PAGE, none, 1 << 46, 0xffff_8000_0000_0000, usize::MAX - 100] {
        fails(sys!(libc::SYS_write, writer, wild, 16), libc::EFAULT);
        fails(sys!(libc::SYS_pipe2, wild, 0), libc::EFAULT);
    }
}

fn a_write_from_a_range_cut_by_a_hole_is_cut_there() {
    let at = map(2);
    munmap(at + PAGE, 1).unwrap();
    fill(at, 1, 4);
    let fd = memfd(0);
    let written = sys!(libc::SYS_write, fd, at + PAGE - 100, 200);
    assert_eq!(written, Ok(100));
}
