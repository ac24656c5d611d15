//! Stops for events: children, execs, ends.

use super::*;
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_forked_child_is_traced_from_its_birth,
    a_vfork_is_told_at_its_begin_and_its_end,
    a_clone_with_another_signal_is_a_clone,
    a_thread_is_traced_from_its_birth,
    children_may_ask_for_tracing_or_not,
    an_exec_is_told,
    an_exec_without_the_option_is_a_trap,
    an_exec_is_seen_as_a_call,
    an_end_is_told_while_everything_is_there,
    an_end_by_a_kill_is_told,
    options_are_refused,
];

fn exec_true() -> ! {
    crate::helper::exec(&["exit", "5"]);
    sys::exit_group(99)
}

fn a_forked_child_is_traced_from_its_birth() {
    let pid = traced(|| {
        let child = child(|| sys::exit_group(9));
        assert_eq!(crate::child::join(child), 9);
    });
    set_options(pid, PTRACE_O_TRACEFORK);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_FORK));
    assert_eq!(info(pid), Ok((SIGTRAP, event(PTRACE_EVENT_FORK))));
    let child = message(pid) as i32;
    assert_eq!(stop_of(child), SIGSTOP);
    assert_eq!(regs(child).rax, 0);
    go_on(PTRACE_CONT, pid, 0);
    go_on(PTRACE_CONT, child, 0);
    // The real parent reaps it when the tracer has seen its end.
    assert_eq!(end_of(child), 9);
    assert_eq!(stop_of(pid), SIGCHLD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_vfork_is_told_at_its_begin_and_its_end() {
    let pid = traced(|| {
        let flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
        let stack = crate::memory::map(16);
        // SAFETY: the child runs on a stack of its own and ends at once.
        let child = unsafe { vfork_on(stack + 16 * 4096, flags) };
        assert_eq!(crate::child::join(child), 4);
    });
    set_options(pid, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_VFORK));
    let child = message(pid) as i32;
    assert_eq!(stop_of(child), SIGSTOP);
    go_on(PTRACE_CONT, pid, 0);
    // Linux does not say sleeping here, but waiting for a disk.
    while !matches!(crate::child::state_of(pid), Some('S' | 'D')) {
        std::thread::yield_now();
    }
    assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)), "its child lives");
    go_on(PTRACE_CONT, child, 0);
    assert_eq!(end_of(child), 4);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_VFORK_DONE));
    assert_eq!(message(pid) as i32, child);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGCHLD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

/// clone(2) of a child that ends with code 4.
///
/// # Safety
/// `stack` is the top of memory that nobody else uses.
unsafe fn vfork_on(stack: usize, flags: i32) -> i32 {
    extern "C" fn end(_: *mut c_void) -> i32 {
        4
    }
    // SAFETY: the caller's promise.
    unsafe {
        libc::clone(end, std::ptr::with_exposed_provenance_mut(stack), flags, std::ptr::null_mut())
    }
}

fn a_clone_with_another_signal_is_a_clone() {
    let pid = traced(|| {
        let child = sys!(SYS_clone, SIGUSR2, 0, 0, 0, 0).expect("clone");
        if child == 0 {
            sys::exit_group(0);
        }
        let _ = sys!(SYS_wait4, child, 0, __WALL, 0);
    });
    set_options(pid, PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_CLONE));
    let child = message(pid) as i32;
    assert_eq!(stop_of(child), SIGSTOP);
    go_on(PTRACE_CONT, child, 0);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(child), 0);
    assert_eq!(stop_of(pid), SIGUSR2);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_thread_is_traced_from_its_birth() {
    let pid = traced(|| {
        let thread = std::thread::spawn(sys::gettid);
        thread.join().expect("the thread");
    });
    set_options(pid, PTRACE_O_TRACECLONE);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_CLONE));
    let tid = message(pid) as i32;
    assert_eq!(stop_of(tid), SIGSTOP);
    go_on(PTRACE_CONT, tid, 0);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(tid), 0, "a thread's end is told to its tracer");
    assert_eq!(end_of(pid), 0);
}

fn children_may_ask_for_tracing_or_not() {
    let pid = traced(|| {
        let fork = |flags: i32| match sys!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0).expect("clone") {
            0 => sys::exit_group(0),
            child => child as i32,
        };
        assert_eq!(crate::child::join(fork(CLONE_UNTRACED)), 0);
        let _ = fork(CLONE_PTRACE);
        raise_stop();
    });
    set_options(pid, PTRACE_O_TRACEFORK);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGCHLD, "no event");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_FORK));
    let child = message(pid) as i32;
    assert_eq!(stop_of(child), SIGSTOP);
    kill(child);
    kill(pid);
}

fn an_exec_is_told() {
    let pid = traced(|| exec_true());
    set_options(pid, PTRACE_O_TRACEEXEC);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXEC));
    assert_eq!(message(pid) as i32, pid);
    let now = regs(pid);
    assert_eq!(now.orig_rax, SYS_execve as u64);
    assert_eq!((now.rbx, now.rax as i64), (0, -i64::from(ENOSYS)));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 5);
}

fn an_exec_without_the_option_is_a_trap() {
    let pid = traced(|| exec_true());
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    assert_eq!(info(pid), Ok((SIGTRAP, SI_USER)));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 5);
}

fn an_exec_is_seen_as_a_call() {
    let pid = traced(|| exec_true());
    set_options(pid, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD);
    let mut before = 0;
    loop {
        go_on(PTRACE_SYSCALL, pid, 0);
        let stop = stop_of(pid);
        if stop == event(PTRACE_EVENT_EXEC) {
            break;
        }
        assert_eq!(stop, CALL);
        before = regs(pid).orig_rax;
    }
    assert_eq!(before, SYS_execve as u64);
    go_on(PTRACE_SYSCALL, pid, 0);
    assert_eq!(stop_of(pid), CALL);
    assert_eq!((regs(pid).orig_rax, regs(pid).rax), (SYS_execve as u64, 0));
    assert_eq!(message(pid), 2);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 5);
}

fn an_end_is_told_while_everything_is_there() {
    let page = crate::memory::map(1);
    crate::memory::put(page, 6);
    let pid = traced(|| sys::exit_group(8));
    set_options(pid, PTRACE_O_TRACEEXIT);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXIT));
    assert_eq!(message(pid), 8 << 8);
    let mut value = 0u64;
    ptrace(PTRACE_PEEKDATA, pid, page, (&raw mut value).expose_provenance()).expect("memory");
    assert_eq!(value, 6);
    assert_eq!(regs(pid).orig_rax, SYS_exit_group as u64);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 8);
}

fn an_end_by_a_kill_is_told() {
    let pid = traced(pause);
    set_options(pid, PTRACE_O_TRACEEXIT);
    go_on(PTRACE_CONT, pid, 0);
    sys::kill(pid, SIGKILL).expect("SIGKILL");
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXIT));
    assert_eq!(message(pid), SIGKILL as u64);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 128 + SIGKILL);
}

fn options_are_refused() {
    let pid = traced(pause);
    for bad in [1 << 8, 1 << 22, usize::MAX] {
        fails(ptrace(PTRACE_SETOPTIONS, pid, 0, bad), EINVAL);
    }
    kill(pid);
    let other = child(pause);
    fails(ptrace(PTRACE_SEIZE, other, 1, 0), EIO);
    fails(ptrace(PTRACE_SEIZE, other, 0, 1 << 8), EIO);
    kill(other);
}
