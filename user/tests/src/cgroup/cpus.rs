//! cpuset.cpus: tasks run where it says, at once.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use libc::{EINVAL, ENOSPC, ERANGE};

use super::{Group, list, status_list};
use crate::child::{Steps, affinity, getcpu, join, pin, run, set_affinity, spawn};
use crate::harness::{Test, skip, tests};
use crate::memory::{map_shared, word};
use crate::numa::mask;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    what_is_written_is_read_back,
    lists_are_checked,
    what_is_in_effect_comes_from_above,
    tasks_leave_cpus_that_are_taken_away_at_once,
    threads_of_groups_below_are_moved_too,
    who_asked_for_cpus_gets_them_back,
    asking_is_answered_within_the_cpuset,
    who_moves_to_a_group_runs_there,
    children_stay_within,
    a_controller_that_is_taken_away_restricts_no_more,
    cpus_with_tasks_are_not_cleared,
];

fn several() -> Vec<usize> {
    let cpus = affinity(0);
    if cpus.len() < 4 {
        skip!("needs four CPUs");
    }
    cpus
}

fn what_is_written_is_read_back() {
    let cpus = several();
    let group = Group::new("written");
    assert_eq!(group.read("cpuset.cpus"), "");
    assert_eq!(crate::numa::list(&group.read("cpuset.cpus.effective")), cpus);
    for (text, shown) in
        [("1", "1"), ("0-1,3", "0-1,3"), (" 2 \n", "2"), ("3,1,2", "1-3"), ("0-3:1/2", "0,2")]
    {
        group.write("cpuset.cpus", text).unwrap();
        assert_eq!(group.read("cpuset.cpus"), shown, "{text:?}");
        assert_eq!(group.read("cpuset.cpus.effective"), shown);
    }
    group.write("cpuset.cpus", "\n").unwrap();
    assert_eq!(group.read("cpuset.cpus"), "");
    assert_eq!(crate::numa::list(&group.read("cpuset.cpus.effective")), cpus);
}

fn lists_are_checked() {
    let group = Group::new("checked");
    let _cpus = several();
    for (text, errno) in [
        ("x", EINVAL),
        ("1-", EINVAL),
        ("3-1", EINVAL),
        ("-1", EINVAL),
        ("0x1", EINVAL),
        ("1;2", EINVAL),
        ("9999", ERANGE),
        ("1,9999", ERANGE),
        ("99999999999", libc::EOVERFLOW),
    ] {
        fails(group.write("cpuset.cpus", text), errno);
    }
    assert_eq!(group.read("cpuset.cpus"), "");
}

fn what_is_in_effect_comes_from_above() {
    let cpus = several();
    let group = Group::new("above");
    let child = group.child("child");
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    let effective = |group: &Group| crate::numa::list(&group.read("cpuset.cpus.effective"));
    child.write("cpuset.cpus", "1-2").unwrap();
    assert_eq!(effective(&child), [1, 2]);
    group.write("cpuset.cpus", "2-3").unwrap();
    assert_eq!((effective(&group), effective(&child)), (vec![2, 3], vec![2]));
    // None is left: all that there are above.
    group.write("cpuset.cpus", "0,3").unwrap();
    assert_eq!(effective(&child), [0, 3]);
    assert_eq!(child.read("cpuset.cpus"), "1-2");
    group.write("cpuset.cpus", "\n").unwrap();
    assert_eq!((effective(&group), effective(&child)), (cpus, vec![1, 2]));
    let late = group.child("late");
    group.write("cpuset.cpus", "1").unwrap();
    assert_eq!(effective(&late), [1]);
}

/// A child with threads that notes where each of them runs, again and again.
struct Spinners {
    pid: i32,
    at: usize,
    stop: Steps,
}

const SPINNERS: usize = 3;

impl Spinners {
    fn start() -> Self {
        let (at, stop) = (map_shared(1), Steps::new());
        let pid = spawn(|| {
            let spin = |n: usize| {
                word(at + 4 * n).store(sys::gettid() as u32, SeqCst);
                while stop.now() == 0 {
                    std::hint::spin_loop();
                }
            };
            std::thread::scope(|scope| {
                for n in 0..SPINNERS {
                    scope.spawn(move || spin(n));
                }
            });
        });
        let spinners = Self { pid, at, stop };
        while spinners.tids().contains(&0) {
            std::thread::yield_now();
        }
        spinners
    }

    fn tids(&self) -> [i32; SPINNERS] {
        std::array::from_fn(|n| word(self.at + 4 * n).load(SeqCst) as i32)
    }

    /// The CPUs on which they are, as /proc tells.
    fn cpus(&self) -> Vec<usize> {
        let last = |tid: i32| {
            let path = format!("/proc/{}/task/{tid}/stat", self.pid);
            let text = std::fs::read_to_string(path).unwrap();
            let rest = &text[text.rfind(')').unwrap() + 2..];
            rest.split(' ').nth(36).unwrap().parse().unwrap()
        };
        self.tids().into_iter().map(last).collect()
    }

    #[track_caller]
    fn are_on(&self, cpus: &[usize]) {
        for tid in self.tids() {
            assert_eq!(affinity(tid), cpus);
            let status = status_list(&format!("{}/task/{tid}", self.pid), "Cpus_allowed_list");
            assert_eq!(status, cpus);
        }
        let found = self.cpus();
        assert!(found.iter().all(|cpu| cpus.contains(cpu)), "{found:?} are not all in {cpus:?}");
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.stop.reach(1);
        join(self.pid);
    }
}

fn tasks_leave_cpus_that_are_taken_away_at_once() {
    let cpus = several();
    let group = Group::new("leave");
    let spinners = Spinners::start();
    group.take(spinners.pid);
    for some in [&cpus[1..2], &cpus[2..4], &cpus[..1], &cpus[..3]] {
        group.write("cpuset.cpus", &list(some)).unwrap();
        spinners.are_on(some);
    }
}

