//! Tracees that were seized: they run on, are interrupted, and listen.

use super::*;
use crate::child::{state_of, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_seized_task_runs_on_until_it_is_interrupted,
    an_interrupted_call_goes_on,
    an_interrupt_in_a_stop_comes_after_it,
    a_stop_of_the_group_is_an_event,
    who_listens_stays_stopped_until_the_group_goes_on,
    a_listening_tracee_answers_nothing_but_an_interrupt,
    attaching_to_a_stopped_process_is_an_event,
    a_child_of_a_seized_task_begins_with_an_event,
    an_exec_of_a_seized_task_is_no_trap,
];

fn seized(body: impl FnOnce(), options: i32) -> i32 {
    let pid = child(body);
    ptrace(PTRACE_SEIZE, pid, 0, options as usize).expect("SEIZE");
    pid
}

#[track_caller]
fn interrupt(pid: i32) {
    ptrace(PTRACE_INTERRUPT, pid, 0, 0).expect("INTERRUPT");
}

fn a_seized_task_runs_on_until_it_is_interrupted() {
    let pid = seized(pause, 0);
    until_asleep(pid);
    assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)));
    interrupt(pid);
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    assert_eq!(info(pid), Ok((SIGTRAP, event_stop(SIGTRAP))));
    go_on(PTRACE_CONT, pid, 0);
    until_asleep(pid);
    sys::kill(pid, SIGUSR1).expect("SIGUSR1");
    assert_eq!(stop_of(pid), SIGUSR1);
    // A busy one, too.
    let busy = seized(
        || loop {
            std::hint::spin_loop();
        },
        0,
    );
    interrupt(busy);
    assert_eq!(stop_of(busy), event_stop(SIGTRAP));
    kill(busy);
    kill(pid);
}

fn an_interrupted_call_goes_on() {
    let (read, write) = sys::pipe().expect("a pipe");
    let pid = seized(
        || {
            let mut byte = [0];
            assert_eq!(sys::read(read, &mut byte), Ok(1));
        },
        0,
    );
    for _ in 0..3 {
        until_asleep(pid);
        interrupt(pid);
        assert_eq!(stop_of(pid), event_stop(SIGTRAP));
        go_on(PTRACE_CONT, pid, 0);
    }
    sys::write(write, b"x").expect("write");
    assert_eq!(end_of(pid), 0);
}

fn an_interrupt_in_a_stop_comes_after_it() {
    let pid = seized(pause, 0);
    until_asleep(pid);
    sys::kill(pid, SIGUSR1).expect("SIGUSR1");
    assert_eq!(stop_of(pid), SIGUSR1);
    interrupt(pid);
    interrupt(pid);
    assert!(info(pid).is_ok(), "it stands in the same stop");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    go_on(PTRACE_CONT, pid, 0);
    until_asleep(pid);
    assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)), "once");
    kill(pid);
}

/// Stops the tracee's process by `signal`, up to the event.
#[track_caller]
fn stop_group(pid: i32, signal: i32) {
    sys::kill(pid, signal).expect("a stop signal");
    assert_eq!(stop_of(pid), signal);
    go_on(PTRACE_CONT, pid, signal);
    assert_eq!(stop_of(pid), event_stop(signal));
}

fn a_stop_of_the_group_is_an_event() {
    let pid = seized(pause, 0);
    until_asleep(pid);
    stop_group(pid, SIGTSTP);
    assert_eq!(info(pid), Ok((SIGTSTP, event_stop(SIGTSTP))));
    // Let go on it runs, and its group goes on by SIGCONT, of which it tells.
    go_on(PTRACE_CONT, pid, 0);
    until_asleep(pid);
    sys::kill(pid, SIGCONT).expect("SIGCONT");
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGCONT);
    kill(pid);
}

fn who_listens_stays_stopped_until_the_group_goes_on() {
    let pid = seized(pause, 0);
    until_asleep(pid);
    stop_group(pid, SIGSTOP);
    ptrace(PTRACE_LISTEN, pid, 0, 0).expect("LISTEN");
    assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)));
    assert!(matches!(state_of(pid), Some('t' | 'T')));
    sys::kill(pid, SIGCONT).expect("SIGCONT");
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGCONT);
    go_on(PTRACE_CONT, pid, SIGCONT);
    until_asleep(pid);
    kill(pid);
}

fn a_listening_tracee_answers_nothing_but_an_interrupt() {
    let pid = seized(pause, 0);
    until_asleep(pid);
    fails(ptrace(PTRACE_LISTEN, pid, 0, 0), ESRCH);
    interrupt(pid);
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    ptrace(PTRACE_LISTEN, pid, 0, 0).expect("LISTEN");
    for request in [PTRACE_CONT, PTRACE_GETREGS, PTRACE_LISTEN, PTRACE_DETACH] {
        fails(ptrace(request, pid, 0, 0), ESRCH);
    }
    interrupt(pid);
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    ptrace(PTRACE_LISTEN, pid, 0, 0).expect("LISTEN");
    sys::kill(pid, SIGKILL).expect("SIGKILL");
    assert_eq!(end_of(pid), 128 + SIGKILL);
}

fn attaching_to_a_stopped_process_is_an_event() {
    let pid = child(|| {
        raise_stop();
        pause();
    });
    wait4(pid, WUNTRACED).expect("a stop");
    ptrace(PTRACE_SEIZE, pid, 0, 0).expect("SEIZE");
    let (_, status) = wait4(pid, __WALL | WNOHANG).expect("at once");
    assert_eq!(status, event_stop(SIGSTOP) << 8 | 0x7f);
    ptrace(PTRACE_LISTEN, pid, 0, 0).expect("LISTEN");
    sys::kill(pid, SIGCONT).expect("SIGCONT");
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    go_on(PTRACE_DETACH, pid, 0);
    until_asleep(pid);
    sys::kill(pid, SIGTERM).expect("SIGTERM");
    assert_eq!(end_of(pid), 128 + SIGTERM);
}

fn a_child_of_a_seized_task_begins_with_an_event() {
    let steps = crate::child::Steps::new();
    let pid = seized(
        || {
            steps.await_(1);
            let child = child(|| {});
            assert_eq!(crate::child::join(child), 0);
        },
        PTRACE_O_TRACEFORK,
    );
    steps.reach(1);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_FORK));
    let child = message(pid) as i32;
    assert_eq!(stop_of(child), event_stop(SIGTRAP));
    go_on(PTRACE_CONT, child, 0);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(child), 0);
    assert_eq!(stop_of(pid), SIGCHLD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn an_exec_of_a_seized_task_is_no_trap() {
    let steps = crate::child::Steps::new();
    let pid = seized(
        || {
            steps.await_(1);
            crate::helper::exec(&["exit", "6"]);
        },
        0,
    );
    steps.reach(1);
    assert_eq!(end_of(pid), 6);
}
