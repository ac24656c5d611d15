//! What the kernel counts of scheduling: switches, interrupts between CPUs, time, and the files
//! that tell them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::sleep;
use crate::child::{Steps, affinity, getcpu, join, pin, run, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::{map, map_shared, munmap, touch, word};
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    the_status_file_and_getrusage_count_the_same_switches,
    being_preempted_is_an_involuntary_switch,
    waking_a_task_elsewhere_interrupts_its_cpu,
    a_barrier_in_all_threads_calls_their_cpus,
    unmapping_interrupts_the_cpus_of_the_other_threads_only,
    an_idle_cpu_takes_next_to_no_timer_interrupts,
    busy_and_idle_time_are_told_per_cpu,
    waiting_and_running_are_told_per_task,
    the_load_counts_those_who_want_a_cpu,
    migrations_are_counted,
    waits_for_locks_are_counted_by_class,
    times_without_preemption_and_interrupts_are_told_with_their_place,
];

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Voluntary and involuntary switches of the calling thread, as its status file tells them.
fn told() -> (u64, u64) {
    switches_in("/proc/thread-self/status")
}

/// The same of a process's first thread.
pub fn switches(pid: i32) -> (u64, u64) {
    switches_in(&format!("/proc/{pid}/status"))
}

fn switches_in(path: &str) -> (u64, u64) {
    let status = text(path);
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("the field");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    };
    (field("voluntary_ctxt_switches:"), field("nonvoluntary_ctxt_switches:"))
}

fn counted() -> (u64, u64) {
    let mut usage: libc::rusage = sys::zeroed();
    sys!(libc::SYS_getrusage, libc::RUSAGE_THREAD, &raw mut usage).unwrap();
    (usage.ru_nvcsw as u64, usage.ru_nivcsw as u64)
}

fn the_status_file_and_getrusage_count_the_same_switches() {
    // On a busy host a sleep may be over before its CPU is given away: then it is no switch.
    while counted().0 < 10 {
        sleep(1_000_000);
    }
    let before = counted();
    let told = told();
    let after = counted();
    assert!(before.0 <= told.0 && told.0 <= after.0, "{before:?} {told:?} {after:?}");
    assert!(before.1 <= told.1 && told.1 <= after.1, "{before:?} {told:?} {after:?}");
    assert!(told.0 >= 10);
}

fn being_preempted_is_an_involuntary_switch() {
    pin(affinity(0)[0]);
    let steps = Steps::new();
    let urgent = spawn(|| {
        super::set_class(0, libc::SCHED_FIFO, 10).unwrap();
        for round in 1..=50 {
            steps.await_(round);
        }
    });
    crate::child::until_asleep(urgent);
    let before = counted();
    for round in 1..=50 {
        steps.reach(round);
    }
    let after = counted();
    assert_eq!(join(urgent), 0);
    let forced = after.1 - before.1;
    assert!((49..80).contains(&forced), "{forced} switches were forced by 50 wake-ups");
    assert!(after.0 - before.0 < 20, "{} were asked for", after.0 - before.0);
}

/// A row of /proc/interrupts: of each CPU that is online, in their order.
fn row(name: &str) -> Vec<u64> {
    let text = text("/proc/interrupts");
    let label = format!("{name}:");
    let line = text.lines().find(|line| line.trim_start().starts_with(&label));
    let words = line.unwrap_or_else(|| panic!("no row {name}")).split_whitespace().skip(1);
    words.map_while(|word| word.parse().ok()).collect()
}

fn two() -> (usize, usize) {
    let cpus = affinity(0);
    if cpus.len() < 2 {
        skip!("needs two CPUs");
    }
    (cpus[0], cpus[1])
}

