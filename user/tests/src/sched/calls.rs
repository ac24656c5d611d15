//! Classes and priorities: who may set which, what is kept and what is refused.

use libc::{E2BIG, EACCES, EFAULT, EINVAL, EPERM, ESRCH};
use libc::{SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR};

use super::set_class;
use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};
use crate::task::credentials::become_nobody;

pub const TESTS: &[Test] = tests![
    a_parameter_is_set_without_the_policy,
    attributes_of_other_sizes_are_read_and_refused_as_they_should,
    flags_keep_the_policy_or_the_parameters,
    unknown_attributes_are_refused,
    a_real_time_limit_lets_users_have_that_much,
    a_nice_limit_lets_users_raise_theirs_that_far,
    users_leave_the_idle_class_only_as_far_as_their_limit,
    other_users_tasks_keep_their_class,
    reset_on_fork_is_not_forgotten_by_users,
    a_nice_value_is_kept_through_real_time,
    priorities_of_a_group_and_of_a_user_are_set_together,
    intervals_follow_the_class,
    a_class_is_kept_by_exec,
];

const RESET_ON_FORK: i32 = 0x4000_0000;

/// struct sched_attr, first version and utilization clamps.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Attr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    clamps: [u32; 2],
    beyond: [u64; 4],
}

impl Attr {
    fn new(policy: i32) -> Self {
        Self { size: 56, policy: policy as u32, ..Self::default() }
    }
    fn set(&self, pid: i32) -> sys::Result<usize> {
        sys!(libc::SYS_sched_setattr, pid, &raw const *self, 0)
    }
    fn get(size: u32) -> sys::Result<Self> {
        let mut attr = Self::default();
        sys!(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0).map(|_| attr)
    }
}

fn class(pid: i32) -> i32 {
    sys!(libc::SYS_sched_getscheduler, pid).unwrap() as i32
}

fn priority() -> i32 {
    let mut found = -1;
    sys!(libc::SYS_sched_getparam, 0, &raw mut found).unwrap();
    found
}

fn nice_of(which: i32, who: i32) -> i32 {
    20 - sys!(libc::SYS_getpriority, which, who).unwrap() as i32
}

fn set_nice(value: i32) -> sys::Result<usize> {
    sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value)
}

fn limit(which: i32, value: u64) {
    let limit = [value, value];
    sys!(libc::SYS_prlimit64, 0, which, limit.as_ptr(), 0).unwrap();
}

fn a_parameter_is_set_without_the_policy() {
    set_class(0, SCHED_RR, 7).unwrap();
    let set = |value: i32| sys!(libc::SYS_sched_setparam, 0, &raw const value);
    set(9).unwrap();
    assert_eq!((class(0), priority()), (SCHED_RR, 9));
    fails(set(0), EINVAL);
    fails(set(100), EINVAL);
    fails(sys!(libc::SYS_sched_setparam, 0, 0), EINVAL);
    fails(sys!(libc::SYS_sched_setparam, 0, 8), EFAULT);
    fails(sys!(libc::SYS_sched_getparam, 0, 0), EINVAL);
    fails(sys!(libc::SYS_sched_getparam, 0x3fff_fff0, 8), ESRCH);
    fails(sys!(libc::SYS_sched_setscheduler, 0, SCHED_RR, 0), EINVAL);
    fails(sys!(libc::SYS_sched_setscheduler, 0, SCHED_RR, 8), EFAULT);
    set_class(0, SCHED_OTHER, 0).unwrap();
    fails(set(1), EINVAL);
    set(0).unwrap();
}

