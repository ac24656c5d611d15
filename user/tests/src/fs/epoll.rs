//! epoll(7).

use libc::*;

use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, pipe, read, sys, write};

pub const TESTS: &[Test] = tests![
    level_triggered_it_tells_as_long_as_it_is_so,
    edge_triggered_it_tells_once_for_each_event,
    one_shot_it_tells_once_until_armed_again,
    several_are_told_in_turn,
    hang_ups_are_told_unasked,
    registrations_are_changed_and_taken_back,
    what_cannot_be_waited_for_is_refused,
    a_closed_descriptor_is_forgotten,
    an_epoll_waits_for_another,
    a_waiter_is_woken_and_time_ends,
    exclusive_waiters_are_not_all_woken,
    of_exclusive_epolls_one_is_woken_for_each_event,
    a_nested_epoll_tells_again_when_the_inner_was_not_asked,
];

fn create() -> i32 {
    sys!(SYS_epoll_create1, EPOLL_CLOEXEC).unwrap() as i32
}

fn control(epoll: i32, operation: i32, fd: i32, events: i32, data: u64) -> sys::Result<usize> {
    let event = epoll_event { events: events as u32, u64: data };
    sys!(SYS_epoll_ctl, epoll, operation, fd, &raw const event)
}

/// Events and data of what is ready.
fn wait(epoll: i32, most: usize, millis: i32) -> Vec<(i32, u64)> {
    let mut events = vec![epoll_event { events: 0, u64: 0 }; most];
    let count = sys!(SYS_epoll_wait, epoll, events.as_mut_ptr(), most, millis).unwrap();
    events[..count].iter().map(|event| (event.events as i32, event.u64)).collect()
}

fn level_triggered_it_tells_as_long_as_it_is_so() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, EPOLLIN, 11).unwrap();
    assert_eq!(wait(epoll, 4, 0), []);
    write(writer, b"xy").unwrap();
    for _ in 0..3 {
        assert_eq!(wait(epoll, 4, -1), [(EPOLLIN, 11)]);
    }
    read(reader, &mut [0; 2]).unwrap();
    assert_eq!(wait(epoll, 4, 0), []);
}

fn edge_triggered_it_tells_once_for_each_event() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET, 5).unwrap();
    write(writer, b"x").unwrap();
    assert_eq!(wait(epoll, 4, -1), [(EPOLLIN, 5)]);
    assert_eq!(wait(epoll, 4, 0), []);
    write(writer, b"y").unwrap();
    assert_eq!(wait(epoll, 4, -1), [(EPOLLIN, 5)]);
    assert_eq!(wait(epoll, 4, 0), []);
}

fn one_shot_it_tells_once_until_armed_again() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLONESHOT, 5).unwrap();
    write(writer, b"x").unwrap();
    assert_eq!(wait(epoll, 4, -1).len(), 1);
    write(writer, b"y").unwrap();
    assert_eq!(wait(epoll, 4, 0), []);
    control(epoll, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLONESHOT, 6).unwrap();
    assert_eq!(wait(epoll, 4, -1), [(EPOLLIN, 6)]);
}

fn several_are_told_in_turn() {
    let epoll = create();
    let pipes: Vec<_> = (0..6).map(|_| pipe().unwrap()).collect();
    for (i, (reader, writer)) in pipes.iter().enumerate() {
        control(epoll, EPOLL_CTL_ADD, *reader, EPOLLIN, i as u64).unwrap();
        write(*writer, b"x").unwrap();
    }
    // Those that did not fit come first the next time.
    let mut seen: Vec<u64> =
        wait(epoll, 3, -1).into_iter().chain(wait(epoll, 3, -1)).map(|(_, data)| data).collect();
    seen.sort();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

fn hang_ups_are_told_unasked() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, 0, 1).unwrap();
    sys::close(writer);
    assert_eq!(wait(epoll, 4, -1), [(EPOLLHUP, 1)]);
}

fn registrations_are_changed_and_taken_back() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, writer, EPOLLOUT, 1).unwrap();
    control(epoll, EPOLL_CTL_MOD, writer, EPOLLIN, 2).unwrap();
    assert_eq!(wait(epoll, 4, 0), []);
    fails(control(epoll, EPOLL_CTL_ADD, writer, EPOLLIN, 1), EEXIST);
    fails(control(epoll, EPOLL_CTL_MOD, reader, EPOLLIN, 1), ENOENT);
    control(epoll, EPOLL_CTL_DEL, writer, 0, 0).unwrap();
    fails(control(epoll, EPOLL_CTL_DEL, writer, 0, 0), ENOENT);
}

fn what_cannot_be_waited_for_is_refused() {
    let epoll = create();
    let file = crate::sys::open("/etc/passwd", O_RDONLY, 0).unwrap();
    fails(control(epoll, EPOLL_CTL_ADD, file, EPOLLIN, 0), EPERM);
    fails(control(epoll, EPOLL_CTL_ADD, 777, EPOLLIN, 0), EBADF);
    fails(control(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN, 0), EINVAL);
    fails(control(file, EPOLL_CTL_ADD, epoll, EPOLLIN, 0), EINVAL);
    fails(control(epoll, 99, pipe().unwrap().0, EPOLLIN, 0), EINVAL);
    let mut event = epoll_event { events: 0, u64: 0 };
    fails(sys!(SYS_epoll_wait, epoll, &raw mut event, 0, 0), EINVAL);
    fails(sys!(SYS_epoll_create1, 1), EINVAL);
    fails(sys!(SYS_epoll_create, 0), EINVAL);
}

