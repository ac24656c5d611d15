//! Signals: sending, masks, queues, handlers and what they are told.

use std::sync::atomic::Ordering::SeqCst;

use libc::{EAGAIN, EINVAL, ESRCH, SIGRTMIN, SIGUSR1, SIGUSR2};

use crate::child::{Steps, end_of, join, run, spawn};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::signal::{self, CODE, COUNT, SENDER, SIGNAL, STACK, TID, VALUE, block, catch, unblock};
use crate::sys::{self, fails, sys};
use crate::task::credentials::become_user;
use crate::task::limits;

pub const TESTS: &[Test] = tests![
    the_handler_runs_before_the_call_returns,
    kill_tells_who_sent,
    tgkill_tells_so,
    a_queued_value_arrives,
    a_blocked_signal_waits_until_unblocked,
    ordinary_signals_do_not_pile_up,
    real_time_signals_queue_in_order,
    queued_signals_are_counted_for_their_receiver_and_limited,
    the_lower_number_comes_first,
    taking_a_signal_ends_at_its_time,
    a_handlers_own_signal_is_blocked_while_it_runs,
    a_handlers_mask_is_added_while_it_runs,
    resethand_handles_once,
    an_alternate_stack_is_used_where_asked_for,
    stack_overflow_is_handled_on_the_alternate_stack,
    default_actions_are_as_documented,
    kill_and_stop_cannot_be_caught_or_blocked,
    bad_targets_are_refused,
    a_zombie_is_still_a_target,
    an_ignored_signal_is_gone_even_when_blocked_before,
    pending_signals_are_not_inherited_but_masks_are,
    a_signal_to_the_process_finds_a_thread_that_takes_it,
    a_signal_to_a_thread_is_that_threads,
    sigsuspend_lets_in_what_was_blocked,
    kill_reaches_the_group,
    registers_survive_handlers,
    a_closed_pipe_is_sigpipe,
];

fn raise(signal: i32) {
    let (pid, tid) = (sys::getpid(), sys::gettid());
    sys!(libc::SYS_tgkill, pid, tid, signal).unwrap();
}

/// Queues a signal with a value.
fn queue(pid: i32, signal: i32, value: usize) -> sys::Result<usize> {
    let mut info = [0u32; 32];
    info[0] = signal as u32;
    info[2] = libc::SI_QUEUE as u32;
    (info[4], info[5]) = (sys::getpid() as u32, 0);
    (info[6], info[7]) = (value as u32, (value >> 32) as u32);
    sys!(libc::SYS_rt_sigqueueinfo, pid, signal, info.as_ptr())
}

fn the_handler_runs_before_the_call_returns() {
    catch(SIGUSR1, 0);
    for round in 1..=10 {
        raise(SIGUSR1);
        assert_eq!(COUNT.load(SeqCst), round);
    }
    assert_eq!(SIGNAL.load(SeqCst), SIGUSR1);
}

fn kill_tells_who_sent() {
    catch(SIGUSR1, 0);
    let parent = sys::getpid();
    let child = spawn(|| {
        sys::kill(parent, SIGUSR1).unwrap();
    });
    signal::until_noted(1);
    assert_eq!((CODE.load(SeqCst), SENDER.load(SeqCst)), (libc::SI_USER, child));
    assert_eq!(join(child), 0);
}

fn tgkill_tells_so() {
    catch(SIGUSR1, 0);
    raise(SIGUSR1);
    assert_eq!((CODE.load(SeqCst), SENDER.load(SeqCst)), (libc::SI_TKILL, sys::getpid()));
}

fn a_queued_value_arrives() {
    catch(SIGUSR1, 0);
    queue(sys::getpid(), SIGUSR1, 0x1234_5678_9abc).unwrap();
    assert_eq!((CODE.load(SeqCst), VALUE.load(SeqCst)), (libc::SI_QUEUE, 0x1234_5678_9abc));
}

