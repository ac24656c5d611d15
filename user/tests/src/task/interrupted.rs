//! System calls that a signal meets: restarted, interrupted, or told how much is left.

use std::sync::atomic::Ordering::SeqCst;

use libc::{EINTR, SA_RESTART, SIGUSR1};

use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::signal::{COUNT, catch};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_read_is_interrupted_without_restart,
    a_read_goes_on_with_restart,
    waiting_for_a_child_follows_the_flag,
    a_sleep_is_interrupted_and_tells_the_rest,
    a_poll_is_interrupted_even_with_restart,
    pause_ends_with_the_handler,
    an_ignored_signal_disturbs_nothing,
    a_stop_and_continue_disturbs_no_read,
    a_partial_write_tells_how_much,
    a_killed_sleeper_dies_at_once,
];

/// Signals the calling thread from another process once it sleeps; then does `after`.
fn disturb(after: impl FnOnce()) -> i32 {
    let tid = sys::gettid();
    spawn(move || {
        until_asleep(tid);
        sys::kill(tid, SIGUSR1).unwrap();
        // The handler has run when the sleeper is asleep again, or has gone on.
        after();
    })
}

fn a_read_is_interrupted_without_restart() {
    let (reader, _writer) = sys::pipe().unwrap();
    catch(SIGUSR1, 0);
    let child = disturb(|| ());
    fails(sys::read(reader, &mut [0]), EINTR);
    assert_eq!(COUNT.load(SeqCst), 1);
    assert_eq!(join(child), 0);
}

fn a_read_goes_on_with_restart() {
    let (reader, writer) = sys::pipe().unwrap();
    catch(SIGUSR1, SA_RESTART);
    let me = sys::gettid();
    let child = disturb(|| {
        until_asleep(me);
        sys::write(writer, b"x").unwrap();
    });
    let mut byte = [0];
    assert_eq!(sys::read(reader, &mut byte), Ok(1));
    assert_eq!((byte[0], COUNT.load(SeqCst)), (b'x', 1));
    assert_eq!(join(child), 0);
}

fn waiting_for_a_child_follows_the_flag() {
    for (flags, restarted) in [(0, false), (SA_RESTART, true)] {
        catch(SIGUSR1, flags);
        let steps = crate::child::Steps::new();
        let child = spawn(|| steps.await_(1));
        let me = sys::gettid();
        let other = disturb(|| {
            if restarted {
                until_asleep(me);
                steps.reach(1);
            }
        });
        let result = sys::wait_for(child);
        if restarted {
            assert_eq!(result, Ok(0));
        } else {
            fails(result, EINTR);
            steps.reach(1);
            assert_eq!(join(child), 0);
        }
        assert_eq!(COUNT.load(SeqCst), 1);
        assert_eq!(join(other), 0);
    }
}

fn a_sleep_is_interrupted_and_tells_the_rest() {
    catch(SIGUSR1, SA_RESTART);
    let child = disturb(|| ());
    let wanted = sys::timespec(100_000_000_000);
    let mut rest = sys::timespec(0);
    fails(sys!(libc::SYS_nanosleep, &raw const wanted, &raw mut rest), EINTR);
    assert!(rest.tv_sec > 10 && rest.tv_sec < 100, "{} s left", rest.tv_sec);
    assert_eq!(join(child), 0);
}

fn a_poll_is_interrupted_even_with_restart() {
    catch(SIGUSR1, SA_RESTART);
    let child = disturb(|| ());
    fails(sys!(libc::SYS_poll, 0, 0, 100_000), EINTR);
    assert_eq!(join(child), 0);
}

fn pause_ends_with_the_handler() {
    catch(SIGUSR1, SA_RESTART);
    let child = disturb(|| ());
    fails(sys!(libc::SYS_pause), EINTR);
    assert_eq!(COUNT.load(SeqCst), 1);
    assert_eq!(join(child), 0);
}

fn an_ignored_signal_disturbs_nothing() {
    let (reader, writer) = sys::pipe().unwrap();
    crate::signal::ignore(SIGUSR1);
    let me = sys::gettid();
    let child = disturb(|| {
        until_asleep(me);
        sys::write(writer, b"x").unwrap();
    });
    assert_eq!(sys::read(reader, &mut [0]), Ok(1));
    assert_eq!(join(child), 0);
}

fn a_stop_and_continue_disturbs_no_read() {
    let (reader, writer) = sys::pipe().unwrap();
    let child = spawn(|| {
        let mut byte = [0];
        assert_eq!(sys::read(reader, &mut byte), Ok(1));
    });
    until_asleep(child);
    sys::kill(child, libc::SIGSTOP).unwrap();
    let mut status = 0;
    sys!(libc::SYS_wait4, child, &raw mut status, libc::WUNTRACED, 0).unwrap();
    sys::kill(child, libc::SIGCONT).unwrap();
    until_asleep(child);
    sys::write(writer, b"x").unwrap();
    assert_eq!(join(child), 0);
}

fn a_partial_write_tells_how_much() {
    let (reader, writer) = sys::pipe().unwrap();
    catch(SIGUSR1, 0);
    let child = disturb(|| ());
    let bytes = vec![1u8; 1 << 20];
    assert_eq!(sys::write(writer, &bytes), Ok(65536));
    assert_eq!(join(child), 0);
    sys::close(reader);
}

fn a_killed_sleeper_dies_at_once() {
    let (reader, _writer) = sys::pipe().unwrap();
    let child = spawn(|| {
        let _ = sys::read(reader, &mut [0]);
    });
    until_asleep(child);
    sys::kill(child, libc::SIGKILL).unwrap();
    assert_eq!(join(child), 128 + libc::SIGKILL);
}