fn a_closed_descriptor_is_forgotten() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, EPOLLIN, 1).unwrap();
    write(writer, b"x").unwrap();
    let copy = sys!(SYS_dup, reader).unwrap() as i32;
    sys::close(reader);
    // The file is still open.
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, 1)]);
    sys::close(copy);
    assert_eq!(wait(epoll, 4, 0), []);
}

fn an_epoll_waits_for_another() {
    let (inner, outer) = (create(), create());
    let (reader, writer) = pipe().unwrap();
    control(inner, EPOLL_CTL_ADD, reader, EPOLLIN, 1).unwrap();
    control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2).unwrap();
    assert_eq!(wait(outer, 4, 0), []);
    write(writer, b"x").unwrap();
    assert_eq!(wait(outer, 4, -1), [(EPOLLIN, 2)]);
    fails(control(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 3), ELOOP);
    let mut entry = pollfd { fd: outer, events: POLLIN, revents: 0 };
    assert_eq!(sys!(SYS_poll, &raw mut entry, 1, 0), Ok(1));
}

fn a_waiter_is_woken_and_time_ends() {
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, EPOLLIN, 1).unwrap();
    let begin = sys::monotonic();
    assert_eq!(wait(epoll, 4, 20), []);
    assert!(sys::monotonic() - begin >= 20_000_000);
    let child = spawn(|| assert_eq!(wait(epoll, 4, -1).len(), 1));
    until_asleep(child);
    write(writer, b"x").unwrap();
    assert_eq!(join(child), 0);
}

fn exclusive_waiters_are_not_all_woken() {
    // Two waiters on one epoll: one event wakes one of them.
    let epoll = create();
    let (reader, writer) = pipe().unwrap();
    control(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET, 1).unwrap();
    let children: Vec<i32> =
        (0..2).map(|_| spawn(|| assert_eq!(wait(epoll, 1, -1).len(), 1))).collect();
    for child in &children {
        until_asleep(*child);
    }
    write(writer, b"x").unwrap();
    assert_eq!(join(-1), 0);
    write(writer, b"y").unwrap();
    assert_eq!(join(-1), 0);
}

/// Eight children wait for `fd`, each with an exclusive epoll of its own.
fn eight_waiters(fd: i32) -> Vec<i32> {
    let wait_for = || {
        let epoll = create();
        control(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 1).unwrap();
        assert_eq!(wait(epoll, 1, -1).len(), 1);
    };
    let children: Vec<i32> = (0..8).map(|_| spawn(wait_for)).collect();
    children.iter().for_each(|child| until_asleep(*child));
    children
}

/// Those of the children that still sleep when one has ended.
fn asleep_after_one(children: &[i32]) -> usize {
    assert_eq!(join(-1), 0);
    children.iter().filter(|child| crate::child::state_of(**child) == Some('S')).count()
}

fn of_exclusive_epolls_one_is_woken_for_each_event() {
    let end = |children: &[i32]| {
        for child in children {
            let _ = sys::kill(*child, SIGKILL);
        }
        while sys::wait_for(-1).is_ok() {}
    };
    let (reader, writer) = pipe().unwrap();
    let children = eight_waiters(reader);
    write(writer, b"x").unwrap();
    assert_eq!(asleep_after_one(&children), 7, "pipe");
    // The end of the last writer is for all.
    sys::close(writer);
    end(&children);

    let event = sys!(SYS_eventfd2, 0, 0).unwrap() as i32;
    let children = eight_waiters(event);
    write(event, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(asleep_after_one(&children), 7, "eventfd");
    end(&children);

    let timer = sys!(SYS_timerfd_create, CLOCK_MONOTONIC, 0).unwrap() as i32;
    let children = eight_waiters(timer);
    let value = [sys::timespec(0), sys::timespec(1)];
    sys!(SYS_timerfd_settime, timer, 0, value.as_ptr(), 0).unwrap();
    assert_eq!(asleep_after_one(&children), 7, "timerfd");
    end(&children);

    let mut pair = [0i32; 2];
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        sys!(SYS_socketpair, AF_UNIX, kind, 0, pair.as_mut_ptr()).unwrap();
        let children = eight_waiters(pair[0]);
        write(pair[1], b"x").unwrap();
        assert_eq!(asleep_after_one(&children), 7, "socket of kind {kind}");
        end(&children);
    }
}

fn a_nested_epoll_tells_again_when_the_inner_was_not_asked() {
    let (inner, outer) = (create(), create());
    let (reader, writer) = pipe().unwrap();
    control(inner, EPOLL_CTL_ADD, reader, EPOLLIN, 1).unwrap();
    control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2).unwrap();
    for _ in 0..3 {
        write(writer, b"x").unwrap();
        assert_eq!(wait(outer, 4, 5000), [(EPOLLIN, 2)]);
        read(reader, &mut [0; 1]).unwrap();
        assert_eq!(wait(outer, 4, 0), []);
    }
    // Also edge-triggered, and for who sleeps.
    control(outer, EPOLL_CTL_MOD, inner, EPOLLIN | EPOLLET, 3).unwrap();
    for _ in 0..3 {
        let child = spawn(|| assert_eq!(wait(outer, 4, -1), [(EPOLLIN, 3)]));
        until_asleep(child);
        write(writer, b"x").unwrap();
        assert_eq!(join(child), 0);
        read(reader, &mut [0; 1]).unwrap();
    }
}
