//! Counts: exact where an event is a deed of the program, close where it is time.

use super::*;
use crate::child::{Steps, affinity, getcpu, join, pin, run, spawn};
use crate::harness::{skip, tests};
use crate::helper;
use crate::memory::*;

pub const TESTS: &[Test] = tests![
    every_page_touched_is_a_fault,
    faults_are_users_or_the_kernels,
    task_clock_is_the_threads_time,
    clocks_stand_still_while_the_thread_sleeps,
    each_turn_of_a_ping_pong_is_a_switch,
    moving_is_a_migration,
    disabled_events_count_nothing,
    reset_forgets_the_count_and_not_the_time,
    groups_are_read_and_switched_as_one,
    a_group_is_read_whole_after_its_tasks_end,
    a_member_stands_still_with_its_leader,
    children_are_counted_when_inherited,
    threads_are_counted_when_inherited,
    exec_begins_the_count,
    another_process_is_counted_until_its_end,
    a_cpu_counts_whoever_runs_there,
];

/// What a measurement says the second time: the first one brings in the pages of code and stack
/// that measuring itself touches. On one CPU: another may remember a page as it was before a fork,
/// and faults once more.
pub fn settled<T>(mut measure: impl FnMut() -> T) -> T {
    pin(getcpu().0);
    measure();
    measure()
}

fn every_page_touched_is_a_fault() {
    let all = Attr::software(FAULTS).open();
    let minor = Attr::software(MINOR).open();
    let major = Attr::software(MAJOR).open();
    let counts = settled(|| {
        let at = map(300);
        let (a, b) = (all.count(), minor.count());
        for page in 0..300 {
            put(at + page * 4096, 1);
        }
        (all.count() - a, minor.count() - b, major.count())
    });
    assert_eq!(counts, (300, 300, 0));
}

fn faults_are_users_or_the_kernels() {
    let user = Attr::software(FAULTS).flags(EXCLUDE_KERNEL).open();
    let kernel = Attr::software(FAULTS).flags(EXCLUDE_USER).open();
    let counts = settled(|| {
        let (own, theirs) = (map(20), map(30));
        let (u, k) = (user.count(), kernel.count());
        touch(own, 20);
        for page in 0..30 {
            // The kernel writes a word to each.
            sys!(libc::SYS_getcpu, theirs + page * 4096, 0, 0).unwrap();
        }
        (user.count() - u, kernel.count() - k)
    });
    assert_eq!(counts, (20, 30));
}

fn task_clock_is_the_threads_time() {
    let event = Attr::software(TASK_CLOCK).open();
    let thread = || sys::clock(libc::CLOCK_THREAD_CPUTIME_ID);
    // Each reading of the event stands between two of the thread's clock: where the host was
    // elsewhere meanwhile, the bounds are further apart, but hold all the same.
    let mut slack = f64::MAX;
    for _ in 0..10 {
        let (before, from, after) = (thread(), event.count(), thread());
        burn(100_000_000);
        let (until, to, end) = (thread(), event.count(), thread());
        let (least, most) = ((until - after) as f64, (end - before) as f64);
        let counted = (to - from) as f64;
        assert!(counted > least * 0.98 && counted < most * 1.02, "{counted} of {least} to {most}");
        slack = slack.min(most / least - 1.0);
    }
    assert!(slack < 0.01, "the clock's own readings are {slack} apart at best");
}

fn clocks_stand_still_while_the_thread_sleeps() {
    let task = Attr::software(TASK_CLOCK).open();
    let counted = task.during(|| {
        let nap = sys::timespec(50_000_000);
        sys!(libc::SYS_nanosleep, &raw const nap, 0).unwrap();
    });
    assert!(counted < 20_000_000, "{counted} ns of 50 ms asleep");
}

