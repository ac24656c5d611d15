//! Where private anonymous pages go under each policy, from each node's CPUs.

use crate::child::{on_cpu, pin};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;

pub const TESTS: &[Test] = tests![
    without_a_policy_pages_are_local_to_the_toucher,
    under_local_pages_are_local_to_the_toucher,
    a_local_range_is_local_under_a_bound_task,
    bound_pages_are_on_their_node_whoever_touches,
    pages_of_a_bound_task_are_on_its_node,
    bound_to_several_nodes_pages_take_the_nearest,
    preferred_pages_are_on_the_preferred_node,
    preferred_many_takes_the_nearest_of_them,
    interleaved_pages_go_round_by_address,
    interleaved_pages_have_their_node_in_any_order_of_touching,
    an_interleaving_task_places_its_pages_by_address_too,
    interleaving_over_some_nodes_leaves_the_others_out,
    the_ranges_policy_goes_before_the_tasks,
    populate_obeys_the_tasks_policy,
    populate_write_and_mlock_obey_the_ranges_policy,
    a_page_filled_by_a_system_call_obeys_the_policy,
    a_policy_set_later_leaves_pages_where_they_are,
    a_page_dropped_and_touched_again_follows_the_new_policy,
    a_page_read_first_is_placed_by_the_write,
    a_copy_on_write_follows_the_policy_of_the_writer,
    a_copy_of_a_task_without_policy_is_local_to_the_writer,
    threads_of_every_node_each_place_their_own,
];

const N: usize = 32;

/// Asserts that every page is on one of these nodes.
#[track_caller]
fn all_in(at: usize, pages: usize, nodes: &[usize]) {
    let found = nodes_at(at, pages);
    let inside = |node: &i32| nodes.iter().any(|own| *own as i32 == *node);
    assert!(found.iter().all(inside), "not all on {nodes:?}: {found:?}");
}

/// Pages touched by a CPU of each node in turn.
fn touched_from_each_node(check: impl Fn(usize, usize) + Sync) {
    for (cpu, node) in cpu_nodes() {
        let at = map(N);
        on_cpu(cpu, || touch(at, N));
        check(at, node);
        munmap(at, N).unwrap();
    }
}

fn without_a_policy_pages_are_local_to_the_toucher() {
    touched_from_each_node(|at, node| all_in(at, N, &home_of(node)));
}

fn under_local_pages_are_local_to_the_toucher() {
    set_mempolicy(LOCAL, &[]).unwrap();
    touched_from_each_node(|at, node| all_in(at, N, &home_of(node)));
}

fn a_local_range_is_local_under_a_bound_task() {
    set_mempolicy(BIND, &nodes()[..1]).unwrap();
    for (cpu, node) in cpu_nodes() {
        let at = map(N);
        mbind(at, N, LOCAL, &[], 0).unwrap();
        on_cpu(cpu, || touch(at, N));
        all_in(at, N, &home_of(node));
    }
}

fn bound_pages_are_on_their_node_whoever_touches() {
    for target in nodes() {
        for (cpu, _) in cpu_nodes().into_iter().take(4) {
            let at = map(N);
            mbind(at, N, BIND, &[target], 0).unwrap();
            on_cpu(cpu, || touch(at, N));
            all_on(at, N, target);
            munmap(at, N).unwrap();
        }
    }
}

fn pages_of_a_bound_task_are_on_its_node() {
    for target in nodes() {
        set_mempolicy(BIND, &[target]).unwrap();
        let at = map(N);
        touch(at, N);
        all_on(at, N, target);
        munmap(at, N).unwrap();
    }
}

fn bound_to_several_nodes_pages_take_the_nearest() {
    let all = at_least(2);
    let some = &all[all.len() / 2..];
    for (cpu, node) in cpu_nodes() {
        let at = map(N);
        mbind(at, N, BIND, some, 0).unwrap();
        on_cpu(cpu, || touch(at, N));
        all_in(at, N, &nearest(node, some));
    }
}

fn preferred_pages_are_on_the_preferred_node() {
    for target in nodes() {
        let at = map(N);
        mbind(at, N, PREFERRED, &[target], 0).unwrap();
        touch(at, N);
        all_on(at, N, target);
        set_mempolicy(PREFERRED, &[target]).unwrap();
        let at = map(N);
        touch(at, N);
        all_on(at, N, target);
    }
}

fn preferred_many_takes_the_nearest_of_them() {
    let all = at_least(2);
    let some = &all[1..];
    for (cpu, node) in cpu_nodes() {
        let at = map(N);
        mbind(at, N, PREFERRED_MANY, some, 0).unwrap();
        on_cpu(cpu, || touch(at, N));
        all_in(at, N, &nearest(node, some));
    }
}

fn interleaved_pages_go_round_by_address() {
    let all = nodes();
    let at = map(4 * N);
    mbind(at, 4 * N, INTERLEAVE, &all, 0).unwrap();
    touch(at, 4 * N);
    for (page, node) in nodes_at(at, 4 * N).into_iter().enumerate() {
        let expected = all[(at / PAGE + page) % all.len()];
        assert_eq!(node, expected as i32, "page {page}");
    }
}