fn waking_a_task_elsewhere_interrupts_its_cpu() {
    let (here, there) = two();
    let steps = Steps::new();
    pin(here);
    let child = spawn(|| {
        pin(there);
        for round in 1..=50 {
            steps.reach(2 * round - 1);
            steps.await_(2 * round);
        }
    });
    let count = || row("RES")[there] + row("CAL")[there];
    let before = count();
    for round in 1..=50 {
        steps.await_(2 * round - 1);
        crate::child::until_asleep(child);
        steps.reach(2 * round);
    }
    assert_eq!(join(child), 0);
    let sent = count() - before;
    assert!(sent >= 25, "{sent} interrupts for 50 wake-ups");
}

fn a_barrier_in_all_threads_calls_their_cpus() {
    const PRIVATE: u32 = 8;
    const REGISTER: u32 = 16;
    let (here, there) = two();
    pin(here);
    sys!(libc::SYS_membarrier, REGISTER, 0, 0).unwrap();
    let (stop, started) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(there);
            started.store(true, SeqCst);
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        while !started.load(SeqCst) {
            std::thread::yield_now();
        }
        let before = row("CAL")[there];
        for _ in 0..20 {
            sys!(libc::SYS_membarrier, PRIVATE, 0, 0).unwrap();
        }
        let calls = row("CAL")[there] - before;
        stop.store(true, SeqCst);
        assert!(calls >= 20, "{calls} calls for 20 barriers");
    });
}

fn unmapping_interrupts_the_cpus_of_the_other_threads_only() {
    let (here, there) = two();
    let idle = *affinity(0).last().unwrap();
    pin(here);
    let (stop, started) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(there);
            started.store(true, SeqCst);
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        });
        while !started.load(SeqCst) {
            std::thread::yield_now();
        }
        let before = row("TLB");
        for _ in 0..20 {
            let at = map(4);
            touch(at, 4);
            munmap(at, 4).unwrap();
        }
        let after = row("TLB");
        stop.store(true, SeqCst);
        assert!(after[there] - before[there] >= 20, "{:?} {:?}", before, after);
        if idle != there {
            assert!(after[idle] - before[idle] < 20, "an idle CPU was asked: {before:?} {after:?}");
        }
    });
}

fn an_idle_cpu_takes_next_to_no_timer_interrupts() {
    let cpus = affinity(0);
    if cpus.len() < 4 {
        skip!("needs four CPUs");
    }
    pin(cpus[0]);
    let before = row("LOC");
    sleep(400_000_000);
    let after = row("LOC");
    // 100 ticks would be due at 250 Hz. The quietest CPU shows what idling costs.
    let least = cpus[1..].iter().map(|cpu| after[*cpu] - before[*cpu]).min();
    assert!(least < Some(20), "{least:?} timer interrupts in 400 ms: {before:?} {after:?}");
}

/// Ticks of a CPU by /proc/stat: user, nice, system, idle.
fn ticks(cpu: usize) -> Vec<u64> {
    let text = text("/proc/stat");
    let label = format!("cpu{cpu} ");
    let line = text.lines().find(|line| line.starts_with(&label)).expect("the CPU's line");
    line.split_whitespace().skip(1).take(4).map(|word| word.parse().unwrap()).collect()
}

fn busy_and_idle_time_are_told_per_cpu() {
    let (here, there) = two();
    pin(here);
    let before = (ticks(here), ticks(there));
    let end = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) + 300_000_000;
    while sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) < end {}
    let after = (ticks(here), ticks(there));
    let busy = |a: &[u64], b: &[u64]| b[0] + b[1] + b[2] - a[0] - a[1] - a[2];
    let own = busy(&before.0, &after.0);
    assert!(own >= 25, "{own} ticks of 10 ms for 300 ms: {before:?} {after:?}");
    let idle = after.1[3] - before.1[3];
    assert!(idle >= 15, "{idle} ticks idle on the other CPU: {before:?} {after:?}");
}