fn each_turn_of_a_ping_pong_is_a_switch() {
    const TURNS: usize = 200;
    pin(affinity(0)[0]);
    // Neither gives way to the other, or to anybody, before it waits.
    let fifo = 1i32;
    sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const fifo).unwrap();
    let (ping, pong) = (sys::pipe().unwrap(), sys::pipe().unwrap());
    let child = spawn(|| {
        let mut byte = [0];
        for _ in 0..TURNS {
            sys::read(ping.0, &mut byte).unwrap();
            sys::write(pong.1, &byte).unwrap();
        }
    });
    let event = Attr::software(SWITCHES).open();
    let mut byte = [1];
    let before = own_switches();
    let counted = event.during(|| {
        for _ in 0..TURNS {
            sys::write(ping.1, &byte).unwrap();
            sys::read(pong.0, &mut byte).unwrap();
        }
    });
    let all = own_switches() - before;
    assert_eq!(counted, all, "the event against the thread's own count");
    assert_eq!(counted, TURNS as u64, "switches in as many turns");
    assert_eq!(join(child), 0);
}

/// Switches of this thread, by its rusage.
fn own_switches() -> u64 {
    let mut usage = sys::zeroed::<libc::rusage>();
    sys!(libc::SYS_getrusage, libc::RUSAGE_THREAD, &raw mut usage).unwrap();
    (usage.ru_nvcsw + usage.ru_nivcsw) as u64
}

fn moving_is_a_migration() {
    let cpus = affinity(0);
    if cpus.len() < 2 {
        skip!("needs two CPUs");
    }
    pin(cpus[0]);
    let event = Attr::software(MIGRATIONS).open();
    let counted = event.during(|| {
        for turn in 1..=10 {
            pin(cpus[turn % 2]);
        }
    });
    assert_eq!(counted, 10);
}

fn disabled_events_count_nothing() {
    let event = Attr::software(FAULTS).flags(DISABLED).read_format(F_ENABLED | F_RUNNING).open();
    touch(map(10), 10);
    assert_eq!(event.words(), [0, 0, 0]);
    event.ioctl(ENABLE, 0).unwrap();
    touch(map(10), 10);
    event.ioctl(DISABLE, 0).unwrap();
    let stopped = event.words();
    assert!(stopped[0] >= 10 && stopped[1] > 0 && stopped[1] == stopped[2], "{stopped:?}");
    touch(map(10), 10);
    assert_eq!(event.words(), stopped);
}

fn reset_forgets_the_count_and_not_the_time() {
    let event = Attr::software(FAULTS).read_format(F_ENABLED).open();
    touch(map(10), 10);
    event.ioctl(DISABLE, 0).unwrap();
    let before = event.words();
    event.ioctl(RESET, 0).unwrap();
    assert_eq!(event.words(), [0, before[1]]);
}

fn groups_are_read_and_switched_as_one() {
    let form = F_GROUP | F_ID | F_ENABLED | F_RUNNING;
    let leader = Attr::software(FAULTS).flags(DISABLED).read_format(form).open();
    let minor = Attr::software(MINOR).open_in(&leader);
    let clock = Attr::software(TASK_CLOCK).open_in(&leader);
    touch(map(10), 10);
    const WHOLE: usize = 1;
    leader.ioctl(ENABLE, WHOLE).unwrap();
    touch(map(50), 50);
    leader.ioctl(DISABLE, WHOLE).unwrap();
    let w = leader.words();
    assert_eq!(w.len(), 9, "{w:?}");
    assert_eq!((w[0], w[1] > 0, w[1] == w[2]), (3, true, true));
    assert!(w[3] >= 50 && w[3] < 80 && w[3] == w[5], "{w:?}");
    assert!(w[7] > 0);
    assert_eq!([w[4], w[6], w[8]], [leader.id(), minor.id(), clock.id()]);
}

fn a_group_is_read_whole_after_its_tasks_end() {
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        touch(map(100), 100);
        run(|| touch(map(100), 100));
    });
    let open = |attr: Attr, group: i32| {
        Event(attr.flags(INHERIT).try_open(child, -1, group, 0).unwrap() as i32)
    };
    let leader = open(Attr::software(TASK_CLOCK).read_format(F_GROUP), -1);
    let member = open(Attr::software(FAULTS), leader.0);
    steps.reach(1);
    assert_eq!(join(child), 0);
    let words = leader.words();
    assert_eq!((words.len(), words[0]), (3, 2), "{words:?}");
    assert!(words[1] > 0 && words[2] >= 200 && words[2] == member.count(), "{words:?}");
    drop(member);
    assert_eq!(leader.words()[0], 1);
}

