//! Stops before signals are delivered, and what tracers make of them.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::harness::{Test, tests};
use crate::memory::{map_shared, word};
use crate::sys::{fails, on_signal};

pub const TESTS: &[Test] = tests![
    a_tracee_stops_for_each_signal_and_goes_on_without_it,
    a_signal_is_given_or_changed_by_the_tracer,
    ignored_signals_stop_a_tracee_too,
    what_a_signal_tells_can_be_read_and_changed,
    a_blocked_signal_that_is_given_waits,
    a_mask_is_read_and_set,
    pending_signals_are_seen,
    a_kill_ends_a_tracee_without_a_stop,
    a_bad_signal_is_refused,
    attaching_stops_by_a_signal,
    detaching_gives_a_signal,
    a_tracee_is_not_traced_twice,
    requests_want_a_stopped_tracee,
];

static mut HITS: usize = 0;

/// A word in shared memory where handlers count.
fn hits() -> &'static std::sync::atomic::AtomicU32 {
    // SAFETY: set once before the children are made.
    word(unsafe { HITS })
}

fn set_up() {
    // SAFETY: nobody else runs yet.
    unsafe { HITS = map_shared(1) };
}

extern "C" fn count(signal: i32) {
    hits().fetch_add(1 << (8 * u32::from(signal == SIGUSR2)), SeqCst);
}

fn with_handlers(body: impl FnOnce()) -> i32 {
    set_up();
    traced(|| {
        on_signal(SIGUSR1, count);
        on_signal(SIGUSR2, count);
        body();
    })
}

fn raise(signal: i32) {
    sys::kill(sys::getpid(), signal).expect("a signal");
}

fn a_tracee_stops_for_each_signal_and_goes_on_without_it() {
    let pid = with_handlers(|| {
        raise(SIGUSR1);
        raise(SIGTERM);
        sys::exit_group(7);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTERM);
    assert_eq!(hits().load(SeqCst), 0);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 7);
}

