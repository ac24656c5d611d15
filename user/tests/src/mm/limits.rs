//! How much an address space may hold: RLIMIT_AS and RLIMIT_DATA wherever memory becomes more or
//! becomes data, and the number of areas (vm.max_map_count) wherever one is split.

use libc::{EAGAIN, ENOMEM, RLIMIT_AS, RLIMIT_DATA};

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{fails, sys};
use crate::task::limits::{get as limit_of, set as set_limit};

pub const TESTS: &[Test] = tests![
    what_turns_into_data_is_limited,
    data_that_grows_is_limited,
    shared_and_unwritable_memory_is_no_data,
    a_soft_limit_of_no_data_leaves_the_hard_one,
    what_is_replaced_makes_room,
    a_moved_copy_counts_against_the_address_space,
    areas_without_room_are_not_split,
];

const READ: i32 = libc::PROT_READ;
const MAYMOVE: i32 = libc::MREMAP_MAYMOVE;

/// Bytes of a line of /proc/self/status. Nothing is allocated: there may be no room for that.
fn bytes(field: &str) -> u64 {
    let mut buffer = [0u8; 4096];
    let fd = crate::sys::open("/proc/self/status", 0, 0).unwrap();
    let got = crate::sys::read(fd, &mut buffer).unwrap();
    crate::sys::close(fd);
    let text = std::str::from_utf8(&buffer[..got]).expect("a text");
    let is_it = |line: &&str| line.split(':').next() == Some(field);
    let line = text.lines().find(is_it).expect("a size");
    let size = line[field.len() + 1..].trim_end_matches("kB").trim();
    size.parse::<u64>().unwrap() * 1024
}

/// Leaves room for so many pages more.
fn leave(limit: i32, field: &str, pages: usize) {
    let most = bytes(field) + (pages * PAGE) as u64;
    set_limit(limit, most, limit_of(limit).1);
}

fn what_turns_into_data_is_limited() {
    let at = mmap(0, 64 * PAGE, READ, PRIVATE, -1, 0).unwrap();
    let before = bytes("VmData");
    mprotect(at, 8, RW).unwrap();
    assert_eq!(bytes("VmData"), before + 8 * PAGE as u64);
    leave(RLIMIT_DATA, "VmData", 16);
    fails(mprotect(at + 8 * PAGE, 17, RW), ENOMEM);
    assert!(crate::fault::try_write(at + 8 * PAGE, 1).is_err());
    mprotect(at + 8 * PAGE, 16, RW).unwrap();
    // What is data stays it, with other rights; what is none any more makes room.
    mprotect(at, 24, libc::PROT_WRITE).unwrap();
    fails(mprotect(at + 24 * PAGE, 1, RW), ENOMEM);
    mprotect(at, 1, READ).unwrap();
    mprotect(at + 24 * PAGE, 1, RW).unwrap();
}

fn data_that_grows_is_limited() {
    let at = map_alone(8);
    leave(RLIMIT_DATA, "VmData", 16);
    fails(mmap(0, 17 * PAGE, RW, PRIVATE, -1, 0), ENOMEM);
    fails(mremap(at, 8, 25, MAYMOVE, 0), ENOMEM);
    let at = mremap(at, 8, 24, MAYMOVE, 0).unwrap();
    fails(mremap(at, 24, 25, MAYMOVE, 0), ENOMEM);
    let fd = memfd(4);
    fails(mmap(0, PAGE, RW, libc::MAP_PRIVATE, fd, 0), ENOMEM);
    munmap(at, 1).unwrap();
    mmap(0, PAGE, RW, libc::MAP_PRIVATE, fd, 0).unwrap();
}

fn shared_and_unwritable_memory_is_no_data() {
    leave(RLIMIT_DATA, "VmData", 0);
    let shared = map_shared(8);
    mremap(shared, 8, 16, MAYMOVE, 0).unwrap();
    let read = mmap(0, 8 * PAGE, READ, PRIVATE, -1, 0).unwrap();
    mremap(read, 8, 16, MAYMOVE, 0).unwrap();
    mmap(0, 8 * PAGE, RW, PRIVATE | libc::MAP_GROWSDOWN, -1, 0).unwrap();
    fails(mmap(0, PAGE, RW, PRIVATE, -1, 0), ENOMEM);
}

fn a_soft_limit_of_no_data_leaves_the_hard_one() {
    let hard = bytes("VmData") + 8 * PAGE as u64;
    set_limit(RLIMIT_DATA, 0, hard);
    let at = mmap(0, 8 * PAGE, RW, PRIVATE, -1, 0).unwrap();
    fails(mmap(0, PAGE, RW, PRIVATE, -1, 0), ENOMEM);
    munmap(at, 8).unwrap();
    set_limit(RLIMIT_DATA, PAGE as u64, hard);
    fails(mmap(0, PAGE, RW, PRIVATE, -1, 0), ENOMEM);
}

