//! Resource limits, and what has been used.

use libc::{EINVAL, EPERM};

use crate::child::run;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, sys};
use crate::task::credentials;

pub const TESTS: &[Test] = tests![
    limits_are_inherited_and_each_ones_own,
    a_soft_limit_is_not_above_the_hard_one,
    only_privilege_raises_the_hard_limit,
    the_number_of_descriptors_is_limited,
    the_size_of_files_is_limited_by_sigxfsz,
    the_number_of_processes_is_limited_for_users,
    the_number_of_all_threads_is_limited_for_root_too,
    processor_time_is_limited_by_sigxcpu,
    who_ignores_sigxcpu_is_killed_at_the_hard_limit,
    anothers_limits_are_set_through_prlimit,
    used_processor_time_grows_while_computing,
    the_largest_resident_size_is_remembered,
    times_counts_children_only_after_the_wait,
];

type Resource = libc::c_int;

/// Soft and hard limit.
pub fn get(resource: Resource) -> (u64, u64) {
    let mut limit = [0u64; 2];
    sys!(libc::SYS_prlimit64, 0, resource, 0, limit.as_mut_ptr()).unwrap();
    (limit[0], limit[1])
}

pub fn set(resource: Resource, soft: u64, hard: u64) {
    try_set(resource, soft, hard).unwrap();
}

pub fn try_set(resource: Resource, soft: u64, hard: u64) -> sys::Result<usize> {
    let limit = [soft, hard];
    sys!(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), 0)
}

fn limits_are_inherited_and_each_ones_own() {
    let hard = get(libc::RLIMIT_NOFILE).1;
    set(libc::RLIMIT_NOFILE, 77, hard);
    run(|| {
        assert_eq!(get(libc::RLIMIT_NOFILE).0, 77);
        set(libc::RLIMIT_NOFILE, 66, hard);
    });
    assert_eq!(get(libc::RLIMIT_NOFILE).0, 77);
}

fn a_soft_limit_is_not_above_the_hard_one() {
    fails(try_set(libc::RLIMIT_NOFILE, 100, 50), EINVAL);
    fails(sys!(libc::SYS_prlimit64, 0, 99, 0, 0), EINVAL);
}

fn only_privilege_raises_the_hard_limit() {
    set(libc::RLIMIT_NOFILE, 100, 100);
    set(libc::RLIMIT_NOFILE, 100, 200);
    credentials::become_nobody();
    fails(try_set(libc::RLIMIT_NOFILE, 100, 300), EPERM);
    set(libc::RLIMIT_NOFILE, 50, 200);
    set(libc::RLIMIT_NOFILE, 200, 200);
}

fn the_number_of_descriptors_is_limited() {
    set(libc::RLIMIT_NOFILE, 20, 20);
    let mut last = 0;
    let end = loop {
        match sys!(libc::SYS_dup, 0) {
            Ok(fd) => last = fd,
            Err(error) => break error,
        }
    };
    assert_eq!((end.0, last), (libc::EMFILE, 19));
    fails(sys!(libc::SYS_dup2, 0, 20), libc::EBADF);
    fails(sys!(libc::SYS_fcntl, 0, libc::F_DUPFD, 20), EINVAL);
}

fn the_size_of_files_is_limited_by_sigxfsz() {
    set(libc::RLIMIT_FSIZE, 1000, 1000);
    let fd = memfd(0);
    let bytes = [1u8; 800];
    assert_eq!(sys::write(fd, &bytes), Ok(800));
    assert_eq!(sys::write(fd, &bytes), Ok(200));
    crate::signal::catch(libc::SIGXFSZ, 0);
    fails(sys::write(fd, &bytes), libc::EFBIG);
    assert_eq!(crate::signal::COUNT.load(std::sync::atomic::Ordering::SeqCst), 1);
    let end = crate::child::end_of(|| {
        sys::on_signal_with(libc::SIGXFSZ, libc::SIG_DFL, 0);
        let _ = sys::write(fd, &bytes);
    });
    assert_eq!(end, 128 + libc::SIGXFSZ);
}

fn the_number_of_processes_is_limited_for_users() {
    set(libc::RLIMIT_NPROC, 3, 3);
    // The count is by user: one that nothing else runs as.
    credentials::become_user(4321);
    let steps = crate::child::Steps::new();
    let mut children = Vec::new();
    let end = loop {
        match sys::fork() {
            Ok(0) => {
                steps.await_(1);
                sys::exit_group(0);
            }
            Ok(pid) => children.push(pid),
            Err(error) => break error,
        }
        assert!(children.len() < 10, "no limit");
    };
    steps.reach(1);
    assert_eq!((end.0, children.len()), (libc::EAGAIN, 2));
    for child in children {
        assert_eq!(crate::child::join(child), 0);
    }
}

