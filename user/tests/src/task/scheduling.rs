//! Scheduling classes, priorities, yielding. Affinity has a suite of its own.

use libc::{EINVAL, EPERM, ESRCH};

use crate::child::{join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_task_begins_as_an_ordinary_one,
    every_class_is_set_and_read_back,
    priorities_have_their_ranges,
    classes_are_inherited_unless_reset,
    users_get_no_real_time,
    nice_is_set_inherited_and_guarded,
    an_attribute_is_set_and_read_back,
    a_round_robin_interval_is_told,
    yielding_lets_others_on_the_same_cpu_run,
    a_spinner_does_not_keep_others_from_their_cpu,
    switches_are_counted_as_wanted_and_unwanted,
];

fn class(pid: i32) -> sys::Result<usize> {
    sys!(libc::SYS_sched_getscheduler, pid)
}

fn set_class(pid: i32, class: i32, priority: i32) -> sys::Result<usize> {
    sys!(libc::SYS_sched_setscheduler, pid, class, &raw const priority)
}

/// nice, from what the call returns (20 - nice).
fn nice() -> i32 {
    20 - sys!(libc::SYS_getpriority, libc::PRIO_PROCESS, 0).unwrap() as i32
}

fn set_nice(value: i32) -> sys::Result<usize> {
    sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value)
}

fn a_task_begins_as_an_ordinary_one() {
    assert_eq!((class(0), nice()), (Ok(libc::SCHED_OTHER as usize), 0));
}

fn every_class_is_set_and_read_back() {
    for (wanted, priority) in [
        (libc::SCHED_FIFO, 10),
        (libc::SCHED_RR, 99),
        (libc::SCHED_BATCH, 0),
        (libc::SCHED_IDLE, 0),
        (libc::SCHED_OTHER, 0),
    ] {
        set_class(0, wanted, priority).unwrap();
        assert_eq!(class(0), Ok(wanted as usize));
        let mut found = -1;
        sys!(libc::SYS_sched_getparam, 0, &raw mut found).unwrap();
        assert_eq!(found, priority);
    }
}

fn priorities_have_their_ranges() {
    for (class, low, high) in [
        (libc::SCHED_FIFO, 1, 99),
        (libc::SCHED_RR, 1, 99),
        (libc::SCHED_OTHER, 0, 0),
        (libc::SCHED_BATCH, 0, 0),
    ] {
        assert_eq!(sys!(libc::SYS_sched_get_priority_min, class), Ok(low));
        assert_eq!(sys!(libc::SYS_sched_get_priority_max, class), Ok(high));
    }
    fails(sys!(libc::SYS_sched_get_priority_max, 77), EINVAL);
    fails(set_class(0, libc::SCHED_FIFO, 0), EINVAL);
    fails(set_class(0, libc::SCHED_FIFO, 100), EINVAL);
    fails(set_class(0, libc::SCHED_OTHER, 1), EINVAL);
    fails(set_class(0, 77, 0), EINVAL);
    fails(set_class(0x3fff_fff0, libc::SCHED_OTHER, 0), ESRCH);
    fails(class(-1), EINVAL);
}

fn classes_are_inherited_unless_reset() {
    set_class(0, libc::SCHED_RR, 5).unwrap();
    run(|| assert_eq!(class(0), Ok(libc::SCHED_RR as usize)));
    set_class(0, libc::SCHED_RR | 0x4000_0000, 5).unwrap();
    assert_eq!(class(0), Ok(libc::SCHED_RR as usize | 0x4000_0000));
    run(|| assert_eq!(class(0), Ok(libc::SCHED_OTHER as usize)));
}

fn users_get_no_real_time() {
    crate::task::credentials::become_nobody();
    fails(set_class(0, libc::SCHED_FIFO, 1), EPERM);
    set_class(0, libc::SCHED_BATCH, 0).unwrap();
}

fn nice_is_set_inherited_and_guarded() {
    set_nice(7).unwrap();
    assert_eq!(nice(), 7);
    run(|| assert_eq!(nice(), 7));
    set_nice(-100).unwrap();
    assert_eq!(nice(), -20);
    set_nice(100).unwrap();
    assert_eq!(nice(), 19);
    crate::task::credentials::become_nobody();
    fails(set_nice(0), libc::EACCES);
}

fn an_attribute_is_set_and_read_back() {
    // Size, class, flags, nice, priority, then deadlines.
    let mut attribute = [0u32; 14];
    (attribute[0], attribute[1], attribute[4]) = (56, libc::SCHED_OTHER as u32, 5);
    sys!(libc::SYS_sched_setattr, 0, attribute.as_ptr(), 0).unwrap();
    assert_eq!(nice(), 5);
    let mut found = [0u32; 14];
    sys!(libc::SYS_sched_getattr, 0, found.as_mut_ptr(), 56, 0).unwrap();
    assert_eq!((found[1], found[4]), (libc::SCHED_OTHER as u32, 5));
}

fn a_round_robin_interval_is_told() {
    let mut time = sys::timespec(0);
    set_class(0, libc::SCHED_RR, 5).unwrap();
    sys!(libc::SYS_sched_rr_get_interval, 0, &raw mut time).unwrap();
    assert_eq!((time.tv_sec, time.tv_nsec), (0, 100_000_000));
    set_class(0, libc::SCHED_FIFO, 5).unwrap();
    sys!(libc::SYS_sched_rr_get_interval, 0, &raw mut time).unwrap();
    assert_eq!((time.tv_sec, time.tv_nsec), (0, 0));
}

fn yielding_lets_others_on_the_same_cpu_run() {
    let at = crate::memory::map_shared(1);
    let turn = crate::memory::word(at);
    let cpu = crate::child::affinity(0)[0];
    crate::child::pin(cpu);
    let play = |mine: u32| {
        for round in 0..100 {
            while turn.load(std::sync::atomic::Ordering::SeqCst) != round * 2 + mine {
                sys!(libc::SYS_sched_yield).unwrap();
            }
            turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let child = spawn(|| play(1));
    play(0);
    assert_eq!(join(child), 0);
}

fn a_spinner_does_not_keep_others_from_their_cpu() {
    let cpu = crate::child::affinity(0)[0];
    crate::child::pin(cpu);
    let spinner = spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    // Each of these needs the CPU that the spinner holds.
    for _ in 0..10 {
        run(|| ());
    }
    sys::kill(spinner, libc::SIGKILL).unwrap();
    assert_eq!(join(spinner), 128 + libc::SIGKILL);
}

fn switches_are_counted_as_wanted_and_unwanted() {
    let count = || {
        let mut usage: libc::rusage = sys::zeroed();
        sys!(libc::SYS_getrusage, libc::RUSAGE_SELF, &raw mut usage).unwrap();
        (usage.ru_nvcsw, usage.ru_nivcsw)
    };
    let before = count();
    // Long enough not to be over before it begins, on a kernel that checks itself on a busy host.
    let pause = sys::timespec(10_000_000);
    for _ in 0..20 {
        sys!(libc::SYS_nanosleep, &raw const pause, 0).unwrap();
    }
    let wanted = count().0 - before.0;
    assert!((20..40).contains(&wanted), "{wanted} switches for 20 sleeps");
    let cpu = crate::child::affinity(0)[0];
    crate::child::pin(cpu);
    let spinner = spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    while count().1 == before.1 {}
    sys::kill(spinner, libc::SIGKILL).unwrap();
    assert_eq!(join(spinner), 128 + libc::SIGKILL);
}
