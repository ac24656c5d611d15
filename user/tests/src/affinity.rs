//! sched_setaffinity(2): accepted, inherited, and obeyed before the call returns.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use libc::{EFAULT, EINVAL, EPERM, ESRCH};

use crate::child::{Steps, affinity, getcpu, join, pin, run, set_affinity, spawn};
use crate::harness::{Test, long, skip, tests};
use crate::helper;
use crate::memory::*;
use crate::random::Random;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    the_size_of_the_mask_is_returned_in_bytes,
    cpus_that_do_not_exist_are_dropped,
    a_short_mask_is_filled_with_zeroes_and_a_long_one_cut,
    bad_arguments_are_refused,
    other_users_processes_are_left_alone,
    the_caller_is_there_when_the_call_returns,
    children_threads_and_programs_inherit,
    a_threads_mask_is_its_own,
    the_status_file_follows,
    another_process_has_left_the_cpu_when_the_call_returns,
    threads_of_this_process_are_moved_by_their_id,
    a_sleeper_wakes_on_its_new_cpu,
    nobody_runs_where_it_may_not_under_stress,
    spinning_threads_spread_one_to_a_cpu,
    tasks_bound_to_two_cpus_use_both_and_no_third,
];

fn mask(cpus: &[usize]) -> [u64; 16] {
    crate::numa::mask(cpus)
}

fn set(tid: i32, cpus: &[usize]) -> sys::Result<usize> {
    set_affinity(tid, &mask(cpus))
}

/// At least two CPUs.
fn several() -> Vec<usize> {
    let cpus = affinity(0);
    if cpus.len() < 2 {
        skip!("needs two CPUs");
    }
    cpus
}

fn the_size_of_the_mask_is_returned_in_bytes() {
    let mut mask = [0u64; 128];
    let at = mask.as_mut_ptr();
    let get = |bytes: usize| sys!(libc::SYS_sched_getaffinity, 0, bytes, at);
    let bytes = get(1024).unwrap();
    assert!(bytes.is_multiple_of(8) && bytes * 8 > *affinity(0).last().unwrap());
    fails(get(4), EINVAL);
    fails(get(12), EINVAL);
    fails(get(0), EINVAL);
    fails(sys!(libc::SYS_sched_getaffinity, 0, 1024, 8), EFAULT);
    fails(sys!(libc::SYS_sched_getaffinity, 0x3fff_fff0, 1024, at), ESRCH);
    fails(sys!(libc::SYS_sched_getaffinity, -1, 1024, at), ESRCH);
}

fn cpus_that_do_not_exist_are_dropped() {
    let cpus = affinity(0);
    set(0, &[cpus[0], 900, 1000]).unwrap();
    assert_eq!(affinity(0), [cpus[0]]);
    fails(set(0, &[900]), EINVAL);
    fails(set(0, &[]), EINVAL);
    assert_eq!(affinity(0), [cpus[0]]);
}

fn a_short_mask_is_filled_with_zeroes_and_a_long_one_cut() {
    let cpus = affinity(0);
    let byte = [1u8 << cpus[0]];
    assert_eq!(sys!(libc::SYS_sched_setaffinity, 0, 1, byte.as_ptr()), Ok(0));
    assert_eq!(affinity(0), [cpus[0]]);
    let long = [u64::MAX; 256];
    assert_eq!(sys!(libc::SYS_sched_setaffinity, 0, 2048, long.as_ptr()), Ok(0));
    assert_eq!(affinity(0), cpus);
    fails(sys!(libc::SYS_sched_setaffinity, 0, 0, long.as_ptr()), EINVAL);
}

fn bad_arguments_are_refused() {
    fails(sys!(libc::SYS_sched_setaffinity, 0, 8, 8), EFAULT);
    fails(set(0x3fff_fff0, &affinity(0)), ESRCH);
}

