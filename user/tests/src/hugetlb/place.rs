//! Which node a huge page comes from: what the policy says of the pool, and never another.

use libc::{EIO, ENOMEM};

use super::*;
use crate::harness::tests;
use crate::numa::{
    BIND, DEFAULT, INTERLEAVE, LOCAL, MOVE, PREFERRED, PREFERRED_MANY, STRICT, at_least, mbind,
    nearest, policy_at, set_mempolicy,
};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    bind_takes_from_its_node_and_is_sigbus_when_that_is_empty,
    a_task_that_is_bound_to_an_empty_node_cannot_map,
    preferred_spills_to_the_nearest_node_that_has_pages,
    preferred_many_goes_beyond_its_nodes_when_they_are_empty,
    interleave_goes_by_huge_page_from_the_first,
    the_tasks_interleave_goes_by_huge_page_too,
    default_takes_what_is_near,
    a_policy_covers_whole_pages,
    a_shared_mappings_policy_is_the_areas_own,
    strict_sees_huge_pages_that_are_elsewhere,
];

fn bound(at: usize, pages: usize, mode: i32, nodes: &[usize]) {
    mbind(at, pages * PAGES, mode, nodes, 0).unwrap();
}

fn bind_takes_from_its_node_and_is_sigbus_when_that_is_empty() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    for flags in [PRIVATE, SHARED] {
        let at = map(3, flags);
        bound(at, 3, BIND, &nodes[1..2]);
        touch(at, 2);
        assert_eq!(where_are(at, 2), [nodes[1] as i32; 2]);
        bus_error(at + 2 * HUGE);
        assert_eq!(counts_on(nodes[0]), [2, 2, 0]);
        assert_eq!(counts(), [4, 2, 1, 0]);
        // The reservation still stands: under another policy the page is there.
        bound(at + 2 * HUGE, 1, BIND, &nodes[..1]);
        touch(at + 2 * HUGE, 1);
        assert_eq!(where_are(at + 2 * HUGE, 1), [nodes[0] as i32]);
        unmap(at, 3);
        assert_eq!(counts(), [4, 4, 0, 0]);
    }
}

fn a_task_that_is_bound_to_an_empty_node_cannot_map() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 0]);
    set_mempolicy(BIND, &nodes[1..2]).unwrap();
    fails(try_map(1, PRIVATE), ENOMEM);
    set_mempolicy(BIND, &nodes[..2]).unwrap();
    unmap(map(2, PRIVATE), 2);
    set_mempolicy(PREFERRED, &nodes[1..2]).unwrap();
    unmap(map(2, PRIVATE), 2);
    set_mempolicy(BIND, &nodes[1..2]).unwrap();
    let at = map(1, PRIVATE | libc::MAP_NORESERVE);
    bus_error(at);
    unmap(at, 1);
}

fn preferred_spills_to_the_nearest_node_that_has_pages() {
    let nodes = at_least(2);
    let pages = vec![1; nodes.len()];
    let _pool = Pool::of(&pages);
    let first = *nodes.last().unwrap();
    let at = map(2, PRIVATE);
    bound(at, 2, PREFERRED, &[first]);
    touch(at, 2);
    let found = where_are(at, 2);
    assert_eq!(found[0], first as i32);
    let others: Vec<usize> = nodes.iter().copied().filter(|node| *node != first).collect();
    assert!(nearest(first, &others).contains(&(found[1] as usize)), "{found:?}");
    unmap(at, 2);
}

fn preferred_many_goes_beyond_its_nodes_when_they_are_empty() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[1, 1]);
    let at = map(2, PRIVATE);
    bound(at, 2, PREFERRED_MANY, &nodes[1..2]);
    touch(at, 2);
    assert_eq!(where_are(at, 2), [nodes[1] as i32, nodes[0] as i32]);
    unmap(at, 2);
}

fn interleave_goes_by_huge_page_from_the_first() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[3, 3]);
    let turns: Vec<i32> = (0..5).map(|page| nodes[page % 2] as i32).collect();
    for flags in [PRIVATE, SHARED] {
        let at = map(5, flags);
        bound(at, 5, INTERLEAVE, &nodes[..2]);
        // In any order.
        for page in [3, 0, 4, 1, 2] {
            touch(at + page * HUGE, 1);
        }
        assert_eq!(where_are(at, 5), turns);
        unmap(at, 5);
    }
}

fn the_tasks_interleave_goes_by_huge_page_too() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[3, 3]);
    set_mempolicy(INTERLEAVE, &nodes[..2]).unwrap();
    for flags in [PRIVATE, SHARED] {
        let at = map(4, flags);
        touch(at + HUGE, 3);
        touch(at, 1);
        let turns: Vec<i32> = (0..4).map(|page| nodes[page % 2] as i32).collect();
        assert_eq!(where_are(at, 4), turns);
        unmap(at, 4);
    }
    set_mempolicy(DEFAULT, &[]).unwrap();
}

fn default_takes_what_is_near() {
    let nodes = at_least(2);
    let pages = vec![1; nodes.len()];
    let _pool = Pool::of(&pages);
    for (cpu, node) in crate::numa::cpu_nodes() {
        crate::child::pin(cpu);
        for mode in [DEFAULT, LOCAL] {
            set_mempolicy(mode, &[]).unwrap();
            let at = map(1, PRIVATE);
            touch(at, 1);
            let found = where_are(at, 1)[0] as usize;
            assert!(crate::numa::home_of(node).contains(&found), "{found} from {node}");
            unmap(at, 1);
        }
    }
}

fn a_policy_covers_whole_pages() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let at = map(2, PRIVATE);
    fails(mbind(at, 1, BIND, &nodes[..1], 0), libc::EINVAL);
    fails(mbind(at + PAGE, PAGES - 1, BIND, &nodes[..1], 0), libc::EINVAL);
    bound(at + HUGE, 1, BIND, &nodes[1..2]);
    assert_eq!(policy_at(at).0, DEFAULT);
    assert_eq!(policy_at(at + HUGE + 3 * PAGE), (BIND, vec![nodes[1]]));
    unmap(at, 2);
}

fn a_shared_mappings_policy_is_the_areas_own() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 2]);
    let at = map(2, SHARED);
    crate::child::run(|| {
        bound(at, 2, BIND, &nodes[1..2]);
        touch(at, 1);
        assert_eq!(where_are(at, 1), [nodes[1] as i32]);
    });
    // The child's policy was no policy of the memory.
    assert_eq!(policy_at(at).0, DEFAULT);
    bound(at, 2, BIND, &nodes[..1]);
    touch(at, 2);
    assert_eq!(where_are(at, 2), [nodes[1] as i32, nodes[0] as i32]);
    unmap(at, 2);
}

fn strict_sees_huge_pages_that_are_elsewhere() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[1, 1]);
    let at = map(1, PRIVATE);
    bound(at, 1, BIND, &nodes[..1]);
    touch(at, 1);
    fails(mbind(at, PAGES, BIND, &nodes[1..2], STRICT), EIO);
    assert_eq!(where_are(at, 1), [nodes[0] as i32]);
    mbind(at, PAGES, BIND, &nodes[1..2], STRICT | MOVE).unwrap();
    assert_eq!(where_are(at, 1), [nodes[1] as i32]);
    unmap(at, 1);
}
