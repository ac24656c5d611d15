//! A task is drawn to the node where its memory lies, as far as CPUs are idle there and allowed.

use std::sync::atomic::Ordering::SeqCst;

use super::sleep;
use crate::child::{affinity, getcpu, join, pin, run, set_affinity, spawn};
use crate::harness::{Test, on_proxima_only, skip, tests};
use crate::memory::{map, map_shared, touch, word};
use crate::{numa, sys};

pub const TESTS: &[Test] = tests![
    a_sleeper_settles_where_its_memory_is,
    a_spinner_goes_where_its_memory_is,
    a_spinner_follows_its_memory,
    no_memory_draws_a_task_to_a_cpu_that_it_may_not_use,
    no_memory_draws_a_task_to_where_it_would_wait,
];

/// 8 MiB: far more than all else that a child has.
const PAGES: usize = 2048;

/// Guest time in which a task that runs gets where it is drawn to, and a busy host's share.
const PATIENCE: u64 = 3_000_000_000;

/// Two nodes that have memory and CPUs, the last and the first.
fn two() -> (usize, usize) {
    on_proxima_only(
        "Linux has no preference when it wakes a task; its NUMA balancing samples what a task \
         touches, takes seconds, and moves memory as well as tasks",
    );
    let nodes: Vec<usize> =
        numa::nodes().into_iter().filter(|node| !numa::cpus_of(*node).is_empty()).collect();
    match nodes[..] {
        [first, .., last] => (last, first),
        _ => skip!("needs two nodes with memory and CPUs"),
    }
}

/// Memory of the calling process on `home`; the process itself on a CPU of `away`, from where it may
/// go where it likes.
fn part(home: usize, away: usize) -> usize {
    let all = affinity(0);
    pin(numa::cpus_of(home)[0]);
    let at = map(PAGES);
    touch(at, PAGES);
    numa::all_on(at, PAGES, home);
    pin(numa::cpus_of(away)[0]);
    set_affinity(0, &numa::mask(&all)).unwrap();
    at
}

fn spin_to(node: usize) {
    let end = sys::monotonic() + PATIENCE;
    while getcpu().1 != node {
        assert!(sys::monotonic() < end, "on node {} instead of {node}", getcpu().1);
        std::hint::spin_loop();
    }
}

fn a_sleeper_settles_where_its_memory_is() {
    let (last, first) = two();
    for (home, away) in [(last, first), (first, last)] {
        run(|| {
            part(home, away);
            let mut sleeps = 0;
            while getcpu().1 != home {
                assert!(sleeps < 50, "on node {} after {sleeps} sleeps", getcpu().1);
                sleeps += 1;
                sleep(1_000_000);
            }
            // Somebody else may need its CPU now and then.
            let there = (0..20).filter(|_| {
                sleep(1_000_000);
                getcpu().1 == home
            });
            let there = there.count();
            assert!(there >= 15, "at home after {there} of 20 sleeps");
        });
    }
}

fn a_spinner_goes_where_its_memory_is() {
    let (last, first) = two();
    for (home, away) in [(last, first), (first, last)] {
        run(|| {
            part(home, away);
            spin_to(home);
        });
    }
}

fn a_spinner_follows_its_memory() {
    let (home, away) = two();
    run(|| {
        let at = part(home, away);
        spin_to(home);
        numa::send(at, PAGES, away);
        spin_to(away);
    });
}

fn no_memory_draws_a_task_to_a_cpu_that_it_may_not_use() {
    let (home, away) = two();
    run(|| {
        part(home, away);
        set_affinity(0, &numa::mask(&numa::cpus_of(away))).unwrap();
        for _ in 0..50 {
            assert_eq!(getcpu().1, away);
            sleep(500_000);
        }
        let end = sys::monotonic() + 50_000_000;
        while sys::monotonic() < end {
            assert_eq!(getcpu().1, away);
        }
    });
}

fn no_memory_draws_a_task_to_where_it_would_wait() {
    let (home, away) = two();
    let stop = map_shared(1);
    let cpus = numa::cpus_of(home);
    let hogs: Vec<i32> = cpus
        .iter()
        .map(|cpu| {
            spawn(|| {
                pin(*cpu);
                word(stop + 4).fetch_add(1, SeqCst);
                while word(stop).load(SeqCst) == 0 {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    while word(stop + 4).load(SeqCst) < cpus.len() as u32 {
        sleep(1_000_000);
    }
    run(|| {
        part(home, away);
        for _ in 0..50 {
            sleep(500_000);
            assert_ne!(getcpu().1, home, "others run there, and CPUs idle elsewhere");
        }
    });
    word(stop).store(1, SeqCst);
    for hog in hogs {
        assert_eq!(join(hog), 0);
    }
}
