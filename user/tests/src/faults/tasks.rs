//! Processes, threads, signals, timers, performance events.

use super::{FailNth, each_fails};
use crate::child::join;
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::perf::Attr;
use crate::sys::{self, Errno, sys};

pub const TESTS: &[Test] = tests![
    fork,
    clone_with_everything_shared,
    exec,
    exit_and_wait,
    queued_signals,
    timers,
    futexes,
    priority_inheritance,
    groups_and_ids,
    affinity,
    scheduling,
    a_session,
    perf_event,
    perf_ring,
    fork_with_inherited_events,
    a_change_of_user,
];

fn fork() {
    let at = map(600);
    touch(at, 600);
    each_fails(&[libc::EAGAIN], |turn| {
        let child = turn.call(|| {
            let pid = sys!(libc::SYS_fork)?;
            if pid == 0 {
                sys::exit_group(7);
            }
            Ok(pid)
        })?;
        assert_eq!(join(child as i32), 7);
        Ok(())
    });
}

fn clone_with_everything_shared() {
    each_fails(&[libc::EAGAIN], |turn| {
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_VFORK;
        let child = turn.call(|| {
            let pid = sys!(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0)?;
            if pid == 0 {
                let _ = sys!(libc::SYS_exit, 3);
            }
            Ok(pid)
        })?;
        assert_eq!(join(child as i32), 3);
        Ok(())
    });
}

/// Before the point of no return it is refused, after it the process is killed; later the new
/// program meets the failure, which it may not survive.
fn exec() {
    each_fails(&[libc::E2BIG], |turn| {
        let code = crate::child::end_of(|| {
            let faults = FailNth::open();
            faults.set(turn.n);
            let Errno(errno) = crate::helper::exec(&["fail-nth", "some", "arguments"]);
            faults.set(0);
            sys::exit_group(errno)
        });
        const KILLED: i32 = 128 + libc::SIGKILL;
        const FAULTED: i32 = 128 + libc::SIGSEGV;
        const ABORTED: i32 = 128 + libc::SIGABRT;
        turn.failed.set(turn.n > 0 && code != 100);
        match code {
            // The failure came, or did not come.
            0 | 100 => Ok(()),
            KILLED | FAULTED | ABORTED => Err(Errno(libc::ENOMEM)),
            errno => Err(Errno(errno)),
        }
    });
}

fn exit_and_wait() {
    each_fails(&[], |turn| {
        let child = crate::child::spawn(|| {
            let faults = FailNth::open();
            faults.set(turn.n);
            sys::exit_group(5)
        });
        let code = turn.call(|| {
            let mut status = 0i32;
            let mut usage: libc::rusage = sys::zeroed();
            sys!(libc::SYS_wait4, child, &raw mut status, 0, &raw mut usage)?;
            Ok(libc::WEXITSTATUS(status))
        })?;
        assert_eq!(code, 5);
        Ok(())
    });
}

fn queued_signals() {
    crate::signal::block(&[40]);
    each_fails(&[libc::EAGAIN], |turn| {
        let sent = turn.call(|| {
            let mut info = [0u64; 16];
            info[0] = 40;
            info[1] = -1i32 as u32 as u64;
            sys!(libc::SYS_rt_sigqueueinfo, sys::getpid(), 40, info.as_ptr())
        });
        let taken = crate::signal::take(&[40], 0);
        assert_eq!(sent.is_ok(), taken.is_ok());
        sent.map(drop)
    });
}

fn timers() {
    each_fails(&[libc::EAGAIN], |turn| {
        let mut id = 0i32;
        turn.call(|| sys!(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, 0, &raw mut id))?;
        let result = turn.call(|| {
            let mut time: libc::itimerspec = sys::zeroed();
            time.it_value.tv_sec = 100;
            sys!(libc::SYS_timer_settime, id, 0, &raw const time, 0)
        });
        sys!(libc::SYS_timer_delete, id)?;
        result.map(drop)
    });
}

fn futexes() {
    let at = map_shared(1);
    let time = sys::timespec(1_000_000);
    each_fails(&[], |turn| {
        let result = turn.call(|| sys!(libc::SYS_futex, at, libc::FUTEX_WAIT, 0, &raw const time));
        match result {
            Err(Errno(libc::ETIMEDOUT)) => Ok(()),
            other => other.map(drop),
        }
    });
}

