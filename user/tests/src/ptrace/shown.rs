//! Tracees in /proc.

use super::*;
use crate::child::state_of;
use crate::harness::{Test, tests};

pub const TESTS: &[Test] = tests![
    a_tracer_is_named,
    a_stopped_tracee_is_shown_as_one,
    the_call_in_which_a_tracee_stands_is_shown,
];

fn status(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the line");
    line[name.len()..].trim_start_matches(':').trim().to_string()
}

fn a_tracer_is_named() {
    let pid = child(pause);
    assert_eq!(status(pid, "TracerPid"), "0");
    ptrace(PTRACE_SEIZE, pid, 0, 0).expect("SEIZE");
    assert_eq!(status(pid, "TracerPid"), sys::getpid().to_string());
    ptrace(PTRACE_INTERRUPT, pid, 0, 0).expect("INTERRUPT");
    stop_of(pid);
    go_on(PTRACE_DETACH, pid, 0);
    assert_eq!(status(pid, "TracerPid"), "0");
    kill(pid);
}

fn a_stopped_tracee_is_shown_as_one() {
    let pid = traced(pause);
    assert_eq!(state_of(pid), Some('t'));
    assert_eq!(status(pid, "State"), "t (tracing stop)");
    go_on(PTRACE_CONT, pid, 0);
    crate::child::until_asleep(pid);
    assert_eq!(state_of(pid), Some('S'));
    kill(pid);
}

fn the_call_in_which_a_tracee_stands_is_shown() {
    let pid = traced(|| {
        let _ = sys!(SYS_lseek, 77, 88, 99);
    });
    set_options(pid, PTRACE_O_TRACESYSGOOD);
    loop {
        go_on(PTRACE_SYSCALL, pid, 0);
        assert_eq!(stop_of(pid), CALL);
        if regs(pid).orig_rax == SYS_lseek as u64 {
            break;
        }
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).expect("syscall");
    assert!(text.starts_with(&format!("{SYS_lseek} 0x4d 0x58 0x63 ")), "{text}");
    kill(pid);
}
