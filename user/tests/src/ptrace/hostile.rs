//! Tracers and tracees that do not behave.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::child::{Steps, until_asleep};
use crate::harness::{Test, tests};
use crate::memory::{map_shared, word};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_tracers_end_lets_its_tracee_go_on_from_any_stop,
    a_tracers_end_leaves_a_stopped_process_stopped,
    a_signal_that_a_tracer_has_not_seen_comes_when_it_ends,
    a_tracee_may_end_with_its_tracer,
    a_killed_tracee_ends_in_any_stop,
    of_two_tracers_one_wins,
    a_tracee_that_ends_while_it_is_attached_to_harms_nobody,
    a_tracee_traces_another,
    stops_and_kills_race,
    dead_threads_that_nobody_sees_are_limited,
];

/// Makes a tracee stop in kind `n` of stop, or None behind the last kind.
fn stop_in(n: usize) -> Option<i32> {
    let pid = match n {
        0 => traced(|| sys::exit_group(3)),
        1 => {
            let pid = traced(|| sys::exit_group(3));
            go_on(PTRACE_SYSCALL, pid, 0);
            assert_eq!(stop_of(pid), SIGTRAP);
            pid
        }
        2 => {
            let pid = traced(|| {
                sys!(SYS_umask, 0).expect("umask");
                sys::exit_group(3);
            });
            for _ in 0..2 {
                go_on(PTRACE_SYSCALL, pid, 0);
                assert_eq!(stop_of(pid), SIGTRAP);
            }
            pid
        }
        3 => {
            let pid = traced(|| {
                crate::helper::exec(&["exit", "3"]);
            });
            set_options(pid, PTRACE_O_TRACEEXEC);
            go_on(PTRACE_CONT, pid, 0);
            assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXEC));
            pid
        }
        4 => {
            let pid = traced(|| sys::exit_group(3));
            set_options(pid, PTRACE_O_TRACEEXIT);
            go_on(PTRACE_CONT, pid, 0);
            assert_eq!(stop_of(pid), event(PTRACE_EVENT_EXIT));
            pid
        }
        5 => {
            let pid = traced(|| {
                child(|| {});
                sys::exit_group(3);
            });
            set_options(pid, PTRACE_O_TRACEFORK);
            go_on(PTRACE_CONT, pid, 0);
            assert_eq!(stop_of(pid), event(PTRACE_EVENT_FORK));
            // It would stop by the SIGSTOP that it is born with.
            sys::kill(message(pid) as i32, SIGKILL).expect("SIGKILL");
            pid
        }
        6 => {
            let steps = Steps::new();
            let pid = child(|| {
                steps.await_(1);
                sys::exit_group(3);
            });
            ptrace(PTRACE_SEIZE, pid, 0, 0).expect("SEIZE");
            ptrace(PTRACE_INTERRUPT, pid, 0, 0).expect("INTERRUPT");
            assert_eq!(stop_of(pid), event_stop(SIGTRAP));
            steps.reach(1);
            pid
        }
        _ => return None,
    };
    Some(pid)
}

/// What a tracer in kind `n` of stop leaves behind when it ends: how its tracee ended.
fn abandoned(n: usize) -> Option<i32> {
    let told = map_shared(1);
    sys!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).expect("a subreaper");
    let code = crate::child::end_of(|| match stop_in(n) {
        Some(pid) => word(told).store(pid as u32, SeqCst),
        None => sys::exit_group(1),
    });
    if code != 0 {
        assert_eq!(code, 1);
        return None;
    }
    Some(crate::child::join(word(told).load(SeqCst) as i32))
}

fn a_tracers_end_lets_its_tracee_go_on_from_any_stop() {
    for n in 0.. {
        match abandoned(n) {
            Some(code) => assert_eq!(code, 3, "kind {n}"),
            None => return assert!(n > 5),
        }
    }
}

