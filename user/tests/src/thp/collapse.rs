//! MADV_COLLAPSE: small pages become a huge one, where most of them were.

use libc::{EINVAL, ENOMEM};

use super::*;
use crate::child::{Steps, join, run, spawn};
use crate::harness::{skip, tests};
use crate::memory::{
    fill, get, madvise, map_alone, mprotect, munmap, put, read_each, verify, verify_zero,
};
use crate::numa::{BIND, MOVE, PREFERRED, all_on, at_least, mbind, node_at, vmstat};
use crate::sys::Errno;

pub const TESTS: &[Test] = tests![
    small_pages_become_a_huge_one,
    it_is_asked_for_whatever_the_settings_say,
    who_does_not_want_it_is_left_alone,
    what_was_never_written_is_refused,
    what_is_missing_is_zero,
    only_whole_huge_pages_of_a_range_count,
    areas_come_one_after_the_other,
    places_without_a_table_are_no_huge_pages,
    pages_that_nobody_may_write_are_refused,
    it_goes_where_most_pages_are,
    a_policy_is_not_asked,
    pages_that_others_share_are_copied,
    what_was_split_becomes_whole_again,
    locked_memory_is_collapsed_too,
    without_a_block_there_is_no_memory_for_it,
    nobody_loses_a_write,
    numa_pages_says_so,
];

pub const COLLAPSE: i32 = 25;

/// No huge pages but those that are asked for.
fn quiet() -> Settings {
    Settings::new("never", "madvise")
}

