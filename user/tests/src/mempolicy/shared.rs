//! Policies of shared objects: they belong to the object and are the same for everyone.

use crate::child::{run, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::mm::shm;
use crate::numa::*;
use crate::sys::sys;

pub const TESTS: &[Test] = tests![
    another_process_places_by_the_objects_policy,
    a_policy_set_after_fork_is_everyones,
    a_second_mapping_has_the_objects_policy,
    the_policy_outlives_the_mapping,
    the_policy_outlives_the_process,
    a_write_into_the_file_follows_the_objects_policy,
    fallocate_follows_the_objects_policy,
    ranges_of_an_object_have_policies_of_their_own,
    interleaving_of_an_object_is_the_same_from_every_mapping,
    a_private_mapping_of_tmpfs_sets_the_objects_policy_too,
    the_objects_policy_goes_before_the_tasks,
    without_an_objects_policy_each_toucher_uses_its_own,
    many_processes_fill_one_object_by_its_policy,
];

const N: usize = 16;

fn another_process_places_by_the_objects_policy() {
    for node in nodes() {
        for at in [map_shared(N), map_file(memfd(N), N, libc::MAP_SHARED)] {
            mbind(at, N, BIND, &[node], 0).unwrap();
            run(|| {
                assert_eq!(policy_at(at), (BIND, vec![node]));
                touch(at, N);
            });
            all_on_after_reading(at, node);
        }
    }
}

/// A page is asked for only where it is mapped.
#[track_caller]
fn all_on_after_reading(at: usize, node: usize) {
    read_each(at, N);
    all_on(at, N, node);
}

fn a_policy_set_after_fork_is_everyones() {
    let node = *nodes().last().unwrap();
    let at = map_shared(N);
    run(|| mbind(at, N, BIND, &[node], 0).map_or((), |_| ()));
    assert_eq!(policy_at(at), (BIND, vec![node]));
    touch(at, N);
    all_on(at, N, node);
}

fn a_second_mapping_has_the_objects_policy() {
    let node = *nodes().last().unwrap();
    let fd = memfd(N);
    let one = map_file(fd, N, libc::MAP_SHARED);
    mbind(one + 4 * PAGE, 4, BIND, &[node], 0).unwrap();
    let two = mmap(0, 8 * PAGE, RW, libc::MAP_SHARED, fd, 2 * PAGE).unwrap();
    for page in 0..8 {
        let expected = if (2..6).contains(&page) { (BIND, vec![node]) } else { (DEFAULT, vec![]) };
        assert_eq!(policy_at(two + page * PAGE), expected, "page {page}");
    }
}

fn the_policy_outlives_the_mapping() {
    let node = *nodes().last().unwrap();
    let fd = memfd(N);
    let one = map_file(fd, N, libc::MAP_SHARED);
    mbind(one, N, BIND, &[node], 0).unwrap();
    munmap(one, N).unwrap();
    let two = map_file(fd, N, libc::MAP_SHARED);
    assert_eq!(policy_at(two), (BIND, vec![node]));
    touch(two, N);
    all_on(two, N, node);
}

fn the_policy_outlives_the_process() {
    let node = *nodes().last().unwrap();
    let id = shm::get_segment(libc::IPC_PRIVATE, N, 0o600).unwrap();
    run(|| {
        let at = shm::attach(id, 0, 0).unwrap();
        mbind(at, N, BIND, &[node], 0).unwrap();
    });
    let at = shm::attach(id, 0, 0).unwrap();
    shm::remove(id);
    assert_eq!(policy_at(at), (BIND, vec![node]));
    touch(at, N);
    all_on(at, N, node);
}

fn a_write_into_the_file_follows_the_objects_policy() {
    for node in nodes() {
        let fd = memfd(N);
        let at = map_file(fd, N, libc::MAP_SHARED);
        mbind(at, N, BIND, &[node], 0).unwrap();
        let bytes = vec![1u8; N * PAGE];
        assert_eq!(crate::sys::write(fd, &bytes), Ok(N * PAGE));
        all_on_after_reading(at, node);
    }
}

fn fallocate_follows_the_objects_policy() {
    let node = *nodes().last().unwrap();
    let fd = memfd(N);
    let at = map_file(fd, N, libc::MAP_SHARED);
    mbind(at, N, BIND, &[node], 0).unwrap();
    sys!(libc::SYS_fallocate, fd, 0, 0, N * PAGE).unwrap();
    all_on_after_reading(at, node);
}

fn ranges_of_an_object_have_policies_of_their_own() {
    let all = at_least(2);
    let at = map_shared(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    mbind(at + 5 * PAGE, 3, BIND, &all[1..2], 0).unwrap();
    mbind(at + 6 * PAGE, 1, DEFAULT, &[], 0).unwrap();
    run(|| touch(at, N));
    read_each(at, N);
    let found = nodes_at(at, N);
    for page in (0..N).filter(|page| *page != 6) {
        let expected = if page == 5 || page == 7 { all[1] } else { all[0] };
        assert_eq!(found[page], expected as i32, "page {page}");
    }
    assert_eq!(policy_at(at + 6 * PAGE).0, DEFAULT);
}

fn interleaving_of_an_object_is_the_same_from_every_mapping() {
    let all = at_least(2);
    let fd = memfd(4 * N);
    let one = map_file(fd, 4 * N, libc::MAP_SHARED);
    mbind(one, 4 * N, INTERLEAVE, &all, 0).unwrap();
    let two = mmap(0, 2 * N * PAGE, RW, libc::MAP_SHARED, fd, 3 * PAGE).unwrap();
    touch(two, 2 * N);
    run(|| touch(one, 4 * N));
    read_each(one, 4 * N);
    let found = nodes_at(one, 4 * N);
    let place = |node: i32| all.iter().position(|own| *own as i32 == node).unwrap();
    for (page, pair) in found.windows(2).enumerate() {
        assert_eq!(place(pair[1]), (place(pair[0]) + 1) % all.len(), "page {page}: {found:?}");
    }
}

fn a_private_mapping_of_tmpfs_sets_the_objects_policy_too() {
    let node = *nodes().last().unwrap();
    let fd = memfd(N);
    let private = map_file(fd, N, libc::MAP_PRIVATE);
    mbind(private, N, BIND, &[node], 0).unwrap();
    let shared = map_file(fd, N, libc::MAP_SHARED);
    assert_eq!(policy_at(shared), (BIND, vec![node]));
    touch(shared, N);
    all_on(shared, N, node);
}

fn the_objects_policy_goes_before_the_tasks() {
    let all = at_least(2);
    let at = map_shared(N);
    mbind(at, N, BIND, &all[1..2], 0).unwrap();
    set_mempolicy(BIND, &all[..1]).unwrap();
    touch(at, N);
    all_on(at, N, all[1]);
}

fn without_an_objects_policy_each_toucher_uses_its_own() {
    let all = at_least(2);
    let at = map_shared(N);
    run(|| {
        set_mempolicy(BIND, &all[..1]).unwrap();
        touch(at, N / 2);
    });
    run(|| {
        set_mempolicy(BIND, &all[1..2]).unwrap();
        touch(at, N);
    });
    read_each(at, N);
    all_on(at, N / 2, all[0]);
    all_on(at + N / 2 * PAGE, N / 2, all[1]);
}

fn many_processes_fill_one_object_by_its_policy() {
    let all = nodes();
    let at = map_shared(256);
    for (i, node) in (0..256).step_by(32).zip(all.iter().cycle()) {
        mbind(at + i * PAGE, 32, BIND, &[*node], 0).unwrap();
    }
    let children: Vec<i32> = (0..8).map(|_| spawn(|| touch(at, 256))).collect();
    for child in children {
        assert_eq!(crate::child::join(child), 0);
    }
    read_each(at, 256);
    let found = nodes_at(at, 256);
    for (page, node) in found.into_iter().enumerate() {
        assert_eq!(node, all[page / 32 % all.len()] as i32, "page {page}");
    }
}