fn processor_time_is_limited_by_sigxcpu() {
    let end = crate::child::end_of(|| {
        // The hard limit is far: a host that is elsewhere for a second would make it due, too.
        set(libc::RLIMIT_CPU, 1, 30);
        loop {
            std::hint::spin_loop();
        }
    });
    assert_eq!(end, 128 + libc::SIGXCPU);
}

fn who_ignores_sigxcpu_is_killed_at_the_hard_limit() {
    let end = crate::child::end_of(|| {
        crate::signal::ignore(libc::SIGXCPU);
        set(libc::RLIMIT_CPU, 1, 2);
        loop {
            std::hint::spin_loop();
        }
    });
    assert_eq!(end, 128 + libc::SIGKILL);
    let mut usage = sys::zeroed::<libc::rusage>();
    sys!(libc::SYS_getrusage, libc::RUSAGE_CHILDREN, &raw mut usage).unwrap();
    assert!(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec >= 1, "killed at the soft limit");
}

fn anothers_limits_are_set_through_prlimit() {
    let steps = crate::child::Steps::new();
    let child = crate::child::spawn(|| {
        steps.await_(1);
        assert_eq!(get(libc::RLIMIT_NOFILE), (33, 44));
    });
    let (new, mut old) = ([33u64, 44], [0u64; 2]);
    sys!(libc::SYS_prlimit64, child, libc::RLIMIT_NOFILE, new.as_ptr(), old.as_mut_ptr()).unwrap();
    steps.reach(1);
    assert_eq!(crate::child::join(child), 0);
    assert_eq!((old[0], old[1]), get(libc::RLIMIT_NOFILE));
    fails(sys!(libc::SYS_prlimit64, child, libc::RLIMIT_NOFILE, 0, 0), libc::ESRCH);
}

fn used_processor_time_grows_while_computing() {
    let used = |who: i32| {
        let mut usage: libc::rusage = sys::zeroed();
        sys!(libc::SYS_getrusage, who, &raw mut usage).unwrap();
        let (user, system) = (usage.ru_utime, usage.ru_stime);
        (user.tv_sec + system.tv_sec) * 1_000_000 + user.tv_usec + system.tv_usec
    };
    let before = used(libc::RUSAGE_SELF);
    assert_eq!(used(libc::RUSAGE_CHILDREN), 0);
    run(|| {
        let begin = used(libc::RUSAGE_SELF);
        while used(libc::RUSAGE_SELF) - begin < 200_000 {}
    });
    assert!(used(libc::RUSAGE_CHILDREN) >= 190_000);
    let while_waiting = used(libc::RUSAGE_SELF) - before;
    assert!(while_waiting < 150_000, "waiting cost {while_waiting} us");
}

fn the_largest_resident_size_is_remembered() {
    let largest = || {
        let mut usage: libc::rusage = sys::zeroed();
        sys!(libc::SYS_getrusage, libc::RUSAGE_SELF, &raw mut usage).unwrap();
        usage.ru_maxrss
    };
    let before = largest();
    let at = map(4096);
    touch(at, 4096);
    munmap(at, 4096).unwrap();
    assert!(largest() >= before + 15 * 1024);
}

fn times_counts_children_only_after_the_wait() {
    let ticks = || {
        let mut times: libc::tms = sys::zeroed();
        sys!(libc::SYS_times, &raw mut times).unwrap();
        times
    };
    let child = crate::child::spawn(|| while ticks().tms_utime + ticks().tms_stime < 20 {});
    let mut info: libc::siginfo_t = sys::zeroed();
    let flags = libc::WEXITED | libc::WNOWAIT;
    sys!(libc::SYS_waitid, libc::P_PID, child, &raw mut info, flags, 0).unwrap();
    assert_eq!(ticks().tms_cutime + ticks().tms_cstime, 0);
    assert_eq!(crate::child::join(child), 0);
    assert!(ticks().tms_cutime + ticks().tms_cstime >= 18);
}

fn the_number_of_all_threads_is_limited_for_root_too() {
    const FILE: &str = "/proc/sys/kernel/threads-max";
    let before = std::fs::read_to_string(FILE).unwrap();
    let present = || {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap();
        let (_, rest) = text.split_once('/').unwrap();
        rest.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    std::fs::write(FILE, present().to_string()).unwrap();
    let refused = sys::fork();
    std::fs::write(FILE, (present() + 100).to_string()).unwrap();
    let allowed = crate::child::end_of(|| ());
    std::fs::write(FILE, before.trim()).unwrap();
    fails(refused, libc::EAGAIN);
    assert_eq!(allowed, 0);
}