/// So many huge pages' worth of small pages, with contents.
#[track_caller]
pub fn small(pages: usize, seed: u64) -> usize {
    let at = map(pages);
    madvise(at, pages * PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    fill(at, pages * PAGES, seed);
    assert_eq!(huge_kib(at), 0);
    // Flags of areas cannot be taken back one by one.
    madvise(at, pages * PAGES, libc::MADV_HUGEPAGE).unwrap();
    at
}

#[track_caller]
fn collapse(at: usize, pages: usize) {
    match madvise(at, pages * PAGES, COLLAPSE) {
        Ok(_) => {}
        Err(Errno(ENOMEM)) => skip!("no huge page was free"),
        Err(error) => panic!("{error:?}"),
    }
}

fn small_pages_become_a_huge_one() {
    let _settings = quiet();
    let at = small(2, 1);
    let before = vmstat("thp_collapse_alloc");
    collapse(at, 2);
    assert_eq!(vmstat("thp_collapse_alloc") - before, 2);
    let keys = ["AnonHugePages", "Rss", "Anonymous", "Private_Dirty"];
    assert_eq!(smaps(at, keys), [2 * KIB; 4]);
    verify(at, 2 * PAGES, 1);
    // What is there already is fine.
    collapse(at, 2);
    assert_eq!(vmstat("thp_collapse_alloc") - before, 2);
    put(at + 5, 77);
    assert_eq!(get(at + 5), 77);
    munmap(at, 2 * PAGES).unwrap();
}

fn it_is_asked_for_whatever_the_settings_say() {
    let _settings = Settings::new("never", "never");
    let at = map(1);
    fill(at, PAGES, 2);
    assert_eq!(huge_kib(at), 0);
    collapse(at, 1);
    assert_eq!(huge_kib(at), KIB);
    verify(at, PAGES, 2);
}

fn who_does_not_want_it_is_left_alone() {
    let _settings = quiet();
    let at = small(1, 3);
    madvise(at, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
    disable(true);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    disable(false);
    // An area without room for one.
    let at = small(2, 3);
    munmap(at, 1).unwrap();
    munmap(at + 2 * HUGE - PAGE, 1).unwrap();
    assert_eq!(madvise(at + PAGE, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    assert_eq!(madvise(at + PAGE, 1, COLLAPSE), Err(Errno(EINVAL)));
}

fn what_was_never_written_is_refused() {
    let _settings = Settings::new("never", "madvise");
    let at = map(1);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    read_each(at, PAGES);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    put(at, 1);
    madvise(at, PAGES, libc::MADV_DONTNEED).unwrap();
    read_each(at, PAGES);
    // There is nothing that could be written.
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    set("enabled", "always");
    let at = map(1);
    // The huge page of zeroes is a huge page.
    assert_eq!(get(at), 0);
    assert_eq!(madvise(at, PAGES, COLLAPSE), Ok(0));
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [0, 0]);
}

fn what_is_missing_is_zero() {
    let _settings = Settings::new("never", "madvise");
    let at = map(1);
    put(at + 7 * PAGE + 3, 9);
    assert_eq!(get(at + 8 * PAGE), 0);
    collapse(at, 1);
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [KIB, KIB]);
    assert_eq!(get(at + 7 * PAGE + 3), 9);
    put(at + 7 * PAGE + 3, 0);
    verify_zero(at, PAGES);
}

fn only_whole_huge_pages_of_a_range_count() {
    let _settings = quiet();
    let at = small(3, 4);
    // From behind the first one's begin to before the last one's end.
    let inner = madvise(at + PAGE, 3 * PAGES - 2, COLLAPSE);
    if inner == Err(Errno(ENOMEM)) {
        skip!("no huge page was free");
    }
    assert_eq!(inner, Ok(0));
    assert_eq!(huge_kib(at), KIB);
    assert!(crate::numa::node_at(at) >= 0);
    verify(at, 3 * PAGES, 4);
    // None at all, between two boundaries, is not enough; none up to one is.
    assert_eq!(madvise(at + PAGE, 1, COLLAPSE), Err(Errno(EINVAL)));
    assert_eq!(madvise(at + PAGE, PAGES - 1, COLLAPSE), Ok(0));
    assert_eq!(madvise(at, PAGES - 1, COLLAPSE), Ok(0));
    assert_eq!(madvise(at + PAGE, 0, COLLAPSE), Ok(0));
    assert_eq!(madvise(at + 1, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    assert_eq!(huge_kib(at), KIB);
}

fn areas_come_one_after_the_other() {
    let _settings = quiet();
    let at = small(5, 5);
    munmap(at + HUGE, PAGES).unwrap();
    let over_hole = madvise(at, 3 * PAGES, COLLAPSE);
    if huge_kib(at) == 0 {
        skip!("no huge page was free");
    }
    assert_eq!(over_hole, Err(Errno(ENOMEM)));
    assert_eq!([huge_kib(at), huge_kib(at + 2 * HUGE)], [KIB, KIB], "what is mapped is done");
    // A refusal ends it.
    madvise(at + 3 * HUGE, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    assert_eq!(madvise(at + 2 * HUGE, 3 * PAGES, COLLAPSE), Err(Errno(EINVAL)));
    assert_eq!(huge_kib(at + 4 * HUGE), 0);
    let none = crate::memory::map(1);
    munmap(none, 1).unwrap();
    assert_eq!(madvise(none, 1, COLLAPSE), Err(Errno(ENOMEM)));
}

fn places_without_a_table_are_no_huge_pages() {
    let _settings = Settings::new("never", "madvise");
    let at = map(3);
    fill(at, PAGES, 6);
    fill(at + 2 * HUGE, PAGES, 6);
    assert_eq!(madvise(at, 3 * PAGES, COLLAPSE), Err(Errno(EINVAL)));
    // What lies behind is not looked at.
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [KIB, 2 * KIB]);
}

fn pages_that_nobody_may_write_are_refused() {
    let _settings = quiet();
    let at = small(1, 7);
    mprotect(at, PAGES, libc::PROT_READ).unwrap();
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    mprotect(at, PAGES, RW).unwrap();
    // Rights come back with the next write.
    put(at + 9 * PAGE, 1);
    collapse(at, 1);
    assert_eq!(huge_kib(at), KIB);
}

/// Small pages, so many on the first node, the others on the second.
#[track_caller]
pub fn spread(count: usize, nodes: &[usize], seed: u64) -> usize {
    let at = map(1);
    madvise(at, PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    fill(at, PAGES, seed);
    for (from, pages, node) in [(0, count, nodes[0]), (count, PAGES - count, nodes[1])] {
        mbind(at + from * PAGE, pages, BIND, &[node], MOVE).unwrap();
        all_on(at + from * PAGE, pages, node);
    }
    mbind(at, PAGES, crate::numa::DEFAULT, &[], 0).unwrap();
    assert_eq!(huge_kib(at), 0);
    madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
    at
}

fn it_goes_where_most_pages_are() {
    let _settings = quiet();
    let nodes = at_least(2);
    for (count, winner) in [(PAGES / 2 + 1, 0), (PAGES / 2 - 1, 1)] {
        let at = spread(count, &nodes, 8);
        collapse(at, 1);
        all_on(at, PAGES, nodes[winner]);
        assert_eq!(huge_kib(at), KIB);
        verify(at, PAGES, 8);
    }
    // As many on each: the first node.
    let backwards = [nodes[1], nodes[0]];
    let at = spread(PAGES / 2, &backwards, 8);
    collapse(at, 1);
    all_on(at, PAGES, nodes[0]);
}

fn a_policy_is_not_asked() {
    let _settings = quiet();
    let nodes = at_least(2);
    for mode in [BIND, PREFERRED] {
        let at = spread(PAGES - 1, &nodes, 9);
        mbind(at, PAGES, mode, &nodes[1..2], 0).unwrap();
        crate::numa::set_mempolicy(mode, &nodes[1..2]).unwrap();
        let answer = madvise(at, PAGES, COLLAPSE);
        crate::numa::set_mempolicy(crate::numa::DEFAULT, &[]).unwrap();
        if answer == Err(Errno(ENOMEM)) {
            skip!("no huge page was free");
        }
        all_on(at, PAGES, nodes[0]);
        assert_eq!(huge_kib(at), KIB);
    }
}

fn pages_that_others_share_are_copied() {
    let _settings = quiet();
    let at = small(1, 10);
    let steps = Steps::new();
    let child = spawn(|| {
        steps.reach(1);
        steps.await_(2);
        // Its own pages are as they were.
        assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [0, KIB]);
        verify(at, PAGES, 10);
        fill(at, PAGES, 11);
        steps.reach(3);
        steps.await_(4);
        verify(at, PAGES, 11);
    });
    steps.await_(1);
    // Nothing may be written without a copy: one has to be.
    assert_eq!(madvise(at, PAGES, COLLAPSE), Err(Errno(EINVAL)));
    put(at, get(at));
    collapse(at, 1);
    assert_eq!(smaps(at, ["AnonHugePages", "Private_Dirty"]), [KIB; 2]);
    steps.reach(2);
    steps.await_(3);
    verify(at, PAGES, 10);
    fill(at, PAGES, 12);
    steps.reach(4);
    assert_eq!(join(child), 0);
    verify(at, PAGES, 12);
    run(|| verify(at, PAGES, 12));
}

fn what_was_split_becomes_whole_again() {
    let _settings = Settings::always();
    let at = map(1);
    fill(at, PAGES, 13);
    if huge_kib(at) != KIB {
        skip!("no huge page was free");
    }
    set("enabled", "never");
    mprotect(at + 9 * PAGE, 1, libc::PROT_READ).unwrap();
    mprotect(at + 9 * PAGE, 1, RW).unwrap();
    assert_eq!(huge_kib(at), 0);
    collapse(at, 1);
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [KIB; 2]);
    verify(at, PAGES, 13);
    // Parts that are gone come back as zeroes.
    madvise(at + 100 * PAGE, 100, libc::MADV_DONTNEED).unwrap();
    collapse(at, 1);
    assert_eq!(smaps(at, ["AnonHugePages", "Rss"]), [KIB; 2]);
    verify(at, 100, 13);
    verify_zero(at + 100 * PAGE, 100);
}

fn locked_memory_is_collapsed_too() {
    let _settings = quiet();
    let at = small(1, 14);
    sys!(libc::SYS_mlock, at, HUGE).unwrap();
    collapse(at, 1);
    assert_eq!(smaps(at, ["AnonHugePages", "Locked"]), [KIB; 2]);
    verify(at, PAGES, 14);
}

fn without_a_block_there_is_no_memory_for_it() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let Some(&node) = nodes.iter().find(|node| crate::numa::meminfo(**node, "MemFree") < 3 << 20)
    else {
        skip!("every node is too large to fill");
    };
    let answer = crate::child::ask(|| {
        let at = spread(PAGES, &[node, node], 15);
        super::place::fill_node(node);
        let before = vmstat("thp_collapse_alloc_failed");
        let answer = madvise(at, PAGES, COLLAPSE);
        verify(at, PAGES, 15);
        match answer {
            // Others have blocks, but most pages are here.
            Err(Errno(ENOMEM)) => (vmstat("thp_collapse_alloc_failed") - before) as u32,
            // Linux moves small pages away to have one.
            Ok(_) if node_at(at) == node as i32 => 1,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(answer, 1);
}

fn nobody_loses_a_write() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let _settings = quiet();
    let nodes = at_least(1);
    let at = small(2, 16);
    let done = AtomicBool::new(false);
    let word = |page: usize, thread: usize| crate::memory::word64(at + page * PAGE + 8 * thread);
    (0..2 * PAGES).for_each(|page| (0..3).for_each(|i| word(page, i).store(0, SeqCst)));
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                let done = &done;
                scope.spawn(move || {
                    let mut round = 0;
                    while !done.load(SeqCst) {
                        for page in 0..2 * PAGES {
                            let was = word(page, thread).fetch_add(1, SeqCst);
                            assert_eq!(was, round, "page {page}");
                        }
                        round += 1;
                    }
                    round
                })
            })
            .collect();
        for round in 0..30 {
            match madvise(at, 2 * PAGES, COLLAPSE) {
                Ok(_) | Err(Errno(libc::EAGAIN | ENOMEM | EINVAL)) => {}
                other => panic!("{other:?}"),
            }
            match round % 4 {
                // Each takes the pages apart in its way.
                0 => _ = sys!(libc::SYS_mlock, at + 9 * PAGE, PAGE).unwrap(),
                1 => _ = sys!(libc::SYS_munlock, at, 2 * HUGE).unwrap(),
                2 => {
                    let node = nodes[round / 4 % nodes.len()];
                    let _moved = mbind(at + 5 * PAGE, PAGES, BIND, &[node], MOVE);
                }
                _ => run(|| put(at + HUGE, 1)),
            }
        }
        done.store(true, SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for page in 0..2 * PAGES {
        let found: Vec<u64> = (0..3).map(|thread| word(page, thread).load(SeqCst)).collect();
        assert_eq!(found, counts, "page {page}");
    }
}

fn numa_pages_says_so() {
    crate::harness::on_proxima_only("numa_pages is Proxima's");
    let _settings = quiet();
    let at = map_alone(1);
    munmap(at, 1).unwrap();
    let at = small(1, 17);
    collapse(at, 1);
    let text = fs::read_to_string("/proc/self/numa_pages").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{at:x}-"))).unwrap();
    assert!(line.contains(" reason=collapsed"), "{line}");
}