fn priority_inheritance() {
    let at = map_shared(1);
    each_fails(&[], |turn| {
        let result = turn.call(|| sys!(libc::SYS_futex, at, libc::FUTEX_LOCK_PI, 0, 0));
        if result.is_ok() {
            sys!(libc::SYS_futex, at, libc::FUTEX_UNLOCK_PI, 0, 0)?;
        }
        result.map(drop)
    });
}

fn groups_and_ids() {
    let groups = [0u32; 300];
    each_fails(&[], |turn| {
        let result = turn.call(|| {
            sys!(libc::SYS_setgroups, groups.len(), groups.as_ptr())?;
            sys!(libc::SYS_setresuid, -1, -1, 0)
        });
        sys!(libc::SYS_setgroups, 0, 0)?;
        result.map(drop)
    });
}

fn affinity() {
    let mut mask = [0u64; 16];
    let size = size_of_val(&mask);
    sys!(libc::SYS_sched_getaffinity, 0, size, mask.as_mut_ptr()).unwrap();
    each_fails(&[], |turn| {
        turn.call(|| sys!(libc::SYS_sched_setaffinity, 0, size, mask.as_ptr())).map(drop)
    });
}

fn scheduling() {
    each_fails(&[], |turn| {
        let result = turn.call(|| {
            let parameters = 5i32;
            sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_RR, &raw const parameters)
        });
        let none = 0i32;
        sys!(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const none)?;
        result.map(drop)
    });
}

fn a_session() {
    each_fails(&[], |turn| {
        let code = crate::child::end_of(|| {
            let faults = FailNth::open();
            let (result, failed) = faults.during(turn.n, || sys!(libc::SYS_setsid));
            let code = result.map_or_else(|Errno(errno)| errno, |_| 0);
            sys::exit_group(if failed { 128 | code } else { code })
        });
        turn.failed.set(turn.n > 0 && code & 128 != 0);
        if code & 127 == 0 { Ok(()) } else { Err(Errno(code & 127)) }
    });
}

fn perf_event() {
    each_fails(&[], |turn| {
        let mut attr = Attr::software(0);
        let fd = turn.call(|| attr.try_open(0, -1, -1, 0))?;
        let mut count = [0u64; 4];
        let result = turn.call(|| sys!(libc::SYS_read, fd, count.as_mut_ptr(), 32));
        sys::close(fd as i32);
        result.map(drop)
    });
}

fn perf_ring() {
    each_fails(&[], |turn| {
        let mut attr = Attr::software(0);
        let fd = attr.try_open(0, -1, -1, 0)? as i32;
        let mapped = turn.call(|| mmap(0, 9 * PAGE, RW, libc::MAP_SHARED, fd, 0));
        let result = mapped.and_then(|at| munmap(at, 9));
        sys::close(fd);
        result.map(drop)
    });
}

fn fork_with_inherited_events() {
    let mut attr = Attr::software(2).flags(crate::perf::INHERIT);
    let leader = attr.try_open(0, -1, -1, 0).unwrap() as i32;
    for n in 0..30 {
        let group = if n % 3 == 0 { leader } else { -1 };
        attr.try_open(0, -1, group, 0).unwrap();
    }
    each_fails(&[libc::EAGAIN], |turn| {
        let child = turn.call(|| {
            let pid = sys!(libc::SYS_fork)?;
            if pid == 0 {
                sys::exit_group(7);
            }
            Ok(pid)
        })?;
        assert_eq!(join(child as i32), 7);
        let mut count = [0u64; 4];
        turn.call(|| sys!(libc::SYS_read, leader, count.as_mut_ptr(), 32)).map(drop)
    });
}

fn a_change_of_user() {
    let id = std::cell::Cell::new(5000);
    each_fails(&[libc::EAGAIN], |turn| {
        let result = turn.call(|| sys!(libc::SYS_setresuid, id.get(), 0, 0));
        id.set(id.get() + 1);
        sys!(libc::SYS_setresuid, 0, 0, 0)?;
        result.map(drop)
    });
}