fn a_signal_is_given_or_changed_by_the_tracer() {
    let pid = with_handlers(|| {
        raise(SIGUSR1);
        raise(SIGUSR1);
        raise(SIGUSR1);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_CONT, pid, SIGUSR1);
    assert_eq!(stop_of(pid), SIGUSR1);
    assert_eq!(hits().load(SeqCst), 1);
    go_on(PTRACE_CONT, pid, SIGUSR2);
    assert_eq!(stop_of(pid), SIGUSR1);
    assert_eq!(hits().load(SeqCst), 1 | 1 << 8, "the other handler ran");
    go_on(PTRACE_CONT, pid, SIGTERM);
    assert_eq!(end_of(pid), 128 + SIGTERM);
}

fn ignored_signals_stop_a_tracee_too() {
    let pid = traced(|| {
        crate::sys::on_signal_with(SIGUSR1, SIG_IGN, 0);
        raise(SIGUSR1);
        raise(SIGCHLD);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_CONT, pid, SIGUSR1);
    assert_eq!(stop_of(pid), SIGCHLD);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn what_a_signal_tells_can_be_read_and_changed() {
    extern "C" fn tell(_: i32, info: *const siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel's own structure.
        let code = unsafe { (*info).si_code };
        hits().store(code as u32, SeqCst);
    }
    set_up();
    let pid = traced(|| {
        let handler = tell as extern "C" fn(i32, *const siginfo_t, *mut c_void);
        crate::sys::on_signal_with(SIGUSR1, handler as usize, SA_SIGINFO);
        raise(SIGUSR1);
        raise(SIGUSR1);
    });
    let own = whole_info(pid).expect("SIGSTOP's");
    assert_eq!((own.si_signo, own.si_code), (SIGSTOP, SI_USER));
    // SAFETY: kill's fields.
    assert_eq!(unsafe { own.si_pid() }, pid);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    let mut info = whole_info(pid).expect("SIGUSR1's");
    info.si_code = -60;
    let at = (&raw const info).expose_provenance();
    ptrace(PTRACE_SETSIGINFO, pid, 0, at).expect("SETSIGINFO");
    go_on(PTRACE_CONT, pid, SIGUSR1);
    assert_eq!(stop_of(pid), SIGUSR1);
    assert_eq!(hits().load(SeqCst) as i32, -60);
    fails(ptrace(PTRACE_GETSIGINFO, pid, 0, 8), EFAULT);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_blocked_signal_that_is_given_waits() {
    let pid = with_handlers(|| {
        let set = 1u64 << (SIGUSR2 - 1);
        sys!(SYS_rt_sigprocmask, SIG_BLOCK, &raw const set, 0, 8).expect("a mask");
        raise(SIGUSR1);
        assert_eq!(hits().load(SeqCst), 0);
        sys!(SYS_rt_sigprocmask, SIG_UNBLOCK, &raw const set, 0, 8).expect("a mask");
        assert_eq!(hits().load(SeqCst), 1 << 8);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_CONT, pid, SIGUSR2);
    assert_eq!(stop_of(pid), SIGUSR2, "when it is not blocked any more");
    go_on(PTRACE_CONT, pid, SIGUSR2);
    assert_eq!(end_of(pid), 0);
}

fn a_mask_is_read_and_set() {
    let pid = with_handlers(|| {
        raise(SIGUSR1);
        raise(SIGUSR2);
        assert_eq!(hits().load(SeqCst), 0, "both are blocked");
    });
    let mut mask = 0u64;
    let at = (&raw mut mask).expose_provenance();
    ptrace(GETSIGMASK, pid, 8, at).expect("GETSIGMASK");
    assert_eq!(mask, 0);
    fails(ptrace(GETSIGMASK, pid, 4, at), EINVAL);
    fails(ptrace(SETSIGMASK, pid, 16, at), EINVAL);
    mask = u64::MAX;
    ptrace(SETSIGMASK, pid, 8, at).expect("SETSIGMASK");
    ptrace(GETSIGMASK, pid, 8, at).expect("GETSIGMASK");
    assert_eq!(mask, !(1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn pending_signals_are_seen() {
    let pid = with_handlers(|| {
        let set = u64::MAX;
        sys!(SYS_rt_sigprocmask, SIG_BLOCK, &raw const set, 0, 8).expect("a mask");
        let tid = sys::gettid();
        sys!(SYS_tgkill, sys::getpid(), tid, SIGUSR1).expect("to the thread");
        sys!(SYS_tgkill, sys::getpid(), tid, SIGUSR2).expect("to the thread");
        sys::kill(sys::getpid(), SIGHUP).expect("to the process");
        raise_stop();
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGSTOP);
    let mut infos: [siginfo_t; 4] = sys::zeroed();
    let at = infos.as_mut_ptr().expose_provenance();
    let peek = |off: u64, flags: u32, count: i32| {
        let args = [off, u64::from(flags) | (count as u32 as u64) << 32];
        ptrace(PTRACE_PEEKSIGINFO, pid, args.as_ptr().expose_provenance(), at)
    };
    assert_eq!(peek(0, 0, 4), Ok(2));
    assert_eq!(peek(1, 0, 4), Ok(1));
    assert_eq!(peek(2, 0, 4), Ok(0));
    assert_eq!(peek(0, 1, 4), Ok(1));
    fails(peek(0, 2, 4), EINVAL);
    fails(peek(0, 0, -1), EINVAL);
    assert_eq!(infos[0].si_signo, SIGHUP);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_kill_ends_a_tracee_without_a_stop() {
    let pid = traced(pause);
    sys::kill(pid, SIGKILL).expect("SIGKILL");
    assert_eq!(end_of(pid), 128 + SIGKILL, "out of the stop");
    let pid = traced(pause);
    go_on(PTRACE_CONT, pid, SIGKILL);
    assert_eq!(end_of(pid), 128 + SIGKILL, "given by the tracer");
    let pid = traced(pause);
    go_on(PTRACE_CONT, pid, 0);
    ptrace(PTRACE_KILL, pid, 0, 0).expect("KILL, of a tracee that runs");
    assert_eq!(end_of(pid), 128 + SIGKILL);
}

fn a_bad_signal_is_refused() {
    let pid = traced(pause);
    for request in [PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP, PTRACE_DETACH] {
        fails(ptrace(request, pid, 0, 65), EIO);
        fails(ptrace(request, pid, 0, usize::MAX), EIO);
    }
    assert_eq!(info(pid), Ok((SIGSTOP, SI_USER)), "it stands still all the same");
    kill(pid);
}

fn attaching_stops_by_a_signal() {
    let pid = child(pause);
    crate::child::until_asleep(pid);
    ptrace(PTRACE_ATTACH, pid, 0, 0).expect("ATTACH");
    assert_eq!(stop_of(pid), SIGSTOP);
    assert_eq!(info(pid).map(|(signal, _)| signal), Ok(SIGSTOP));
    // The call that was interrupted goes on.
    go_on(PTRACE_CONT, pid, 0);
    crate::child::until_asleep(pid);
    sys::kill(pid, SIGUSR1).expect("SIGUSR1");
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_DETACH, pid, 0);
    crate::child::until_asleep(pid);
    sys::kill(pid, SIGTERM).expect("SIGTERM");
    assert_eq!(end_of(pid), 128 + SIGTERM, "nobody stands in between any more");
}

fn detaching_gives_a_signal() {
    let pid = with_handlers(|| {
        raise(SIGUSR1);
        sys::exit_group(hits().load(SeqCst) as i32);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_DETACH, pid, SIGUSR1);
    assert_eq!(end_of(pid), 1);
}

fn a_tracee_is_not_traced_twice() {
    let pid = traced(|| {
        fails(ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM);
    });
    fails(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
    fails(ptrace(PTRACE_SEIZE, pid, 0, 0), EPERM);
    crate::child::run(|| {
        fails(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
        fails(ptrace(PTRACE_CONT, pid, 0, 0), ESRCH);
        fails(ptrace(PTRACE_KILL, pid, 0, 0), ESRCH);
        fails(ptrace(PTRACE_DETACH, pid, 0, 0), ESRCH);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn requests_want_a_stopped_tracee() {
    let pid = traced(pause);
    fails(ptrace(0x1234, pid, 0, 0), EIO);
    go_on(PTRACE_CONT, pid, 0);
    crate::child::until_asleep(pid);
    for request in [
        PTRACE_CONT,
        PTRACE_PEEKDATA,
        PTRACE_GETREGS,
        PTRACE_SETOPTIONS,
        PTRACE_GETEVENTMSG,
        PTRACE_DETACH,
        0x1234,
    ] {
        fails(ptrace(request, pid, 0, 0), ESRCH);
    }
    fails(ptrace(PTRACE_INTERRUPT, pid, 0, 0), EIO);
    kill(pid);
    let other = child(pause);
    fails(ptrace(PTRACE_CONT, other, 0, 0), ESRCH);
    fails(ptrace(PTRACE_CONT, i32::MAX, 0, 0), ESRCH);
    fails(ptrace(PTRACE_ATTACH, i32::MAX, 0, 0), ESRCH);
    kill(other);
}
