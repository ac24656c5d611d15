//! Who may trace whom.

use super::*;
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_user_traces_its_own_and_nobody_elses,
    who_does_not_want_to_be_looked_into_is_not_traced,
    a_capability_traces_everybody,
    a_kernel_thread_is_not_traced,
    an_exec_gains_no_id_that_its_tracer_could_not_trace,
    nothing_names_its_tracer_without_a_security_module,
];

const USER: u32 = 1234;

fn become_user(id: u32) {
    sys!(SYS_setresgid, id, id, id).expect("setresgid");
    sys!(SYS_setresuid, id, id, id).expect("setresuid");
}

/// A child of user `id` that sleeps, and may be looked into by its user.
fn sleeper(id: u32) -> i32 {
    let steps = crate::child::Steps::new();
    let pid = child(|| {
        become_user(id);
        sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0).expect("PR_SET_DUMPABLE");
        steps.reach(1);
        pause();
    });
    steps.await_(1);
    pid
}

fn a_user_traces_its_own_and_nobody_elses() {
    let (own, other, root) = (sleeper(USER), sleeper(USER + 1), child(pause));
    crate::child::run(|| {
        become_user(USER);
        fails(ptrace(PTRACE_ATTACH, root, 0, 0), EPERM);
        fails(ptrace(PTRACE_SEIZE, other, 0, 0), EPERM);
        fails(ptrace(PTRACE_ATTACH, sys!(SYS_getppid).map_or(1, |pid| pid as i32), 0, 0), EPERM);
        ptrace(PTRACE_ATTACH, own, 0, 0).expect("one's own");
        assert_eq!(stop_of(own), SIGSTOP);
        go_on(PTRACE_DETACH, own, 0);
    });
    for pid in [own, other, root] {
        kill(pid);
    }
}

fn who_does_not_want_to_be_looked_into_is_not_traced() {
    let steps = crate::child::Steps::new();
    let page = crate::memory::map(1);
    crate::memory::put(page, 3);
    let pid = child(|| {
        become_user(USER);
        sys!(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0).expect("PR_SET_DUMPABLE");
        steps.reach(1);
        steps.await_(2);
        sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0).expect("PR_SET_DUMPABLE");
        steps.reach(3);
        steps.await_(4);
        sys!(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0).expect("PR_SET_DUMPABLE");
        steps.reach(5);
        pause();
    });
    crate::child::run(|| {
        become_user(USER);
        steps.await_(1);
        fails(ptrace(PTRACE_SEIZE, pid, 0, 0), EPERM);
        steps.reach(2);
        steps.await_(3);
        ptrace(PTRACE_SEIZE, pid, 0, 0).expect("now it does");
        steps.reach(4);
        steps.await_(5);
        ptrace(PTRACE_INTERRUPT, pid, 0, 0).expect("INTERRUPT");
        assert_eq!(stop_of(pid), event_stop(SIGTRAP));
        let mut value = 0u64;
        let at = (&raw mut value).expose_provenance();
        fails(ptrace(PTRACE_PEEKDATA, pid, page, at), EIO);
        fails(ptrace(PTRACE_POKEDATA, pid, page, 0), EIO);
        assert_ne!(regs(pid).rip, 0, "its registers it has to give");
    });
    kill(pid);
}

fn a_capability_traces_everybody() {
    let pid = sleeper(USER);
    ptrace(PTRACE_SEIZE, pid, 0, 0).expect("root");
    kill(pid);
}

fn a_kernel_thread_is_not_traced() {
    // Process 2 on Linux; on Proxima kernel threads are no processes, and have ids all the same.
    let errno = match ptrace(PTRACE_ATTACH, 2, 0, 0) {
        Err(errno) => errno.0,
        Ok(_) => 0,
    };
    assert!(errno == EPERM || errno == ESRCH, "{errno}");
}

fn an_exec_gains_no_id_that_its_tracer_could_not_trace() {
    // Not in /tmp, which is mounted nosuid.
    let path = format!("/set-id-{}", sys::getpid());
    std::fs::copy("/proc/self/exe", &path).expect("a copy");
    let name = sys::c(&path);
    sys!(SYS_chown, name.as_ptr(), 12, 12).expect("chown");
    sys!(SYS_chmod, name.as_ptr(), 0o4755).expect("chmod");
    let steps = crate::child::Steps::new();
    for (round, by_root) in [(0, true), (10, false)] {
        let pid = child(|| {
            become_user(USER % 200);
            sys!(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0).expect("PR_SET_DUMPABLE");
            steps.reach(round + 1);
            steps.await_(round + 2);
            crate::helper::exec_file(&name, &["euid"]);
        });
        steps.await_(round + 1);
        let tracer = child(|| {
            if !by_root {
                become_user(USER % 200);
            }
            ptrace(PTRACE_SEIZE, pid, 0, 0).expect("SEIZE");
            steps.reach(round + 2);
            sys::exit_group(end_of(pid));
        });
        let expected = if by_root { 12 } else { (USER % 200) as i32 };
        assert_eq!(end_of(tracer), expected, "by root: {by_root}");
        assert_eq!(end_of(pid), expected);
    }
    std::fs::remove_file(&path).expect("unlink");
}

fn nothing_names_its_tracer_without_a_security_module() {
    const PR_SET_PTRACER: i32 = 0x5961_6d61;
    // Debian's kernel has Yama built in, and has it answer.
    if std::path::Path::new("/proc/sys/kernel/yama").exists() {
        return;
    }
    fails(sys!(SYS_prctl, PR_SET_PTRACER, 1, 0, 0, 0), EINVAL);
}
