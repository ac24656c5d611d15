//! Copy on write over fork, the zero page, and memory that stays shared.

use crate::child::{self, Steps, end_of, join, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    a_child_sees_the_parents_bytes_of_the_moment_of_fork,
    a_childs_writes_stay_its_own,
    pages_not_yet_touched_are_each_ones_own,
    the_zero_page_is_copied_when_written,
    generations_of_children_each_keep_their_copy,
    a_page_left_by_the_child_is_written_in_place,
    many_children_share_and_part,
    a_system_call_that_writes_copies_as_well,
    a_system_call_that_writes_to_the_zero_page_copies_it,
    shared_anonymous_memory_is_one_memory,
    shared_memory_outlives_the_one_that_made_its_pages,
    read_only_shared_memory_is_seen_to_change,
    mappings_made_after_fork_are_not_the_others,
    rights_are_each_ones_own,
    resident_memory_is_counted_and_given_back,
    minor_faults_are_counted_one_for_each_page,
    forked_memory_survives_a_storm,
];

fn a_child_sees_the_parents_bytes_of_the_moment_of_fork() {
    let at = map(16);
    fill(at, 16, 1);
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        verify(at, 16, 1);
    });
    fill(at, 16, 2);
    steps.reach(1);
    assert_eq!(join(child), 0);
    verify(at, 16, 2);
}

fn a_childs_writes_stay_its_own() {
    let at = map(16);
    fill(at, 16, 1);
    run(|| {
        fill(at, 16, 2);
        verify(at, 16, 2);
    });
    verify(at, 16, 1);
}

fn pages_not_yet_touched_are_each_ones_own() {
    let at = map(4);
    run(|| {
        verify_zero(at, 4);
        fill(at, 4, 2);
    });
    verify_zero(at, 4);
}

fn the_zero_page_is_copied_when_written() {
    let at = map(2);
    let other = map(2);
    read_each(at, 2);
    read_each(other, 2);
    put(at, 1);
    verify_zero(other, 2);
    verify_zero(at + PAGE, 1);
    run(|| put(at + PAGE, 3));
    verify_zero(at + PAGE, 1);
}

fn generations_of_children_each_keep_their_copy() {
    let at = map(4);
    fill(at, 4, 0);
    run(|| {
        fill(at, 1, 1);
        run(|| {
            fill(at + PAGE, 1, 2);
            run(|| {
                fill(at, 4, 3);
                verify(at, 4, 3);
            });
            verify(at, 1, 1);
            verify(at + PAGE, 1, 2);
        });
        verify(at, 1, 1);
    });
    verify(at, 4, 0);
}

fn a_page_left_by_the_child_is_written_in_place() {
    let at = map(1);
    put(at, 1);
    run(|| ());
    let before = crate::numa::node_at(at);
    put(at, 2);
    assert_eq!((get(at), crate::numa::node_at(at)), (2, before));
}

fn many_children_share_and_part() {
    let at = map(64);
    fill(at, 64, 9);
    let children: Vec<i32> = (0..16u64)
        .map(|n| {
            spawn(|| {
                verify(at, 64, 9);
                fill(at, 64, n);
                verify(at, 64, n);
            })
        })
        .collect();
    for child in children {
        assert_eq!(join(child), 0);
    }
    verify(at, 64, 9);
}

fn a_system_call_that_writes_copies_as_well() {
    let at = map(1);
    put(at, b'o');
    let (reader, writer) = sys::pipe().unwrap();
    sys::write(writer, b"n").unwrap();
    run(|| {
        assert_eq!(sys!(libc::SYS_read, reader, at, 1), Ok(1));
        assert_eq!(get(at), b'n');
    });
    assert_eq!(get(at), b'o');
}

fn a_system_call_that_writes_to_the_zero_page_copies_it() {
    let at = map(1);
    let other = map(1);
    read_each(at, 1);
    read_each(other, 1);
    let (reader, writer) = sys::pipe().unwrap();
    sys::write(writer, b"n").unwrap();
    assert_eq!(sys!(libc::SYS_read, reader, at, 1), Ok(1));
    assert_eq!(get(at), b'n');
    verify_zero(other, 1);
}

fn shared_anonymous_memory_is_one_memory() {
    let at = map_shared(8);
    fill(at, 4, 1);
    run(|| {
        verify(at, 4, 1);
        verify_zero(at + 4 * PAGE, 4);
        fill(at + 4 * PAGE, 4, 2);
    });
    verify(at + 4 * PAGE, 4, 2);
}

fn shared_memory_outlives_the_one_that_made_its_pages() {
    let at = map_shared(8);
    run(|| fill(at, 8, 3));
    run(|| verify(at, 8, 3));
    verify(at, 8, 3);
}

fn read_only_shared_memory_is_seen_to_change() {
    let at = map_shared(1);
    let steps = Steps::new();
    mprotect(at, 1, libc::PROT_READ).unwrap();
    let child = spawn(|| {
        mprotect(at, 1, RW).unwrap();
        assert_eq!(get(at), 0);
        put(at, 7);
        steps.reach(1);
    });
    steps.await_(1);
    assert_eq!(get(at), 7);
    assert_eq!(join(child), 0);
}

fn mappings_made_after_fork_are_not_the_others() {
    let at = map(4);
    munmap(at, 4).unwrap();
    run(|| {
        mmap(at, PAGE, RW, PRIVATE | libc::MAP_FIXED_NOREPLACE, -1, 0).unwrap();
        put(at, 1);
    });
    assert!(crate::fault::try_read(at).is_err());
}

fn rights_are_each_ones_own() {
    let at = map(1);
    put(at, 1);
    run(|| assert!(mprotect(at, 1, libc::PROT_NONE).is_ok()));
    assert_eq!(get(at), 1);
    mprotect(at, 1, libc::PROT_READ).unwrap();
    let end = end_of(|| put(at, 2));
    assert_eq!(end, 128 + libc::SIGSEGV);
}

fn resident_memory_is_counted_and_given_back() {
    let rss = || -> u64 {
        let text = crate::signal::status_field("RssAnon").expect("RssAnon");
        text.trim_end_matches("kB").trim().parse().unwrap()
    };
    let at = map(1024);
    let before = rss();
    touch(at, 1024);
    let with = rss();
    assert!((4096..4096 + 512).contains(&(with - before)), "{before} kB, then {with} kB");
    munmap(at, 1024).unwrap();
    assert!(rss() < before + 512);
}

fn minor_faults_are_counted_one_for_each_page() {
    let count = || -> i64 {
        let mut usage: libc::rusage = sys::zeroed();
        sys!(libc::SYS_getrusage, libc::RUSAGE_SELF, &raw mut usage).unwrap();
        usage.ru_minflt
    };
    let at = map(512);
    let before = count();
    touch(at, 512);
    let faults = count() - before;
    assert!((512..540).contains(&faults), "{faults} faults for 512 pages");
}

fn forked_memory_survives_a_storm() {
    let at = map(256);
    fill(at, 256, 5);
    for round in 0..20u64 {
        let child = spawn(|| {
            fill(at, 128, round);
            let grandchild = spawn(|| {
                verify(at, 128, round);
                munmap(at, 64).unwrap();
                fill(at + 64 * PAGE, 192, 77);
            });
            madvise(at + 128 * PAGE, 32, libc::MADV_DONTNEED).unwrap();
            assert_eq!(join(grandchild), 0);
            verify(at, 128, round);
            verify_zero(at + 128 * PAGE, 32);
        });
        assert_eq!(child::join(child), 0);
    }
    verify(at, 256, 5);
}
