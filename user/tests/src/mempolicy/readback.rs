//! What is set is what is read back, as Linux normalizes it.

use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_task_begins_with_the_default_policy,
    memory_begins_with_the_default_policy,
    every_mode_reads_back_with_its_nodes,
    every_mode_reads_back_from_memory,
    flags_read_back_with_the_mode,
    default_drops_its_flags,
    preferred_without_nodes_is_local,
    preferred_with_several_nodes_keeps_the_first,
    nodes_that_are_not_there_are_left_out,
    static_keeps_the_nodes_as_they_were_given,
    relative_counts_within_the_allowed_nodes,
    the_allowed_nodes_are_those_with_memory,
    the_node_of_an_address_is_where_its_page_is,
    the_question_for_a_node_brings_the_page_in,
    the_node_of_an_address_comes_with_the_policys_nodes,
    an_address_without_a_policy_shows_the_default_not_the_tasks,
    the_next_node_of_an_interleaving_task_is_the_first_at_the_start,
    a_policy_set_again_replaces_the_old_one,
];

const MODES: [i32; 5] = [PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED];

/// What a mode keeps of a mask.
fn kept(mode: i32, nodes: &[usize]) -> Vec<usize> {
    if mode == PREFERRED { nodes[..1].to_vec() } else { nodes.to_vec() }
}

fn a_task_begins_with_the_default_policy() {
    assert_eq!(policy(), (DEFAULT, vec![]));
}

fn memory_begins_with_the_default_policy() {
    let at = map(1);
    assert_eq!(policy_at(at), (DEFAULT, vec![]));
}

fn every_mode_reads_back_with_its_nodes() {
    let all = nodes();
    for mode in MODES {
        for chosen in [&all[..1], &all[all.len() - 1..], &all] {
            set_mempolicy(mode, chosen).unwrap();
            assert_eq!(policy(), (mode, kept(mode, chosen)));
        }
    }
    set_mempolicy(LOCAL, &[]).unwrap();
    assert_eq!(policy(), (LOCAL, vec![]));
    set_mempolicy(DEFAULT, &[]).unwrap();
    assert_eq!(policy(), (DEFAULT, vec![]));
}

fn every_mode_reads_back_from_memory() {
    let all = nodes();
    for mode in MODES {
        for chosen in [&all[..1], &all[all.len() - 1..], &all] {
            let at = map(4);
            mbind(at, 4, mode, chosen, 0).unwrap();
            assert_eq!(policy_at(at + 2 * PAGE), (mode, kept(mode, chosen)));
            assert_eq!(policy(), (DEFAULT, vec![]));
        }
    }
    let at = map(1);
    mbind(at, 1, LOCAL, &[], 0).unwrap();
    assert_eq!(policy_at(at), (LOCAL, vec![]));
    mbind(at, 1, DEFAULT, &[], 0).unwrap();
    assert_eq!(policy_at(at), (DEFAULT, vec![]));
}

fn flags_read_back_with_the_mode() {
    let all = nodes();
    for mode in MODES {
        for flag in [STATIC, RELATIVE] {
            set_mempolicy(mode | flag, &all).unwrap();
            assert_eq!(policy(), (mode | flag, all.clone()));
        }
    }
    for mode in [BIND, PREFERRED_MANY] {
        set_mempolicy(mode | BALANCING, &all).unwrap();
        assert_eq!(policy(), (mode | BALANCING, all.clone()));
    }
}

fn default_drops_its_flags() {
    for flag in [STATIC, RELATIVE] {
        set_mempolicy(DEFAULT | flag, &[]).unwrap();
        assert_eq!(policy(), (DEFAULT, vec![]));
    }
}

fn preferred_without_nodes_is_local() {
    set_mempolicy(PREFERRED, &[]).unwrap();
    assert_eq!(policy(), (LOCAL, vec![]));
    let at = map(1);
    mbind(at, 1, PREFERRED, &[], 0).unwrap();
    assert_eq!(policy_at(at), (LOCAL, vec![]));
}