fn a_blocked_signal_waits_until_unblocked() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    assert_eq!((COUNT.load(SeqCst), signal::pending()), (0, signal::set_of(&[SIGUSR1])));
    unblock(&[SIGUSR1]);
    assert_eq!((COUNT.load(SeqCst), signal::pending()), (1, 0));
}

fn ordinary_signals_do_not_pile_up() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    for _ in 0..5 {
        sys::kill(sys::getpid(), SIGUSR1).unwrap();
    }
    unblock(&[SIGUSR1]);
    assert_eq!(COUNT.load(SeqCst), 1);
}

fn real_time_signals_queue_in_order() {
    let (low, high) = (SIGRTMIN(), SIGRTMIN() + 1);
    block(&[low, high]);
    for value in [1, 2, 3] {
        queue(sys::getpid(), high, value).unwrap();
        queue(sys::getpid(), low, value + 10).unwrap();
    }
    let mut found = Vec::new();
    while let Ok(info) = signal::take(&[low, high], 0) {
        // SAFETY: queued with a value.
        found.push(unsafe { info.si_value().sival_ptr } as usize);
    }
    assert_eq!(found, [11, 12, 13, 1, 2, 3]);
}

fn queued_signals_are_counted_for_their_receiver_and_limited() {
    let signal = SIGRTMIN();
    let parent = sys::getpid();
    let queued = || signal::status_field("SigQ").expect("a count of queued signals");
    let step = Steps::new();
    block(&[signal, SIGUSR1, SIGUSR2]);
    let child = spawn(|| {
        // A user whom nobody else is.
        become_user(4711);
        limits::set(libc::RLIMIT_SIGPENDING, 3, 3);
        step.reach(1);
        step.await_(2);
        assert_eq!(queued(), "3/3");
        // What kill(2) sends below the real-time signals is never refused, and counted.
        sys::kill(sys::getpid(), SIGUSR1).unwrap();
        assert_eq!(queued(), "4/3");
        // What tgkill(2) sends is pending without what it tells.
        raise(SIGUSR2);
        assert_eq!(queued(), "4/3");
        assert_eq!(signal::take(&[SIGUSR2], 0).unwrap().si_code, libc::SI_USER);
        signal::take(&[SIGUSR1], 0).unwrap();
        // A timer's signal is set aside when the timer is made.
        fails(timer(), EAGAIN);
        signal::take(&[signal], 0).unwrap();
        timer().unwrap();
        assert_eq!(queued(), "3/3");
    });
    step.await_(1);
    for value in 0..3 {
        queue(child, signal, value).unwrap();
    }
    fails(queue(child, signal, 3), EAGAIN);
    // The sender has room for more.
    queue(parent, signal, 3).unwrap();
    step.reach(2);
    assert_eq!(join(child), 0);
}

/// A timer that is never armed.
fn timer() -> sys::Result<usize> {
    let mut id = 0i32;
    sys!(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, 0, &raw mut id)
}

fn the_lower_number_comes_first() {
    block(&[SIGUSR1, SIGUSR2]);
    raise(SIGUSR2);
    raise(SIGUSR1);
    for signal in [SIGUSR1, SIGUSR2] {
        let info = signal::take(&[SIGUSR1, SIGUSR2], 0).unwrap();
        assert_eq!(info.si_signo, signal);
    }
}

fn taking_a_signal_ends_at_its_time() {
    block(&[SIGUSR1]);
    let begin = sys::monotonic();
    fails(signal::take(&[SIGUSR1], 30_000_000).map(|info| info.si_signo), EAGAIN);
    assert!(sys::monotonic() - begin >= 30_000_000);
}

extern "C" fn note_the_mask(_: i32) {
    let both = signal::is_blocked(SIGUSR1) as i32 + 2 * signal::is_blocked(SIGUSR2) as i32;
    CODE.store(both, SeqCst);
}

fn a_handlers_own_signal_is_blocked_while_it_runs() {
    sys::on_signal(SIGUSR1, note_the_mask);
    raise(SIGUSR1);
    assert_eq!(CODE.load(SeqCst), 1);
    assert!(!signal::is_blocked(SIGUSR1));
    let handler = note_the_mask as *const () as usize;
    sys::on_signal_with(SIGUSR1, handler, libc::SA_NODEFER);
    raise(SIGUSR1);
    assert_eq!(CODE.load(SeqCst), 0);
}

