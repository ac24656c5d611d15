//! The pool's size: per node, in turn, under a policy, and what stays when it shrinks.

use super::*;
use crate::harness::tests;
use crate::memory::put;
use crate::numa::{BIND, DEFAULT, INTERLEAVE, LOCAL, PREFERRED, at_least, set_mempolicy};

pub const TESTS: &[Test] = tests![
    a_page_set_on_a_node_is_taken_from_it_and_given_back,
    pages_come_from_the_nodes_in_turn_and_go_in_turn,
    nr_hugepages_does_not_ask_the_policy,
    nr_hugepages_mempolicy_grows_and_shrinks_where_the_policy_says,
    a_node_file_changes_that_node_alone,
    a_pool_that_is_too_large_for_the_memory_is_as_large_as_it_can_be,
    pages_in_use_stay_as_surplus_when_the_pool_shrinks,
    surplus_pages_become_the_pools_own_when_it_grows,
    overcommit_makes_surplus_pages_for_a_reservation,
    what_is_no_number_is_refused,
    the_sysctls_are_the_same_pool,
];

fn a_page_set_on_a_node_is_taken_from_it_and_given_back() {
    let node = *nodes().last().unwrap();
    let _pool = Pool::of(&[]);
    let free = || crate::numa::meminfo(node, "MemFree");
    let before = free();
    write(&of_node(node, "nr"), 4);
    assert_eq!(counts_on(node), [4, 4, 0]);
    assert_eq!(counts(), [4, 4, 0, 0]);
    let taken = before as i64 - free() as i64;
    assert!((4 * KIB as i64 - taken).abs() < 1024, "{taken} KiB for 4 pages");
    assert_eq!(crate::numa::meminfo(node, "HugePages_Total"), 4);
    assert_eq!(crate::numa::meminfo(node, "HugePages_Free"), 4);
    write(&of_node(node, "nr"), 0);
    assert_eq!(counts(), [0, 0, 0, 0]);
    // Half of the node, again and again: each time all of it has come back. (Linux keeps some in
    // its CPUs' lists, where MemFree does not see them.)
    for _ in 0..4 {
        write(&of_node(node, "nr"), before / KIB / 2);
        assert_eq!(counts_on(node)[0], before / KIB / 2);
        write(&of_node(node, "nr"), 0);
    }
}

/// Pages on each node with memory.
fn totals() -> Vec<u64> {
    nodes().iter().map(|node| counts_on(*node)[0]).collect()
}

fn pages_come_from_the_nodes_in_turn_and_go_in_turn() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[]);
    write(&of_all("nr"), nodes.len() as u64 * 2);
    assert_eq!(totals(), vec![2; nodes.len()]);
    write(&of_all("nr"), nodes.len() as u64 * 2 + 1);
    let now = totals();
    assert_eq!(now.iter().filter(|pages| **pages == 3).count(), 1, "{now:?}");
    write(&of_all("nr"), nodes.len() as u64);
    let now = totals();
    assert!(now.iter().all(|pages| (0..=2).contains(pages)), "{now:?}");
    assert_eq!(now.iter().sum::<u64>(), nodes.len() as u64);
}

fn nr_hugepages_does_not_ask_the_policy() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[]);
    set_mempolicy(BIND, &nodes[1..2]).unwrap();
    write(&of_all("nr"), nodes.len() as u64);
    assert_eq!(totals(), vec![1; nodes.len()]);
}

fn nr_hugepages_mempolicy_grows_and_shrinks_where_the_policy_says() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[]);
    let size = of_all("nr").replace("nr_hugepages", "nr_hugepages_mempolicy");
    for (mode, place) in [(BIND, 1), (PREFERRED, 0), (BIND, 0), (INTERLEAVE, 1)] {
        set_mempolicy(mode, &nodes[place..=place]).unwrap();
        write(&size, 3);
        let mut wanted = vec![0; nodes.len()];
        wanted[place] = 3;
        assert_eq!(totals(), wanted, "mode {mode} on node {}", nodes[place]);
        write(&size, 1);
        wanted[place] = 1;
        assert_eq!(totals(), wanted, "mode {mode} on node {}", nodes[place]);
        write(&size, 0);
        assert_eq!(totals(), vec![0; nodes.len()]);
    }
    // What lies elsewhere is not touched: the pool shrinks only where the policy says.
    set_mempolicy(BIND, &nodes[1..2]).unwrap();
    write(&of_node(nodes[0], "nr"), 2);
    write(&size, 1);
    assert_eq!(totals()[0], 2);
    set_mempolicy(LOCAL, &[]).unwrap();
    set_mempolicy(DEFAULT, &[]).unwrap();
}

fn a_node_file_changes_that_node_alone() {
    let nodes = at_least(2);
    let _pool = Pool::of(&[2, 3]);
    write(&of_node(nodes[0], "nr"), 5);
    assert_eq!(totals()[..2], [5, 3]);
    write(&of_node(nodes[1], "nr"), 1);
    assert_eq!(totals()[..2], [5, 1]);
    write(&of_node(nodes[0], "nr"), 0);
    assert_eq!(totals()[..2], [0, 1]);
}

