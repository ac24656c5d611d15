//! Threads write pages that others move, while children come and go and ranges are unmapped.
//!
//! Every page has one writer, which keeps a number of its own beside the page: the page must hold
//! that number in its first and last words whenever its writer looks. A page seen through a stale
//! translation, copied too early or freed too soon shows as a wrong number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use crate::child::{affinity, join, pin, spawn};
use crate::harness::{Test, long, tests};
use crate::memory::*;
use crate::numa::*;
use crate::random::Random;
use crate::sys;

pub const TESTS: &[Test] = tests![
    private_pages_written_while_they_move_lose_nothing,
    shared_pages_written_while_they_move_lose_nothing,
    pages_written_moved_and_forked_lose_nothing,
    a_page_moves_under_a_counter_of_all_cpus_without_losing_one,
    processes_sharing_memory_move_it_under_each_other,
];

/// Pages of each writer.
const PAGES: usize = 64;
const LAST: usize = PAGE - 8;

fn span() -> u64 {
    if long() { 60_000_000_000 } else { 2_000_000_000 }
}

struct Run {
    at: usize,
    writers: usize,
    stop: AtomicBool,
    rounds: AtomicU64,
    moved: AtomicU64,
}

impl Run {
    fn new(at: usize, writers: usize) -> Self {
        let stop = AtomicBool::new(false);
        Self { at, writers, stop, rounds: AtomicU64::new(0), moved: AtomicU64::new(0) }
    }

    fn over(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Writes and checks its own pages until the end.
    fn write(&self, writer: usize, forks: bool) {
        let mut random = Random::new(writer as u64);
        let base = self.at + writer * PAGES * PAGE;
        let mut expected = vec![0u64; PAGES];
        while !self.over() {
            let page = random.below(PAGES);
            let own = base + page * PAGE;
            let (first, last) = (get64(own), get64(own + LAST));
            assert!(
                first == expected[page] && last == expected[page],
                "page {page} of writer {writer} holds {first:#x} and {last:#x}, not {:#x}",
                expected[page]
            );
            let value = random.next();
            put64(own, value);
            put64(own + LAST, value);
            expected[page] = value;
            let turn = self.rounds.fetch_add(1, Relaxed);
            if forks && turn.is_multiple_of(4096) {
                self.fork(base, &mut expected);
            }
        }
    }

    /// A child sees the pages as they are, writes to its own copies and goes.
    fn fork(&self, base: usize, expected: &mut [u64]) {
        let child = spawn(|| {
            for (page, value) in expected.iter().enumerate() {
                assert_eq!(get64(base + page * PAGE), *value, "page {page} in the child");
                put64(base + page * PAGE, !*value);
            }
            for (page, value) in expected.iter().enumerate() {
                assert_eq!(get64(base + page * PAGE), !*value, "page {page} in the child");
            }
        });
        expected[0] = 1;
        put64(base, 1);
        put64(base + LAST, 1);
        assert_eq!(join(child), 0);
    }

    /// Moves everybody's pages about.
    fn shuffle(&self, seed: u64) {
        let all = nodes();
        let mut random = Random::new(seed);
        let pages = self.writers * PAGES;
        while !self.over() {
            let first = random.below(pages);
            let count = 1 + random.below((pages - first).min(96));
            let at = self.at + first * PAGE;
            match random.below(4) {
                0 => {
                    let node = random.of(&all);
                    mbind(at, count, BIND, &[node], MOVE).unwrap();
                }
                1 => {
                    mbind(at, count, INTERLEAVE, &all, MOVE_ALL).unwrap();
                }
                2 => {
                    let targets: Vec<i32> = (0..count).map(|_| random.of(&all) as i32).collect();
                    move_pages(0, &addresses(at, count), Some(&targets), MOVE_ALL).unwrap();
                }
                _ => {
                    migrate_pages(0, &[random.of(&all)], &[random.of(&all)]).unwrap();
                }
            }
            self.moved.fetch_add(1, Relaxed);
        }
    }

    /// Maps, fills, moves and unmaps memory beside the others'.
    fn churn(&self, seed: u64) {
        let all = nodes();
        let mut random = Random::new(seed);
        while !self.over() {
            let pages = 1 + random.below(64);
            let at = map(pages);
            let value = random.next();
            fill(at, pages, value);
            let targets = vec![random.of(&all) as i32; pages];
            move_pages(0, &addresses(at, pages), Some(&targets), MOVE).unwrap();
            verify(at, pages, value);
            munmap(at, pages).unwrap();
        }
    }
}

fn torture(at: usize, writers: usize, forks: bool) {
    at_least(2);
    let cpus = affinity(0);
    let run = Run::new(at, writers);
    thread::scope(|scope| {
        let run = &run;
        for writer in 0..writers {
            let cpu = cpus[writer % cpus.len()];
            scope.spawn(move || {
                pin(cpu);
                run.write(writer, forks);
            });
        }
        for seed in 0..2 {
            scope.spawn(move || run.shuffle(1000 + seed));
        }
        scope.spawn(move || run.churn(77));
        let end = sys::monotonic() + span();
        let begun = || run.rounds.load(Relaxed) > 100 && run.moved.load(Relaxed) > 5;
        while sys::monotonic() < end || !begun() {
            let pause = sys::timespec(50_000_000);
            let _ = sys::sys!(libc::SYS_nanosleep, &raw const pause, 0);
        }
        run.stop.store(true, Relaxed);
    });
}

fn private_pages_written_while_they_move_lose_nothing() {
    torture(map_alone(8 * PAGES), 8, false);
}

fn shared_pages_written_while_they_move_lose_nothing() {
    torture(map_shared(8 * PAGES), 8, false);
}

fn pages_written_moved_and_forked_lose_nothing() {
    torture(map_alone(4 * PAGES), 4, true);
}

fn a_page_moves_under_a_counter_of_all_cpus_without_losing_one() {
    let all = at_least(2);
    let at = map_alone(1);
    put64(at, 0);
    let cpus: Vec<usize> = affinity(0).into_iter().take(8).collect();
    const EACH: u64 = 20_000;
    thread::scope(|scope| {
        for cpu in &cpus {
            scope.spawn(move || {
                pin(*cpu);
                for _ in 0..EACH {
                    word64(at).fetch_add(1, Relaxed);
                }
            });
        }
        for round in 0..200 {
            let target = [all[round % all.len()] as i32];
            move_pages(0, &[at], Some(&target), MOVE).unwrap();
        }
    });
    assert_eq!(get64(at), EACH * cpus.len() as u64);
}

fn processes_sharing_memory_move_it_under_each_other() {
    let all = at_least(2);
    const EACH: u64 = 20_000;
    let at = map_shared(16);
    let children: Vec<i32> = (0..4)
        .map(|n| {
            spawn(|| {
                let mut random = Random::new(n);
                for round in 0..EACH {
                    word64(at + random.below(16) * PAGE).fetch_add(1, Relaxed);
                    if round % 500 == 0 {
                        let targets = vec![random.of(&all) as i32; 16];
                        move_pages(0, &addresses(at, 16), Some(&targets), MOVE_ALL).unwrap();
                    }
                }
            })
        })
        .collect();
    for child in children {
        assert_eq!(join(child), 0);
    }
    let total: u64 = (0..16).map(|page| get64(at + page * PAGE)).sum();
    assert_eq!(total, 4 * EACH);
}