fn schedstat() -> Vec<u64> {
    text("/proc/thread-self/schedstat")
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

fn waiting_and_running_are_told_per_task() {
    pin(affinity(0)[0]);
    let stop = map_shared(1);
    let other = spawn(|| {
        while word(stop).load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
    });
    let before = schedstat();
    let end = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) + 100_000_000;
    while sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) < end {}
    let after = schedstat();
    word(stop).store(1, SeqCst);
    assert_eq!(join(other), 0);
    let [ran, waited, turns] = [0, 1, 2].map(|i| after[i] - before[i]);
    assert!(ran >= 70_000_000, "ran {ran} ns");
    // Half of the time the other one had the CPU.
    assert!(waited >= 20_000_000, "waited {waited} ns while the other ran");
    assert!(turns >= 5, "{turns} turns");
    let sched = text("/proc/self/sched");
    assert!(sched.contains("nr_switches") && sched.contains("policy"), "{sched}");
}

fn the_load_counts_those_who_want_a_cpu() {
    let stop = map_shared(1);
    let spinners: Vec<i32> =
        (0..3).map(|_| spawn(|| while word(stop).load(SeqCst) == 0 {})).collect();
    let running = || -> usize {
        let text = text("/proc/loadavg");
        let field = text.split_whitespace().nth(3).expect("running/all");
        field.split('/').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    while running() < 4 {
        sleep(1_000_000);
    }
    word(stop).store(1, SeqCst);
    for spinner in spinners {
        assert_eq!(join(spinner), 0);
    }
    let averages: Vec<f64> =
        text("/proc/loadavg").split_whitespace().take(3).map(|n| n.parse().unwrap()).collect();
    assert!(averages.iter().all(|a| (0.0..100.0).contains(a)), "{averages:?}");
    let uptime: Vec<f64> =
        text("/proc/uptime").split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(uptime[0] > 0.0 && uptime[1] <= uptime[0] * affinity(0).len() as f64 + 1.0);
}

fn migrations_are_counted() {
    let (here, there) = two();
    let count = || -> u64 {
        let text = text("/proc/thread-self/sched");
        let line = text.lines().find(|line| line.starts_with("se.nr_migrations"));
        line.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).expect("a number")
    };
    run(|| {
        pin(here);
        let before = count();
        for _ in 0..10 {
            pin(there);
            assert_eq!(getcpu().0, there);
            pin(here);
        }
        let moves = count() - before;
        assert!((20..30).contains(&moves), "{moves} for 20 moves");
    });
}

fn waits_for_locks_are_counted_by_class() {
    let Ok(before) = fs::read_to_string("/proc/proxima/locks") else {
        skip!("only Proxima tells of its locks");
    };
    assert!(before.starts_with("     waits"), "{before}");
    two();
    // Threads that map and fault at the same time wait for the tree of mappings.
    let waits = || -> u64 {
        let text = text("/proc/proxima/locks");
        let lines = text.lines().filter(|line| line.contains("VmaTree"));
        lines.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
    };
    let before = waits();
    // The harness ends a test that never sees one.
    while waits() == before {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let at = map(4);
                        touch(at, 4);
                        munmap(at, 4).unwrap();
                    }
                });
            }
        });
    }
}

fn times_without_preemption_and_interrupts_are_told_with_their_place() {
    let Ok(found) = fs::read_to_string("/proc/proxima/latency") else {
        skip!("only Proxima tells of its latencies");
    };
    if found.starts_with("not recorded") {
        skip!("only the checked kernel records latencies");
    }
    fs::write("/proc/proxima/latency", "0").unwrap();
    for _ in 0..50 {
        let at = map(4);
        touch(at, 4);
        munmap(at, 4).unwrap();
    }
    let found = text("/proc/proxima/latency");
    for kind in ["preemption", "interrupts"] {
        let line = found.lines().find(|line| line.starts_with(kind)).expect("a line of each kind");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words[1].parse::<u64>().is_ok_and(|ns| ns > 0), "{line}");
        // Names of functions may have spaces.
        let places = words[3..].join(" ");
        assert!(places.split(" .. ").all(|place| place.contains("+0x")), "no symbol: {line}");
    }
}