fn a_handlers_mask_is_added_while_it_runs() {
    // SAFETY: a handler with a mask, set through the library.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_the_mask as *const () as usize;
        libc::sigaddset(&mut action.sa_mask, SIGUSR2);
        assert_eq!(libc::sigaction(SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    raise(SIGUSR1);
    assert_eq!(CODE.load(SeqCst), 3);
    assert!(!signal::is_blocked(SIGUSR2));
}

fn resethand_handles_once() {
    let end = end_of(|| {
        catch(SIGUSR1, libc::SA_RESETHAND);
        raise(SIGUSR1);
        assert_eq!(COUNT.load(SeqCst), 1);
        raise(SIGUSR1);
    });
    assert_eq!(end, 128 + SIGUSR1);
}

fn an_alternate_stack_is_used_where_asked_for() {
    let at = map(8);
    let stack = [at, 0, 8 * PAGE];
    sys!(libc::SYS_sigaltstack, stack.as_ptr(), 0).unwrap();
    catch(SIGUSR1, libc::SA_ONSTACK);
    raise(SIGUSR1);
    assert!((at..at + 8 * PAGE).contains(&STACK.load(SeqCst)));
    catch(SIGUSR1, 0);
    raise(SIGUSR1);
    assert!(!(at..at + 8 * PAGE).contains(&STACK.load(SeqCst)));
    let mut old = [0usize; 3];
    sys!(libc::SYS_sigaltstack, 0, old.as_mut_ptr()).unwrap();
    assert_eq!((old[0], old[2]), (at, 8 * PAGE));
    let small = [at, 0, 100];
    fails(sys!(libc::SYS_sigaltstack, small.as_ptr(), 0), libc::ENOMEM);
}

extern "C" fn exit_on_the_alternate_stack(_: i32) {
    sys::exit_group(77);
}

fn stack_overflow_is_handled_on_the_alternate_stack() {
    fn endless(depth: u64) -> u64 {
        let block = std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { endless(depth + 1) + block[7] }
    }
    let end = end_of(|| {
        let stack = [map(8), 0, 8 * PAGE];
        sys!(libc::SYS_sigaltstack, stack.as_ptr(), 0).unwrap();
        let handler = exit_on_the_alternate_stack as *const () as usize;
        sys::on_signal_with(libc::SIGSEGV, handler, libc::SA_ONSTACK);
        std::hint::black_box(endless(0));
    });
    assert_eq!(end, 77);
}

fn default_actions_are_as_documented() {
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGALRM, libc::SIGPIPE, libc::SIGABRT] {
        let end = end_of(|| {
            sys::on_signal_with(signal, libc::SIG_DFL, 0);
            raise(signal);
        });
        assert_eq!(end, 128 + signal);
    }
    for signal in [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT] {
        assert_eq!(end_of(|| raise(signal)), 0);
    }
}

fn kill_and_stop_cannot_be_caught_or_blocked() {
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        let action = [libc::SIG_IGN, 0, 0, 0];
        fails(sys!(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, 8), EINVAL);
        block(&[signal]);
        assert!(!signal::is_blocked(signal));
    }
    fails(sys!(libc::SYS_rt_sigaction, 65, 0, 0, 8), EINVAL);
    fails(sys!(libc::SYS_rt_sigaction, SIGUSR1, 0, 0, 4), EINVAL);
}

fn bad_targets_are_refused() {
    fails(sys::kill(0x3fff_fff0, 0), ESRCH);
    fails(sys::kill(sys::getpid(), 65), EINVAL);
    fails(sys!(libc::SYS_tgkill, sys::getpid(), 0x3fff_fff0, SIGUSR1), ESRCH);
    fails(sys!(libc::SYS_tgkill, -1, sys::gettid(), SIGUSR1), EINVAL);
    assert_eq!(sys::kill(sys::getpid(), 0), Ok(0));
}

