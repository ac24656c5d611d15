//! Files in memory: what mappings, reads and writes of one file see of each other.

use crate::child::{join, run, spawn};
use crate::fault::{self, try_read, try_write};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    what_is_written_to_a_shared_mapping_is_read_from_the_file,
    what_is_written_to_the_file_is_seen_in_its_mappings,
    a_private_mapping_keeps_its_writes_to_itself,
    two_mappings_of_one_file_are_one_memory,
    a_mapping_outlives_the_descriptor,
    a_file_lives_as_long_as_a_mapping_of_it,
    beyond_the_end_of_the_file_is_sigbus,
    truncation_takes_pages_out_of_every_mapping,
    the_rest_of_the_last_page_is_zero_after_truncation,
    a_file_that_grows_is_reached_through_the_old_mapping,
    a_file_sent_to_a_child_is_the_same_file,
    a_sparse_file_takes_memory_only_where_written,
    reading_a_hole_through_a_mapping_gives_zeroes,
    a_write_from_a_mapping_of_the_same_file_works,
    fallocate_reserves_and_punches,
    holes_punched_while_threads_fault_leave_one_memory,
    fallocate_of_who_is_killed_gives_back_what_it_has,
    the_mapping_is_named_in_maps,
];

fn file(name: &str, pages: usize) -> i32 {
    let path = format!("/tmp/tests-{name}");
    let fd = sys::open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600).unwrap();
    std::fs::remove_file(&path).unwrap();
    sys!(libc::SYS_ftruncate, fd, pages * PAGE).unwrap();
    fd
}

fn pread(fd: i32, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xaa; len];
    let read = sys!(libc::SYS_pread64, fd, bytes.as_mut_ptr(), len, at).unwrap();
    bytes.truncate(read);
    bytes
}

fn pwrite(fd: i32, at: usize, bytes: &[u8]) {
    let written = sys!(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at);
    assert_eq!(written, Ok(bytes.len()));
}

fn what_is_written_to_a_shared_mapping_is_read_from_the_file() {
    for fd in [memfd(4), file("a", 4)] {
        let at = map_file(fd, 4, libc::MAP_SHARED);
        put(at + PAGE + 5, 42);
        assert_eq!(pread(fd, PAGE + 4, 3), [0, 42, 0]);
    }
}

fn what_is_written_to_the_file_is_seen_in_its_mappings() {
    for fd in [memfd(4), file("b", 4)] {
        let shared = map_file(fd, 4, libc::MAP_SHARED);
        let private = map_file(fd, 4, libc::MAP_PRIVATE);
        assert_eq!(get(shared), 0);
        pwrite(fd, PAGE - 1, &[1, 2]);
        assert_eq!([get(shared + PAGE - 1), get(shared + PAGE)], [1, 2]);
        assert_eq!([get(private + PAGE - 1), get(private + PAGE)], [1, 2]);
    }
}

fn a_private_mapping_keeps_its_writes_to_itself() {
    for fd in [memfd(2), file("c", 2)] {
        let shared = map_file(fd, 2, libc::MAP_SHARED);
        fill(shared, 2, 1);
        let private = map_file(fd, 2, libc::MAP_PRIVATE);
        verify(private, 2, 1);
        fill(private, 1, 2);
        verify(shared, 2, 1);
        assert_eq!(get64(private + PAGE), get64(shared + PAGE));
        pwrite(fd, 0, &[0x55; 8]);
        verify(private, 1, 2);
    }
}

fn two_mappings_of_one_file_are_one_memory() {
    let fd = memfd(8);
    let one = map_file(fd, 8, libc::MAP_SHARED);
    let two = mmap(0, 4 * PAGE, RW, libc::MAP_SHARED, fd, 4 * PAGE).unwrap();
    fill(two, 4, 3);
    for page in 0..4 {
        assert_eq!(get64(one + (4 + page) * PAGE), get64(two + page * PAGE));
    }
    put64(one + 4 * PAGE, 99);
    assert_eq!(get64(two), 99);
}