fn preferred_with_several_nodes_keeps_the_first() {
    let all = at_least(2);
    set_mempolicy(PREFERRED, &[all[0], all[1]]).unwrap();
    assert_eq!(policy(), (PREFERRED, vec![all[0]]));
}

fn nodes_that_are_not_there_are_left_out() {
    let all = nodes();
    for mode in MODES {
        set_mempolicy(mode, &[all[0], 600, 1000]).unwrap();
        assert_eq!(policy(), (mode, vec![all[0]]));
    }
}

fn static_keeps_the_nodes_as_they_were_given() {
    let all = nodes();
    for mode in MODES {
        set_mempolicy(mode | STATIC, &[all[0], 60, 62]).unwrap();
        let (read, mask) = policy();
        assert_eq!(read, mode | STATIC);
        // Only as many bits are returned as the machine may have nodes.
        assert_eq!(mask[0], all[0]);
    }
}

fn relative_counts_within_the_allowed_nodes() {
    let all = nodes();
    // The first allowed node, whatever its number.
    set_mempolicy(BIND | RELATIVE, &[0]).unwrap();
    let at = map(2);
    touch(at, 2);
    all_on(at, 2, all[0]);
    // Numbers beyond the count begin again.
    set_mempolicy(BIND | RELATIVE, &[all.len() * 2 - 1]).unwrap();
    let at = map(2);
    touch(at, 2);
    all_on(at, 2, all[all.len() - 1]);
}

fn the_allowed_nodes_are_those_with_memory() {
    let (mode, allowed) = get_mempolicy(F_MEMS_ALLOWED, 0).unwrap();
    assert_eq!((mode, allowed), (DEFAULT, nodes()));
    set_mempolicy(BIND, &nodes()[..1]).unwrap();
    assert_eq!(get_mempolicy(F_MEMS_ALLOWED, 0).unwrap(), (DEFAULT, nodes()));
}

fn the_node_of_an_address_is_where_its_page_is() {
    for node in nodes() {
        let at = map(1);
        mbind(at, 1, BIND, &[node], 0).unwrap();
        put(at, 1);
        assert_eq!(node_by_policy(at), node as i32);
        all_on(at, 1, node);
    }
}

fn the_question_for_a_node_brings_the_page_in() {
    for node in nodes() {
        let at = map_shared(2);
        mbind(at, 2, BIND, &[node], 0).unwrap();
        assert_eq!(node_by_policy(at), node as i32);
        assert_eq!(resident(at, 2).unwrap(), [true, false]);
        // Private memory is only read, so it is the zero page whose node is told.
        let at = map(1);
        assert!(online().contains(&(node_by_policy(at) as usize)));
        assert_eq!(get(at), 0);
    }
}

fn the_node_of_an_address_comes_with_the_policys_nodes() {
    let all = nodes();
    let at = map(1);
    mbind(at, 1, BIND, &all, 0).unwrap();
    put(at, 1);
    let (node, mask) = get_mempolicy(F_NODE | F_ADDR, at).unwrap();
    assert_eq!((node, mask), (node_at(at), all));
}

fn an_address_without_a_policy_shows_the_default_not_the_tasks() {
    set_mempolicy(BIND, &nodes()).unwrap();
    let at = map(1);
    assert_eq!(policy_at(at), (DEFAULT, vec![]));
}

fn the_next_node_of_an_interleaving_task_is_the_first_at_the_start() {
    let all = nodes();
    set_mempolicy(INTERLEAVE, &all).unwrap();
    assert_eq!(get_mempolicy(F_NODE, 0).unwrap().0, all[0] as i32);
    let last = &all[all.len() - 1..];
    set_mempolicy(INTERLEAVE, last).unwrap();
    assert_eq!(get_mempolicy(F_NODE, 0).unwrap().0, last[0] as i32);
}

fn a_policy_set_again_replaces_the_old_one() {
    let all = nodes();
    let at = map(2);
    for mode in MODES {
        mbind(at, 2, mode, &all, 0).unwrap();
        assert_eq!(policy_at(at).0, mode);
    }
    fails(mbind(at, 2, 77, &all, 0), libc::EINVAL);
    assert_eq!(policy_at(at).0, WEIGHTED);
}
