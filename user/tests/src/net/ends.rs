//! How TCP connections end.

use libc::*;

use super::{
    accept, bind, connect, listen_on, listener, option, own_address, pair, peer_address, ready,
    receive, send, tcp,
};
use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    an_end_is_read_after_the_bytes,
    half_of_a_connection_can_be_shut,
    unread_bytes_reset_a_connection,
    a_linger_of_nothing_resets,
    bytes_before_a_reset_are_read,
    a_write_to_who_has_gone_is_told_by_the_next,
    a_broken_connection_raises_sigpipe,
    a_sleeping_reader_wakes_at_the_end,
    a_closed_listener_resets_who_waits,
    a_shut_listener_listens_no_more,
    a_connection_can_be_dissolved,
    a_client_that_left_is_accepted_with_its_bytes,
];

fn shut(fd: i32, how: i32) -> crate::sys::Result<usize> {
    sys!(SYS_shutdown, fd, how)
}

const ALL: i16 = POLLIN | POLLOUT | POLLRDHUP;

fn an_end_is_read_after_the_bytes() {
    let (client, server) = pair();
    send(client, b"last words", 0).unwrap();
    sys::close(client);
    assert_eq!(ready(server, ALL), ALL);
    assert_eq!(receive(server, 4, 0).unwrap(), b"last");
    assert_eq!(receive(server, 20, 0).unwrap(), b" words");
    assert_eq!(receive(server, 20, 0).unwrap(), b"");
    assert_eq!(receive(server, 20, 0).unwrap(), b"");
    assert!(peer_address(server).is_ok());
}

fn half_of_a_connection_can_be_shut() {
    let (client, server) = pair();
    shut(client, SHUT_WR).unwrap();
    fails(send(client, b"x", 0), EPIPE);
    assert_eq!(receive(server, 1, 0).unwrap(), b"");
    assert_eq!(ready(server, ALL), ALL);
    assert_eq!(ready(client, ALL), POLLOUT);
    send(server, b"still here", 0).unwrap();
    assert_eq!(receive(client, 20, 0).unwrap(), b"still here");
    shut(server, SHUT_WR).unwrap();
    assert_eq!(ready(server, ALL), ALL | POLLHUP);
    assert_eq!(ready(client, ALL), ALL | POLLHUP);
    fails(shut(client, SHUT_WR), ENOTCONN);
    fails(shut(tcp(), SHUT_RDWR), ENOTCONN);
    // What comes after SHUT_RD can still be read.
    let (client, server) = pair();
    shut(server, SHUT_RD).unwrap();
    assert_eq!(receive(server, 1, 0).unwrap(), b"");
    send(client, b"late", 0).unwrap();
    assert_eq!(receive(server, 10, 0).unwrap(), b"late");
    fails(shut(server, 3), EINVAL);
}

fn unread_bytes_reset_a_connection() {
    let (client, server) = pair();
    send(client, b"nobody reads this", 0).unwrap();
    sys::close(server);
    assert_eq!(ready(client, ALL), ALL | POLLERR | POLLHUP);
    fails(receive(client, 1, 0), ECONNRESET);
    assert_eq!(receive(client, 1, 0).unwrap(), b"");
    fails(send(client, b"x", 0), EPIPE);
    fails(peer_address(client), ENOTCONN);
    let (client, server) = pair();
    send(client, b"nor this", 0).unwrap();
    sys::close(server);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), ECONNRESET);
    assert_eq!(receive(client, 1, 0).unwrap(), b"");
}

fn a_linger_of_nothing_resets() {
    let (client, server) = pair();
    let off = [1i32, 0];
    sys!(SYS_setsockopt, client, SOL_SOCKET, SO_LINGER, off.as_ptr(), 8).unwrap();
    let address = own_address(client);
    sys::close(client);
    fails(send(server, b"x", 0), ECONNRESET);
    fails(send(server, b"x", 0), EPIPE);
    // The port is free at once.
    bind(tcp(), &address).unwrap();
}

