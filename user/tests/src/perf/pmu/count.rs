//! Counts: by mode, by task, by CPU, and on whatever CPU the task is.

use libc::{EINVAL, ENOENT, EOPNOTSUPP};

use super::*;
use crate::child::{Steps, affinity, getcpu, join, pin, run, spawn};
use crate::harness::tests;
use crate::memory::{get64, map_shared, put64};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    the_unit_says_what_it_has,
    what_is_no_event_is_refused,
    the_models_counts_are_the_time,
    user_and_kernel_add_up,
    a_stopped_counter_stands_still,
    reset_forgets_what_was_counted,
    a_sleeping_task_counts_nothing,
    counts_go_on_wherever_the_task_runs,
    children_and_threads_are_counted,
    a_running_thread_is_read_from_another_cpu,
    each_cpu_counts_its_own,
    counters_are_given_back,
];

fn the_unit_says_what_it_has() {
    hardware(CYCLES);
    let read = |name: &str| std::fs::read_to_string(format!("{UNIT}/{name}")).unwrap();
    assert_eq!(read("type").trim(), RAW.to_string());
    assert!(read("format/event").starts_with("config:0-7"), "{}", read("format/event"));
    let cycles = read("events/cpu-cycles");
    assert!(cycles.starts_with("event=0x"), "{cycles}");
    // By its name in sysfs it is the same event.
    let code = cycles.trim().trim_start_matches("event=0x").split(',').next().unwrap().to_string();
    let config = u64::from_str_radix(&code, 16).unwrap();
    let raw = Attr::of(RAW, config).open();
    assert!(raw.during(|| burn(1_000_000)) > 0);
}

fn what_is_no_event_is_refused() {
    hardware(CYCLES);
    fails(hardware(10).try_open(0, -1, -1, 0), EINVAL);
    // No such cache; one that nobody counts in that way.
    fails(Attr::of(HW_CACHE, 7).try_open(0, -1, -1, 0), EINVAL);
    fails(Attr::of(HW_CACHE, 2 << 16).try_open(0, -1, -1, 0), EINVAL);
    fails(Attr::of(HW_CACHE, 0x1_0106).try_open(0, -1, -1, 0), ENOENT);
    const PRECISE: u64 = 3 << 15;
    fails(hardware(CYCLES).flags(PRECISE).try_open(0, -1, -1, 0), EOPNOTSUPP);
}

fn the_models_counts_are_the_time() {
    let event = hardware(CYCLES).open();
    let name = std::fs::read_to_string(format!("{UNIT}/caps/pmu_name")).unwrap_or_default();
    if name.trim() != "software model" {
        skip!("a real unit counts cycles");
    }
    // Ticks are nanoseconds on the clock that the model's suite runs on.
    let time = || sys::clock(libc::CLOCK_THREAD_CPUTIME_ID);
    let (count, begin) = (event.count(), time());
    burn(20_000_000);
    near((event.count() - count) as f64, (time() - begin) as f64, 1.0);
}

fn user_and_kernel_add_up() {
    let form = F_GROUP;
    let all = hardware(INSTRUCTIONS).flags(DISABLED).read_format(form).open();
    let _user = hardware(INSTRUCTIONS).flags(EXCLUDE_KERNEL).open_in(&all);
    let _kernel = hardware(INSTRUCTIONS).flags(EXCLUDE_USER).open_in(&all);
    all.ioctl(ENABLE, 0).unwrap();
    burn(2_000_000);
    all.ioctl(DISABLE, 0).unwrap();
    let words = all.words();
    let (user, kernel) = (words[2], words[3]);
    assert!(user > 0 && kernel > 0, "{words:?}");
    near(words[1] as f64, (user + kernel) as f64, 1.0);
    // A program that never calls the kernel has nothing but interrupts there.
    let spin = || {
        for i in 0..3_000_000u64 {
            std::hint::black_box(i);
        }
    };
    all.ioctl(RESET, 1).unwrap();
    all.ioctl(ENABLE, 0).unwrap();
    spin();
    all.ioctl(DISABLE, 0).unwrap();
    let words = all.words();
    assert!(words[2] > 10 * words[3], "{words:?}");
}

fn a_stopped_counter_stands_still() {
    let event = hardware(CYCLES).read_format(F_ENABLED | F_RUNNING).open();
    burn(2_000_000);
    event.ioctl(DISABLE, 0).unwrap();
    let stopped = timed(&event);
    assert!(stopped.0 > 0 && stopped.1 == stopped.2, "{stopped:?}");
    burn(2_000_000);
    assert_eq!(timed(&event), stopped);
    event.ioctl(ENABLE, 0).unwrap();
    burn(2_000_000);
    assert!(event.count() > stopped.0);
}

