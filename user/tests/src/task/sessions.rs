//! Process groups and sessions.

use libc::{EACCES, EINVAL, EPERM, ESRCH};

use crate::child::{Steps, join, run, spawn};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    groups_and_sessions_are_inherited,
    a_process_leads_a_group_of_its_own,
    a_child_is_put_into_a_group_and_another_joins,
    setsid_makes_a_session_and_a_group,
    the_leader_of_a_group_makes_no_session,
    bad_groups_are_refused,
    a_group_of_another_session_is_out_of_reach,
    a_child_that_has_executed_is_not_moved,
    a_stopped_orphaned_group_is_hung_up_and_continued,
];

fn group(pid: i32) -> sys::Result<i32> {
    sys!(libc::SYS_getpgid, pid).map(|id| id as i32)
}

fn session(pid: i32) -> sys::Result<i32> {
    sys!(libc::SYS_getsid, pid).map(|id| id as i32)
}

fn setpgid(pid: i32, group: i32) -> sys::Result<usize> {
    sys!(libc::SYS_setpgid, pid, group)
}

fn groups_and_sessions_are_inherited() {
    let (own, whole) = (group(0).unwrap(), session(0).unwrap());
    run(|| assert_eq!((group(0), session(0)), (Ok(own), Ok(whole))));
    assert_eq!(sys!(libc::SYS_getpgrp), Ok(own as usize));
}

fn a_process_leads_a_group_of_its_own() {
    run(|| {
        setpgid(0, 0).unwrap();
        assert_eq!(group(0), Ok(sys::getpid()));
    });
}

fn a_child_is_put_into_a_group_and_another_joins() {
    let steps = Steps::new();
    let (one, two) = (spawn(|| steps.await_(1)), spawn(|| steps.await_(1)));
    setpgid(one, one).unwrap();
    setpgid(two, one).unwrap();
    assert_eq!((group(one), group(two)), (Ok(one), Ok(one)));
    steps.reach(1);
    assert_eq!((join(one), join(two)), (0, 0));
}

fn setsid_makes_a_session_and_a_group() {
    run(|| {
        assert_eq!(sys!(libc::SYS_setsid), Ok(sys::getpid() as usize));
        assert_eq!((group(0), session(0)), (Ok(sys::getpid()), Ok(sys::getpid())));
        fails(sys!(libc::SYS_setsid), EPERM);
        fails(setpgid(0, 0), EPERM);
    });
}

fn the_leader_of_a_group_makes_no_session() {
    run(|| {
        setpgid(0, 0).unwrap();
        fails(sys!(libc::SYS_setsid), EPERM);
    });
}

fn bad_groups_are_refused() {
    fails(setpgid(0, -1), EINVAL);
    fails(setpgid(0x3fff_fff0, 0), ESRCH);
    fails(group(0x3fff_fff0), ESRCH);
    fails(session(0x3fff_fff0), ESRCH);
    run(|| fails(setpgid(0, 0x3fff_fff0), EPERM));
    // A parent is no child.
    let parent = sys::getpid();
    run(|| fails(setpgid(parent, 0), ESRCH));
}

fn a_group_of_another_session_is_out_of_reach() {
    let steps = Steps::new();
    let child = spawn(|| {
        sys!(libc::SYS_setsid).unwrap();
        steps.reach(1);
        steps.await_(2);
    });
    steps.await_(1);
    run(|| fails(setpgid(0, child), EPERM));
    fails(setpgid(child, group(0).unwrap()), EPERM);
    steps.reach(2);
    assert_eq!(join(child), 0);
}

fn a_child_that_has_executed_is_not_moved() {
    let mut child =
        std::process::Command::new("/proc/self/exe").args(["--helper", "pause"]).spawn().unwrap();
    fails(setpgid(child.id() as i32, 0), EACCES);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_stopped_orphaned_group_is_hung_up_and_continued() {
    // Its last link to the session ends while a member is stopped (POSIX, exit()).
    sys!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).unwrap();
    let steps = Steps::new();
    let leader = spawn(|| {
        sys!(libc::SYS_setsid).unwrap();
        let member = spawn(|| {
            setpgid(0, 0).unwrap();
            crate::signal::catch(libc::SIGHUP, 0);
            steps.reach(1);
            sys::kill(sys::getpid(), libc::SIGSTOP).unwrap();
            crate::signal::until_noted(1);
            sys::exit_group(55);
        });
        steps.await_(1);
        let mut status = 0;
        sys!(libc::SYS_wait4, member, &raw mut status, libc::WUNTRACED, 0).unwrap();
        assert!(libc::WIFSTOPPED(status));
    });
    assert_eq!(join(leader), 0);
    assert_eq!(join(-1), 55);
}
