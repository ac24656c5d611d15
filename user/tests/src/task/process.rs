//! fork(2), vfork(2), exit and what a process is.

use std::sync::atomic::Ordering::SeqCst;

use crate::child::{Steps, end_of, join, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, sys};
use crate::task::clone;

pub const TESTS: &[Test] = tests![
    a_child_has_a_new_pid_and_knows_its_parent,
    exit_codes_arrive_in_eight_bits,
    a_killed_child_tells_the_signal,
    an_orphan_gets_a_new_parent,
    descriptors_are_shared_objects_and_separate_tables,
    the_working_directory_is_each_ones_own,
    vfork_holds_the_parent_until_the_child_ends,
    vfork_lets_the_parent_go_when_the_child_executes,
    exit_group_ends_all_threads,
    exit_group_from_a_thread_ends_the_process,
    a_process_lives_on_when_its_first_thread_ends,
    the_parents_death_is_signalled_where_asked_for,
    a_pidfd_becomes_readable_when_the_process_ends,
    a_pidfd_sends_signals,
    a_hundred_processes_come_and_go,
    processes_fork_on_all_cpus_at_once,
];

fn ppid() -> i32 {
    sys!(libc::SYS_getppid).unwrap() as i32
}

fn a_child_has_a_new_pid_and_knows_its_parent() {
    let parent = sys::getpid();
    let seen = map_shared(1);
    let child = spawn(|| {
        assert_eq!(ppid(), parent);
        assert_eq!(sys::getpid(), sys::gettid());
        word(seen).store(sys::getpid() as u32, SeqCst);
    });
    assert_eq!(join(child), 0);
    assert_eq!(word(seen).load(SeqCst) as i32, child);
    assert_ne!(child, parent);
}

fn exit_codes_arrive_in_eight_bits() {
    for code in [0, 1, 42, 127, 255] {
        assert_eq!(end_of(|| sys::exit_group(code)), code);
    }
    assert_eq!(end_of(|| sys::exit_group(256 + 7)), 7);
    assert_eq!(end_of(|| sys::exit_group(-1)), 255);
}

fn a_killed_child_tells_the_signal() {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGUSR1, libc::SIGRTMIN() + 3] {
        let child = spawn(|| {
            loop {
                let _ = sys!(libc::SYS_pause);
            }
        });
        sys::kill(child, signal).unwrap();
        assert_eq!(join(child), 128 + signal);
    }
}

fn an_orphan_gets_a_new_parent() {
    let me = sys::getpid();
    sys!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).unwrap();
    let steps = Steps::new();
    let child = spawn(|| {
        spawn(|| {
            steps.await_(1);
            while ppid() != me {
                std::thread::yield_now();
            }
            sys::exit_group(77);
        });
    });
    assert_eq!(join(child), 0);
    steps.reach(1);
    assert_eq!(join(-1), 77);
}

fn descriptors_are_shared_objects_and_separate_tables() {
    let fd = memfd(1);
    run(|| {
        sys!(libc::SYS_lseek, fd, 100, libc::SEEK_SET).unwrap();
        sys::close(fd);
    });
    assert_eq!(sys!(libc::SYS_lseek, fd, 0, libc::SEEK_CUR), Ok(100));
}

fn the_working_directory_is_each_ones_own() {
    std::env::set_current_dir("/tmp").unwrap();
    run(|| {
        assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/tmp"));
        std::env::set_current_dir("/").unwrap();
    });
    assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/tmp"));
}

fn vfork_holds_the_parent_until_the_child_ends() {
    extern "C" fn slow(at: usize) -> i32 {
        for step in 1..=2_000_000 {
            word(at).store(step, SeqCst);
        }
        5
    }
    let at = map(1);
    let stack = clone::stack();
    let flags = libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD;
    let child = clone::raw(flags, stack, slow, at).unwrap();
    assert_eq!(word(at).load(SeqCst), 2_000_000);
    assert_eq!(join(child), 5);
}

