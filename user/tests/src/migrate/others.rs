//! Pages that several processes map, and pages of other processes.

use libc::{EACCES, EPERM, ESRCH};

use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::numa::*;
use crate::sys::fails;
use crate::task::credentials::{become_nobody, become_user, without_nice};

pub const TESTS: &[Test] = tests![
    pages_shared_after_fork_are_eacces_without_move_all,
    move_all_moves_them_for_both,
    shared_memory_moves_for_all_its_mappings,
    move_all_needs_the_capability,
    another_processes_pages_are_seen_and_moved,
    a_process_that_is_not_there_is_esrch,
    a_users_process_is_closed_to_other_users,
    a_users_own_processes_are_open_once_they_execute_anew,
    a_childs_end_during_the_question_is_no_harm,
    pages_under_a_running_system_call_keep_their_bytes,
    a_hole_is_one_in_private_mappings_too_while_their_pages_move,
];

const N: usize = 8;

fn placed() -> (usize, usize, usize) {
    let all = at_least(2);
    let at = map_alone(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    fill(at, N, 1);
    (at, all[0], all[1])
}

fn targets(node: usize) -> Vec<i32> {
    vec![node as i32; N]
}

fn pages_shared_after_fork_are_eacces_without_move_all() {
    let (at, old, new) = placed();
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    let (_, status) = move_pages(0, &addresses(at, N), Some(&targets(new)), MOVE).unwrap();
    assert_eq!(status, [-EACCES; N]);
    all_on(at, N, old);
    steps.reach(1);
    assert_eq!(join(child), 0);
    send(at, N, new);
}

fn move_all_moves_them_for_both() {
    let (at, _, new) = placed();
    let steps = Steps::new();
    let child = spawn(|| {
        steps.await_(1);
        all_on(at, N, new);
        verify(at, N, 1);
        fill(at, N, 2);
        steps.reach(2);
        steps.await_(3);
        verify(at, N, 2);
    });
    let (_, status) = move_pages(0, &addresses(at, N), Some(&targets(new)), MOVE_ALL).unwrap();
    assert_eq!(status, targets(new));
    steps.reach(1);
    steps.await_(2);
    verify(at, N, 1);
    fill(at, N, 3);
    steps.reach(3);
    assert_eq!(join(child), 0);
    verify(at, N, 3);
}

fn shared_memory_moves_for_all_its_mappings() {
    let all = at_least(2);
    let fd = memfd(N);
    let at = map_file(fd, N, libc::MAP_SHARED);
    let twin = map_file(fd, N, libc::MAP_SHARED);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    fill(at, N, 1);
    verify(twin, N, 1);
    let (_, status) = move_pages(0, &addresses(at, N), Some(&targets(all[1])), MOVE_ALL).unwrap();
    assert_eq!(status, targets(all[1]));
    all_on(twin, N, all[1]);
    verify(twin, N, 1);
    fill(twin, N, 2);
    verify(at, N, 2);
}

fn move_all_needs_the_capability() {
    let (at, old, new) = placed();
    without_nice();
    fails(move_pages(0, &addresses(at, N), Some(&targets(new)), MOVE_ALL), EPERM);
    all_on(at, N, old);
    let (_, status) = move_pages(0, &addresses(at, N), Some(&targets(new)), MOVE).unwrap();
    assert_eq!(status, targets(new));
}

/// A child with pages on the first node, which ends well if they are on the second at the end.
fn victim(at: usize, new: usize, steps: Steps) -> i32 {
    spawn(move || {
        fill(at, N, 7);
        steps.reach(1);
        steps.await_(2);
        all_on(at, N, new);
        verify(at, N, 7);
    })
}

fn another_processes_pages_are_seen_and_moved() {
    let all = at_least(2);
    let at = map_alone(N);
    mbind(at, N, BIND, &all[..1], 0).unwrap();
    let steps = Steps::new();
    let child = victim(at, all[1], steps);
    steps.await_(1);
    let pages = addresses(at, N);
    assert_eq!(move_pages(child, &pages, None, 0).unwrap().1, targets(all[0]));
    let (_, status) = move_pages(child, &pages, Some(&targets(all[1])), MOVE).unwrap();
    assert_eq!(status, targets(all[1]));
    steps.reach(2);
    assert_eq!(join(child), 0);
}

fn a_process_that_is_not_there_is_esrch() {
    fails(move_pages(0x3fff_fff0, &[map(1)], None, 0), ESRCH);
    fails(migrate_pages(0x3fff_fff0, &nodes(), &nodes()), ESRCH);
}

fn a_users_process_is_closed_to_other_users() {
    let all = nodes();
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    run(|| {
        become_nobody();
        fails(move_pages(child, &[0x1000], None, 0), EPERM);
        fails(migrate_pages(child, &all, &all), EPERM);
    });
    steps.reach(1);
    assert_eq!(join(child), 0);
}

fn a_users_own_processes_are_open_once_they_execute_anew() {
    // Changing one's user makes a process closed (not dumpable), until it executes a program.
    run(|| {
        become_user(1234);
        let mut other = std::process::Command::new("/proc/self/exe")
            .args(["--helper", "pause"])
            .spawn()
            .unwrap();
        let pid = other.id() as i32;
        assert_eq!(migrate_pages(pid, &nodes()[..1], &nodes()[..1]), Ok(0));
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

fn a_childs_end_during_the_question_is_no_harm() {
    let all = at_least(2);
    for _ in 0..20 {
        let at = map_alone(256);
        let steps = Steps::new();
        let child = spawn(|| {
            touch(at, 256);
            steps.reach(1);
        });
        steps.await_(1);
        let result = move_pages(child, &addresses(at, 256), Some(&vec![all[1] as i32; 256]), MOVE);
        // A process without memory, as it is while it ends, is EINVAL.
        let gone = [ESRCH, libc::EINVAL].map(crate::sys::Errno);
        assert!(result.as_ref().map_or_else(|error| gone.contains(error), |_| true), "{result:?}");
        assert_eq!(join(child), 0);
        munmap(at, 256).unwrap();
    }
}

fn pages_under_a_running_system_call_keep_their_bytes() {
    // One process reads a file into the pages again and again while they move.
    let all = at_least(2);
    const PAGES: usize = 64;
    let fd = memfd(PAGES);
    let file = map_file(fd, PAGES, libc::MAP_SHARED);
    fill(file, PAGES, 9);
    let at = map_alone(PAGES);
    touch(at, PAGES);
    let steps = Steps::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                let read = crate::sys::sys!(libc::SYS_pread64, fd, at, PAGES * PAGE, 0);
                assert_eq!(read, Ok(PAGES * PAGE));
                verify(at, PAGES, 9);
                let written = crate::sys::sys!(libc::SYS_pwrite64, fd, at, PAGES * PAGE, 0);
                assert_eq!(written, Ok(PAGES * PAGE));
            }
            steps.reach(1);
        });
        let mut round = 0;
        while steps.now() == 0 {
            round += 1;
            let targets = vec![all[round % all.len()] as i32; PAGES];
            move_pages(0, &addresses(at, PAGES), Some(&targets), MOVE_ALL).unwrap();
            move_pages(0, &addresses(file, PAGES), Some(&targets), MOVE_ALL).unwrap();
        }
    });
    verify(file, PAGES, 9);
}