fn attributes_of_other_sizes_are_read_and_refused_as_they_should() {
    // 0 means the first version's 48 bytes.
    let attr = Attr { size: 0, nice: 3, ..Attr::new(SCHED_OTHER) };
    attr.set(0).unwrap();
    assert_eq!(nice_of(libc::PRIO_PROCESS, 0), 3);
    // A longer one from the future is accepted while it says nothing new.
    let mut attr = Attr { size: 88, nice: 4, ..Attr::new(SCHED_OTHER) };
    attr.set(0).unwrap();
    assert_eq!(nice_of(libc::PRIO_PROCESS, 0), 4);
    attr.beyond[2] = 1;
    fails(sys!(libc::SYS_sched_setattr, 0, &raw mut attr, 0), E2BIG);
    assert_eq!(attr.size, 56, "the size that is known");
    let attr = Attr { size: 20, ..Attr::new(SCHED_OTHER) };
    fails(attr.set(0), E2BIG);
    assert_eq!(Attr::get(48).unwrap().size, 48);
    assert_eq!(Attr::get(56).unwrap().size, 56);
    assert_eq!(Attr::get(80).unwrap().size, 56);
    fails(Attr::get(47), EINVAL);
    fails(Attr::get(5000), EINVAL);
    fails(sys!(libc::SYS_sched_getattr, 0, 0, 56, 0), EINVAL);
    fails(sys!(libc::SYS_sched_setattr, 0, 0, 0), EINVAL);
    let attr = Attr::new(SCHED_OTHER);
    fails(sys!(libc::SYS_sched_setattr, 0, &raw const attr, 1), EINVAL);
    fails(sys!(libc::SYS_sched_setattr, -1, &raw const attr, 0), EINVAL);
    fails(attr.set(0x3fff_fff0), ESRCH);
}

fn flags_keep_the_policy_or_the_parameters() {
    const RESET: u64 = 1;
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMS: u64 = 16;
    Attr { priority: 12, ..Attr::new(SCHED_FIFO) }.set(0).unwrap();
    Attr { flags: KEEP_POLICY, priority: 13, ..Attr::new(SCHED_OTHER) }.set(0).unwrap();
    assert_eq!((class(0), priority()), (SCHED_FIFO, 13));
    Attr { flags: KEEP_POLICY | KEEP_PARAMS, ..Attr::new(SCHED_OTHER) }.set(0).unwrap();
    assert_eq!((class(0), priority()), (SCHED_FIFO, 13));
    Attr { flags: RESET, priority: 13, ..Attr::new(SCHED_FIFO) }.set(0).unwrap();
    assert_eq!(class(0), SCHED_FIFO | RESET_ON_FORK);
    let found = Attr::get(56).unwrap();
    assert_eq!((found.policy as i32, found.flags & RESET, found.priority), (SCHED_FIFO, RESET, 13));
}

fn unknown_attributes_are_refused() {
    fails(Attr { flags: 1 << 40, ..Attr::new(SCHED_OTHER) }.set(0), EINVAL);
    fails(Attr::new(4).set(0), EINVAL);
    fails(Attr::new(-1).set(0), EINVAL);
    fails(Attr { priority: 1, ..Attr::new(SCHED_OTHER) }.set(0), EINVAL);
    fails(Attr { priority: 100, ..Attr::new(SCHED_FIFO) }.set(0), EINVAL);
    // Nice values beyond the ends are cut.
    Attr { nice: 100, ..Attr::new(SCHED_BATCH) }.set(0).unwrap();
    assert_eq!((class(0), nice_of(libc::PRIO_PROCESS, 0)), (SCHED_BATCH, 19));
}

fn a_real_time_limit_lets_users_have_that_much() {
    limit(libc::RLIMIT_RTPRIO, 20);
    become_nobody();
    set_class(0, SCHED_FIFO, 20).unwrap();
    fails(set_class(0, SCHED_FIFO, 21), EPERM);
    set_class(0, SCHED_RR, 5).unwrap();
    set_class(0, SCHED_OTHER, 0).unwrap();
    limit(libc::RLIMIT_RTPRIO, 0);
    fails(set_class(0, SCHED_RR, 1), EPERM);
}

fn a_nice_limit_lets_users_raise_theirs_that_far() {
    // 25 stands for nice -5.
    limit(libc::RLIMIT_NICE, 25);
    become_nobody();
    set_nice(10).unwrap();
    set_nice(-5).unwrap();
    fails(set_nice(-6), EACCES);
    assert_eq!(nice_of(libc::PRIO_PROCESS, 0), -5);
    fails(Attr { nice: -6, ..Attr::new(SCHED_OTHER) }.set(0), EPERM);
}