fn a_mapping_outlives_the_descriptor() {
    let fd = memfd(2);
    let at = map_file(fd, 2, libc::MAP_SHARED);
    fill(at, 1, 1);
    sys::close(fd);
    verify(at, 1, 1);
    fill(at + PAGE, 1, 2);
    run(|| verify(at + PAGE, 1, 2));
}

fn a_file_lives_as_long_as_a_mapping_of_it() {
    let fd = file("d", 2);
    let at = map_file(fd, 2, libc::MAP_SHARED);
    sys::close(fd);
    fill(at, 2, 8);
    verify(at, 2, 8);
}

fn beyond_the_end_of_the_file_is_sigbus() {
    let fd = memfd(2);
    let at = map_file(fd, 4, libc::MAP_SHARED);
    assert_eq!(try_write(at + 2 * PAGE - 1, 1), Ok(()));
    fault::bus(try_read(at + 2 * PAGE), at + 2 * PAGE);
    fault::bus(try_write(at + 3 * PAGE + 9, 1), at + 3 * PAGE + 9);
}

fn truncation_takes_pages_out_of_every_mapping() {
    for fd in [memfd(4), file("e", 4)] {
        let at = map_file(fd, 4, libc::MAP_SHARED);
        fill(at, 4, 1);
        let private = map_file(fd, 4, libc::MAP_PRIVATE);
        fill(private, 4, 2);
        sys!(libc::SYS_ftruncate, fd, PAGE).unwrap();
        fault::bus(try_read(at + PAGE), at + PAGE);
        // A private copy beyond the new end goes as well.
        fault::bus(try_read(private + 3 * PAGE), private + 3 * PAGE);
        verify(at, 1, 1);
        verify(private, 1, 2);
        sys!(libc::SYS_ftruncate, fd, 4 * PAGE).unwrap();
        verify_zero(at + PAGE, 3);
        verify_zero(private + PAGE, 3);
    }
}

fn the_rest_of_the_last_page_is_zero_after_truncation() {
    let fd = memfd(1);
    let at = map_file(fd, 1, libc::MAP_SHARED);
    fill(at, 1, 1);
    sys!(libc::SYS_ftruncate, fd, 100).unwrap();
    sys!(libc::SYS_ftruncate, fd, PAGE).unwrap();
    assert_ne!(get(at + 8), 0);
    for byte in 100..PAGE {
        assert_eq!(get(at + byte), 0, "byte {byte}");
    }
}

fn a_file_that_grows_is_reached_through_the_old_mapping() {
    let fd = memfd(1);
    let at = map_file(fd, 4, libc::MAP_SHARED);
    fault::bus(try_read(at + 2 * PAGE), at + 2 * PAGE);
    pwrite(fd, 3 * PAGE, b"end");
    assert_eq!(get(at + 3 * PAGE + 2), b'd');
    assert_eq!(try_read(at + 2 * PAGE), Ok(0));
}

fn a_file_sent_to_a_child_is_the_same_file() {
    let fd = memfd(2);
    let at = map_file(fd, 2, libc::MAP_SHARED);
    run(|| {
        put(at, 1);
        pwrite(fd, PAGE, &[2]);
    });
    assert_eq!((get(at), get(at + PAGE)), (1, 2));
}

fn a_sparse_file_takes_memory_only_where_written() {
    for fd in [memfd(1 << 20), file("f", 1 << 20)] {
        let blocks = || {
            let mut stat: libc::stat = sys::zeroed();
            sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
            stat.st_blocks
        };
        assert_eq!(blocks(), 0);
        pwrite(fd, 1 << 30, &[1]);
        pwrite(fd, 5 * PAGE + 7, &[1]);
        assert_eq!(blocks(), 16);
        assert_eq!(pread(fd, 1 << 20, 2), [0, 0]);
    }
}

