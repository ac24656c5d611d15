//! Groups, CPUs and nodes change beneath those who fault, fork and move their pages.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::{Group, list};
use crate::child::{affinity, join, spawn};
use crate::harness::{Test, long, tests};
use crate::memory::*;
use crate::numa::*;
use crate::random::Random;
use crate::sys;

pub const TESTS: &[Test] = tests![nothing_is_lost_while_cpusets_change];

const PAGES: usize = 48;

/// Fills pages, has them moved, and finds them as they were, again and again.
fn work(seed: u64, stop: &AtomicBool, rounds: &AtomicUsize) {
    let mut random = Random::new(seed);
    let all = nodes();
    let at = map_alone(PAGES);
    while !stop.load(SeqCst) {
        fill(at, PAGES, seed);
        match random.below(4) {
            // The cpuset may forbid these nodes at the moment.
            0 => drop(migrate_pages(0, &all, &[random.of(&all)])),
            1 => drop(mbind(at, PAGES, BIND, &[random.of(&all)], MOVE)),
            2 => drop(mbind(at, PAGES, INTERLEAVE, &all, MOVE)),
            _ => drop(set_mempolicy([DEFAULT, BIND][random.below(2)], &[])),
        }
        if random.below(3) == 0 {
            let pid = spawn(|| verify(at, PAGES, seed));
            assert_eq!(join(pid), 0);
        }
        verify(at, PAGES, seed);
        madvise(at, PAGES, libc::MADV_DONTNEED).unwrap();
        verify_zero(at, PAGES / 2);
        rounds.fetch_add(1, SeqCst);
    }
}

fn some(random: &mut Random, of: &[usize]) -> String {
    let mut chosen: Vec<usize> = of.iter().copied().filter(|_| random.below(2) == 0).collect();
    if chosen.is_empty() {
        chosen.push(random.of(of));
    }
    list(&chosen)
}

fn nothing_is_lost_while_cpusets_change() {
    let (all, cpus) = (at_least(2), affinity(0));
    let parent = Group::new("storm");
    parent.write("cgroup.subtree_control", "+cpuset +pids").unwrap();
    let groups = [parent.child("a"), parent.child("b")];
    let changes = if long() { 4000 } else { 60 };
    let pids = [1u64, 2].map(|seed| {
        spawn(move || {
            static STOP: AtomicBool = AtomicBool::new(false);
            static ROUNDS: AtomicUsize = AtomicUsize::new(0);
            extern "C" fn stop(_: i32) {
                STOP.store(true, SeqCst);
            }
            sys::on_signal(libc::SIGTERM, stop);
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    scope.spawn(move || work(seed * 100 + thread, &STOP, &ROUNDS));
                }
            });
            assert!(ROUNDS.load(SeqCst) > 0);
        })
    });
    let mut random = Random::new(7);
    for _ in 0..changes {
        let group = &groups[random.below(2)];
        match random.below(5) {
            0 => drop(group.write("cpuset.cpus", &some(&mut random, &cpus))),
            1 => drop(group.write("cpuset.mems", &some(&mut random, &all))),
            2 => drop(parent.write("cpuset.mems", &some(&mut random, &all))),
            3 => drop(parent.write("cpuset.cpus", &some(&mut random, &cpus))),
            _ => group.take(random.of(&pids.map(|pid| pid as usize)) as i32),
        }
    }
    for pid in pids {
        let group = Group(format!("{}{}", super::TOP, super::group_of(pid)));
        let effective = crate::numa::list(&group.read("cpuset.mems.effective"));
        assert_eq!(super::mems_allowed(pid), effective);
        let effective = crate::numa::list(&group.read("cpuset.cpus.effective"));
        assert_eq!(affinity(pid), effective);
        std::mem::forget(group);
        sys::kill(pid, libc::SIGTERM).unwrap();
        assert_eq!(join(pid), 0);
    }
}