fn users_leave_the_idle_class_only_as_far_as_their_limit() {
    become_nobody();
    set_class(0, SCHED_IDLE, 0).unwrap();
    fails(set_class(0, SCHED_OTHER, 0), EPERM);
    run(|| assert_eq!(class(0), SCHED_IDLE));
}

fn other_users_tasks_keep_their_class() {
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    run(|| {
        become_nobody();
        fails(set_class(child, SCHED_BATCH, 0), EPERM);
        fails(sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, child, 10), EPERM);
        // Anybody may ask.
        assert_eq!(class(child), SCHED_OTHER);
    });
    steps.reach(1);
    assert_eq!(join(child), 0);
}

fn reset_on_fork_is_not_forgotten_by_users() {
    become_nobody();
    set_class(0, SCHED_OTHER | RESET_ON_FORK, 0).unwrap();
    fails(set_class(0, SCHED_OTHER, 0), EPERM);
    set_class(0, SCHED_BATCH | RESET_ON_FORK, 0).unwrap();
    set_nice(5).unwrap();
    // A nice value above 0 is none to reset.
    run(|| assert_eq!((class(0), nice_of(libc::PRIO_PROCESS, 0)), (SCHED_BATCH, 5)));
}

fn a_nice_value_is_kept_through_real_time() {
    set_nice(6).unwrap();
    set_class(0, SCHED_FIFO, 3).unwrap();
    assert_eq!(nice_of(libc::PRIO_PROCESS, 0), 6);
    set_nice(8).unwrap();
    set_class(0, SCHED_OTHER, 0).unwrap();
    assert_eq!(nice_of(libc::PRIO_PROCESS, 0), 8);
}

fn priorities_of_a_group_and_of_a_user_are_set_together() {
    run(|| {
        sys!(libc::SYS_setpgid, 0, 0).unwrap();
        let steps = Steps::new();
        let child = spawn(|| steps.await_(1));
        sys!(libc::SYS_setpriority, libc::PRIO_PGRP, 0, 4).unwrap();
        assert_eq!(nice_of(libc::PRIO_PROCESS, child), 4);
        assert_eq!(nice_of(libc::PRIO_PGRP, sys::getpid()), 4);
        fails(sys!(libc::SYS_setpriority, 9, 0, 4), EINVAL);
        fails(sys!(libc::SYS_getpriority, 9, 0), EINVAL);
        fails(sys!(libc::SYS_getpriority, libc::PRIO_PROCESS, 0x3fff_fff0), ESRCH);
        sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, child, 2).unwrap();
        // Of several the highest priority is told.
        assert_eq!(nice_of(libc::PRIO_PGRP, 0), 2);
        steps.reach(1);
        assert_eq!(join(child), 0);
    });
}

fn intervals_follow_the_class() {
    let mut time = sys::timespec(0);
    let mut interval = |pid: i32| {
        sys!(libc::SYS_sched_rr_get_interval, pid, &raw mut time)
            .map(|_| time.tv_sec * 1_000_000_000 + time.tv_nsec)
    };
    let fair = interval(0).unwrap();
    assert!((0..=100_000_000).contains(&fair), "{fair}");
    fails(interval(-1), EINVAL);
    fails(interval(0x3fff_fff0), ESRCH);
    set_class(0, SCHED_RR, 1).unwrap();
    assert_eq!(interval(0), Ok(100_000_000));
    set_class(0, SCHED_FIFO, 1).unwrap();
    assert_eq!(interval(0), Ok(0));
    fails(sys!(libc::SYS_sched_rr_get_interval, 0, 8), EFAULT);
}

fn a_class_is_kept_by_exec() {
    set_class(0, SCHED_BATCH, 0).unwrap();
    set_nice(3).unwrap();
    assert_eq!(crate::helper::call(&["class", "3", "3"]), 0);
}