fn reset_forgets_what_was_counted() {
    let event = hardware(CYCLES).open();
    burn(10_000_000);
    let before = event.count();
    event.ioctl(RESET, 0).unwrap();
    assert!(event.count() < before / 2);
}

fn a_sleeping_task_counts_nothing() {
    let event = hardware(CYCLES).open();
    let awake = event.during(|| burn(10_000_000));
    let asleep = event.during(|| {
        let nap = sys::timespec(50_000_000);
        sys!(libc::SYS_nanosleep, &raw const nap, 0).unwrap();
    });
    assert!(asleep < awake / 5, "{asleep} asleep, {awake} awake");
}

fn counts_go_on_wherever_the_task_runs() {
    let cpus = affinity(0);
    let event = hardware(CYCLES).read_format(F_ENABLED | F_RUNNING).open();
    let mut last = event.count();
    for turn in 0..20 {
        pin(cpus[turn % cpus.len()]);
        burn(1_000_000);
        let now = event.count();
        assert!(now > last, "{now} after {last} on CPU {}", getcpu().0);
        last = now;
    }
    let (_, enabled, running) = timed(&event);
    assert_eq!(enabled, running);
}

fn children_and_threads_are_counted() {
    let own = hardware(CYCLES).flags(EXCLUDE_KERNEL).open();
    let all = hardware(CYCLES).flags(EXCLUDE_KERNEL | INHERIT).open();
    // Each says itself what it used.
    let used = map_shared(1);
    let body = move |at: usize| {
        let event = hardware(CYCLES).flags(EXCLUDE_KERNEL).open();
        burn(3_000_000);
        put64(used + 8 * at, event.count());
    };
    run(|| body(0));
    let threads: Vec<_> = (1..3).map(|at| std::thread::spawn(move || body(at))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let own = own.count();
    let all = all.count();
    let each: Vec<u64> = (0..3).map(|at| get64(used + 8 * at)).collect();
    let others: u64 = each.iter().sum();
    assert!(each.iter().all(|used| *used > 0) && all >= own + others, "{all}: {own}, {each:?}");
    assert!(all < own + others + others / 2, "{all}: {own}, {each:?}");
}

fn a_running_thread_is_read_from_another_cpu() {
    let cpus = affinity(0);
    if cpus.len() < 2 {
        skip!("needs two CPUs");
    }
    let steps = Steps::new();
    let child = spawn(|| {
        pin(cpus[1]);
        steps.reach(1);
        while steps.now() < 2 {
            std::hint::spin_loop();
        }
    });
    pin(cpus[0]);
    steps.await_(1);
    let mut attr = hardware(CYCLES).flags(EXCLUDE_KERNEL).read_format(F_ENABLED | F_RUNNING);
    let event = Event(attr.try_open(child, -1, -1, 0).unwrap() as i32);
    // It makes no system call: its counter moves only because it is read over there.
    let mut last = 0;
    for _ in 0..10 {
        burn(2_000_000);
        let now = event.count();
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    event.ioctl(DISABLE, 0).unwrap();
    let stopped = timed(&event);
    burn(2_000_000);
    assert_eq!(timed(&event), stopped);
    event.ioctl(RESET, 0).unwrap();
    assert_eq!(event.count(), 0);
    event.ioctl(ENABLE, 0).unwrap();
    burn(2_000_000);
    assert!(event.count() > 0);
    steps.reach(2);
    assert_eq!(join(child), 0);
}

fn each_cpu_counts_its_own() {
    let cpus = affinity(0);
    let on = |cpu: usize| {
        let mut attr = hardware(INSTRUCTIONS).flags(EXCLUDE_KERNEL);
        Event(attr.try_open(-1, cpu as i32, -1, 0).unwrap() as i32)
    };
    let last = *cpus.last().unwrap();
    let (busy, idle) = (on(last), on(cpus[0]));
    pin(last);
    let before = idle.count();
    let counted = busy.during(|| burn(5_000_000));
    let elsewhere = idle.count() - before;
    assert!(counted > 0);
    if cpus.len() > 1 {
        assert!(elsewhere < counted / 5, "{elsewhere} elsewhere, {counted} here");
    }
}

fn counters_are_given_back() {
    let general = counters();
    for _ in 0..50 {
        let events: Vec<Event> = (0..general).map(|_| hardware(BRANCHES).open()).collect();
        burn(100_000);
        drop(events);
    }
    let form = F_ENABLED | F_RUNNING;
    let events: Vec<Event> =
        (0..general).map(|_| hardware(BRANCHES).read_format(form).open()).collect();
    burn(2_000_000);
    for event in &events {
        let (count, enabled, running) = timed(event);
        assert!(count > 0 && enabled == running, "{count} in {running} of {enabled} ns");
    }
}