fn what_is_replaced_makes_room() {
    let at = map_alone(8);
    leave(RLIMIT_AS, "VmSize", 0);
    fails(mmap(0, PAGE, READ, PRIVATE, -1, 0), ENOMEM);
    mmap(at, 8 * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
    // The page behind it is one more of those that were there.
    mmap(at, 9 * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
}

fn a_moved_copy_counts_against_the_address_space() {
    let at = map_alone(8);
    let to = mmap(0, 8 * PAGE, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    munmap(to, 8).unwrap();
    leave(RLIMIT_AS, "VmSize", 7);
    fails(mremap(at, 8, 8, MAYMOVE | libc::MREMAP_DONTUNMAP, to), ENOMEM);
    leave(RLIMIT_AS, "VmSize", 8);
    mremap(at, 8, 8, MAYMOVE | libc::MREMAP_DONTUNMAP, to).unwrap();
}

/// What maps shows, without the page that belongs to no address space.
fn areas() -> usize {
    // Nothing is allocated: there is no room for that.
    let mut buffer = [0u8; 16384];
    let fd = crate::sys::open("/proc/self/maps", 0, 0).unwrap();
    let mut lines = 0;
    loop {
        let got = crate::sys::read(fd, &mut buffer).unwrap();
        let text = &buffer[..got];
        lines += text.iter().filter(|&&byte| byte == b'\n').count();
        lines -= usize::from(text.ends_with(b"[vsyscall]\n"));
        if got == 0 {
            crate::sys::close(fd);
            return lines;
        }
    }
}

fn areas_without_room_are_not_split() {
    let most: usize =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let part = map_alone(16);
    let moved = map_alone(4);
    let free = map_alone(16);
    let many = mmap(0, (most + 64) * PAGE, READ, PRIVATE | libc::MAP_NORESERVE, -1, 0).unwrap();
    let mut at = many;
    let end = loop {
        match mprotect(at, 1, libc::PROT_NONE) {
            Ok(_) => at += 2 * PAGE,
            Err(error) => break error,
        }
    };
    assert_eq!(end.0, ENOMEM);
    // The last one makes two more, if there is room for one only the other way fills it.
    let near_end = at - 2 * PAGE;
    if areas() < most {
        mprotect(many + (most + 63) * PAGE, 1, libc::PROT_NONE).unwrap();
    }
    assert_eq!(areas(), most);
    fails(mprotect(part + PAGE, 1, READ), ENOMEM);
    fails(mprotect(part, 1, READ), ENOMEM);
    fails(madvise(part, 1, libc::MADV_DONTFORK), EAGAIN);
    fails(madvise(part + PAGE, 1, libc::MADV_SEQUENTIAL), EAGAIN);
    fails(sys!(libc::SYS_mlock, part + PAGE, PAGE), ENOMEM);
    assert_eq!(bytes("VmLck"), 0);
    let node = [1u64];
    let bind = |at: usize, pages: usize| {
        sys!(libc::SYS_mbind, at, pages * PAGE, libc::MPOL_BIND, node.as_ptr(), 64, 0)
    };
    fails(bind(part + PAGE, 1), ENOMEM);
    fails(munmap(part + PAGE, 1), ENOMEM);
    fails(mremap(moved, 4, 8, MAYMOVE, 0), ENOMEM);
    fails(mremap(moved, 4, 4, MAYMOVE | libc::MREMAP_FIXED, free), ENOMEM);
    verify_zero(free, 16);
    // Whole areas change, and parts that become one with a neighbour do.
    mprotect(part, 16, READ).unwrap();
    mprotect(part, 16, RW).unwrap();
    mprotect(near_end - PAGE, 1, libc::PROT_NONE).unwrap();
    assert_eq!(areas(), most - 2);
    madvise(part, 16, libc::MADV_DONTFORK).unwrap();
    bind(part, 16).unwrap();
    mprotect(near_end - PAGE, 1, READ).unwrap();
    assert_eq!(areas(), most);
    // One mapping more may be made, and none after that.
    let one = mmap(0, PAGE, libc::PROT_EXEC, SHARED, -1, 0).unwrap();
    assert_eq!(areas(), most + 1);
    fails(mmap(0, PAGE, libc::PROT_EXEC, SHARED, -1, 0), ENOMEM);
    munmap(one, 1).unwrap();
    // The ends of an area go without a new one.
    munmap(part, 1).unwrap();
    munmap(part + 15 * PAGE, 1).unwrap();
    assert_eq!(areas(), most);
}
