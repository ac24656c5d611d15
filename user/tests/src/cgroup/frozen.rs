//! cgroup.freeze: everybody in a group stands still.

use std::sync::atomic::Ordering::SeqCst;

use libc::{EINVAL, ERANGE};

use super::Group;
use crate::child::{join, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::{map_shared, word};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    what_is_written_to_freeze,
    frozen_tasks_make_no_progress,
    sleepers_freeze_and_sleep_on,
    frozen_tasks_are_killed,
    a_fatal_signal_ends_a_frozen_task,
    groups_below_freeze_too,
    who_moves_freezes_or_goes_on,
    who_is_born_in_a_frozen_group_waits,
];

impl Group {
    fn freeze(&self, on: bool) {
        self.write("cgroup.freeze", if on { "1" } else { "0" }).unwrap();
    }

    fn is_frozen(&self) -> bool {
        self.value("cgroup.events", "frozen") == 1
    }

    fn until_frozen(&self) {
        while !self.is_frozen() {
            std::thread::yield_now();
        }
    }
}

/// A child that counts in a shared word, and the word.
fn counter() -> (i32, usize) {
    let at = map_shared(1);
    let pid = spawn(|| {
        loop {
            word(at).fetch_add(1, SeqCst);
        }
    });
    (pid, at)
}

fn until_it_counts(at: usize) {
    let before = word(at).load(SeqCst);
    while word(at).load(SeqCst) == before {
        std::thread::yield_now();
    }
}

#[track_caller]
fn stands_still(at: usize) {
    let before = word(at).load(SeqCst);
    for _ in 0..300 {
        std::thread::yield_now();
    }
    assert_eq!(word(at).load(SeqCst), before);
}

fn end(pid: i32) {
    sys::kill(pid, libc::SIGKILL).unwrap();
    assert_eq!(join(pid), 128 + libc::SIGKILL);
}

fn what_is_written_to_freeze() {
    let group = Group::new("freeze");
    assert_eq!(group.read("cgroup.freeze"), "0");
    for (text, errno) in [("2", ERANGE), ("-1", ERANGE), ("x", EINVAL), ("1 0", EINVAL)] {
        fails(group.write("cgroup.freeze", text), errno);
    }
    group.write("cgroup.freeze", " 1\n").unwrap();
    assert_eq!(group.read("cgroup.freeze"), "1");
    // Nobody is there who would not stand still.
    assert!(group.is_frozen());
    group.freeze(false);
    assert!(!group.is_frozen());
}

fn frozen_tasks_make_no_progress() {
    let group = Group::new("progress");
    let (pid, at) = counter();
    group.take(pid);
    for _ in 0..3 {
        until_it_counts(at);
        group.freeze(true);
        group.until_frozen();
        stands_still(at);
        group.freeze(false);
        assert!(!group.is_frozen());
    }
    until_it_counts(at);
    end(pid);
}

fn sleepers_freeze_and_sleep_on() {
    let group = Group::new("sleepers");
    let (reader, writer) = sys::pipe().unwrap();
    let pid = spawn(|| {
        let mut byte = [0];
        assert_eq!(sys::read(reader, &mut byte), Ok(1));
        assert_eq!(byte, [7]);
    });
    crate::child::until_asleep(pid);
    group.take(pid);
    group.freeze(true);
    group.until_frozen();
    sys::write(writer, &[7]).unwrap();
    let mut poll = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
    for _ in 0..100 {
        std::thread::yield_now();
    }
    assert_eq!(sys!(libc::SYS_poll, &raw mut poll, 1, 0), Ok(1));
    group.freeze(false);
    assert_eq!(join(pid), 0);
}

fn frozen_tasks_are_killed() {
    let group = Group::new("killing");
    let (a, _) = counter();
    let (b, _) = counter();
    group.take(a);
    group.take(b);
    group.freeze(true);
    group.until_frozen();
    end(a);
    assert!(group.is_frozen());
    group.write("cgroup.kill", "1").unwrap();
    assert_eq!(join(b), 128 + libc::SIGKILL);
    group.until_empty();
    assert_eq!(group.read("cgroup.freeze"), "1");
}

fn a_fatal_signal_ends_a_frozen_task() {
    let group = Group::new("fatal");
    let (ends, also_at) = counter();
    let (dumps, at) = counter();
    // Whoever is still on the way out of fork may have its signals blocked.
    until_it_counts(also_at);
    until_it_counts(at);
    group.take(ends);
    group.take(dumps);
    group.freeze(true);
    group.until_frozen();
    // What would leave a core dump waits, and so does the rest that is not the end.
    sys::kill(dumps, libc::SIGCONT).unwrap();
    sys::kill(dumps, libc::SIGQUIT).unwrap();
    sys::kill(ends, libc::SIGTERM).unwrap();
    assert_eq!(join(ends), 128 + libc::SIGTERM);
    stands_still(at);
    group.freeze(false);
    assert_eq!(join(dumps), 128 + libc::SIGQUIT);
}

fn groups_below_freeze_too() {
    let group = Group::new("frozen-below");
    let child = group.child("child");
    let (pid, at) = counter();
    child.take(pid);
    group.freeze(true);
    group.until_frozen();
    assert!(child.is_frozen());
    assert_eq!(child.read("cgroup.freeze"), "0");
    stands_still(at);
    child.freeze(true);
    group.freeze(false);
    assert!(child.is_frozen() && !group.is_frozen());
    stands_still(at);
    let late = group.child("late");
    assert!(!late.is_frozen());
    child.freeze(false);
    until_it_counts(at);
    end(pid);
}

fn who_moves_freezes_or_goes_on() {
    let group = Group::new("moving");
    let (cold, warm) = (group.child("cold"), group.child("warm"));
    let (pid, at) = counter();
    cold.freeze(true);
    assert!(cold.is_frozen());
    for _ in 0..3 {
        cold.take(pid);
        cold.until_frozen();
        stands_still(at);
        warm.take(pid);
        until_it_counts(at);
        assert!(cold.is_frozen());
    }
    end(pid);
}

fn who_is_born_in_a_frozen_group_waits() {
    let group = Group::new("births");
    let dir = sys::open(&group.0, libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
    let at = map_shared(1);
    group.freeze(true);
    let pid = match super::members::clone3_into(dir as u64, 88).unwrap() {
        0 => {
            word(at).store(1, SeqCst);
            sys::exit_group(0)
        }
        pid => pid as i32,
    };
    group.until_frozen();
    stands_still(at);
    assert_eq!(word(at).load(SeqCst), 0);
    group.freeze(false);
    assert_eq!(join(pid), 0);
    run(|| assert_eq!(word(at).load(SeqCst), 1));
}
