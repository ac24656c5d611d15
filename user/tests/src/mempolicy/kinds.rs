//! Each mode on each kind of memory: mbind before the touch, and the task's policy.

use std::hint::black_box;

use crate::child::run;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::mm::shm;
use crate::numa::*;
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    every_mode_places_private_memory,
    every_mode_places_shared_anonymous_memory,
    every_mode_places_memfds,
    every_mode_places_tmpfs_files,
    every_mode_places_copies_of_file_pages,
    every_mode_places_sysv_segments,
    every_mode_places_the_heap,
    every_mode_places_the_stack,
    without_a_policy_every_kind_is_local,
    a_written_file_follows_the_writers_policy,
    copies_of_file_pages_leave_the_file_where_it_is,
];

const N: usize = 24;

/// Memory of N pages, untouched.
type Make = fn() -> usize;

fn private() -> usize {
    map(N)
}

fn shared() -> usize {
    map_shared(N)
}

fn memfd_shared() -> usize {
    map_file(memfd(N), N, libc::MAP_SHARED)
}

fn tmpfs_shared() -> usize {
    map_file(tmpfs(), N, libc::MAP_SHARED)
}

/// Copies of a file's pages; the file's own come first, on a node of their own.
fn file_private() -> usize {
    let fd = tmpfs();
    let at = map_file(fd, N, libc::MAP_SHARED);
    set_mempolicy(BIND, &nodes()[..1]).unwrap();
    touch(at, N);
    set_mempolicy(DEFAULT, &[]).unwrap();
    munmap(at, N).unwrap();
    map_file(fd, N, libc::MAP_PRIVATE)
}

fn sysv() -> usize {
    let id = shm::get_segment(libc::IPC_PRIVATE, N, 0o600).unwrap();
    let at = shm::attach(id, 0, 0).unwrap();
    shm::remove(id);
    at
}

fn heap() -> usize {
    let base = sys!(libc::SYS_brk, 0).unwrap().next_multiple_of(PAGE);
    assert_eq!(sys!(libc::SYS_brk, base + N * PAGE), Ok(base + N * PAGE));
    base
}

/// The part of the stack that has not been used yet.
fn stack() -> usize {
    let here = 0u8;
    let at = (black_box(&raw const here) as usize & !(PAGE - 1)) - 256 * PAGE;
    // Growing is one thing, placing another: the lowest page brings the whole range into being.
    let _ = crate::fault::try_read(at - PAGE);
    at
}

fn tmpfs() -> i32 {
    let path = format!("/tmp/tests-kinds-{}", sys::getpid());
    let fd = sys::open(&path, libc::O_RDWR | libc::O_CREAT, 0o600).unwrap();
    std::fs::remove_file(&path).unwrap();
    sys!(libc::SYS_ftruncate, fd, N * PAGE).unwrap();
    fd
}

/// Asserts that pages are where a policy of this mode and these nodes wants them.
#[track_caller]
fn check(at: usize, mode: i32, chosen: &[usize]) {
    let found = nodes_at(at, N);
    let cpu_node = crate::child::getcpu().1;
    match mode {
        PREFERRED => assert!(found.iter().all(|node| *node == chosen[0] as i32), "{found:?}"),
        INTERLEAVE | WEIGHTED => {
            // Every page follows its predecessor in the round; where it begins is the object's.
            let place = |node: i32| chosen.iter().position(|own| *own as i32 == node);
            for pair in found.windows(2) {
                let (one, two) = (place(pair[0]), place(pair[1]));
                let next = one.map(|place| (place + 1) % chosen.len());
                assert!(next.is_some() && next == two, "no round: {found:?}");
            }
        }
        _ => {
            let near: Vec<i32> = nearest(cpu_node, chosen).iter().map(|n| *n as i32).collect();
            assert!(found.iter().all(|node| near.contains(node)), "{found:?} not near {chosen:?}");
        }
    }
}

/// All modes over one node, some and all, by mbind and by the task's policy, each in a process of
/// its own that stays on one CPU.
fn every_mode_on(make: Make) {
    let all = nodes();
    let cpu = crate::child::affinity(0)[0];
    for mode in [PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY, WEIGHTED] {
        for flags in [0, STATIC] {
            for chosen in [&all[..1], &all[all.len() - 1..], &all[all.len() / 2..], &all[..]] {
                run(|| {
                    crate::child::pin(cpu);
                    let at = make();
                    mbind(at, N, mode | flags, chosen, 0).unwrap();
                    touch(at, N);
                    check(at, mode, chosen);
                    assert_eq!(policy_at(at).0, mode | flags);
                });
                run(|| {
                    crate::child::pin(cpu);
                    let at = make();
                    set_mempolicy(mode | flags, chosen).unwrap();
                    touch(at, N);
                    check(at, mode, chosen);
                });
            }
        }
    }
}

fn every_mode_places_private_memory() {
    every_mode_on(private);
}

fn every_mode_places_shared_anonymous_memory() {
    every_mode_on(shared);
}

fn every_mode_places_memfds() {
    every_mode_on(memfd_shared);
}

fn every_mode_places_tmpfs_files() {
    every_mode_on(tmpfs_shared);
}

fn every_mode_places_copies_of_file_pages() {
    every_mode_on(file_private);
}

fn every_mode_places_sysv_segments() {
    every_mode_on(sysv);
}

fn every_mode_places_the_heap() {
    every_mode_on(heap);
}

fn every_mode_places_the_stack() {
    every_mode_on(stack);
}

fn without_a_policy_every_kind_is_local() {
    let kinds: [Make; 8] =
        [private, shared, memfd_shared, tmpfs_shared, file_private, sysv, heap, stack];
    for make in kinds {
        for (cpu, node) in cpu_nodes() {
            run(|| {
                let at = make();
                crate::child::pin(cpu);
                touch(at, N);
                let home = home_of(node);
                let found = nodes_at(at, N);
                assert!(found.iter().all(|n| home.contains(&(*n as usize))), "{found:?}");
            });
        }
    }
}

fn a_written_file_follows_the_writers_policy() {
    for node in nodes() {
        run(|| {
            let fd = memfd(0);
            set_mempolicy(BIND, &[node]).unwrap();
            let bytes = vec![7u8; N * PAGE];
            assert_eq!(sys::write(fd, &bytes), Ok(N * PAGE));
            all_on_after_mapping(fd, node);
        });
    }
}

fn all_on_after_mapping(fd: i32, node: usize) {
    let at = map_file(fd, N, libc::MAP_SHARED);
    read_each(at, N);
    all_on(at, N, node);
}

fn copies_of_file_pages_leave_the_file_where_it_is() {
    let all = at_least(2);
    let fd = memfd(N);
    set_mempolicy(BIND, &[all[0]]).unwrap();
    let shared = map_file(fd, N, libc::MAP_SHARED);
    touch(shared, N);
    all_on(shared, N, all[0]);
    let private = map_file(fd, N, libc::MAP_PRIVATE);
    mbind(private, N, BIND, &[all[1]], 0).unwrap();
    touch(private, N);
    all_on(private, N, all[1]);
    all_on(shared, N, all[0]);
}
