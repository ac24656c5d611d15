//! Policies follow the nodes that a cpuset allows: each kind in its way.

use super::{Group, list};
use crate::child::{on_cpu, run};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;

pub const TESTS: &[Test] = tests![
    a_tasks_policy_moves_with_the_nodes,
    a_static_policy_takes_what_there_is,
    a_relative_policy_counts_anew,
    preferences_stay_where_they_were,
    an_areas_policy_moves_with_the_nodes,
    areas_of_a_group_that_wants_nothing_keep_their_policy,
    areas_follow_a_process_to_another_group,
    shared_objects_keep_their_policy,
    allocations_obey_what_was_rebound,
];

const N: usize = 32;

/// Runs `body` in a child in a group of the nodes `from`.
fn within(name: &str, from: &[usize], body: impl FnOnce(&Group)) {
    let group = Group::new(name);
    group.write("cpuset.mems", &list(from)).unwrap();
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        body(&group);
    });
}

impl Group {
    #[track_caller]
    fn set_mems(&self, nodes: &[usize]) {
        self.write("cpuset.mems", &list(nodes)).unwrap();
    }
}

fn a_tasks_policy_moves_with_the_nodes() {
    let all = at_least(4);
    within("task", &all[..2], |group| {
        for mode in [BIND, INTERLEAVE, WEIGHTED] {
            group.set_mems(&all[..2]);
            set_mempolicy(mode, &all[1..2]).unwrap();
            group.set_mems(&all[2..4]);
            assert_eq!(policy(), (mode, vec![all[3]]), "mode {mode}");
            group.set_mems(&all[..1]);
            assert_eq!(policy(), (mode, vec![all[0]]), "mode {mode}");
            group.set_mems(&all);
            assert_eq!(policy(), (mode, vec![all[0]]), "mode {mode}");
            set_mempolicy(mode, &all[..3]).unwrap();
            group.set_mems(&all[2..4]);
            assert_eq!(policy(), (mode, all[2..4].to_vec()), "mode {mode}");
        }
    });
}

fn a_static_policy_takes_what_there_is() {
    let all = at_least(3);
    within("static", &all, |group| {
        for mode in [BIND | STATIC, INTERLEAVE | STATIC] {
            group.set_mems(&all);
            set_mempolicy(mode, &all[1..3]).unwrap();
            let at = map(N);
            group.set_mems(&all[..2]);
            touch(at, N);
            all_on(at, N, all[1]);
            group.set_mems(&all[..1]);
            assert_eq!(policy(), (mode, all[1..3].to_vec()));
            let at = map(N);
            touch(at, N);
            all_on(at, N, all[0]);
            group.set_mems(&all[2..3]);
            let at = map(N);
            touch(at, N);
            all_on(at, N, all[2]);
        }
    });
}

fn a_relative_policy_counts_anew() {
    let all = at_least(3);
    within("relative", &all[..1], |group| {
        set_mempolicy(BIND | RELATIVE, &[1]).unwrap();
        for (nodes, expected) in [(&all[1..3], all[2]), (&all[..2], all[1]), (&all[2..3], all[2])] {
            group.set_mems(nodes);
            let at = map(N);
            touch(at, N);
            all_on(at, N, expected);
            assert_eq!(policy(), (BIND | RELATIVE, vec![1]));
        }
    });
}

fn preferences_stay_where_they_were() {
    let all = at_least(3);
    within("preferred", &all[..2], |group| {
        for mode in [PREFERRED, PREFERRED_MANY] {
            group.set_mems(&all[..2]);
            set_mempolicy(mode, &all[1..2]).unwrap();
            group.set_mems(&all[2..3]);
            assert_eq!(policy(), (mode, vec![all[1]]), "mode {mode}");
            let at = map(N);
            touch(at, N);
            all_on(at, N, all[2]);
            group.set_mems(&all[..2]);
            set_mempolicy(mode | STATIC, &all[1..2]).unwrap();
            group.set_mems(&all[2..3]);
            assert_eq!(policy(), (mode | STATIC, vec![all[2]]), "mode {mode}");
        }
    });
}

