//! Tasks in groups: joining, being born, ending, being killed; and who is told of it.

use libc::{EBADF, EINVAL};

use super::{Group, group_of};
use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_process_moves_with_its_threads,
    children_are_born_where_their_maker_is,
    a_zombie_names_its_group_until_it_is_reaped,
    a_group_of_zombies_can_be_removed,
    an_exec_by_another_thread_counts_once,
    everybody_below_is_killed,
    a_group_that_forks_is_killed_whole,
    changes_of_the_events_are_told,
    clone3_makes_a_process_in_another_group,
];

fn pause() {
    let _ = sys!(libc::SYS_pause);
}

fn a_process_moves_with_its_threads() {
    let group = Group::new("moves");
    let steps = Steps::new();
    let pid = spawn(|| {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| steps.await_(1));
            }
            while std::fs::read_dir("/proc/self/task").unwrap().count() < 4 {}
            steps.await_(1);
        });
    });
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    while tasks() < 4 {
        std::thread::yield_now();
    }
    // Any thread's id will do.
    group.take(pid + 2);
    assert_eq!(group.read("cgroup.procs"), pid.to_string());
    assert_eq!(group.read("cgroup.threads").lines().count(), 4);
    assert_eq!(group.read("pids.current"), "4");
    assert_eq!(group_of(pid), group.name());
    steps.reach(1);
    assert_eq!(join(pid), 0);
    assert_eq!(group.read("cgroup.procs"), "");
    assert_eq!(group.read("pids.current"), "0");
}

fn children_are_born_where_their_maker_is() {
    let group = Group::new("born");
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        run(|| {
            assert_eq!(group_of(sys::getpid()), group.name());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let text = super::read("/proc/thread-self/cgroup").unwrap();
                    assert_eq!(text, format!("0::{}", group.name()));
                });
            });
            assert_eq!(super::read("/proc/self/cpuset").unwrap(), group.name());
        });
        assert_eq!(crate::helper::call(&["exit", "7"]), 7);
    });
    assert_eq!(group.read("pids.current"), "0");
}

fn zombie_in(group: &Group) -> i32 {
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    group.take(pid);
    steps.reach(1);
    while crate::child::state_of(pid) != Some('Z') {
        std::thread::yield_now();
    }
    pid
}

fn a_zombie_names_its_group_until_it_is_reaped() {
    let group = Group::new("zombie");
    let pid = zombie_in(&group);
    assert!(!group.is_populated());
    assert_eq!(group_of(pid), group.name());
    assert_eq!(group.read("pids.current"), "1");
    join(pid);
    assert_eq!(group.read("pids.current"), "0");
}

fn a_group_of_zombies_can_be_removed() {
    let group = Group::new("zombies");
    let inner = group.child("inner");
    let pid = zombie_in(&inner);
    assert_eq!(group.read("pids.current"), "1");
    inner.rmdir().unwrap();
    assert_eq!(group_of(pid), format!("{} (deleted)", inner.name()));
    let again = group.child("inner");
    assert_eq!(group_of(pid), format!("{} (deleted)", inner.name()));
    assert_eq!(again.read("cgroup.procs"), "");
    join(pid);
    assert_eq!(group.read("pids.current"), "0");
}

fn an_exec_by_another_thread_counts_once() {
    let group = Group::new("exec");
    run(|| {
        group.write("cgroup.procs", "0").unwrap();
        for _ in 0..3 {
            let pid = spawn(|| {
                let thread = std::thread::spawn(|| crate::helper::exec(&["exit", "3"]));
                pause();
                let _ = thread.join();
            });
            assert_eq!(join(pid), 3);
        }
        assert_eq!(group.read("pids.current"), "1");
    });
    assert_eq!(group.read("pids.current"), "0");
    assert!(!group.is_populated());
}