fn a_hole_is_one_in_private_mappings_too_while_their_pages_move() {
    let all = at_least(2);
    const PAGES: usize = 16;
    let fd = memfd(PAGES);
    let at = map_file(fd, PAGES, libc::MAP_PRIVATE);
    let steps = Steps::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while steps.now() == 0 {
                round += 1;
                let targets = vec![all[round % all.len()] as i32; PAGES];
                move_pages(0, &addresses(at, PAGES), Some(&targets), MOVE).unwrap();
            }
        });
        for round in 1..=400u64 {
            let byte = [(round % 255) as u8 + 1; PAGES * PAGE];
            let written = crate::sys::sys!(libc::SYS_pwrite64, fd, byte.as_ptr(), PAGES * PAGE, 0);
            assert_eq!(written, Ok(PAGES * PAGE));
            (0..PAGES).for_each(|page| assert_eq!(get(at + page * PAGE), byte[0]));
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            crate::sys::sys!(libc::SYS_fallocate, fd, mode, 0, PAGES * PAGE).unwrap();
            let found: Vec<u8> = (0..PAGES).map(|page| get(at + page * PAGE)).collect();
            assert_eq!(found, [0; PAGES], "round {round}");
        }
        steps.reach(1);
    });
    munmap(at, PAGES).unwrap();
}