fn threads_of_groups_below_are_moved_too() {
    let cpus = several();
    let group = Group::new("below");
    let (child, bare) = (group.child("child"), group.child("child/bare"));
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    let spinners = Spinners::start();
    // It has no cpuset of its own: its parent's counts.
    bare.take(spinners.pid);
    let cpuset = super::read(&format!("/proc/{}/cpuset", spinners.pid)).unwrap();
    assert_eq!(cpuset, child.name());
    group.write("cpuset.cpus", &list(&cpus[1..3])).unwrap();
    spinners.are_on(&cpus[1..3]);
    child.write("cpuset.cpus", &list(&cpus[2..4])).unwrap();
    spinners.are_on(&cpus[2..3]);
}

fn who_asked_for_cpus_gets_them_back() {
    let cpus = several();
    let group = Group::new("asked");
    let spinners = Spinners::start();
    for tid in spinners.tids() {
        set_affinity(tid, &mask(&cpus[1..3])).unwrap();
    }
    group.take(spinners.pid);
    spinners.are_on(&cpus[1..3]);
    group.write("cpuset.cpus", &list(&cpus[2..4])).unwrap();
    spinners.are_on(&cpus[2..3]);
    // What was asked for is not there at all.
    group.write("cpuset.cpus", &list(&cpus[3..4])).unwrap();
    spinners.are_on(&cpus[3..4]);
    group.write("cpuset.cpus", &list(&cpus)).unwrap();
    spinners.are_on(&cpus[1..3]);
}

fn asking_is_answered_within_the_cpuset() {
    let cpus = several();
    let group = Group::new("within");
    group.write("cpuset.cpus", &list(&cpus[1..3])).unwrap();
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        fails(set_affinity(0, &mask(&cpus[3..4])), EINVAL);
        assert_eq!(affinity(0), cpus[1..3]);
        set_affinity(0, &mask(&cpus[2..])).unwrap();
        assert_eq!(affinity(0), cpus[2..3]);
        assert_eq!(getcpu().0, cpus[2]);
        set_affinity(0, &mask(&cpus)).unwrap();
        assert_eq!(affinity(0), cpus[1..3]);
        // All that was asked for counts, when there is more.
        set_affinity(0, &mask(&cpus[2..4])).unwrap();
        group.write("cpuset.cpus", &list(&cpus)).unwrap();
        assert_eq!(affinity(0), cpus[2..4]);
    });
}

fn who_moves_to_a_group_runs_there() {
    let cpus = several();
    let group = Group::new("mover");
    let (a, b) = (group.child("a"), group.child("b"));
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    a.write("cpuset.cpus", &list(&cpus[..2])).unwrap();
    b.write("cpuset.cpus", &list(&cpus[3..4])).unwrap();
    let spinners = Spinners::start();
    for _ in 0..5 {
        a.take(spinners.pid);
        spinners.are_on(&cpus[..2]);
        b.take(spinners.pid);
        spinners.are_on(&cpus[3..4]);
    }
    run(|| {
        pin(cpus[1]);
        a.write("cgroup.procs", "0").unwrap();
        assert_eq!(affinity(0), cpus[1..2]);
        b.write("cgroup.procs", "0").unwrap();
        assert_eq!((affinity(0), getcpu().0), (cpus[3..4].to_vec(), cpus[3]));
    });
}

fn children_stay_within() {
    let cpus = several();
    let group = Group::new("children");
    group.write("cpuset.cpus", &list(&cpus[2..3])).unwrap();
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        run(|| assert_eq!((affinity(0), getcpu().0), (vec![cpus[2]], cpus[2])));
        assert_eq!(crate::helper::call(&["affinity", &list(&cpus[2..3])]), 0);
        // Also those that are born while it changes.
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..60 {
                    let cpu = cpus[2 + round % 2];
                    group.write("cpuset.cpus", &cpu.to_string()).unwrap();
                }
                done.store(true, SeqCst);
            });
            while !done.load(SeqCst) {
                run(|| ());
            }
        });
        let steps = Steps::new();
        let pids = [(); 4].map(|()| spawn(|| steps.await_(1)));
        for pid in pids {
            assert_eq!(affinity(pid), affinity(0));
        }
        steps.reach(1);
        pids.into_iter().for_each(|pid| assert_eq!(join(pid), 0));
    });
}

fn a_controller_that_is_taken_away_restricts_no_more() {
    let cpus = several();
    let group = Group::new("taken");
    let child = group.child("child");
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    child.write("cpuset.cpus", &list(&cpus[1..2])).unwrap();
    let spinners = Spinners::start();
    child.take(spinners.pid);
    spinners.are_on(&cpus[1..2]);
    group.write("cgroup.subtree_control", "-cpuset").unwrap();
    spinners.are_on(&cpus);
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    spinners.are_on(&cpus);
    assert_eq!(child.read("cpuset.cpus"), "");
}

fn cpus_with_tasks_are_not_cleared() {
    let group = Group::new("cleared");
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    group.take(pid);
    group.write("cpuset.cpus", "\n").unwrap();
    group.write("cpuset.cpus", "0").unwrap();
    fails(group.write("cpuset.cpus", "\n"), ENOSPC);
    group.write("cpuset.mems", "0").unwrap();
    fails(group.write("cpuset.mems", "\n"), ENOSPC);
    assert_eq!(group.read("cpuset.mems"), "0");
    steps.reach(1);
    join(pid);
    group.write("cpuset.cpus", "\n").unwrap();
    let _ = sys!(libc::SYS_sched_yield);
}