fn a_member_stands_still_with_its_leader() {
    let leader = Attr::software(DUMMY).flags(DISABLED).open();
    let member = Attr::software(FAULTS).read_format(F_ENABLED).open_in(&leader);
    touch(map(10), 10);
    assert_eq!(member.words(), [0, 0]);
    leader.ioctl(ENABLE, 0).unwrap();
    touch(map(10), 10);
    assert!(member.count() >= 10);
}

fn children_are_counted_when_inherited() {
    let own = Attr::software(FAULTS).flags(EXCLUDE_KERNEL).open();
    let all = Attr::software(FAULTS).flags(EXCLUDE_KERNEL | INHERIT).open();
    let at = map_shared(1);
    run(|| {
        let pages = map(500);
        touch(pages, 500);
        run(|| touch(map(500), 500));
        word(at).store(1, std::sync::atomic::Ordering::SeqCst);
    });
    let (own, all) = (own.count(), all.count());
    assert!(all >= own + 1000 && all < own + 2000, "{own} own, {all} with children");
}

fn threads_are_counted_when_inherited() {
    let all = Attr::software(FAULTS).flags(EXCLUDE_KERNEL | INHERIT).open();
    let counted = all.during(|| {
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(|| touch(map(200), 200))).collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
    assert!((600..1200).contains(&counted), "{counted}");
}

fn exec_begins_the_count() {
    let go = sys::pipe().unwrap();
    let child = spawn(|| {
        touch(map(5000), 5000);
        let mut byte = [0];
        sys::read(go.0, &mut byte).unwrap();
        helper::exec(&["exit", "0"]);
    });
    let mut attr = Attr::software(FAULTS).flags(DISABLED | ENABLE_ON_EXEC).read_format(F_ENABLED);
    let event = Event(attr.try_open(child, -1, -1, 0).unwrap() as i32);
    assert_eq!(event.words(), [0, 0]);
    sys::write(go.1, &[1]).unwrap();
    join(child);
    let words = event.words();
    assert!(words[0] > 10 && words[0] < 4000 && words[1] > 0, "{words:?}");
}

fn another_process_is_counted_until_its_end() {
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        touch(map(100), 100);
        steps.reach(2);
        steps.await_(3);
    });
    let mut attr = Attr::software(FAULTS).flags(EXCLUDE_KERNEL);
    let event = Event(attr.try_open(child, -1, -1, 0).unwrap() as i32);
    steps.reach(1);
    steps.await_(2);
    let seen = event.count();
    assert!((100..200).contains(&seen), "{seen}");
    steps.reach(3);
    join(child);
    assert!(event.count() >= seen);
    assert_ne!(event.ready(1000) & libc::POLLHUP, 0);
    sys::fails(attr.try_open(child, -1, -1, 0), libc::ESRCH);
}

fn a_cpu_counts_whoever_runs_there() {
    let cpus = affinity(0);
    let mut attr = Attr::software(FAULTS);
    let on =
        |attr: &mut Attr, cpu: usize| Event(attr.try_open(-1, cpu as i32, -1, 0).unwrap() as i32);
    let last = *cpus.last().unwrap();
    let here = on(&mut attr, last);
    let counted = here.during(|| {
        run(|| {
            pin(last);
            touch(map(300), 300);
        });
    });
    assert!((300..1500).contains(&counted), "{counted}");
    if cpus.len() > 1 {
        let elsewhere = on(&mut attr, cpus[0]);
        pin(last);
        let before = elsewhere.count();
        touch(map(300), 300);
        let counted = elsewhere.count() - before;
        assert!(counted < 100, "{counted} faults on an idle CPU");
    }
}
