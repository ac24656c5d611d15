//! eventfd and signalfd.

use libc::*;

use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::signal;
use crate::sys::{self, fails, read, sys, write};

pub const TESTS: &[Test] = tests![
    an_eventfd_adds_up_and_is_emptied,
    an_eventfd_may_count_one_by_one,
    an_eventfd_wakes_its_reader,
    an_eventfd_wakes_its_writer_when_there_is_room,
    a_signalfd_gives_blocked_signals,
    a_signalfd_takes_another_set,
    a_signalfd_is_polled_and_wakes,
];

fn eventfd(count: u32, flags: i32) -> i32 {
    sys!(SYS_eventfd2, count, flags).unwrap() as i32
}

fn take(fd: i32) -> sys::Result<u64> {
    let mut bytes = [0; 8];
    read(fd, &mut bytes).map(|_| u64::from_ne_bytes(bytes))
}

fn add(fd: i32, count: u64) -> sys::Result<usize> {
    write(fd, &count.to_ne_bytes())
}

fn an_eventfd_adds_up_and_is_emptied() {
    let fd = eventfd(3, EFD_NONBLOCK);
    add(fd, 4).unwrap();
    assert_eq!(take(fd), Ok(7));
    fails(take(fd), EAGAIN);
    fails(add(fd, u64::MAX), EINVAL);
    fails(write(fd, &[0; 4]), EINVAL);
    fails(read(fd, &mut [0; 4]), EINVAL);
    add(fd, u64::MAX - 1).unwrap();
    fails(add(fd, 1), EAGAIN);
}

fn an_eventfd_may_count_one_by_one() {
    let fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    assert_eq!((take(fd), take(fd)), (Ok(1), Ok(1)));
    fails(take(fd), EAGAIN);
    fails(sys!(SYS_eventfd2, 0, 0x40), EINVAL);
}

fn an_eventfd_wakes_its_reader() {
    let fd = eventfd(0, 0);
    let child = spawn(|| assert_eq!(take(fd), Ok(5)));
    until_asleep(child);
    add(fd, 5).unwrap();
    assert_eq!(join(child), 0);
}

fn an_eventfd_wakes_its_writer_when_there_is_room() {
    let fd = eventfd(0, 0);
    add(fd, u64::MAX - 1).unwrap();
    let child = spawn(|| {
        add(fd, 5).unwrap();
    });
    until_asleep(child);
    assert_eq!(take(fd), Ok(u64::MAX - 1));
    assert_eq!(join(child), 0);
    assert_eq!(take(fd), Ok(5));
}

fn signalfd(fd: i32, signals: &[i32], flags: i32) -> sys::Result<i32> {
    let set = signal::set_of(signals);
    sys!(SYS_signalfd4, fd, &raw const set, 8, flags).map(|fd| fd as i32)
}

fn a_signalfd_gives_blocked_signals() {
    signal::block(&[SIGUSR1, SIGUSR2]);
    let fd = signalfd(-1, &[SIGUSR1], SFD_NONBLOCK).unwrap();
    let mut record = [0u8; 128];
    fails(read(fd, &mut record), EAGAIN);
    sys::kill(sys::getpid(), SIGUSR2).unwrap();
    fails(read(fd, &mut record), EAGAIN);
    sys::kill(sys::getpid(), SIGUSR1).unwrap();
    assert_eq!(read(fd, &mut record), Ok(128));
    let word = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap());
    assert_eq!(
        (word(0) as i32, word(8) as i32, word(12) as i32),
        (SIGUSR1, SI_USER, sys::getpid())
    );
    assert_eq!(signal::pending(), signal::set_of(&[SIGUSR2]));
    fails(read(fd, &mut [0; 100]), EINVAL);
}

fn a_signalfd_takes_another_set() {
    signal::block(&[SIGUSR1, SIGUSR2]);
    let fd = signalfd(-1, &[SIGUSR1], SFD_NONBLOCK).unwrap();
    assert_eq!(signalfd(fd, &[SIGUSR2], 0), Ok(fd));
    sys::kill(sys::getpid(), SIGUSR2).unwrap();
    assert_eq!(read(fd, &mut [0; 128]), Ok(128));
    let other = eventfd(0, 0);
    fails(signalfd(other, &[SIGUSR1], 0), EINVAL);
}

fn a_signalfd_is_polled_and_wakes() {
    signal::block(&[SIGUSR1]);
    let fd = signalfd(-1, &[SIGUSR1], 0).unwrap();
    let mut entry = pollfd { fd, events: POLLIN, revents: 0 };
    assert_eq!(sys!(SYS_poll, &raw mut entry, 1, 0), Ok(0));
    let parent = sys::getpid();
    let child = spawn(|| {
        until_asleep(parent);
        sys::kill(parent, SIGUSR1).unwrap();
    });
    assert_eq!(read(fd, &mut [0; 128]), Ok(128));
    assert_eq!(join(child), 0);
    sys::kill(parent, SIGUSR1).unwrap();
    assert_eq!(sys!(SYS_poll, &raw mut entry, 1, -1), Ok(1));
}
