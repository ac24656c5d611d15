//! Stops at the begin and the end of system calls.

use super::*;
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    each_call_stops_at_its_begin_and_its_end,
    a_call_is_told_of_as_a_structure,
    number_and_arguments_are_changed_by_the_tracer,
    a_skipped_call_gives_what_the_tracer_says,
    a_call_that_is_emulated_is_not_made,
    an_interrupted_call_is_seen_to_be_restarted,
    a_signal_at_a_call_is_sent,
    calls_without_the_kernels_help_stop_too,
    a_call_that_is_not_there_stops_too,
];

#[track_caller]
fn next_call(pid: i32) -> user_regs_struct {
    go_on(PTRACE_SYSCALL, pid, 0);
    assert_eq!(stop_of(pid), CALL);
    regs(pid)
}

/// A tracee that marks its stops at calls, about to run `body`.
fn marked(body: impl FnOnce()) -> i32 {
    let pid = traced(body);
    set_options(pid, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    // What is left of the kill that stopped it.
    pid
}

const ENOSYS_NOW: u64 = -(ENOSYS as i64) as u64;

/// The first stop at `number`'s begin.
#[track_caller]
fn until(pid: i32, number: i64) -> user_regs_struct {
    for _ in 0..100 {
        let now = next_call(pid);
        if now.orig_rax == number as u64 && now.rax == ENOSYS_NOW {
            return now;
        }
    }
    panic!("call {number} does not come");
}

fn each_call_stops_at_its_begin_and_its_end() {
    let pid = marked(|| {
        let _ = sys!(SYS_lseek, 1234, 5678, 9);
        sys::exit_group(3);
    });
    let begin = until(pid, SYS_lseek);
    assert_eq!((begin.rdi, begin.rsi, begin.rdx), (1234, 5678, 9));
    assert_eq!(message(pid), 1);
    assert_eq!(info(pid), Ok((SIGTRAP, SIGTRAP | 0x80)));
    let end = next_call(pid);
    assert_eq!((end.orig_rax, end.rax as i64), (SYS_lseek as u64, -i64::from(EBADF)));
    assert_eq!(message(pid), 2);
    assert_eq!(end.rip, begin.rip);
    let exit = until(pid, SYS_exit_group);
    assert_eq!(exit.rdi, 3);
    go_on(PTRACE_SYSCALL, pid, 0);
    assert_eq!(end_of(pid), 3);
}

fn call_info(pid: i32, room: usize) -> (usize, [u64; 11]) {
    let mut words = [0u64; 11];
    let at = words.as_mut_ptr().expose_provenance();
    let size = ptrace(GET_SYSCALL_INFO, pid, room, at).expect("GET_SYSCALL_INFO");
    (size, words)
}

fn a_call_is_told_of_as_a_structure() {
    const ARCH: u64 = 0xc000_003e;
    let pid = marked(|| {
        let _ = sys!(SYS_lseek, 1234, 5678, 9, 10, 11, 12);
        let _ = sys!(SYS_umask, 0);
    });
    let (size, words) = call_info(pid, 88);
    assert_eq!((size, words[0]), (24, ARCH << 32), "in no call");
    assert_eq!((words[1], words[2]), (regs(pid).rip, regs(pid).rsp));
    until(pid, SYS_lseek);
    let (size, words) = call_info(pid, 88);
    assert_eq!((size, words[0]), (80, 1 | ARCH << 32));
    assert_eq!(words[3..10], [SYS_lseek as u64, 1234, 5678, 9, 10, 11, 12]);
    let (size, words) = call_info(pid, 32);
    assert_eq!((size, words[3], words[4]), (80, SYS_lseek as u64, 0), "as far as there is room");
    next_call(pid);
    let (size, words) = call_info(pid, 88);
    assert_eq!((size, words[0]), (33, 2 | ARCH << 32));
    assert_eq!((words[3] as i64, words[4]), (-i64::from(EBADF), 1));
    until(pid, SYS_umask);
    next_call(pid);
    let (_, words) = call_info(pid, 88);
    assert_eq!((words[3], words[4]), (0o22, 0));
    kill(pid);
}

fn number_and_arguments_are_changed_by_the_tracer() {
    let pid = marked(|| {
        // As if it were umask(0o77).
        assert_eq!(sys!(SYS_lseek, 1, 2, 3), Ok(0o22));
        assert_eq!(sys!(SYS_umask, 0), Ok(0o77));
        assert_eq!(sys!(SYS_umask, 0), Ok(1000), "the result is the tracer's, too");
    });
    let mut now = until(pid, SYS_lseek);
    now.orig_rax = SYS_umask as u64;
    now.rdi = 0o77;
    set_regs(pid, &now).expect("another call");
    let now = next_call(pid);
    assert_eq!((now.orig_rax, now.rax), (SYS_umask as u64, 0o22));
    until(pid, SYS_umask);
    next_call(pid);
    until(pid, SYS_umask);
    let mut now = next_call(pid);
    now.rax = 1000;
    set_regs(pid, &now).expect("another result");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_skipped_call_gives_what_the_tracer_says() {
    let pid = marked(|| {
        fails(sys!(SYS_umask, 0o11), ENOSYS);
        assert_eq!(sys!(SYS_umask, 0o12), Ok(4321));
        assert_eq!(sys!(SYS_umask, 0o13), Ok(0o22), "neither was made");
    });
    let mut now = until(pid, SYS_umask);
    now.orig_rax = u64::MAX;
    set_regs(pid, &now).expect("no call");
    let end = next_call(pid);
    assert_eq!(end.rax, ENOSYS_NOW, "it has an end all the same");
    let mut now = until(pid, SYS_umask);
    now.orig_rax = u64::MAX;
    now.rax = 4321;
    set_regs(pid, &now).expect("no call");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_call_that_is_emulated_is_not_made() {
    let pid = marked(|| {
        assert_eq!(sys!(SYS_umask, 0o11), Ok(99));
        assert_eq!(sys!(SYS_umask, 0o13), Ok(0o22));
    });
    let mut now;
    loop {
        go_on(PTRACE_SYSEMU, pid, 0);
        assert_eq!(stop_of(pid), CALL);
        now = regs(pid);
        if now.orig_rax == SYS_umask as u64 {
            break;
        }
    }
    now.rax = 99;
    set_regs(pid, &now).expect("a result");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn an_interrupted_call_is_seen_to_be_restarted() {
    extern "C" fn nothing(_: i32) {}
    const ERESTARTSYS: i64 = 512;
    let (read, write) = sys::pipe().expect("a pipe");
    let pid = marked(|| {
        crate::sys::on_signal_with(SIGUSR1, nothing as *const () as usize, SA_RESTART);
        let mut byte = [0];
        assert_eq!(sys::read(read, &mut byte), Ok(1));
    });
    until(pid, SYS_read);
    go_on(PTRACE_SYSCALL, pid, 0);
    crate::child::until_asleep(pid);
    sys::kill(pid, SIGUSR1).expect("SIGUSR1");
    assert_eq!(stop_of(pid), CALL);
    assert_eq!(regs(pid).rax as i64, -ERESTARTSYS);
    go_on(PTRACE_SYSCALL, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_SYSCALL, pid, SIGUSR1);
    assert_eq!(stop_of(pid), CALL);
    assert_eq!(regs(pid).orig_rax, SYS_rt_sigreturn as u64);
    next_call(pid);
    let again = next_call(pid);
    assert_eq!((again.orig_rax, again.rax), (SYS_read as u64, ENOSYS_NOW));
    sys::write(write, b"x").expect("write");
    let end = next_call(pid);
    assert_eq!((end.orig_rax, end.rax), (SYS_read as u64, 1));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_signal_at_a_call_is_sent() {
    let pid = marked(|| {
        sys!(SYS_umask, 0o22).expect("umask");
        pause();
    });
    until(pid, SYS_umask);
    go_on(PTRACE_SYSCALL, pid, SIGUSR1);
    assert_eq!(stop_of(pid), CALL);
    go_on(PTRACE_SYSCALL, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1, "after the call");
    assert_eq!(info(pid), Ok((SIGUSR1, 0x80)));
    go_on(PTRACE_CONT, pid, SIGUSR1);
    assert_eq!(end_of(pid), 128 + SIGUSR1);
}

fn calls_without_the_kernels_help_stop_too() {
    let pid = marked(|| {
        for call in [SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_getcpu] {
            let _ = sys!(call, 0, 0, 0);
        }
    });
    for call in [SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_getcpu] {
        let begin = until(pid, call);
        assert_eq!(begin.orig_rax, call as u64);
        let end = next_call(pid);
        assert_eq!(end.orig_rax, call as u64);
        if call == SYS_getpid {
            assert_eq!(end.rax as i32, pid);
        }
    }
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_call_that_is_not_there_stops_too() {
    let pid = marked(|| {
        for call in [4000i64, -1, -38, 1 << 20] {
            fails(sys!(call), ENOSYS);
        }
    });
    until(pid, 4000);
    let end = next_call(pid);
    assert_eq!((end.orig_rax, end.rax), (4000, ENOSYS_NOW));
    let begin = next_call(pid);
    assert_eq!(begin.orig_rax, u64::MAX);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}