fn other_users_processes_are_left_alone() {
    let cpus = affinity(0);
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    run(|| {
        crate::task::credentials::become_nobody();
        fails(set(child, &cpus[..1]), EPERM);
        assert_eq!(affinity(child), cpus);
        set(0, &cpus[..1]).unwrap();
    });
    steps.reach(1);
    assert_eq!(join(child), 0);
}

fn the_caller_is_there_when_the_call_returns() {
    let cpus = affinity(0);
    let mut random = Random::new(1);
    for _ in 0..300 {
        let cpu = random.of(&cpus);
        pin(cpu);
        assert_eq!(getcpu().0, cpu);
        assert_eq!(affinity(0), [cpu]);
    }
}

fn children_threads_and_programs_inherit() {
    let cpus = affinity(0);
    let last = *cpus.last().unwrap();
    pin(last);
    run(|| {
        assert_eq!((affinity(0), getcpu().0), (vec![last], last));
        run(|| assert_eq!(affinity(0), [last]));
    });
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!((affinity(0), getcpu().0), (vec![last], last)));
    });
    assert_eq!(helper::call(&["affinity", &last.to_string()]), 0);
}

fn a_threads_mask_is_its_own() {
    let cpus = several();
    std::thread::scope(|scope| {
        scope.spawn(|| pin(cpus[1]));
    });
    assert_eq!(affinity(0), cpus);
}

fn the_status_file_follows() {
    let last = *affinity(0).last().unwrap();
    pin(last);
    let list = crate::signal::status_field("Cpus_allowed_list");
    assert_eq!(list, Some(last.to_string()));
}

/// Runs without pause and looks where it is. Shared words: [0] the phase (a number whose low 12
/// bits are the CPU, 0 for none), [1] samples, [2] violations.
fn sample(at: usize, stop: impl Fn() -> bool) {
    while !stop() {
        let before = word(at).load(SeqCst);
        let cpu = getcpu().0;
        let after = word(at).load(SeqCst);
        if before == after && before != 0 {
            word(at + 4).fetch_add(1, SeqCst);
            if before as usize & 0xfff != cpu {
                word(at + 8).fetch_add(1, SeqCst);
            }
        }
    }
}

fn another_process_has_left_the_cpu_when_the_call_returns() {
    let cpus = several();
    let at = map_shared(1);
    let stop = word(at + 64);
    let child = spawn(|| sample(at, || stop.load(SeqCst) == 1));
    let mut random = Random::new(2);
    for round in 1..=200u32 {
        let cpu = random.of(&cpus);
        word(at).store(0, SeqCst);
        set(child, &[cpu]).unwrap();
        word(at).store(round << 12 | cpu as u32, SeqCst);
        let samples = word(at + 4).load(SeqCst);
        while word(at + 4).load(SeqCst) == samples {
            std::thread::yield_now();
        }
    }
    stop.store(1, SeqCst);
    assert_eq!(join(child), 0);
    assert_eq!(word(at + 8).load(SeqCst), 0, "samples on a forbidden CPU");
}

fn threads_of_this_process_are_moved_by_their_id() {
    let cpus = several();
    let at = map(1);
    let stop = AtomicBool::new(false);
    let tid = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tid.store(sys::gettid() as u32, SeqCst);
            sample(at, || stop.load(SeqCst));
        });
        while tid.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        for round in 1..=100u32 {
            let cpu = cpus[round as usize % cpus.len()];
            word(at).store(0, SeqCst);
            set(tid.load(SeqCst) as i32, &[cpu]).unwrap();
            word(at).store(round << 12 | cpu as u32, SeqCst);
            let samples = word(at + 4).load(SeqCst);
            while word(at + 4).load(SeqCst) == samples {
                std::thread::yield_now();
            }
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(word(at + 8).load(SeqCst), 0, "samples on a forbidden CPU");
}

