//! Stops of a tracee's process, of those that were attached to.

use super::*;
use crate::child::{state_of, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_stop_of_the_group_follows_the_signal,
    a_continued_tracee_runs_in_its_stopped_group,
    attaching_to_a_stopped_process_finds_it_stopped,
    detaching_leaves_a_stopped_process_stopped,
    a_parent_hears_of_its_childs_stop_through_a_tracer,
    a_continuing_signal_stops_a_tracee_as_others_do,
];

fn a_stop_of_the_group_follows_the_signal() {
    let pid = traced(pause);
    go_on(PTRACE_CONT, pid, SIGSTOP);
    assert_eq!(stop_of(pid), SIGSTOP, "the group's stop");
    fails(ptrace(PTRACE_GETSIGINFO, pid, 0, 0), EINVAL);
    assert_eq!(state_of(pid), Some('t'));
    fails(ptrace(PTRACE_LISTEN, pid, 0, 0), EIO);
    kill(pid);
}

fn a_continued_tracee_runs_in_its_stopped_group() {
    let pid = traced(pause);
    go_on(PTRACE_CONT, pid, SIGSTOP);
    assert_eq!(stop_of(pid), SIGSTOP);
    go_on(PTRACE_CONT, pid, 0);
    until_asleep(pid);
    sys::kill(pid, SIGTSTP).expect("SIGTSTP");
    assert_eq!(stop_of(pid), SIGTSTP);
    assert!(info(pid).is_ok(), "a signal");
    go_on(PTRACE_CONT, pid, SIGTSTP);
    assert_eq!(stop_of(pid), SIGTSTP);
    assert!(info(pid).is_err(), "the group");
    kill(pid);
}

fn attaching_to_a_stopped_process_finds_it_stopped() {
    let pid = child(|| {
        raise_stop();
        pause();
    });
    let (_, status) = wait4(pid, WUNTRACED).expect("a stop");
    assert_eq!(status, SIGSTOP << 8 | 0x7f);
    ptrace(PTRACE_ATTACH, pid, 0, 0).expect("ATTACH");
    // At once.
    let (_, status) = wait4(pid, __WALL | WNOHANG).expect("wait");
    assert_eq!(status, SIGSTOP << 8 | 0x7f);
    assert_eq!(state_of(pid), Some('t'));
    kill(pid);
}

fn detaching_leaves_a_stopped_process_stopped() {
    let pid = traced(pause);
    go_on(PTRACE_CONT, pid, SIGSTOP);
    assert_eq!(stop_of(pid), SIGSTOP);
    go_on(PTRACE_DETACH, pid, 0);
    while state_of(pid) != Some('T') {
        std::thread::yield_now();
    }
    sys::kill(pid, SIGCONT).expect("SIGCONT");
    until_asleep(pid);
    sys::kill(pid, SIGTERM).expect("SIGTERM");
    assert_eq!(end_of(pid), 128 + SIGTERM);
}

fn a_parent_hears_of_its_childs_stop_through_a_tracer() {
    let pid = child(pause);
    until_asleep(pid);
    let steps = crate::child::Steps::new();
    let tracer = child(|| {
        ptrace(PTRACE_ATTACH, pid, 0, 0).expect("ATTACH");
        assert_eq!(stop_of(pid), SIGSTOP);
        steps.reach(1);
        steps.await_(2);
        go_on(PTRACE_CONT, pid, SIGSTOP);
        assert_eq!(stop_of(pid), SIGSTOP);
        steps.await_(3);
        go_on(PTRACE_CONT, pid, 0);
        sys::kill(pid, SIGKILL).expect("SIGKILL");
        assert_eq!(end_of(pid), 128 + SIGKILL);
        steps.await_(4);
    });
    steps.await_(1);
    assert_eq!(wait4(pid, WUNTRACED | WNOHANG), Ok((0, 0)), "that stop is the tracer's");
    steps.reach(2);
    let (_, status) = wait4(pid, WUNTRACED).expect("the group's");
    assert_eq!(status, SIGSTOP << 8 | 0x7f);
    steps.reach(3);
    assert_eq!(end_of(pid), 128 + SIGKILL, "when the tracer has seen it");
    steps.reach(4);
    assert_eq!(crate::child::join(tracer), 0);
}

fn a_continuing_signal_stops_a_tracee_as_others_do() {
    let pid = traced(pause);
    go_on(PTRACE_CONT, pid, SIGSTOP);
    assert_eq!(stop_of(pid), SIGSTOP);
    sys::kill(pid, SIGCONT).expect("SIGCONT");
    assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)), "the stop is the tracer's to end");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGCONT);
    kill(pid);
}
