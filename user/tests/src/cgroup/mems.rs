//! cpuset.mems: where memory comes from, and that pages follow.

use libc::{EINVAL, ERANGE};

use super::{Group, list, mems_allowed};
use crate::child::{Steps, join, on_cpu, pin, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    nodes_are_checked,
    the_nodes_that_are_allowed_are_told,
    memory_comes_from_the_nodes_that_are_allowed,
    every_kind_of_memory_comes_from_there,
    pages_follow_a_change_of_the_nodes,
    pages_keep_their_rank,
    pages_follow_a_process_to_another_group,
    pages_of_other_processes_do_not_follow,
    children_allocate_where_they_may,
    moving_pages_stays_within,
    policies_are_cut_to_what_is_allowed,
    who_has_no_memory_left_dies_alone,
];

const N: usize = 64;

fn nodes_are_checked() {
    let all = nodes();
    let group = Group::new("nodes");
    assert_eq!(list_of(&group, "cpuset.mems.effective"), all);
    for (text, errno) in [("x", EINVAL), ("63", EINVAL), ("9999", ERANGE), ("1-0", EINVAL)] {
        fails(group.write("cpuset.mems", text), errno);
    }
    for node in online().into_iter().filter(|node| !all.contains(node)) {
        // It can be named, and counts for nothing.
        group.write("cpuset.mems", &node.to_string()).unwrap();
        assert_eq!(list_of(&group, "cpuset.mems"), [node]);
        assert_eq!(list_of(&group, "cpuset.mems.effective"), all);
    }
    group.write("cpuset.mems", &list(&all)).unwrap();
    assert_eq!(list_of(&group, "cpuset.mems"), all);
}

fn list_of(group: &Group, file: &str) -> Vec<usize> {
    crate::numa::list(&group.read(file))
}

fn the_nodes_that_are_allowed_are_told() {
    let all = at_least(2);
    let group = Group::new("told-mems");
    let child = group.child("child");
    group.write("cgroup.subtree_control", "+cpuset").unwrap();
    run(|| {
        child.write("cgroup.procs", "0").unwrap();
        assert_eq!(mems_allowed(sys::getpid()), all);
        group.write("cpuset.mems", &list(&all[1..])).unwrap();
        assert_eq!(mems_allowed(sys::getpid()), all[1..]);
        assert_eq!(get_mempolicy(F_MEMS_ALLOWED, 0).unwrap().1, all[1..]);
        child.write("cpuset.mems", &list(&all[..2])).unwrap();
        assert_eq!(get_mempolicy(F_MEMS_ALLOWED, 0).unwrap().1, all[1..2]);
        run(|| assert_eq!(get_mempolicy(F_MEMS_ALLOWED, 0).unwrap().1, all[1..2]));
    });
}

fn memory_comes_from_the_nodes_that_are_allowed() {
    let all = at_least(2);
    let group = Group::new("from");
    for some in [&all[..1], &all[1..2], &all[1..], &all[..]] {
        group.write("cpuset.mems", &list(some)).unwrap();
        run(|| {
            group.write("cgroup.procs", "0").unwrap();
            for (cpu, node) in cpu_nodes() {
                let at = map(N);
                on_cpu(cpu, || touch(at, N));
                let wanted = nearest(node, some);
                let found = nodes_at(at, N);
                assert!(found.iter().all(|own| wanted.contains(&(*own as usize))), "{found:?}");
            }
        });
    }
}

fn every_kind_of_memory_comes_from_there() {
    let all = at_least(2);
    let group = Group::new("kinds");
    group.write("cpuset.mems", &list(&all[1..2])).unwrap();
    let shared = map_shared(N);
    let file = memfd(N);
    let private = map(N);
    on_cpu(cpus_of(cpu_nodes()[0].1)[0], || touch(private, N));
    run(|| {
        pin(cpu_nodes()[0].0);
        group.write("cgroup.procs", "0").unwrap();
        touch(shared, N);
        all_on(shared, N, all[1]);
        let mapped = map_file(file, N, libc::MAP_SHARED);
        sys!(libc::SYS_pwrite64, file, private, 8 * PAGE, 0).unwrap();
        touch(mapped, N);
        all_on(mapped, N, all[1]);
        // A copy on write is the writer's.
        touch(private, N);
        all_on(private, N, all[1]);
        let local = map(N);
        mbind(local, N, LOCAL, &[], 0).unwrap();
        touch(local, N);
        all_on(local, N, all[1]);
    });
}

/// Runs `body` in a child that has pages on `from`, in a group that has only that, with the group and
/// the address of the pages.
fn with_pages(name: &str, from: &[usize], body: impl FnOnce(&Group, usize)) {
    let group = Group::new(name);
    group.write("cpuset.mems", &list(from)).unwrap();
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        let at = map_alone(N);
        if from.len() > 1 {
            mbind(at, N, INTERLEAVE, from, 0).unwrap();
        }
        fill(at, N, 1);
        if from.len() > 1 {
            mbind(at, N, DEFAULT, &[], 0).unwrap();
        }
        body(&group, at);
        verify(at, N, 1);
    });
}