fn a_pool_that_is_too_large_for_the_memory_is_as_large_as_it_can_be() {
    let node = *nodes().last().unwrap();
    let _pool = Pool::of(&[]);
    let room = crate::numa::meminfo(node, "MemFree") / KIB;
    let all = crate::numa::meminfo(node, "MemTotal") / KIB;
    write(&of_node(node, "nr"), all + 1);
    let [got, free, surplus] = counts_on(node);
    assert!(got > room / 2 && got <= all, "{got} of {room}");
    assert_eq!((free, surplus), (got, 0));
    write(&of_node(node, "nr"), 0);
    assert_eq!(counts_on(node), [0, 0, 0]);
}

fn pages_in_use_stay_as_surplus_when_the_pool_shrinks() {
    let node = nodes()[0];
    let _pool = Pool::of(&[4]);
    let at = map(3, PRIVATE);
    touch(at, 1);
    assert_eq!(counts(), [4, 3, 2, 0]);
    // One is used, two are reserved: only the fourth can go, the others become surplus.
    write(&of_all("nr"), 0);
    assert_eq!(counts(), [3, 2, 2, 3]);
    assert_eq!(counts_on(node), [3, 2, 3]);
    touch(at, 3);
    assert_eq!(counts(), [3, 0, 0, 3]);
    unmap(at + HUGE, 1);
    assert_eq!(counts(), [2, 0, 0, 2]);
    unmap(at, 1);
    unmap(at + 2 * HUGE, 1);
    assert_eq!(counts(), [0, 0, 0, 0]);
}

fn surplus_pages_become_the_pools_own_when_it_grows() {
    let _pool = Pool::of(&[]);
    write(&of_all("nr_overcommit"), 4);
    let at = map(2, PRIVATE);
    touch(at, 2);
    assert_eq!(counts(), [2, 0, 0, 2]);
    write(&of_all("nr"), 1);
    assert_eq!(counts(), [2, 0, 0, 1]);
    write(&of_all("nr"), 3);
    assert_eq!(counts(), [3, 1, 0, 0]);
    unmap(at, 2);
    assert_eq!(counts(), [3, 3, 0, 0]);
}

fn overcommit_makes_surplus_pages_for_a_reservation() {
    let _pool = Pool::of(&[1]);
    crate::sys::fails(try_map(2, PRIVATE), libc::ENOMEM);
    assert_eq!(counts(), [1, 1, 0, 0]);
    write(&of_all("nr_overcommit"), 2);
    assert_eq!(number(&of_all("nr_overcommit")), 2);
    let at = map(3, PRIVATE);
    assert_eq!(counts(), [3, 3, 3, 2]);
    crate::sys::fails(try_map(1, PRIVATE), libc::ENOMEM);
    put(at, 1);
    assert_eq!(counts(), [3, 2, 2, 2]);
    unmap(at, 3);
    assert_eq!(counts(), [1, 1, 0, 0]);
    // Without a reservation the page is made at the fault.
    let at = map(2, PRIVATE | libc::MAP_NORESERVE);
    assert_eq!(counts(), [1, 1, 0, 0]);
    touch(at, 2);
    assert_eq!(counts(), [2, 0, 0, 1]);
    unmap(at, 2);
    assert_eq!(counts(), [1, 1, 0, 0]);
}

fn what_is_no_number_is_refused() {
    let _pool = Pool::of(&[1]);
    let node = of_node(nodes()[0], "nr");
    for path in [&of_all("nr"), &of_all("nr_overcommit"), &node] {
        for text in ["x", "-1", "1 2", "0x2", "1x", " "] {
            let error = fs::write(path, text).expect_err(text);
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{path}: {text:?}");
        }
        let error = fs::write(path, "99999999999999999999").expect_err("too large");
        assert_eq!(error.raw_os_error(), Some(libc::ERANGE), "{path}");
    }
    assert_eq!(counts(), [1, 1, 0, 0]);
    for name in ["free", "resv", "surplus"] {
        assert!(fs::write(of_all(name), "1").is_err(), "{name} was written");
    }
}

fn the_sysctls_are_the_same_pool() {
    let _pool = Pool::of(&[2]);
    let size = "/proc/sys/vm/nr_hugepages";
    assert_eq!(number(size), 2);
    write(size, 1);
    assert_eq!(counts()[0], 1);
    write("/proc/sys/vm/nr_overcommit_hugepages", 3);
    assert_eq!(number(&of_all("nr_overcommit")), 3);
    assert_eq!(number("/proc/sys/vm/hugetlb_shm_group"), 0);
    // This one tells the pool without its surplus.
    let at = map(3, PRIVATE);
    assert_eq!((number(size), counts()[0]), (1, 3));
    assert_eq!(number("/proc/sys/vm/nr_hugepages_mempolicy"), 1);
    unmap(at, 3);
}
