//! wait(2) and tracees.

use super::*;
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_stop_is_reported_without_being_asked_for,
    waitid_tells_of_traps,
    a_stop_that_is_left_is_reported_again,
    a_tracer_sees_the_end_before_the_parent,
    a_tracer_that_is_no_parent_has_children_to_wait_for,
    an_ignored_end_waits_for_the_tracer,
    stops_send_the_tracer_a_signal,
    a_parent_that_traces_is_told_once,
];

fn a_stop_is_reported_without_being_asked_for() {
    let pid = traced(raise_stop);
    assert_eq!(wait4(pid, WNOHANG), Ok((0, 0)));
    go_on(PTRACE_CONT, pid, 0);
    // Neither WUNTRACED nor __WALL.
    assert_eq!(wait4(-1, 0), Ok((pid, SIGSTOP << 8 | 0x7f)));
    fails(wait4(pid, __WCLONE | WNOHANG).and_then(|_| wait4(pid + 1, __WALL)), ECHILD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(wait4(-1, __WALL), Ok((pid, 0)));
    fails(wait4(-1, __WALL), ECHILD);
}

fn waitid(pid: i32, options: i32) -> Result<[i32; 7]> {
    let mut info = [0i32; 32];
    sys!(SYS_waitid, P_PID, pid, info.as_mut_ptr(), options, 0)?;
    Ok(std::array::from_fn(|at| info[at]))
}

fn waitid_tells_of_traps() {
    let pid = traced(raise_stop);
    set_options(pid, PTRACE_O_TRACEEXIT);
    go_on(PTRACE_CONT, pid, 0);
    let info = waitid(pid, WEXITED | __WALL).expect("a stop");
    assert_eq!((info[0], info[2], info[4], info[6]), (SIGCHLD, CLD_TRAPPED, pid, SIGSTOP));
    go_on(PTRACE_CONT, pid, 0);
    let info = waitid(pid, WSTOPPED | __WALL).expect("an event");
    assert_eq!((info[2], info[6]), (CLD_TRAPPED, event(PTRACE_EVENT_EXIT)));
    go_on(PTRACE_CONT, pid, 0);
    let info = waitid(pid, WEXITED | __WALL).expect("an end");
    assert_eq!((info[2], info[6]), (CLD_EXITED, 0));
}

fn a_stop_that_is_left_is_reported_again() {
    let pid = traced(raise_stop);
    go_on(PTRACE_CONT, pid, 0);
    for options in [WNOWAIT, WNOWAIT, 0] {
        let info = waitid(pid, WSTOPPED | __WALL | options).expect("a stop");
        assert_eq!(info[6], SIGSTOP);
    }
    let info = waitid(pid, WSTOPPED | __WALL | WNOHANG).expect("nothing");
    assert_eq!(info[4], 0);
    kill(pid);
}

fn a_tracer_sees_the_end_before_the_parent() {
    let steps = crate::child::Steps::new();
    let pid = child(|| {
        steps.await_(2);
        sys::exit_group(3);
    });
    let tracer = child(|| {
        ptrace(PTRACE_SEIZE, pid, 0, 0).expect("SEIZE");
        steps.reach(2);
        let mut info = [0i32; 32];
        let options = WEXITED | WNOWAIT | __WALL;
        sys!(SYS_waitid, P_PID, pid, info.as_mut_ptr(), options, 0).expect("its end");
        steps.reach(3);
        steps.await_(4);
        assert_eq!(end_of(pid), 3);
        steps.reach(5);
        fails(wait4(pid, __WALL), ECHILD);
    });
    steps.await_(3);
    assert_eq!(wait4(pid, WNOHANG), Ok((0, 0)), "the tracer has not");
    steps.reach(4);
    steps.await_(5);
    assert_eq!(end_of(pid), 3);
    assert_eq!(crate::child::join(tracer), 0);
}

fn a_tracer_that_is_no_parent_has_children_to_wait_for() {
    let pid = child(pause);
    crate::child::run(|| {
        fails(wait4(-1, __WALL), ECHILD);
        ptrace(PTRACE_SEIZE, pid, 0, 0).expect("SEIZE");
        assert_eq!(wait4(-1, __WALL | WNOHANG), Ok((0, 0)));
        assert_eq!(wait4(pid, WNOHANG), Ok((0, 0)));
        ptrace(PTRACE_INTERRUPT, pid, 0, 0).expect("INTERRUPT");
        assert_eq!(wait4(-1, 0), Ok((pid, event_stop(SIGTRAP) << 8 | 0x7f)));
    });
    kill(pid);
}

fn an_ignored_end_waits_for_the_tracer() {
    crate::sys::on_signal_with(SIGCHLD, SIG_IGN, 0);
    let pid = traced(|| sys::exit_group(2));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 2);
    fails(wait4(pid, __WALL), ECHILD);
}

fn stops_send_the_tracer_a_signal() {
    let block = 1u64 << (SIGCHLD - 1);
    sys!(SYS_rt_sigprocmask, SIG_BLOCK, &raw const block, 0, 8).expect("a mask");
    let next = || {
        let mut info: siginfo_t = sys::zeroed();
        sys!(SYS_rt_sigtimedwait, &raw const block, &raw mut info, 0, 8).expect("SIGCHLD");
        // SAFETY: SIGCHLD's fields.
        unsafe { (info.si_code, info.si_pid(), info.si_status()) }
    };
    let pid = traced(raise_stop);
    assert_eq!(next(), (CLD_TRAPPED, pid, SIGSTOP));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(next(), (CLD_TRAPPED, pid, SIGSTOP));
    assert_eq!(stop_of(pid), SIGSTOP);
    go_on(PTRACE_CONT, pid, SIGSTOP);
    assert_eq!(next(), (CLD_STOPPED, pid, SIGSTOP), "the group's");
    assert_eq!(stop_of(pid), SIGSTOP);
    kill(pid);
}

fn a_parent_that_traces_is_told_once() {
    let pid = traced(|| sys::exit_group(1));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(wait4(-1, __WALL), Ok((pid, 1 << 8)));
    fails(wait4(-1, __WALL | WNOHANG), ECHILD);
}