fn interleaved_pages_have_their_node_in_any_order_of_touching() {
    let all = nodes();
    let at = map(N);
    mbind(at, N, INTERLEAVE, &all, 0).unwrap();
    for page in (0..N).rev().step_by(3).chain((0..N).step_by(2)) {
        put(at + page * PAGE, 1);
        let expected = all[(at / PAGE + page) % all.len()];
        assert_eq!(node_at(at + page * PAGE), expected as i32, "page {page}");
    }
}

fn an_interleaving_task_places_its_pages_by_address_too() {
    let all = nodes();
    set_mempolicy(INTERLEAVE, &all).unwrap();
    let at = map(N);
    touch(at, N);
    for (page, node) in nodes_at(at, N).into_iter().enumerate() {
        let expected = all[(at / PAGE + page) % all.len()];
        assert_eq!(node, expected as i32, "page {page}");
    }
}

fn interleaving_over_some_nodes_leaves_the_others_out() {
    let all = at_least(3);
    let some = [all[0], all[2]];
    let at = map(N);
    mbind(at, N, INTERLEAVE, &some, 0).unwrap();
    touch(at, N);
    for (page, node) in nodes_at(at, N).into_iter().enumerate() {
        assert_eq!(node, some[(at / PAGE + page) % 2] as i32, "page {page}");
    }
}

fn the_ranges_policy_goes_before_the_tasks() {
    let all = at_least(2);
    set_mempolicy(BIND, &[all[0]]).unwrap();
    let at = map(2 * N);
    mbind(at, N, BIND, &[all[1]], 0).unwrap();
    touch(at, 2 * N);
    all_on(at, N, all[1]);
    all_on(at + N * PAGE, N, all[0]);
}

fn populate_obeys_the_tasks_policy() {
    for node in nodes() {
        set_mempolicy(BIND, &[node]).unwrap();
        let at = mmap(0, N * PAGE, RW, PRIVATE | libc::MAP_POPULATE, -1, 0).unwrap();
        all_on(at, N, node);
        munmap(at, N).unwrap();
    }
}

fn populate_write_and_mlock_obey_the_ranges_policy() {
    for node in nodes() {
        let at = map(2 * N);
        mbind(at, 2 * N, BIND, &[node], 0).unwrap();
        madvise(at, N, libc::MADV_POPULATE_WRITE).unwrap();
        crate::sys::sys!(libc::SYS_mlock, at + N * PAGE, N * PAGE).unwrap();
        all_on(at, 2 * N, node);
        munmap(at, 2 * N).unwrap();
    }
}

fn a_page_filled_by_a_system_call_obeys_the_policy() {
    let (reader, writer) = crate::sys::pipe().unwrap();
    for node in nodes() {
        let at = map(1);
        mbind(at, 1, BIND, &[node], 0).unwrap();
        crate::sys::write(writer, b"x").unwrap();
        assert_eq!(crate::sys::sys!(libc::SYS_read, reader, at, 1), Ok(1));
        all_on(at, 1, node);
    }
}

fn a_policy_set_later_leaves_pages_where_they_are() {
    let all = at_least(2);
    let at = map(N);
    mbind(at, N, BIND, &[all[0]], 0).unwrap();
    touch(at, N / 2);
    mbind(at, N, BIND, &[all[1]], 0).unwrap();
    touch(at, N);
    all_on(at, N / 2, all[0]);
    all_on(at + N / 2 * PAGE, N / 2, all[1]);
}

fn a_page_dropped_and_touched_again_follows_the_new_policy() {
    let all = at_least(2);
    let at = map(N);
    mbind(at, N, BIND, &[all[0]], 0).unwrap();
    touch(at, N);
    mbind(at, N, BIND, &[all[1]], 0).unwrap();
    madvise(at, N, libc::MADV_DONTNEED).unwrap();
    touch(at, N);
    all_on(at, N, all[1]);
}

fn a_page_read_first_is_placed_by_the_write() {
    for node in nodes() {
        let at = map(4);
        mbind(at, 4, BIND, &[node], 0).unwrap();
        read_each(at, 4);
        let before = nodes_at(at, 4);
        assert!(before.iter().all(|status| *status < 0), "the zero page has no node: {before:?}");
        touch(at, 4);
        all_on(at, 4, node);
    }
}

fn a_copy_on_write_follows_the_policy_of_the_writer() {
    let all = at_least(2);
    let at = map(8);
    mbind(at, 8, BIND, &[all[0]], 0).unwrap();
    touch(at, 8);
    crate::child::run(|| {
        mbind(at, 8, BIND, &[all[1]], 0).unwrap();
        touch(at, 4);
        all_on(at, 4, all[1]);
        all_on(at + 4 * PAGE, 4, all[0]);
    });
    all_on(at, 8, all[0]);
}

fn a_copy_of_a_task_without_policy_is_local_to_the_writer() {
    let at = map(8);
    let all = cpu_nodes();
    let (first, _) = all[0];
    pin(first);
    touch(at, 8);
    for (cpu, node) in all {
        crate::child::run(|| {
            pin(cpu);
            touch(at, 8);
            all_in(at, 8, &home_of(node));
        });
    }
}

fn threads_of_every_node_each_place_their_own() {
    let at = map(64 * N);
    std::thread::scope(|scope| {
        for (i, (cpu, node)) in cpu_nodes().into_iter().enumerate() {
            scope.spawn(move || {
                pin(cpu);
                let own = at + i * N * PAGE;
                touch(own, N);
                all_in(own, N, &home_of(node));
            });
        }
    });
}
