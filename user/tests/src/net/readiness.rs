//! poll, select, epoll and signals of sockets.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use libc::*;

use super::{
    ONE, accept, bind, connect, listener, own_address, pair, ready, ready_within, receive, send,
    send_to, set, socket, tcp, v4,
};
use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    states_are_shown_as_they_are,
    an_edge_is_told_once_for_each_piece,
    a_level_is_told_while_it_lasts,
    a_listener_is_readable_while_somebody_waits,
    a_low_water_mark_is_waited_for,
    select_tells_of_sockets,
    a_poller_sleeps_until_there_is_room,
    a_signal_tells_of_bytes,
    one_acceptor_wakes_for_one_connection,
];

const ALL: i16 = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;

fn states_are_shown_as_they_are() {
    let fresh = tcp();
    assert_eq!(ready(fresh, ALL), POLLOUT | POLLHUP);
    let (server, address) = listener(1);
    assert_eq!(ready(server, ALL), 0);
    let client = tcp();
    connect(client, &address).unwrap();
    assert_eq!(ready(server, ALL), POLLIN);
    assert_eq!(ready(client, ALL), POLLOUT);
    let accepted = accept(server).unwrap();
    assert_eq!(ready(server, ALL), 0);
    assert_eq!(ready(accepted, ALL), POLLOUT);
    send(client, b"x", 0).unwrap();
    assert_eq!(ready(accepted, ALL), POLLIN | POLLOUT);
    let datagrams = socket(AF_INET, SOCK_DGRAM);
    assert_eq!(ready(datagrams, ALL), POLLOUT);
}

fn epoll_of(fd: i32, events: u32) -> i32 {
    let epoll = sys!(SYS_epoll_create1, 0).unwrap() as i32;
    let mut event = epoll_event { events, u64: 7 };
    sys!(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &raw mut event).unwrap();
    epoll
}

/// The events that are told within `millis`; 0 when none are.
fn events(epoll: i32, millis: i32) -> u32 {
    let mut event = epoll_event { events: 0, u64: 0 };
    match sys!(SYS_epoll_wait, epoll, &raw mut event, 1, millis).unwrap() {
        0 => 0,
        _ => event.events,
    }
}

const IN: u32 = EPOLLIN as u32;
const OUT: u32 = EPOLLOUT as u32;
const EDGE: u32 = EPOLLET as u32;

fn an_edge_is_told_once_for_each_piece() {
    let (client, server) = pair();
    let epoll = epoll_of(server, IN | EDGE);
    assert_eq!(events(epoll, 0), 0);
    send(client, b"one", 0).unwrap();
    assert_eq!(events(epoll, 5000), IN);
    assert_eq!(events(epoll, 0), 0);
    send(client, b"two", 0).unwrap();
    assert_eq!(events(epoll, 5000), IN);
    assert_eq!(receive(server, 10, 0).unwrap(), b"onetwo");
    assert_eq!(events(epoll, 0), 0);
    sys::close(client);
    assert_eq!(events(epoll, 5000), IN);
}

fn a_level_is_told_while_it_lasts() {
    let (client, server) = pair();
    let epoll = epoll_of(server, IN | OUT | EPOLLRDHUP as u32);
    assert_eq!(events(epoll, 0), OUT);
    send(client, b"x", 0).unwrap();
    for _ in 0..3 {
        assert_eq!(events(epoll, 5000), IN | OUT);
    }
    receive(server, 1, 0).unwrap();
    assert_eq!(events(epoll, 0), OUT);
    sys::close(client);
    assert_eq!(events(epoll, 5000), IN | OUT | EPOLLRDHUP as u32);
}

fn a_listener_is_readable_while_somebody_waits() {
    let (server, address) = listener(5);
    let epoll = epoll_of(server, IN);
    for _ in 0..2 {
        connect(tcp(), &address).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(events(epoll, 5000), IN);
        accept(server).unwrap();
    }
    assert_eq!(events(epoll, 0), 0);
}