fn pages_follow_a_change_of_the_nodes() {
    let all = at_least(2);
    with_pages("follow", &all[..1], |group, at| {
        all_on(at, N, all[0]);
        group.write("cpuset.mems", &list(&all[1..2])).unwrap();
        all_on(at, N, all[1]);
        group.write("cpuset.mems", &list(&all[..2])).unwrap();
        // Where they are is allowed... as rank says.
        let found = nodes_at(at, N);
        assert!(found.iter().all(|node| *node == found[0]), "{found:?}");
        group.write("cpuset.mems", &list(&all[..1])).unwrap();
        all_on(at, N, all[0]);
    });
}

fn pages_keep_their_rank() {
    let all = at_least(4);
    with_pages("rank", &all[..2], |group, at| {
        let before = nodes_at(at, N);
        group.write("cpuset.mems", &list(&all[2..4])).unwrap();
        let rank = |node: i32| all.iter().position(|own| *own as i32 == node).unwrap();
        let expected: Vec<i32> = before.iter().map(|n| all[rank(*n) + 2] as i32).collect();
        assert_eq!(nodes_at(at, N), expected);
        // More of them than before: what is on one of them stays.
        group.write("cpuset.mems", &list(&all[1..4])).unwrap();
        assert_eq!(nodes_at(at, N), expected);
        group.write("cpuset.mems", &list(&all[..1])).unwrap();
        all_on(at, N, all[0]);
    });
}

fn pages_follow_a_process_to_another_group() {
    let all = at_least(2);
    let other = Group::new("other");
    other.write("cpuset.mems", &list(&all[1..2])).unwrap();
    with_pages("leaves", &all[..1], |group, at| {
        other.write("cgroup.procs", "0").unwrap();
        all_on(at, N, all[1]);
        group.write("cgroup.procs", "0").unwrap();
        all_on(at, N, all[0]);
    });
}

fn pages_of_other_processes_do_not_follow() {
    let all = at_least(2);
    let group = Group::new("others");
    group.write("cpuset.mems", &list(&all[1..2])).unwrap();
    let at = map(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    touch(at, N);
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    group.take(pid);
    steps.reach(1);
    assert_eq!(join(pid), 0);
    // The child had them in common with this process: such pages go along.
    let found = nodes_at(at, N);
    assert!(found.iter().all(|node| *node == found[0]), "{found:?}");
    let own = map(N);
    mbind(own, N, BIND, &all[..1], 0).unwrap();
    touch(own, N);
    group.write("cpuset.mems", &list(&all[..1])).unwrap();
    group.write("cpuset.mems", &list(&all[1..2])).unwrap();
    all_on(own, N, all[0]);
}

fn children_allocate_where_they_may() {
    let all = at_least(2);
    let group = Group::new("heirs");
    group.write("cpuset.mems", &list(&all[1..2])).unwrap();
    let number = all[1].to_string();
    run(|| {
        pin(cpu_nodes()[0].0);
        group.write("cgroup.procs", "0").unwrap();
        assert_eq!(crate::helper::call(&["page-on", &number]), 0);
        run(|| {
            let at = map(N);
            touch(at, N);
            all_on(at, N, all[1]);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let at = map(N);
                    touch(at, N);
                    all_on(at, N, all[1]);
                });
            });
        });
    });
}

fn moving_pages_stays_within() {
    let all = at_least(2);
    with_pages("within-mems", &all[..1], |_, at| {
        let there = vec![all[1] as i32; N];
        fails(move_pages(0, &addresses(at, N), Some(&there), MOVE), libc::EACCES);
        fails(migrate_pages(0, &all[..1], &all[1..2]), EINVAL);
        all_on(at, N, all[0]);
    });
}

fn policies_are_cut_to_what_is_allowed() {
    let all = at_least(2);
    let group = Group::new("cut");
    group.write("cpuset.mems", &list(&all[1..2])).unwrap();
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        let at = map(N);
        for mode in [BIND, INTERLEAVE, PREFERRED, PREFERRED_MANY] {
            fails(set_mempolicy(mode, &all[..1]), EINVAL);
            fails(mbind(at, N, mode, &all[..1], 0), EINVAL);
            set_mempolicy(mode, &all[..2]).unwrap();
            assert_eq!(policy(), (mode, vec![all[1]]), "mode {mode}");
            mbind(at, N, mode, &all, 0).unwrap();
            assert_eq!(policy_at(at), (mode, vec![all[1]]), "mode {mode}");
        }
        touch(at, N);
        all_on(at, N, all[1]);
        set_mempolicy(BIND | RELATIVE, &[0]).unwrap();
        let other = map(N);
        touch(other, N);
        all_on(other, N, all[1]);
    });
}

fn who_has_no_memory_left_dies_alone() {
    let all = at_least(2);
    let node = *all.last().unwrap();
    let group = Group::new("oom");
    group.write("cpuset.mems", &node.to_string()).unwrap();
    // Large, and elsewhere: it is none of theirs.
    let pages = meminfo(node, "MemTotal") as usize * 1024 / PAGE + 2048;
    let code = crate::child::end_of(|| {
        let mut adjust = std::fs::OpenOptions::new();
        let file = adjust.write(true).open("/proc/self/oom_score_adj");
        std::io::Write::write_all(&mut file.unwrap(), b"1000").unwrap();
        group.write("cgroup.procs", "0").unwrap();
        let at = map(pages);
        for page in 0..pages {
            put(at + page * PAGE, 1);
        }
    });
    assert_eq!(code, 128 + libc::SIGKILL);
}