fn a_tracers_end_leaves_a_stopped_process_stopped() {
    let told = map_shared(1);
    sys!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).expect("a subreaper");
    crate::child::run(|| {
        let pid = traced(pause);
        go_on(PTRACE_CONT, pid, SIGSTOP);
        assert_eq!(stop_of(pid), SIGSTOP);
        word(told).store(pid as u32, SeqCst);
    });
    let pid = word(told).load(SeqCst) as i32;
    while crate::child::state_of(pid) != Some('T') {
        std::thread::yield_now();
    }
    kill(pid);
}

fn a_signal_that_a_tracer_has_not_seen_comes_when_it_ends() {
    let told = map_shared(1);
    sys!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).expect("a subreaper");
    for seen in [true, false] {
        crate::child::run(|| {
            let pid = traced(|| {
                sys::kill(sys::getpid(), SIGTERM).expect("SIGTERM");
                sys::exit_group(3);
            });
            go_on(PTRACE_CONT, pid, 0);
            while crate::child::state_of(pid) != Some('t') {
                std::thread::yield_now();
            }
            if seen {
                assert_eq!(stop_of(pid), SIGTERM);
            }
            word(told).store(pid as u32, SeqCst);
        });
        let end = crate::child::join(word(told).load(SeqCst) as i32);
        assert_eq!(end, if seen { 3 } else { 128 + SIGTERM });
    }
}

fn a_tracee_may_end_with_its_tracer() {
    let told = map_shared(1);
    sys!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).expect("a subreaper");
    crate::child::run(|| {
        let pid = traced(|| {
            loop {
                pause();
            }
        });
        set_options(pid, PTRACE_O_EXITKILL);
        go_on(PTRACE_CONT, pid, 0);
        until_asleep(pid);
        word(told).store(pid as u32, SeqCst);
    });
    assert_eq!(crate::child::join(word(told).load(SeqCst) as i32), 128 + SIGKILL);
}

fn a_killed_tracee_ends_in_any_stop() {
    for n in 0.. {
        let Some(pid) = stop_in(n) else { return };
        sys::kill(pid, SIGKILL).expect("SIGKILL");
        if n == 4 {
            // It ends already: it stands until its tracer lets it go.
            assert_eq!(wait4(pid, __WALL | WNOHANG), Ok((0, 0)));
            go_on(PTRACE_CONT, pid, 0);
            assert_eq!(end_of(pid), 3);
        } else {
            assert_eq!(end_of(pid), 128 + SIGKILL, "kind {n}");
        }
    }
}

fn of_two_tracers_one_wins() {
    let wins = map_shared(1);
    for _ in 0..30 {
        let pid = child(pause);
        let steps = Steps::new();
        let tracers: [i32; 2] = std::array::from_fn(|_| {
            child(|| {
                steps.await_(1);
                match ptrace(PTRACE_ATTACH, pid, 0, 0) {
                    Ok(_) => {
                        word(wins).fetch_add(1, SeqCst);
                        assert_eq!(stop_of(pid), SIGSTOP);
                        steps.await_(2);
                    }
                    Err(errno) => assert_eq!(errno.0, EPERM),
                }
            })
        });
        steps.reach(1);
        while word(wins).load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        steps.reach(2);
        for tracer in tracers {
            assert_eq!(crate::child::join(tracer), 0);
        }
        // The slower one may have come when the first was gone.
        let won = word(wins).swap(0, SeqCst);
        assert!(won == 1 || won == 2, "{won}");
        kill(pid);
    }
}

fn a_tracee_that_ends_while_it_is_attached_to_harms_nobody() {
    for round in 0..200 {
        let pid = child(|| {
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
        });
        let request = if round % 2 == 0 { PTRACE_ATTACH } else { PTRACE_SEIZE };
        match ptrace(request, pid, 0, 0) {
            Err(errno) => assert_eq!(errno.0, EPERM, "it has ended"),
            Ok(_) => {
                let _ = ptrace(PTRACE_INTERRUPT, pid, 0, 0);
            }
        }
        loop {
            let (_, status) = wait4(pid, __WALL).expect("its end");
            if !WIFSTOPPED(status) {
                assert_eq!(status, 0);
                break;
            }
            match ptrace(PTRACE_CONT, pid, 0, 0) {
                Ok(_) => {}
                Err(errno) => assert_eq!(errno.0, ESRCH),
            }
        }
        fails(wait4(pid, __WALL), ECHILD);
    }
}