fn a_sleeper_wakes_on_its_new_cpu() {
    let cpus = several();
    let at = map_shared(1);
    let steps = Steps::new();
    let child = spawn(|| {
        for round in 1..=50 {
            steps.await_(2 * round);
            word(at).store(getcpu().0 as u32, SeqCst);
            steps.reach(2 * round + 1);
        }
    });
    for round in 1..=50 {
        crate::child::until_asleep(child);
        let cpu = cpus[round as usize % cpus.len()];
        set(child, &[cpu]).unwrap();
        steps.reach(2 * round);
        steps.await_(2 * round + 1);
        assert_eq!(word(at).load(SeqCst) as usize, cpu);
    }
    assert_eq!(join(child), 0);
}

fn nobody_runs_where_it_may_not_under_stress() {
    let cpus = several();
    // At least 10 million samples in the long run, which the harness ends after ten minutes.
    let wanted = if long() { 10_000_000 } else { 1000 };
    let end = sys::monotonic() + 2_000_000_000;
    let at = map_shared(1);
    let (samples, wrong) = (word(at), word(at + 4));
    let children: Vec<i32> = (0..2 * cpus.len() as u64)
        .map(|seed| {
            spawn(|| {
                let mut random = Random::new(seed);
                while sys::monotonic() < end || samples.load(SeqCst) < wanted {
                    // Two CPUs or one; sleeps, yields, forks and threads in between.
                    let mine = [random.of(&cpus), random.of(&cpus)];
                    set(0, &mine).unwrap();
                    let look = || {
                        samples.fetch_add(1, SeqCst);
                        if !mine.contains(&getcpu().0) {
                            wrong.fetch_add(1, SeqCst);
                        }
                    };
                    for _ in 0..50 {
                        look();
                    }
                    match random.below(4) {
                        0 => {
                            let pause = sys::timespec(100_000);
                            let _ = sys!(libc::SYS_nanosleep, &raw const pause, 0);
                        }
                        1 => std::thread::yield_now(),
                        2 => run(look),
                        _ => std::thread::scope(|scope| {
                            scope.spawn(look);
                        }),
                    }
                    for _ in 0..50 {
                        look();
                    }
                }
            })
        })
        .collect();
    for child in children {
        assert_eq!(join(child), 0);
    }
    assert!(samples.load(SeqCst) >= wanted);
    assert_eq!(wrong.load(SeqCst), 0, "of {} samples", samples.load(SeqCst));
}

fn spinning_threads_spread_one_to_a_cpu() {
    let cpus = several();
    let stop = AtomicBool::new(false);
    let places: Vec<AtomicU32> = cpus.iter().map(|_| AtomicU32::new(u32::MAX)).collect();
    std::thread::scope(|scope| {
        for place in &places {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    place.store(getcpu().0 as u32, SeqCst);
                }
            });
        }
        // The harness ends a test that never gets there.
        let mut agreed = 0;
        while agreed < 3 {
            let mut seen: Vec<u32> = places.iter().map(|place| place.load(SeqCst)).collect();
            seen.sort();
            seen.dedup();
            agreed = if seen.len() == cpus.len() { agreed + 1 } else { 0 };
            let pause = sys::timespec(2_000_000);
            let _ = sys!(libc::SYS_nanosleep, &raw const pause, 0);
        }
        stop.store(true, SeqCst);
    });
}

fn tasks_bound_to_two_cpus_use_both_and_no_third() {
    let cpus = several();
    let pair = [cpus[0], *cpus.last().unwrap()];
    let at = map_shared(1);
    let seen = |cpu: usize| word(at + 8 + cpu * 4);
    let children: Vec<i32> = (0..3)
        .map(|_| {
            spawn(|| {
                set(0, &pair).unwrap();
                while word(at).load(SeqCst) == 0 {
                    seen(getcpu().0).store(1, SeqCst);
                }
            })
        })
        .collect();
    while pair.iter().any(|cpu| seen(*cpu).load(SeqCst) == 0) {
        std::thread::yield_now();
    }
    word(at).store(1, SeqCst);
    for child in children {
        assert_eq!(join(child), 0);
    }
    for cpu in cpus.iter().filter(|cpu| !pair.contains(cpu)) {
        assert_eq!(seen(*cpu).load(SeqCst), 0, "CPU {cpu} was used");
    }
}