fn bytes_before_a_reset_are_read() {
    let (client, server) = pair();
    send(server, b"unread", 0).unwrap();
    send(client, b"read", 0).unwrap();
    sys::close(client);
    assert_eq!(receive(server, 10, 0).unwrap(), b"read");
    fails(receive(server, 10, 0), ECONNRESET);
    assert_eq!(receive(server, 10, 0).unwrap(), b"");
}

fn a_write_to_who_has_gone_is_told_by_the_next() {
    let (client, server) = pair();
    sys::close(server);
    assert_eq!(ready(client, ALL), ALL);
    assert_eq!(send(client, b"lost", 0), Ok(4));
    assert_eq!(ready(client, ALL), ALL | POLLERR | POLLHUP);
    assert_eq!(receive(client, 1, 0).unwrap(), b"");
    fails(send(client, b"x", 0), EPIPE);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
}

fn a_broken_connection_raises_sigpipe() {
    let (client, server) = pair();
    sys::close(server);
    let child = spawn(|| {
        sys!(SYS_rt_sigaction, SIGPIPE, std::ptr::null::<u8>(), 0, 8).unwrap();
        // The harness's own runtime ignores the signal.
        // SAFETY: the default action needs no handler.
        unsafe { signal(SIGPIPE, SIG_DFL) };
        sys::write(client, b"x").unwrap();
        let _ = sys::write(client, b"x");
    });
    assert_eq!(join(child), 128 + SIGPIPE);
}

fn a_sleeping_reader_wakes_at_the_end() {
    for reset in [false, true] {
        let (client, server) = pair();
        let child = spawn(|| {
            sys::close(client);
            match receive(server, 1, 0) {
                Ok(bytes) => assert!(!reset && bytes.is_empty()),
                Err(error) => assert!(reset && error.0 == ECONNRESET, "{error}"),
            }
        });
        until_asleep(child);
        let linger = [i32::from(reset), 0];
        sys!(SYS_setsockopt, client, SOL_SOCKET, SO_LINGER, linger.as_ptr(), 8).unwrap();
        sys::close(client);
        assert_eq!(join(child), 0);
    }
}

fn a_closed_listener_resets_who_waits() {
    let (server, address) = listener(5);
    let client = tcp();
    connect(client, &address).unwrap();
    send(client, b"hello?", 0).unwrap();
    sys::close(server);
    fails(receive(client, 1, 0), ECONNRESET);
    fails(connect(tcp(), &address), ECONNREFUSED);
}

fn a_shut_listener_listens_no_more() {
    let (server, address) = listener(5);
    let child = spawn(|| fails(accept(server), EINVAL));
    until_asleep(child);
    shut(server, SHUT_WR).unwrap();
    shut(server, SHUT_RD).unwrap();
    assert_eq!(join(child), 0);
    fails(connect(tcp(), &address), ECONNREFUSED);
    // Listening again it has another port, since the kernel had chosen the first.
    listen_on(server, 5).unwrap();
    connect(tcp(), &own_address(server)).unwrap();
}

fn a_connection_can_be_dissolved() {
    let (client, server) = pair();
    let nobody = [0u8; 16];
    connect(client, &nobody).unwrap();
    fails(receive(server, 1, 0), ECONNRESET);
    fails(peer_address(client), ENOTCONN);
    fails(receive(client, 1, 0), ECONNRESET);
    fails(receive(client, 1, 0), ENOTCONN);
    let (again, address) = listener(1);
    connect(client, &address).unwrap();
    let accepted = accept(again).unwrap();
    send(client, b"new", 0).unwrap();
    assert_eq!(receive(accepted, 10, 0).unwrap(), b"new");
}

fn a_client_that_left_is_accepted_with_its_bytes() {
    let (server, address) = listener(5);
    let client = tcp();
    connect(client, &address).unwrap();
    let name = own_address(client);
    send(client, b"hello", 0).unwrap();
    sys::close(client);
    let (mut bytes, mut len) = ([0u8; 128], 128u32);
    let accepted = sys!(SYS_accept, server, bytes.as_mut_ptr(), &raw mut len).unwrap() as i32;
    assert_eq!(bytes[..len as usize], name);
    assert_eq!(receive(accepted, 20, 0).unwrap(), b"hello");
    assert_eq!(receive(accepted, 20, 0).unwrap(), b"");
}