fn a_tracee_traces_another() {
    let pid = traced(|| {
        let inner = traced(|| sys::exit_group(4));
        go_on(PTRACE_CONT, inner, 0);
        assert_eq!(end_of(inner), 4);
        // And not its own tracer's wish to trace it back, which nothing forbids but the rules.
        sys::exit_group(6);
    });
    loop {
        go_on(PTRACE_CONT, pid, 0);
        let (_, status) = wait4(pid, __WALL).expect("a stop or the end");
        if !WIFSTOPPED(status) {
            assert_eq!(WEXITSTATUS(status), 6);
            break;
        }
        assert_eq!(WSTOPSIG(status), SIGCHLD);
    }
}

fn stops_and_kills_race() {
    for round in 0..100u32 {
        let pid = traced(|| {
            loop {
                sys::getpid();
            }
        });
        let killer = child(|| {
            for _ in 0..round * 50 {
                std::hint::spin_loop();
            }
            let _ = sys::kill(pid, SIGKILL);
        });
        let mut last = 0;
        while ptrace(PTRACE_SYSCALL, pid, 0, 0).is_ok() {
            let Ok((_, status)) = wait4(pid, __WALL) else { break };
            last = status;
            if !WIFSTOPPED(status) {
                break;
            }
            let mut regs: user_regs_struct = sys::zeroed();
            let at = (&raw mut regs).expose_provenance();
            if let Err(errno) = ptrace(PTRACE_GETREGS, pid, 0, at) {
                assert_eq!(errno.0, ESRCH);
            }
        }
        if WIFSTOPPED(last) || last == 0 {
            assert_eq!(end_of(pid), 128 + SIGKILL);
        } else {
            assert_eq!(last, SIGKILL);
        }
        assert_eq!(crate::child::join(killer), 0);
    }
}

fn dead_threads_that_nobody_sees_are_limited() {
    const MOST: u64 = 60;
    let pid = traced(|| {
        sys!(SYS_setresuid, 4321, 4321, 4321).expect("setresuid");
        let limit = [MOST, MOST];
        sys!(SYS_prlimit64, 0, RLIMIT_NPROC, limit.as_ptr(), 0).expect("RLIMIT_NPROC");
        let made = (0..200)
            .take_while(|_| {
                std::thread::Builder::new().spawn(|| {}).map(|thread| thread.join()).is_ok()
            })
            .count();
        sys::exit_group(made as i32);
    });
    set_options(pid, PTRACE_O_TRACECLONE);
    go_on(PTRACE_CONT, pid, 0);
    let mut threads = Vec::new();
    // Of the threads only their begin is waited for, not their end.
    while crate::child::state_of(pid) != Some('Z') {
        let (_, status) = wait4(pid, __WALL | WNOHANG).expect("the process");
        if status == 0 {
            std::thread::yield_now();
            continue;
        }
        assert_eq!(status >> 8, event(PTRACE_EVENT_CLONE));
        let tid = message(pid) as i32;
        assert_eq!(stop_of(tid), SIGSTOP);
        go_on(PTRACE_CONT, tid, 0);
        go_on(PTRACE_CONT, pid, 0);
        threads.push(tid);
    }
    let made = threads.len() as i32;
    assert!((MOST as i32 - 3..=MOST as i32).contains(&made), "{made} threads");
    // A thread's status is its process's once that has ended.
    for tid in threads {
        assert_eq!(end_of(tid), made);
    }
    assert_eq!(end_of(pid), made);
}
