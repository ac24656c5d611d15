//! What one CPU changes, every other CPU must see before the call returns.
//!
//! A watcher on another CPU reads a page in a loop, so that its TLB holds the translation. After
//! each change the changer raises a number; a watcher that has read that number and then still
//! reaches the old page has found a translation that should have been flushed.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use crate::child::{affinity, pin};
use crate::fault::{still_readable, try_read};
use crate::harness::{Test, skip, tests};
use crate::memory::*;

pub const TESTS: &[Test] = tests![
    mprotect_is_obeyed_on_every_cpu_at_once,
    munmap_is_obeyed_on_every_cpu_at_once,
    a_replaced_page_is_the_new_one_on_every_cpu,
    dontneed_shows_zero_on_every_cpu,
    a_copy_on_write_shows_the_new_page_on_every_cpu,
    the_zero_page_gives_way_on_every_cpu,
    mremap_takes_the_page_away_on_every_cpu,
    a_truncated_file_is_gone_on_every_cpu,
    freed_frames_are_not_reached_through_stale_translations,
];

const ROUNDS: u32 = 100;

/// Pages where the kernel puts nothing by itself: a thread's start maps memory, too.
fn far(pages: usize) -> usize {
    let mut at = 0x2000_0000_0000;
    loop {
        let flags = PRIVATE | libc::MAP_FIXED_NOREPLACE;
        match mmap(at, pages * PAGE, RW, flags, -1, 0) {
            Ok(at) => return at,
            Err(_) => at += 1 << 30,
        }
    }
}

/// Runs `change(round)` on one CPU and `check(round)` on all others after each round, which also
/// read `at` without pause in between.
fn watched(at: usize, change: impl Fn(u32) + Sync, check: impl Fn(u32) + Sync) {
    let cpus = affinity(0);
    if cpus.len() < 2 {
        skip!("needs two CPUs");
    }
    let watchers: Vec<usize> = cpus[1..].iter().rev().take(3).copied().collect();
    let (phase, seen) = (AtomicU32::new(0), AtomicU32::new(0));
    // Installs the handler before any watcher needs it.
    let _ = try_read(at);
    thread::scope(|scope| {
        for cpu in &watchers {
            let (phase, seen, check) = (&phase, &seen, &check);
            scope.spawn(move || {
                pin(*cpu);
                let mut last = 0;
                while last < ROUNDS {
                    let now = phase.load(SeqCst);
                    if now == last {
                        let _ = still_readable(at);
                        continue;
                    }
                    check(now);
                    last = now;
                    seen.fetch_add(1, SeqCst);
                }
            });
        }
        pin(cpus[0]);
        for round in 1..=ROUNDS {
            change(round);
            phase.store(round, SeqCst);
            while seen.load(SeqCst) < round * watchers.len() as u32 {
                thread::yield_now();
            }
        }
    });
}

fn mprotect_is_obeyed_on_every_cpu_at_once() {
    let at = map(1);
    put(at, 1);
    let even = |round: u32| round.is_multiple_of(2);
    watched(
        at,
        |round| {
            let rights = if even(round) { RW } else { libc::PROT_NONE };
            mprotect(at, 1, rights).unwrap();
        },
        |round| assert_eq!(still_readable(at), even(round), "round {round}"),
    );
}

fn munmap_is_obeyed_on_every_cpu_at_once() {
    let at = far(1);
    put(at, 1);
    watched(
        at,
        |round| {
            if round % 2 == 1 {
                munmap(at, 1).unwrap();
            } else {
                mmap(at, PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
                put(at, 1);
            }
        },
        |round| assert_eq!(still_readable(at), round % 2 == 0, "round {round}"),
    );
}

fn a_replaced_page_is_the_new_one_on_every_cpu() {
    let at = far(1);
    watched(
        at,
        |round| {
            mmap(at, PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
            put(at, round as u8);
        },
        |round| assert_eq!(try_read(at), Ok(round as u8)),
    );
}

fn dontneed_shows_zero_on_every_cpu() {
    let at = map(1);
    put(at, 1);
    watched(
        at,
        |_| {
            put(at, 77);
            madvise(at, 1, libc::MADV_DONTNEED).unwrap();
        },
        |_| assert_eq!(try_read(at), Ok(0)),
    );
}

fn a_copy_on_write_shows_the_new_page_on_every_cpu() {
    let at = map(1);
    put(at, 0);
    watched(
        at,
        |round| {
            // The child shares the page, so that the write below makes a copy.
            let steps = crate::child::Steps::new();
            let child = crate::child::spawn(|| {
                steps.reach(1);
                steps.await_(2);
                assert_eq!(get(at), (round - 1) as u8);
            });
            steps.await_(1);
            put(at, round as u8);
            steps.reach(2);
            assert_eq!(crate::child::join(child), 0);
        },
        |round| assert_eq!(try_read(at), Ok(round as u8)),
    );
}

fn the_zero_page_gives_way_on_every_cpu() {
    let at = map(1);
    watched(
        at,
        |round| {
            madvise(at, 1, libc::MADV_DONTNEED).unwrap();
            read_each(at, 1);
            put(at, round as u8);
        },
        |round| assert_eq!(try_read(at), Ok(round as u8)),
    );
}

fn mremap_takes_the_page_away_on_every_cpu() {
    let at = far(1);
    let to = far(1);
    put(at, 1);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    watched(
        at,
        |round| {
            let (from, to) = if round % 2 == 1 { (at, to) } else { (to, at) };
            mremap(from, 1, 1, flags, to).unwrap();
        },
        |round| {
            assert_eq!(still_readable(at), round % 2 == 0, "round {round}");
            assert_eq!(still_readable(to), round % 2 == 1, "round {round}");
        },
    );
}

fn a_truncated_file_is_gone_on_every_cpu() {
    let fd = memfd(1);
    let at = map_file(fd, 1, libc::MAP_SHARED);
    put(at, 1);
    watched(
        at,
        |round| {
            let size = if round % 2 == 1 { 0 } else { PAGE };
            crate::sys::sys!(libc::SYS_ftruncate, fd, size).unwrap();
        },
        |round| assert_eq!(still_readable(at), round % 2 == 0, "round {round}"),
    );
}

fn freed_frames_are_not_reached_through_stale_translations() {
    let at = far(16);
    touch(at, 16);
    watched(
        at,
        |round| {
            munmap(at, 16).unwrap();
            // Frames just freed come back here, and would be seen at the old addresses.
            let other = map(64);
            fill(other, 64, u64::from(round));
            mmap(at, 16 * PAGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap();
            touch(at, 16);
            munmap(other, 64).unwrap();
        },
        |_| {
            for page in 0..16 {
                assert_eq!(try_read(at + page * PAGE), Ok(page as u8 | 1));
                assert_eq!(try_read(at + page * PAGE + 8), Ok(0));
            }
        },
    );
}