fn vfork_lets_the_parent_go_when_the_child_executes() {
    // The child sleeps in its new program: the parent does not wait for that.
    let begin = std::time::Instant::now();
    let mut child =
        std::process::Command::new("/proc/self/exe").args(["--helper", "pause"]).spawn().unwrap();
    assert!(begin.elapsed().as_secs() < 20);
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

fn exit_group_ends_all_threads() {
    let end = end_of(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        sys::exit_group(9);
    });
    assert_eq!(end, 9);
}

fn exit_group_from_a_thread_ends_the_process() {
    let end = end_of(|| {
        std::thread::spawn(|| sys::exit_group(8));
        loop {
            let _ = sys!(libc::SYS_pause);
        }
    });
    assert_eq!(end, 8);
}

fn a_process_lives_on_when_its_first_thread_ends() {
    let seen = map_shared(1);
    let end = end_of(|| {
        let main = sys::gettid();
        std::thread::spawn(move || {
            while crate::child::state_of(main) != Some('Z') {
                std::thread::yield_now();
            }
            word(seen).store(1, SeqCst);
            sys::exit_group(6);
        });
        let _ = sys!(libc::SYS_exit, 3);
    });
    assert_eq!((end, word(seen).load(SeqCst)), (6, 1));
}

fn the_parents_death_is_signalled_where_asked_for() {
    let steps = Steps::new();
    sys!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).unwrap();
    let child = spawn(|| {
        spawn(|| {
            sys!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGUSR2, 0, 0, 0).unwrap();
            steps.reach(1);
            loop {
                let _ = sys!(libc::SYS_pause);
            }
        });
        steps.await_(1);
    });
    assert_eq!(join(child), 0);
    assert_eq!(join(-1), 128 + libc::SIGUSR2);
}

fn a_pidfd_becomes_readable_when_the_process_ends() {
    let steps = Steps::new();
    let child = spawn(|| steps.await_(1));
    let fd = sys!(libc::SYS_pidfd_open, child, 0).unwrap() as i32;
    let poll = |millis: i32| {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        sys!(libc::SYS_poll, &raw mut entry, 1, millis).unwrap()
    };
    assert_eq!(poll(0), 0);
    steps.reach(1);
    assert_eq!(poll(-1), 1);
    assert_eq!(join(child), 0);
    sys::fails(sys!(libc::SYS_pidfd_open, child, 0), libc::ESRCH);
}

fn a_pidfd_sends_signals() {
    let child = spawn(|| {
        loop {
            let _ = sys!(libc::SYS_pause);
        }
    });
    let fd = sys!(libc::SYS_pidfd_open, child, 0).unwrap();
    sys!(libc::SYS_pidfd_send_signal, fd, libc::SIGTERM, 0, 0).unwrap();
    assert_eq!(join(child), 128 + libc::SIGTERM);
    sys::fails(sys!(libc::SYS_pidfd_send_signal, fd, 0, 0, 0), libc::ESRCH);
}

fn a_hundred_processes_come_and_go() {
    for round in 0..4 {
        let children: Vec<(i32, i32)> =
            (0..25).map(|n| (spawn(|| sys::exit_group(n + round)), n + round)).collect();
        for (child, code) in children {
            assert_eq!(join(child), code);
        }
    }
}

fn processes_fork_on_all_cpus_at_once() {
    std::thread::scope(|scope| {
        for cpu in crate::child::affinity(0).into_iter().take(8) {
            scope.spawn(move || {
                crate::child::pin(cpu);
                let at = map(16);
                for round in 0..10u64 {
                    fill(at, 16, round);
                    let child = spawn(|| {
                        verify(at, 16, round);
                        sys::exit_group(round as i32);
                    });
                    fill(at, 16, 99);
                    assert_eq!(join(child), round as i32);
                }
            });
        }
    });
}
