//! poll(2), ppoll(2), select(2).

use libc::*;

use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::signal;
use crate::sys::{self, fails, pipe, sys, write};

pub const TESTS: &[Test] = tests![
    what_is_ready_is_told,
    hang_ups_and_errors_are_told_unasked,
    a_poll_ends_at_its_time,
    a_poll_is_woken_by_a_write,
    ppoll_lets_a_signal_in_atomically,
    select_leaves_what_is_ready_in_its_sets,
    regular_files_are_always_ready,
];

fn poll(entries: &mut [pollfd], millis: i32) -> sys::Result<usize> {
    sys!(SYS_poll, entries.as_mut_ptr(), entries.len(), millis)
}

fn entry(fd: i32, events: i16) -> pollfd {
    pollfd { fd, events, revents: 0 }
}

fn what_is_ready_is_told() {
    let (reader, writer) = pipe().unwrap();
    let mut entries = [entry(reader, POLLIN), entry(writer, POLLOUT), entry(-1, POLLIN)];
    assert_eq!(poll(&mut entries, 0), Ok(1));
    assert_eq!([entries[0].revents, entries[1].revents, entries[2].revents], [0, POLLOUT, 0]);
    write(writer, b"x").unwrap();
    assert_eq!(poll(&mut entries, -1), Ok(2));
    assert_eq!(entries[0].revents, POLLIN);
}

fn hang_ups_and_errors_are_told_unasked() {
    let (reader, writer) = pipe().unwrap();
    let (other, gone) = pipe().unwrap();
    sys::close(writer);
    sys::close(other);
    let mut entries = [entry(reader, 0), entry(gone, 0), entry(777, POLLIN)];
    assert_eq!(poll(&mut entries, -1), Ok(3));
    assert_eq!([entries[0].revents, entries[1].revents], [POLLHUP, POLLERR]);
    assert_eq!(entries[2].revents, POLLNVAL);
}

fn a_poll_ends_at_its_time() {
    let (reader, _writer) = pipe().unwrap();
    let begin = sys::monotonic();
    assert_eq!(poll(&mut [entry(reader, POLLIN)], 30), Ok(0));
    assert!(sys::monotonic() - begin >= 30_000_000);
    assert_eq!(poll(&mut [], 1), Ok(0));
}

fn a_poll_is_woken_by_a_write() {
    let (reader, writer) = pipe().unwrap();
    let child = spawn(|| assert_eq!(poll(&mut [entry(reader, POLLIN)], -1), Ok(1)));
    until_asleep(child);
    write(writer, b"x").unwrap();
    assert_eq!(join(child), 0);
}

fn ppoll_lets_a_signal_in_atomically() {
    signal::catch(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    sys::kill(sys::getpid(), SIGUSR1).unwrap();
    let none = 0u64;
    fails(sys!(SYS_ppoll, 0, 0, 0, &raw const none, 8), EINTR);
    assert_eq!(signal::COUNT.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(signal::is_blocked(SIGUSR1));
    let wrong = timespec { tv_sec: 0, tv_nsec: -1 };
    fails(sys!(SYS_ppoll, 0, 0, &raw const wrong, 0, 0), EINVAL);
    let short = sys::timespec(1_000_000);
    assert_eq!(sys!(SYS_ppoll, 0, 0, &raw const short, 0, 0), Ok(0));
}

fn select_leaves_what_is_ready_in_its_sets() {
    let (reader, writer) = pipe().unwrap();
    let (other, _keep) = pipe().unwrap();
    write(writer, b"x").unwrap();
    let mut reads = [0u64; 16];
    let mut writes = [0u64; 16];
    for fd in [reader, other] {
        reads[fd as usize / 64] |= 1 << (fd % 64);
    }
    writes[writer as usize / 64] |= 1 << (writer % 64);
    let (r, w) = (reads.as_mut_ptr(), writes.as_mut_ptr());
    let mut limit = [100i64, 0];
    assert_eq!(sys!(SYS_select, 64, r, w, 0, limit.as_mut_ptr()), Ok(2));
    assert_eq!(crate::numa::unmask(&reads), [reader as usize]);
    assert_eq!(crate::numa::unmask(&writes), [writer as usize]);
    // The time that is left is written back.
    assert!(limit[0] < 100);
    let mut bad = [0u64; 16];
    bad[10] = 1;
    fails(sys!(SYS_select, 1024, bad.as_mut_ptr(), 0, 0, 0), EBADF);
    fails(sys!(SYS_select, -1, 0, 0, 0, 0), EINVAL);
}

fn regular_files_are_always_ready() {
    let fd = crate::memory::memfd(0);
    let mut entries = [entry(fd, POLLIN | POLLOUT)];
    assert_eq!(poll(&mut entries, -1), Ok(1));
    assert_eq!(entries[0].revents, POLLIN | POLLOUT);
}