fn everybody_below_is_killed() {
    let group = Group::new("killed");
    let (a, b) = (group.child("a"), group.child("b"));
    let pids = [spawn(pause), spawn(pause), spawn(pause)];
    for (pid, to) in pids.into_iter().zip([&a, &b, &b]) {
        to.take(pid);
    }
    let outside = spawn(pause);
    group.write("cgroup.kill", "1\n").unwrap();
    for pid in pids {
        assert_eq!(join(pid), 128 + libc::SIGKILL);
    }
    assert!(crate::child::state_of(outside).is_some());
    assert!(!group.is_populated());
    sys::kill(outside, libc::SIGKILL).unwrap();
    join(outside);
}

fn a_group_that_forks_is_killed_whole() {
    let group = Group::new("forks");
    group.write("pids.max", "40").unwrap();
    let pid = spawn(|| {
        group.write("cgroup.procs", "0").unwrap();
        loop {
            if let Ok(0) = sys::fork() {
                // Every child makes its own.
                continue;
            }
        }
    });
    while group.read("pids.current").parse::<u64>().unwrap() < 30 {
        std::thread::yield_now();
    }
    group.write("cgroup.kill", "1").unwrap();
    assert_eq!(join(pid), 128 + libc::SIGKILL);
    group.until_empty();
    assert_eq!(group.read("cgroup.procs"), "");
}

fn changes_of_the_events_are_told() {
    let group = Group::new("told");
    let fd = sys::open(&group.path("cgroup.events"), libc::O_RDONLY, 0).unwrap();
    let ready = |timeout: i32| {
        let mut poll = libc::pollfd { fd, events: libc::POLLPRI, revents: 0 };
        sys!(libc::SYS_poll, &raw mut poll, 1, timeout).unwrap();
        poll.revents
    };
    let mut text = [0u8; 64];
    let mut read_again = || {
        sys!(libc::SYS_lseek, fd, 0, libc::SEEK_SET).unwrap();
        let length = sys::read(fd, &mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert!(read_again().starts_with("populated 0\n"));
    assert_eq!(ready(0), 0);
    let steps = Steps::new();
    let pid = spawn(|| steps.await_(1));
    group.take(pid);
    let told = libc::POLLPRI | libc::POLLERR;
    assert_eq!(ready(-1), told);
    // Until it is read.
    assert_eq!(ready(0), told);
    assert!(read_again().starts_with("populated 1\n"));
    assert_eq!(ready(0), 0);
    let waker = spawn(|| {
        crate::child::until_asleep(sys!(libc::SYS_getppid).unwrap() as i32);
        steps.reach(1);
    });
    assert_eq!(ready(10_000), told);
    assert!(read_again().starts_with("populated 0\n"));
    join(pid);
    join(waker);
}

/// struct clone_args, as far as the group.
pub fn clone3_into(fd: u64, size: usize) -> sys::Result<usize> {
    const INTO: u64 = 1 << 33;
    let args: [u64; 11] = [INTO, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, 0, 0, fd];
    sys!(libc::SYS_clone3, args.as_ptr(), size)
}

fn clone3_makes_a_process_in_another_group() {
    let group = Group::new("into");
    let dir = sys::open(&group.0, libc::O_RDONLY | libc::O_DIRECTORY, 0).unwrap();
    let file = sys::open(&group.path("cgroup.procs"), libc::O_RDONLY, 0).unwrap();
    let path = sys::open(&group.0, libc::O_PATH, 0).unwrap();
    let other = sys::open("/proc", libc::O_RDONLY, 0).unwrap();
    fails(clone3_into(dir as u64, 64), EINVAL);
    fails(clone3_into(1 << 32, 88), EINVAL);
    fails(clone3_into(899, 88), EBADF);
    fails(clone3_into(other as u64, 88), EBADF);
    fails(clone3_into(file as u64, 88), EBADF);
    for fd in [dir, path] {
        match clone3_into(fd as u64, 88).unwrap() {
            0 => sys::exit_group(i32::from(group_of(sys::getpid()) != group.name())),
            pid => assert_eq!(join(pid as i32), 0),
        }
    }
    group.write("pids.max", "0").unwrap();
    fails(clone3_into(dir as u64, 88), libc::EAGAIN);
    assert_eq!(group.value("pids.events", "max"), 1);
    group.rmdir().unwrap();
    fails(clone3_into(dir as u64, 88), libc::ENOENT);
}