fn an_areas_policy_moves_with_the_nodes() {
    let all = at_least(4);
    within("area", &all[..2], |group| {
        let (bound, spread, fixed) = (map_alone(N), map_alone(N), map_alone(N));
        mbind(bound, N, BIND, &all[1..2], 0).unwrap();
        mbind(spread, N, INTERLEAVE, &all[..2], 0).unwrap();
        mbind(fixed, N, BIND | STATIC, &all[1..2], 0).unwrap();
        // Parts of an area follow each for itself.
        mprotect(bound, N / 2, libc::PROT_READ).unwrap();
        group.set_mems(&all[2..4]);
        assert_eq!(policy_at(bound), (BIND, vec![all[3]]));
        assert_eq!(policy_at(bound + (N - 1) * PAGE), (BIND, vec![all[3]]));
        assert_eq!(policy_at(spread), (INTERLEAVE, all[2..4].to_vec()));
        assert_eq!(policy_at(fixed), (BIND | STATIC, vec![all[1]]));
        touch(spread, N);
        for (page, node) in nodes_at(spread, N).into_iter().enumerate() {
            assert_eq!(node, all[2 + (spread / PAGE + page) % 2] as i32);
        }
        let line = numa_maps_line(spread).unwrap();
        assert!(line.contains(&format!("interleave:{}-{}", all[2], all[3])), "{line}");
        group.set_mems(&all[..2]);
        assert_eq!(policy_at(bound), (BIND, vec![all[1]]));
        mprotect(bound, N / 2, RW).unwrap();
        touch(bound, N);
        all_on(bound, N, all[1]);
    });
}

fn areas_of_a_group_that_wants_nothing_keep_their_policy() {
    let all = at_least(4);
    let parent = Group::new("nothing");
    let group = parent.child("group");
    parent.write("cgroup.subtree_control", "+cpuset").unwrap();
    parent.set_mems(&all[..2]);
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        let at = map_alone(N);
        mbind(at, N, BIND, &all[1..2], 0).unwrap();
        set_mempolicy(BIND, &all[1..2]).unwrap();
        parent.set_mems(&all[2..4]);
        // The task's follows what is in effect, the area's what the group itself wants.
        assert_eq!(policy(), (BIND, vec![all[3]]));
        assert_eq!(policy_at(at), (BIND, vec![all[1]]));
        on_cpu(cpu_nodes()[0].0, || touch(at, N));
        let found = nodes_at(at, N);
        assert!(found.iter().all(|node| all[2..4].contains(&(*node as usize))), "{found:?}");
    });
}

fn areas_follow_a_process_to_another_group() {
    let all = at_least(4);
    let other = Group::new("elsewhere");
    other.set_mems(&all[2..4]);
    within("mine", &all[..2], |group| {
        let at = map_alone(N);
        mbind(at, N, BIND, &all[1..2], 0).unwrap();
        set_mempolicy(INTERLEAVE, &all[..2]).unwrap();
        touch(at, N);
        other.write("cgroup.procs", "0").unwrap();
        assert_eq!(policy(), (INTERLEAVE, all[2..4].to_vec()));
        assert_eq!(policy_at(at), (BIND, vec![all[3]]));
        all_on(at, N, all[3]);
        group.write("cgroup.procs", "0").unwrap();
        assert_eq!(policy_at(at), (BIND, vec![all[1]]));
        all_on(at, N, all[1]);
    });
}

fn shared_objects_keep_their_policy() {
    let all = at_least(4);
    within("objects", &all[..2], |group| {
        let at = map_file(memfd(N), N, libc::MAP_SHARED);
        mbind(at, N, BIND, &all[1..2], 0).unwrap();
        touch(at, 4);
        all_on(at, 4, all[1]);
        group.set_mems(&all[2..4]);
        all_on(at, 4, all[3]);
        assert_eq!(policy_at(at), (BIND, vec![all[1]]));
        touch(at, N);
        let found = nodes_at(at, N);
        assert!(found.iter().all(|node| all[2..4].contains(&(*node as usize))), "{found:?}");
        group.set_mems(&all[..2]);
        assert_eq!(policy_at(at), (BIND, vec![all[1]]));
    });
}

fn allocations_obey_what_was_rebound() {
    let all = at_least(4);
    within("obey", &all[..2], |group| {
        set_mempolicy(INTERLEAVE, &all[..2]).unwrap();
        for nodes in [&all[2..4], &all[..2], &all[1..3]] {
            group.set_mems(nodes);
            let at = map_alone(N);
            touch(at, N);
            for (page, node) in nodes_at(at, N).into_iter().enumerate() {
                assert_eq!(node, nodes[(at / PAGE + page) % 2] as i32, "page {page}");
            }
        }
    });
}
