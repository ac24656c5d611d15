//! What children, threads and new programs keep of policies.

use crate::child::run;
use crate::harness::{Test, tests};
use crate::helper;
use crate::memory::*;
use crate::numa::*;

pub const TESTS: &[Test] = tests![
    a_child_has_its_parents_task_policy,
    a_childs_change_is_its_own,
    a_child_has_its_parents_ranges,
    a_thread_has_its_makers_policy_and_changes_its_own_only,
    a_range_is_the_same_for_all_threads,
    a_new_program_keeps_the_task_policy,
    a_new_program_places_by_the_task_policy,
    a_new_program_has_no_ranges,
    grandchildren_inherit_too,
    vfork_gives_the_policy_and_takes_nothing_back,
];

fn last() -> usize {
    *nodes().last().unwrap()
}

fn a_child_has_its_parents_task_policy() {
    set_mempolicy(BIND, &[last()]).unwrap();
    run(|| {
        assert_eq!(policy(), (BIND, vec![last()]));
        let at = map(4);
        touch(at, 4);
        all_on(at, 4, last());
    });
}

fn a_childs_change_is_its_own() {
    set_mempolicy(BIND, &[last()]).unwrap();
    run(|| {
        set_mempolicy(LOCAL, &[]).unwrap();
        assert_eq!(policy(), (LOCAL, vec![]));
    });
    assert_eq!(policy(), (BIND, vec![last()]));
}

fn a_child_has_its_parents_ranges() {
    let at = map(8);
    mbind(at, 4, BIND, &[last()], 0).unwrap();
    run(|| {
        assert_eq!(policy_at(at), (BIND, vec![last()]));
        touch(at, 4);
        all_on(at, 4, last());
        mbind(at, 8, PREFERRED, &[last()], 0).unwrap();
    });
    assert_eq!(policy_at(at), (BIND, vec![last()]));
    assert_eq!(policy_at(at + 4 * PAGE), (DEFAULT, vec![]));
}

fn a_thread_has_its_makers_policy_and_changes_its_own_only() {
    set_mempolicy(INTERLEAVE, &nodes()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(policy(), (INTERLEAVE, nodes()));
            set_mempolicy(BIND, &[last()]).unwrap();
            let at = map(4);
            touch(at, 4);
            all_on(at, 4, last());
        });
    });
    assert_eq!(policy(), (INTERLEAVE, nodes()));
}

fn a_range_is_the_same_for_all_threads() {
    let at = map(8);
    std::thread::scope(|scope| {
        scope.spawn(|| mbind(at, 8, BIND, &[last()], 0).unwrap());
    });
    touch(at, 8);
    all_on(at, 8, last());
}

fn a_new_program_keeps_the_task_policy() {
    let list = last().to_string();
    set_mempolicy(BIND, &[last()]).unwrap();
    assert_eq!(helper::call(&["policy", &list]), BIND);
    set_mempolicy(PREFERRED, &[last()]).unwrap();
    assert_eq!(helper::call(&["policy", &list]), PREFERRED);
    set_mempolicy(LOCAL, &[]).unwrap();
    assert_eq!(helper::call(&["policy", ""]), LOCAL);
}

fn a_new_program_places_by_the_task_policy() {
    for node in nodes() {
        set_mempolicy(BIND, &[node]).unwrap();
        assert_eq!(helper::call(&["page-on", &node.to_string()]), 0);
    }
}

fn a_new_program_has_no_ranges() {
    let at = map(8);
    mbind(at, 8, BIND, &[last()], 0).unwrap();
    assert_eq!(helper::call(&["policy", ""]), DEFAULT);
}

fn grandchildren_inherit_too() {
    set_mempolicy(PREFERRED_MANY, &nodes()).unwrap();
    run(|| run(|| run(|| assert_eq!(policy(), (PREFERRED_MANY, nodes())))));
}

fn vfork_gives_the_policy_and_takes_nothing_back() {
    set_mempolicy(BIND, &[last()]).unwrap();
    let status = std::process::Command::new("/proc/self/exe")
        .args(["--helper", "policy", &last().to_string()])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(BIND));
    assert_eq!(policy(), (BIND, vec![last()]));
}