fn a_low_water_mark_is_waited_for() {
    let (client, server) = pair();
    set(server, SOL_SOCKET, SO_RCVLOWAT, 5).unwrap();
    send(client, b"abcd", 0).unwrap();
    assert_eq!(ready(server, POLLIN), 0);
    let child = spawn(|| assert_eq!(ready_within(server, POLLIN, -1), POLLIN));
    until_asleep(child);
    send(client, b"e", 0).unwrap();
    assert_eq!(join(child), 0);
    assert_eq!(receive(server, 10, 0).unwrap(), b"abcde");
    send(client, b"fgh", 0).unwrap();
    fails(
        receive(server, 10, MSG_DONTWAIT)
            .map(|bytes| assert_eq!(bytes, b"fgh"))
            .and_then(|()| receive(server, 1, MSG_DONTWAIT)),
        EAGAIN,
    );
}

fn select_tells_of_sockets() {
    let (client, server) = pair();
    let (mut read, mut write) = ([0u64; 16], [0u64; 16]);
    let bit = |fd: i32| 1u64 << (fd % 64);
    send(client, b"x", 0).unwrap();
    let mut none = timeval { tv_sec: 0, tv_usec: 0 };
    read[server as usize / 64] |= bit(server);
    read[client as usize / 64] |= bit(client);
    write[client as usize / 64] |= bit(client);
    let n = sys!(SYS_select, 1024, read.as_mut_ptr(), write.as_mut_ptr(), 0, &raw mut none);
    assert_eq!(n, Ok(2));
    assert_eq!(read[server as usize / 64], bit(server));
    assert_eq!(write[client as usize / 64], bit(client));
}

fn a_poller_sleeps_until_there_is_room() {
    let (client, server) = pair();
    let data = vec![0; 1 << 20];
    let mut sent = 0;
    while let Ok(n) = send(client, &data, MSG_DONTWAIT) {
        sent += n;
    }
    let child = spawn(|| assert_eq!(ready_within(client, POLLOUT, -1), POLLOUT));
    until_asleep(child);
    while sent > 0 {
        sent -= receive(server, 1 << 20, 0).unwrap().len();
    }
    assert_eq!(join(child), 0);
}

static TOLD: AtomicU32 = AtomicU32::new(0);

extern "C" fn tell(_: i32) {
    TOLD.fetch_add(1, SeqCst);
}

fn a_signal_tells_of_bytes() {
    let (client, server) = pair();
    // SAFETY: the handler only counts.
    unsafe { signal(SIGIO, tell as *const () as usize) };
    sys!(SYS_fcntl, server, F_SETOWN, sys::getpid()).unwrap();
    sys!(SYS_fcntl, server, F_SETFL, O_RDWR | O_ASYNC).unwrap();
    send(client, b"x", 0).unwrap();
    assert!(TOLD.load(SeqCst) > 0);
    let before = TOLD.load(SeqCst);
    sys::close(client);
    assert!(TOLD.load(SeqCst) > before);
    let datagrams = socket(AF_INET, SOCK_DGRAM);
    bind(datagrams, &v4(ONE, 0)).unwrap();
    sys!(SYS_fcntl, datagrams, F_SETOWN, sys::getpid()).unwrap();
    sys!(SYS_fcntl, datagrams, F_SETFL, O_RDWR | O_ASYNC).unwrap();
    let before = TOLD.load(SeqCst);
    send_to(socket(AF_INET, SOCK_DGRAM), b"x", &own_address(datagrams)).unwrap();
    assert!(TOLD.load(SeqCst) > before);
}

fn one_acceptor_wakes_for_one_connection() {
    let (server, address) = listener(5);
    let children: Vec<i32> = (0..4)
        .map(|_| {
            let child = spawn(|| {
                accept(server).unwrap();
            });
            until_asleep(child);
            child
        })
        .collect();
    connect(tcp(), &address).unwrap();
    // One of them took it; the others sleep on.
    let mut status = 0i32;
    let first = sys!(SYS_wait4, -1, &raw mut status, 0, 0).unwrap() as i32;
    for child in children.iter().filter(|child| **child != first) {
        until_asleep(*child);
        assert_eq!(sys!(SYS_wait4, *child, 0, WNOHANG, 0), Ok(0));
    }
    for _ in 0..3 {
        connect(tcp(), &address).unwrap();
    }
    for child in children.into_iter().filter(|child| *child != first) {
        assert_eq!(join(child), 0);
    }
}
