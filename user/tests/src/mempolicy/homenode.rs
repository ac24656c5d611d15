//! set_mempolicy_home_node(2): which of several nodes comes first.

use libc::{EINVAL, ENOENT, EOPNOTSUPP};

use crate::child::on_cpu;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    pages_go_to_the_home_node_whoever_touches,
    a_home_outside_the_mask_means_the_nearest_to_it,
    the_policy_reads_back_unchanged,
    a_range_without_policy_is_enoent,
    other_modes_are_eopnotsupp,
    bad_arguments_are_refused,
    only_the_range_gets_the_home,
];

const N: usize = 8;

fn bound() -> usize {
    let at = map_alone(N);
    mbind(at, N, BIND, &nodes(), 0).unwrap();
    at
}

fn pages_go_to_the_home_node_whoever_touches() {
    for mode in [BIND, PREFERRED_MANY] {
        for home in nodes() {
            for (cpu, _) in cpu_nodes().into_iter().take(4) {
                let at = map_alone(N);
                mbind(at, N, mode, &nodes(), 0).unwrap();
                assert_eq!(set_home_node(at, N, home, 0), Ok(0));
                on_cpu(cpu, || touch(at, N));
                all_on(at, N, home);
                munmap(at, N).unwrap();
            }
        }
    }
}

fn a_home_outside_the_mask_means_the_nearest_to_it() {
    let all = at_least(2);
    let (home, rest) = (all[0], &all[1..]);
    let at = map_alone(N);
    mbind(at, N, BIND, rest, 0).unwrap();
    set_home_node(at, N, home, 0).unwrap();
    touch(at, N);
    let near = nearest(home, rest);
    let found = nodes_at(at, N);
    assert!(found.iter().all(|node| near.contains(&(*node as usize))), "{found:?}");
}

fn the_policy_reads_back_unchanged() {
    let at = bound();
    set_home_node(at, N, nodes()[0], 0).unwrap();
    assert_eq!(policy_at(at), (BIND, nodes()));
}

fn a_range_without_policy_is_enoent() {
    fails(set_home_node(map_alone(N), N, nodes()[0], 0), ENOENT);
}

fn other_modes_are_eopnotsupp() {
    for mode in [PREFERRED, INTERLEAVE, WEIGHTED] {
        let at = map_alone(N);
        mbind(at, N, mode, &nodes(), 0).unwrap();
        fails(set_home_node(at, N, nodes()[0], 0), EOPNOTSUPP);
    }
    let at = map_alone(N);
    mbind(at, N, LOCAL, &[], 0).unwrap();
    fails(set_home_node(at, N, nodes()[0], 0), EOPNOTSUPP);
}

fn bad_arguments_are_refused() {
    let at = bound();
    fails(set_home_node(at + 1, N, nodes()[0], 0), EINVAL);
    fails(set_home_node(at, N, nodes()[0], 1), EINVAL);
    fails(set_home_node(at, N, 700, 0), EINVAL);
    fails(set_home_node(at, N, 5000, 0), EINVAL);
    fails(set_home_node(at, N, usize::MAX, 0), EINVAL);
    assert_eq!(set_home_node(at, 0, nodes()[0], 0), Ok(0));
    let wrapping = crate::sys::sys!(SYS_HOME_NODE, at, usize::MAX - PAGE, nodes()[0], 0);
    fails(wrapping, EINVAL);
}

fn only_the_range_gets_the_home() {
    let all = at_least(2);
    let home = *all.last().unwrap();
    let at = bound();
    let (cpu, node) = cpu_nodes()[0];
    set_home_node(at + 2 * PAGE, 2, home, 0).unwrap();
    on_cpu(cpu, || touch(at, N));
    all_on(at + 2 * PAGE, 2, home);
    all_on(at, 2, home_of(node)[0]);
    all_on(at + 4 * PAGE, N - 4, home_of(node)[0]);
}
