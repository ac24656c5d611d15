//! How soon a task runs when its time has come: what cyclictest asks, with the answer judged.
//!
//! Times of the clock, which under emulation hold the host's own delays: the limits are wide, and
//! what they prove is the order of things. The figures by instruction count are the bench's.

use std::sync::atomic::Ordering::SeqCst;

use libc::SCHED_FIFO;

use super::set_class;
use crate::child::{affinity, join, pin, spawn};
use crate::harness::{Test, tests};
use crate::memory::{PAGE, map, map_shared, munmap, touch, word, word64};
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    a_fifo_task_wakes_in_time_under_load_on_every_cpu,
    a_sleep_ends_no_sooner_than_it_should,
    timer_slack_is_set_and_told,
    sleeps_are_finer_than_a_tick,
];

/// Processes that keep every CPU busy: spinning, forking, mapping, and calling the kernel.
struct Load {
    stop: usize,
    pids: Vec<i32>,
}

impl Load {
    fn start() -> Self {
        let stop = map_shared(1);
        let over = || word(stop).load(SeqCst) != 0;
        let cpus = affinity(0);
        let mut pids: Vec<i32> = cpus
            .iter()
            .map(|cpu| {
                spawn(|| {
                    pin(*cpu);
                    while !over() {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        pids.extend(cpus.iter().map(|cpu| {
            spawn(|| {
                pin(*cpu);
                while !over() {
                    let at = map(64);
                    touch(at, 64);
                    crate::child::run(|| touch(at, 64));
                    munmap(at, 64).unwrap();
                    let _ = std::fs::read_to_string("/proc/self/maps");
                }
            })
        }));
        Self { stop, pids }
    }

    fn end(self) {
        word(self.stop).store(1, SeqCst);
        for pid in self.pids {
            assert_eq!(join(pid), 0);
        }
    }
}

/// Sleeps to `count` moments, `step` apart; by how much each was missed.
fn misses(count: usize, step: u64) -> Vec<u64> {
    let mut due = sys::monotonic() + step;
    let mut late: Vec<u64> = (0..count)
        .map(|_| {
            let until = sys::timespec(due);
            let absolute = libc::TIMER_ABSTIME;
            let (clock, until) = (libc::CLOCK_MONOTONIC, &raw const until);
            sys!(libc::SYS_clock_nanosleep, clock, absolute, until, 0).unwrap();
            let now = sys::monotonic();
            assert!(now >= due, "woken {} ns too early", due - now);
            let late = now - due;
            due = now + step;
            late
        })
        .collect();
    late.sort();
    late
}

fn a_fifo_task_wakes_in_time_under_load_on_every_cpu() {
    const COUNT: usize = 40;
    let cpus: Vec<usize> = affinity(0).into_iter().take(8).collect();
    let load = Load::start();
    let at = map_shared(1);
    let tasks: Vec<i32> = cpus
        .iter()
        .enumerate()
        .map(|(i, cpu)| {
            spawn(|| {
                pin(*cpu);
                set_class(0, SCHED_FIFO, 80).unwrap();
                let late = misses(COUNT, 2_000_000);
                word64(at + i * 16).store(late[COUNT / 2], SeqCst);
                word64(at + i * 16 + 8).store(late[COUNT - 1], SeqCst);
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(join(task), 0);
    }
    load.end();
    assert!(cpus.len() * 16 <= PAGE);
    let times: Vec<(u64, u64)> = (0..cpus.len())
        .map(|i| (word64(at + i * 16).load(SeqCst), word64(at + i * 16 + 8).load(SeqCst)))
        .collect();
    // What the host's own scheduling leaves of it, on either kernel.
    let median = times.iter().map(|(median, _)| *median).min().unwrap_or(u64::MAX);
    assert!(median < 60_000_000, "median and worst miss by CPU, in ns: {times:?}");
}

fn a_sleep_ends_no_sooner_than_it_should() {
    // Asserted where the times are taken.
    for step in [50_000, 1_000_000, 20_000_000] {
        misses(5, step);
    }
}

fn timer_slack_is_set_and_told() {
    const SET: i32 = 29;
    const GET: i32 = 30;
    let slack = || sys!(libc::SYS_prctl, GET).unwrap();
    assert_eq!(slack(), 50_000);
    sys!(libc::SYS_prctl, SET, 700_000).unwrap();
    assert_eq!(slack(), 700_000);
    crate::child::run(|| {
        // A child begins with its parent's, and falls back to that.
        sys!(libc::SYS_prctl, SET, 5_000).unwrap();
        sys!(libc::SYS_prctl, SET, 0).unwrap();
        assert_eq!(sys!(libc::SYS_prctl, GET), Ok(700_000));
    });
}

fn sleeps_are_finer_than_a_tick() {
    // At 250 ticks a second 20 sleeps of 0.2 ms would take 80 ms.
    let mut best = u64::MAX;
    for _ in 0..10 {
        let start = sys::monotonic();
        for _ in 0..20 {
            super::sleep(200_000);
        }
        best = best.min(sys::monotonic() - start);
    }
    assert!(best < 60_000_000, "20 sleeps of 0.2 ms took {best} ns");
}
