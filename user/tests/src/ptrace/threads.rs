//! Threads, as tracees and as tracers.

use super::*;
use crate::child::Steps;
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    one_thread_of_many_is_traced,
    a_threads_end_is_told_and_a_processes_comes_last,
    only_the_attaching_thread_asks,
    any_thread_of_the_tracer_waits,
    a_tracing_threads_end_lets_go,
    an_exec_by_another_thread_takes_the_first_ones_place,
    own_threads_are_not_traced,
];

/// A child with a second thread, whose id it tells in a word; both sleep until they are killed.
fn two_threads() -> (i32, i32) {
    let told = crate::memory::map_shared(1);
    let word = crate::memory::word(told);
    let steps = Steps::new();
    let pid = child(|| {
        std::thread::spawn(move || {
            crate::memory::word(told)
                .store(sys::gettid() as u32, std::sync::atomic::Ordering::SeqCst);
            steps.reach(1);
            pause();
        });
        pause();
    });
    steps.await_(1);
    let tid = word.load(std::sync::atomic::Ordering::SeqCst) as i32;
    crate::child::until_asleep(pid);
    (pid, tid)
}

fn one_thread_of_many_is_traced() {
    let (pid, tid) = two_threads();
    ptrace(PTRACE_SEIZE, tid, 0, 0).expect("SEIZE");
    ptrace(PTRACE_INTERRUPT, tid, 0, 0).expect("INTERRUPT");
    assert_eq!(stop_of(tid), event_stop(SIGTRAP));
    assert_eq!(crate::child::state_of(pid), Some('S'), "the other one is left alone");
    assert_eq!(wait4(tid, __WALL | WNOHANG), Ok((0, 0)));
    sys::kill(pid, SIGKILL).expect("SIGKILL");
    assert_eq!(end_of(tid), 128 + SIGKILL);
    assert_eq!(end_of(pid), 128 + SIGKILL);
}

fn a_threads_end_is_told_and_a_processes_comes_last() {
    let (pid, tid) = two_threads();
    ptrace(PTRACE_SEIZE, tid, 0, 0).expect("SEIZE");
    sys::kill(pid, SIGTERM).expect("SIGTERM");
    // The traced thread is not the one that takes it; the end is everybody's.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(wait4(pid, WNOHANG), Ok((0, 0)), "not before its thread's end was seen");
    assert_eq!(end_of(tid), 128 + SIGTERM);
    assert_eq!(end_of(pid), 128 + SIGTERM);
    fails(wait4(tid, __WALL), ECHILD);
}

fn only_the_attaching_thread_asks() {
    let pid = traced(pause);
    std::thread::spawn(move || {
        fails(ptrace(PTRACE_CONT, pid, 0, 0), ESRCH);
        fails(ptrace(PTRACE_GETREGS, pid, 0, 0), ESRCH);
        fails(ptrace(PTRACE_DETACH, pid, 0, 0), ESRCH);
        fails(ptrace(PTRACE_KILL, pid, 0, 0), ESRCH);
        fails(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
    })
    .join()
    .expect("the other thread");
    kill(pid);
}

fn any_thread_of_the_tracer_waits() {
    let pid = traced(|| {
        raise_stop();
        pause();
    });
    go_on(PTRACE_CONT, pid, 0);
    std::thread::spawn(move || {
        fails(wait4(pid, __WALL | __WNOTHREAD), ECHILD);
        assert_eq!(stop_of(pid), SIGSTOP);
    })
    .join()
    .expect("the other thread");
    assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)), "it is reported once");
    assert_eq!(info(pid), Ok((SIGSTOP, SI_USER)));
    kill(pid);
}

fn a_tracing_threads_end_lets_go() {
    let pid = child(pause);
    crate::child::until_asleep(pid);
    std::thread::spawn(move || {
        ptrace(PTRACE_ATTACH, pid, 0, 0).expect("ATTACH");
        assert_eq!(stop_of(pid), SIGSTOP);
    })
    .join()
    .expect("the other thread");
    // Its end may be a little later than what join waits for.
    while ptrace(PTRACE_SEIZE, pid, 0, 0).is_err() {
        std::thread::yield_now();
    }
    ptrace(PTRACE_INTERRUPT, pid, 0, 0).expect("INTERRUPT");
    assert_eq!(stop_of(pid), event_stop(SIGTRAP));
    kill(pid);
}

fn an_exec_by_another_thread_takes_the_first_ones_place() {
    let pid = traced(|| {
        std::thread::spawn(|| {
            crate::helper::exec(&["exit", "5"]);
        });
        loop {
            pause();
        }
    });
    set_options(pid, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_CLONE));
    let tid = message(pid) as i32;
    assert_eq!(stop_of(tid), SIGSTOP);
    go_on(PTRACE_CONT, pid, 0);
    go_on(PTRACE_CONT, tid, 0);
    assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXEC));
    assert_eq!(message(pid) as i32, tid, "who it was before");
    fails(wait4(tid, __WALL | WNOHANG), ECHILD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 5);
}

fn own_threads_are_not_traced() {
    let steps = Steps::new();
    let tid = std::sync::Arc::new(std::sync::atomic::AtomicI32::new(0));
    let told = tid.clone();
    std::thread::spawn(move || {
        told.store(sys::gettid(), std::sync::atomic::Ordering::SeqCst);
        steps.reach(1);
        pause();
    });
    steps.await_(1);
    let tid = tid.load(std::sync::atomic::Ordering::SeqCst);
    for request in [PTRACE_ATTACH, PTRACE_SEIZE] {
        fails(ptrace(request, tid, 0, 0), EPERM);
        fails(ptrace(request, sys::gettid(), 0, 0), EPERM);
    }
}
