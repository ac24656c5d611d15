//! The pids controller.

use libc::{EAGAIN, EINVAL};

use super::Group;
use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails};

pub const TESTS: &[Test] = tests![
    limits_are_read_and_shown,
    a_fork_beyond_the_limit_is_refused,
    the_limit_of_a_group_above_counts_and_tells,
    who_moves_in_is_not_refused,
    the_peak_stays,
    what_was_removed_during_a_fork_counts_nobody,
];

fn limits_are_read_and_shown() {
    let group = Group::new("pids");
    assert_eq!(group.read("pids.max"), "max");
    for (text, shown) in [("5\n", "5"), ("0", "0"), ("4194304", "4194304"), ("max", "max")] {
        group.write("pids.max", text).unwrap();
        assert_eq!(group.read("pids.max"), shown);
    }
    for text in ["-1", "x", "4194305", "1 2", "\n"] {
        fails(group.write("pids.max", text), EINVAL);
    }
}

fn a_fork_beyond_the_limit_is_refused() {
    let group = Group::new("refused");
    group.write("pids.max", "2").unwrap();
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        let steps = Steps::new();
        let pid = spawn(|| steps.await_(1));
        assert_eq!(group.read("pids.current"), "2");
        fails(sys::fork(), EAGAIN);
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        assert_eq!(group.value("pids.events", "max"), 2);
        steps.reach(1);
        join(pid);
        run(|| ());
        assert_eq!(group.read("pids.current"), "1");
    });
    assert_eq!(group.read("pids.current"), "0");
}

fn the_limit_of_a_group_above_counts_and_tells() {
    let group = Group::new("pids-above");
    group.write("cgroup.subtree_control", "+pids").unwrap();
    let child = group.child("child");
    group.write("pids.max", "1").unwrap();
    run(|| {
        child.write("cgroup.procs", "0").unwrap();
        fails(sys::fork(), EAGAIN);
        assert_eq!(group.read("pids.current"), "1");
        assert_eq!(group.value("pids.events", "max"), 1);
        assert_eq!(child.value("pids.events", "max"), 0);
        assert_eq!(group.value("pids.events.local", "max"), 1);
        assert_eq!(child.value("pids.events.local", "max"), 0);
        group.write("cgroup.subtree_control", "-pids").unwrap();
        fails(sys::fork(), EAGAIN);
        group.write("pids.max", "2").unwrap();
        run(|| ());
    });
}

fn who_moves_in_is_not_refused() {
    let group = Group::new("movers");
    group.write("pids.max", "1").unwrap();
    let steps = Steps::new();
    let pids = [(); 3].map(|()| spawn(|| steps.await_(1)));
    pids.into_iter().for_each(|pid| group.take(pid));
    assert_eq!(group.read("pids.current"), "3");
    steps.reach(1);
    pids.into_iter().for_each(|pid| assert_eq!(join(pid), 0));
}

fn the_peak_stays() {
    let group = Group::new("peak");
    assert_eq!(group.read("pids.peak"), "0");
    let steps = Steps::new();
    let pids = [(); 3].map(|()| spawn(|| steps.await_(1)));
    pids.into_iter().for_each(|pid| group.take(pid));
    steps.reach(1);
    pids.into_iter().for_each(|pid| assert_eq!(join(pid), 0));
    assert_eq!((group.read("pids.current"), group.read("pids.peak")), ("0".into(), "3".into()));
}

fn what_was_removed_during_a_fork_counts_nobody() {
    let group = Group::new("going");
    group.write("cgroup.subtree_control", "+pids").unwrap();
    let steps = Steps::new();
    let forker = spawn(|| {
        // So that a fork takes its time.
        let at = crate::memory::map(2048);
        crate::memory::touch(at, 2048);
        steps.reach(1);
        loop {
            run(|| ());
        }
    });
    steps.await_(1);
    let mut last: Option<Group> = None;
    for turn in 0..200 {
        let child = group.child(&format!("turn{turn}"));
        child.take(forker);
        if let Some(last) = last.replace(child) {
            while last.rmdir().is_err() {
                std::thread::yield_now();
            }
        }
    }
    sys::kill(forker, libc::SIGKILL).unwrap();
    join(forker);
    group.until_empty();
    drop(last);
    while group.read("pids.current") != "0" {
        // Children whose parent was killed are reaped by init.
        std::thread::yield_now();
    }
}
