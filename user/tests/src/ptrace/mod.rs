//! ptrace(2): tracers and tracees, in all the stops that there are.

mod calls;
mod debug;
mod events;
mod groups;
mod hostile;
mod memory;
mod permission;
mod registers;
mod seized;
mod shown;
mod signals;
mod threads;
mod waiting;

use libc::*;

use crate::harness::Test;
use crate::sys::{self, Result, sys};

pub const GROUPS: &[&[Test]] = &[
    signals::TESTS,
    memory::TESTS,
    registers::TESTS,
    calls::TESTS,
    events::TESTS,
    groups::TESTS,
    seized::TESTS,
    threads::TESTS,
    waiting::TESTS,
    permission::TESTS,
    shown::TESTS,
    debug::TESTS,
    hostile::TESTS,
];

/// The raw call.
fn ptrace(request: i32, tid: i32, addr: usize, data: usize) -> Result<usize> {
    sys!(SYS_ptrace, request, tid, addr, data)
}

/// The status of `tid` with `options`: 0 when WNOHANG finds nothing.
fn wait4(tid: i32, options: i32) -> Result<(i32, i32)> {
    let mut status = 0i32;
    sys!(SYS_wait4, tid, &raw mut status, options, 0).map(|pid| (pid as i32, status))
}

/// Waits until `tid` stops: the code of the stop (signal, and event times 256).
#[track_caller]
fn stop_of(tid: i32) -> i32 {
    let (_, status) = wait4(tid, __WALL).expect("a stop");
    assert!(WIFSTOPPED(status), "status {status:#x} instead of a stop");
    status >> 8
}

/// Waits until `tid` ends: its exit code, or 128 and the signal that ended it.
#[track_caller]
fn end_of(tid: i32) -> i32 {
    let (_, status) = wait4(tid, __WALL).expect("an end");
    assert!(!WIFSTOPPED(status), "status {status:#x} instead of an end");
    if WIFSIGNALED(status) { 128 + WTERMSIG(status) } else { WEXITSTATUS(status) }
}

#[track_caller]
fn go_on(request: i32, tid: i32, signal: i32) {
    ptrace(request, tid, 0, signal as usize).expect("the tracee goes on");
}

#[track_caller]
fn set_options(tid: i32, options: i32) {
    ptrace(PTRACE_SETOPTIONS, tid, 0, options as usize).expect("options");
}

/// A child that asks to be traced, stops by SIGSTOP, which was waited for, and then runs `body`.
#[track_caller]
fn traced(body: impl FnOnce()) -> i32 {
    let pid = crate::child::spawn(|| {
        ptrace(PTRACE_TRACEME, 0, 0, 0).expect("TRACEME");
        raise_stop();
        body();
    });
    assert_eq!(stop_of(pid), SIGSTOP);
    pid
}

/// A child that nobody traces, and that runs `body` once it is let.
fn child(body: impl FnOnce()) -> i32 {
    crate::child::spawn(body)
}

fn raise_stop() {
    sys::kill(sys::getpid(), SIGSTOP).expect("SIGSTOP");
}

/// Sleeps for ever.
fn pause() {
    let _ = sys!(SYS_pause);
}

#[track_caller]
fn regs(tid: i32) -> user_regs_struct {
    let mut regs: user_regs_struct = sys::zeroed();
    ptrace(PTRACE_GETREGS, tid, 0, (&raw mut regs).expose_provenance()).expect("GETREGS");
    regs
}

fn set_regs(tid: i32, regs: &user_regs_struct) -> Result<usize> {
    ptrace(PTRACE_SETREGS, tid, 0, (&raw const *regs).expose_provenance())
}

#[track_caller]
fn message(tid: i32) -> u64 {
    let mut message = 0u64;
    ptrace(PTRACE_GETEVENTMSG, tid, 0, (&raw mut message).expose_provenance()).expect("message");
    message
}

/// `si_signo` and `si_code` of the stop.
fn info(tid: i32) -> Result<(i32, i32)> {
    let info = whole_info(tid)?;
    Ok((info.si_signo, info.si_code))
}

fn whole_info(tid: i32) -> Result<siginfo_t> {
    let mut info: siginfo_t = sys::zeroed();
    ptrace(PTRACE_GETSIGINFO, tid, 0, (&raw mut info).expose_provenance()).map(|_| info)
}

/// Kills what is left of a test.
fn kill(pid: i32) {
    let _ = sys::kill(pid, SIGKILL);
    while let Ok((_, status)) = wait4(pid, __WALL) {
        if !WIFSTOPPED(status) {
            break;
        }
        let _ = ptrace(PTRACE_CONT, pid, 0, 0);
    }
}

/// Code of PTRACE_EVENT_STOP with `signal`.
const fn event_stop(signal: i32) -> i32 {
    signal | PTRACE_EVENT_STOP << 8
}

/// Code of another event.
const fn event(event: i32) -> i32 {
    SIGTRAP | event << 8
}

/// A stop at a system call with PTRACE_O_TRACESYSGOOD.
const CALL: i32 = SIGTRAP | 0x80;

const GET_SYSCALL_INFO: i32 = 0x420e;
const GETSIGMASK: i32 = 0x420a;
const SETSIGMASK: i32 = 0x420b;
