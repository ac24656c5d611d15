//! Crowds at one place: what the kernel keeps of each lies with whoever is in it.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use crate::child::{join, run, spawn};
use crate::harness::{Test, on_proxima_only, tests};
use crate::memory::{map_shared, memfd, word};
use crate::perf::{Attr, INHERIT, MINOR};
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    each_of_two_thousand_readers_gets_a_byte,
    two_thousand_timers_of_one_moment_all_come,
    a_thousand_inherited_events_count,
    locks_of_a_file_cost_no_more_each_however_many,
];

const CROWD: usize = 2000;

fn allow_descriptors() {
    let limits = [8192u64, 8192];
    sys!(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, limits.as_ptr()).unwrap();
}

fn each_of_two_thousand_readers_gets_a_byte() {
    let (reader, writer) = sys::pipe().unwrap();
    let counted = map_shared(1);
    let (asleep, woken) = (word(counted), word(counted + 64));
    let threads: Vec<_> = (0..CROWD)
        .map(|_| {
            let read = move || {
                let mut byte = [0u8];
                asleep.fetch_add(1, SeqCst);
                assert_eq!(sys::read(reader, &mut byte), Ok(1));
                woken.fetch_add(1, SeqCst);
            };
            std::thread::Builder::new().stack_size(32768).spawn(read).unwrap()
        })
        .collect();
    while asleep.load(SeqCst) < CROWD as u32 {
        std::thread::yield_now();
    }
    for _ in 0..CROWD / 2 {
        assert_eq!(sys::write(writer, b"x"), Ok(1));
    }
    assert_eq!(sys::write(writer, &[1; CROWD / 2]), Ok(CROWD / 2));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(woken.load(SeqCst), CROWD as u32);
}

fn two_thousand_timers_of_one_moment_all_come() {
    allow_descriptors();
    let moment = sys::monotonic() + 300_000_000;
    let poll = sys!(libc::SYS_epoll_create1, 0).unwrap();
    let timers: Vec<i32> = (0..CROWD)
        .map(|_| {
            let fd = sys!(libc::SYS_timerfd_create, libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
            let fd = fd.unwrap() as i32;
            let value = [sys::timespec(0), sys::timespec(moment)];
            let flags = libc::TFD_TIMER_ABSTIME;
            sys!(libc::SYS_timerfd_settime, fd, flags, value.as_ptr(), 0).unwrap();
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
            let ctl = libc::EPOLL_CTL_ADD;
            sys!(libc::SYS_epoll_ctl, poll, ctl, fd, &raw mut event).unwrap();
            fd
        })
        .collect();
    // One is taken back in time.
    let none = [0u64; 4];
    sys!(libc::SYS_timerfd_settime, timers[CROWD / 2], 0, none.as_ptr(), 0).unwrap();
    let mut seen = std::collections::HashSet::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
    while seen.len() < CROWD - 1 {
        let (at, most) = (events.as_mut_ptr(), events.len());
        let count = sys!(libc::SYS_epoll_wait, poll, at, most, 10_000).unwrap();
        assert!(count > 0, "only {} came", seen.len());
        for event in &events[..count] {
            let mut expirations = [0u8; 8];
            assert_eq!(sys::read(event.u64 as i32, &mut expirations), Ok(8));
            assert_eq!(expirations[0], 1);
            assert!(seen.insert(event.u64));
        }
    }
    assert!(sys::monotonic() >= moment);
    assert!(!seen.contains(&(timers[CROWD / 2] as u64)));
}

fn a_thousand_inherited_events_count() {
    const EVENTS: usize = 1100;
    allow_descriptors();
    run(|| {
        let mut attr = Attr::software(MINOR).flags(INHERIT);
        let events: Vec<i32> =
            (0..EVENTS).map(|_| attr.try_open(0, -1, -1, 0).unwrap() as i32).collect();
        let count = |fd: i32| {
            let mut value = [0u8; 8];
            assert_eq!(sys::read(fd, &mut value), Ok(8));
            u64::from_ne_bytes(value)
        };
        let before = count(events[EVENTS - 1]);
        for _ in 0..3 {
            let child = spawn(|| crate::memory::touch(crate::memory::map(10), 10));
            assert_eq!(join(child), 0);
        }
        let counts: Vec<u64> = events.iter().map(|&fd| count(fd)).collect();
        assert!(counts[EVENTS - 1] >= before + 30, "{before} and then {}", counts[EVENTS - 1]);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        // They differ by the faults between their openings and their readings only.
        assert!(most - least < 3000, "{least} to {most}");
    });
}

fn locks_of_a_file_cost_no_more_each_however_many() {
    on_proxima_only("Linux walks the list of a file's locks for each");
    let each = |count: usize| {
        let fd = memfd(1);
        let start = Instant::now();
        for round in [libc::F_WRLCK, libc::F_UNLCK] {
            for at in 0..count {
                let mut lock: libc::flock = sys::zeroed();
                (lock.l_type, lock.l_start, lock.l_len) = (round as i16, 2 * at as i64, 1);
                sys!(libc::SYS_fcntl, fd, libc::F_SETLK, &raw const lock).unwrap();
            }
        }
        let took = start.elapsed().as_nanos() / count as u128;
        sys::close(fd);
        took
    };
    let least = |count| (0..3).map(|_| each(count)).min().expect("three");
    let (few, many) = (least(500), least(20_000));
    assert!(many < few * 5, "{few} ns each of 500, {many} ns each of 20,000");
}