fn reading_a_hole_through_a_mapping_gives_zeroes() {
    let fd = memfd(8);
    let shared = map_file(fd, 8, libc::MAP_SHARED);
    let private = map_file(fd, 8, libc::MAP_PRIVATE);
    verify_zero(private, 8);
    verify_zero(shared, 8);
    put(shared + PAGE, 9);
    assert_eq!(get(private + PAGE), 9);
}

fn a_write_from_a_mapping_of_the_same_file_works() {
    let fd = memfd(2);
    let at = map_file(fd, 2, libc::MAP_SHARED);
    fill(at, 1, 6);
    assert_eq!(sys!(libc::SYS_pwrite64, fd, at, PAGE, PAGE), Ok(PAGE));
    verify(at + PAGE, 1, 6);
}

fn fallocate_of_who_is_killed_gives_back_what_it_has() {
    const BYTES: usize = 256 << 20;
    let fd = memfd(0);
    let blocks = || {
        let mut stat: libc::stat = sys::zeroed();
        sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
        stat.st_blocks as usize
    };
    let child = spawn(|| _ = sys!(libc::SYS_fallocate, fd, 0, 0, BYTES));
    while blocks() == 0 {
        sys!(libc::SYS_sched_yield).unwrap();
    }
    sys!(libc::SYS_kill, child, libc::SIGKILL).unwrap();
    join(child);
    // All of it, where it was quicker than the signal.
    assert!([0, BYTES / 512].contains(&blocks()), "{} blocks are left", blocks());
}

fn fallocate_reserves_and_punches() {
    let fd = memfd(0);
    sys!(libc::SYS_fallocate, fd, 0, 0, 8 * PAGE).unwrap();
    let at = map_file(fd, 8, libc::MAP_SHARED);
    let mut stat: libc::stat = sys::zeroed();
    sys!(libc::SYS_fstat, fd, &raw mut stat).unwrap();
    assert_eq!((stat.st_size, stat.st_blocks), (8 * PAGE as i64, 64));
    fill(at, 8, 1);
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    sys!(libc::SYS_fallocate, fd, punch, 2 * PAGE, 3 * PAGE).unwrap();
    verify_zero(at + 2 * PAGE, 3);
    assert_ne!(get64(at + PAGE), 0);
    assert_ne!(get64(at + 5 * PAGE), 0);
    // One far longer than any memory takes no longer.
    sys!(libc::SYS_fallocate, fd, punch, 6 * PAGE, 1usize << 60).unwrap();
    verify_zero(at + 6 * PAGE, 2);
    assert_ne!(get64(at + 5 * PAGE), 0);
}

fn holes_punched_while_threads_fault_leave_one_memory() {
    const PAGES: usize = 16;
    let fd = memfd(PAGES);
    let ends = std::sync::atomic::AtomicBool::new(false);
    let ended = || ends.load(std::sync::atomic::Ordering::Relaxed);
    let at = map_file(fd, PAGES, libc::MAP_SHARED);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                while !ended() {
                    (0..PAGES).for_each(|page| put(at + page * PAGE + thread, 1));
                }
                // What is written now is in the file.
                (0..PAGES).for_each(|page| put(at + page * PAGE + thread, 7));
            });
        }
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        for round in 0..400 {
            let page = round % PAGES;
            sys!(libc::SYS_fallocate, fd, punch, page * PAGE, PAGE).unwrap();
        }
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    for page in 0..PAGES {
        assert_eq!(pread(fd, page * PAGE, 3), [7; 3], "page {page}");
    }
}

fn the_mapping_is_named_in_maps() {
    let path = "/tmp/tests-named";
    std::fs::write(path, vec![1u8; 3 * PAGE]).unwrap();
    let fd = sys::open(path, libc::O_RDONLY, 0).unwrap();
    let at = mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, fd, 2 * PAGE).unwrap();
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{at:08x}-"))).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[1], words[2], words[5]), ("r--p", "00002000", path));
    std::fs::remove_file(path).unwrap();
}