fn a_zombie_is_still_a_target() {
    let child = spawn(|| ());
    while crate::child::state_of(child) != Some('Z') {
        std::thread::yield_now();
    }
    assert_eq!(sys::kill(child, libc::SIGTERM), Ok(0));
    assert_eq!(join(child), 0);
    fails(sys::kill(child, 0), ESRCH);
}

fn an_ignored_signal_is_gone_even_when_blocked_before() {
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    signal::ignore(SIGUSR1);
    assert_eq!(signal::pending(), 0);
}

fn pending_signals_are_not_inherited_but_masks_are() {
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    run(|| {
        assert_eq!(signal::pending(), 0);
        assert!(signal::is_blocked(SIGUSR1));
    });
    assert_ne!(signal::pending(), 0);
}

fn a_signal_to_the_process_finds_a_thread_that_takes_it() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    let tid = map(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            word(tid).store(sys::gettid() as u32, SeqCst);
            unblock(&[SIGUSR1]);
            signal::until_noted(1);
        });
        while word(tid).load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        sys::kill(sys::getpid(), SIGUSR1).unwrap();
    });
    assert_eq!(TID.load(SeqCst) as u32, word(tid).load(SeqCst));
}

fn a_signal_to_a_thread_is_that_threads() {
    catch(SIGUSR1, 0);
    let done = map(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            word(done).store(sys::gettid() as u32, SeqCst);
            while word(done + PAGE).load(SeqCst) == 0 {}
        });
        while word(done).load(SeqCst) == 0 {}
        let tid = word(done).load(SeqCst);
        sys!(libc::SYS_tgkill, sys::getpid(), tid, SIGUSR1).unwrap();
        signal::until_noted(1);
        assert_eq!(TID.load(SeqCst) as u32, tid);
        word(done + PAGE).store(1, SeqCst);
    });
}

fn sigsuspend_lets_in_what_was_blocked() {
    catch(SIGUSR1, 0);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    let none = 0u64;
    fails(sys!(libc::SYS_rt_sigsuspend, &raw const none, 8), libc::EINTR);
    assert_eq!(COUNT.load(SeqCst), 1);
    assert!(signal::is_blocked(SIGUSR1));
}

fn kill_reaches_the_group() {
    let steps = crate::child::Steps::new();
    let leader = spawn(|| {
        sys!(libc::SYS_setpgid, 0, 0).unwrap();
        let member = spawn(|| {
            loop {
                let _ = sys!(libc::SYS_pause);
            }
        });
        steps.reach(1);
        let end = join(member);
        sys::exit_group(end);
    });
    steps.await_(1);
    // The leader blocks nothing: both die.
    sys::kill(-leader, SIGUSR1).unwrap();
    assert_eq!(join(leader), 128 + SIGUSR1);
    fails(sys::kill(-0x3fff_fff0, SIGUSR1), ESRCH);
}

fn registers_survive_handlers() {
    catch(libc::SIGALRM, 0);
    let interval = [0i64, 1000, 0, 1000];
    sys!(libc::SYS_setitimer, libc::ITIMER_REAL, interval.as_ptr(), 0).unwrap();
    let mut expected = (1u64, 1.0f64);
    let step = |(a, b): (u64, f64)| {
        (a.wrapping_mul(6364136223846793005).wrapping_add(1), (b * 1.0001).fract() + 0.5)
    };
    let mut rounds = 0;
    while COUNT.load(SeqCst) < 20 {
        let mut state = (1u64, 1.0f64);
        for _ in 0..20_000 {
            state = step(state);
        }
        if rounds == 0 {
            expected = state;
        }
        assert_eq!(state, expected);
        rounds += 1;
    }
}

fn a_closed_pipe_is_sigpipe() {
    let (reader, writer) = sys::pipe().unwrap();
    sys::close(reader);
    catch(libc::SIGPIPE, 0);
    fails(sys::write(writer, b"x"), libc::EPIPE);
    assert_eq!(COUNT.load(SeqCst), 1);
}
