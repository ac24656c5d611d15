//! TCP: connections, bytes, and what can be asked of them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use libc::*;

use super::{
    LOOPBACK6, ONE, accept, bind, connect, count, listen_on, listener, mapped, option, own_address,
    pair, peer_address, port, ready, ready_within, receive, send, set, socket, tcp, v4, v6,
};
use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::random::Random;
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_server_answers_a_client,
    both_ends_know_each_others_addresses,
    a_megabyte_arrives_as_it_was_sent,
    a_connect_to_nobody_is_refused,
    unreachable_addresses_are_told,
    a_connect_that_does_not_wait_is_told_later,
    two_families_meet_on_one_socket,
    what_is_peeked_at_stays,
    waiting_for_all_waits_for_all,
    a_receiver_waits_until_its_time_is_over,
    a_sender_waits_for_room,
    the_backlog_holds_one_more_than_it_says,
    accepted_sockets_have_their_listeners_options,
    splice_and_sendfile_reach_a_socket,
    vectors_of_messages_go_at_once,
    sockets_that_are_not_there,
];

fn a_server_answers_a_client() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, from) = server.accept().unwrap();
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        stream.write_all(request.to_uppercase().as_bytes()).unwrap();
        from
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HELLO");
    assert_eq!(thread.join().unwrap(), client.local_addr().unwrap());
}

fn both_ends_know_each_others_addresses() {
    let (client, server) = pair();
    assert_eq!(own_address(client), peer_address(server).unwrap());
    assert_eq!(own_address(server), peer_address(client).unwrap());
    assert_eq!(own_address(server)[4..8], ONE);
    let free = port(&own_address(client));
    assert!((32_768..=60_999).contains(&free), "port {free}");
    let fresh = tcp();
    assert_eq!(own_address(fresh), v4([0; 4], 0));
    fails(peer_address(fresh), ENOTCONN);
    // Any of the network's addresses is this host, and answers come from the first.
    let listener = tcp();
    bind(listener, &v4([127, 9, 8, 7], 0)).unwrap();
    listen_on(listener, 1).unwrap();
    let client = tcp();
    connect(client, &own_address(listener)).unwrap();
    assert_eq!(own_address(client)[4..8], ONE);
}

fn a_megabyte_arrives_as_it_was_sent() {
    let mut random = Random::new(7);
    let data: Vec<u8> = (0..1 << 20).map(|_| random.next() as u8).collect();
    let (client, server) = pair();
    let copy = data.clone();
    let writer = thread::spawn(move || {
        let mut at = 0;
        while at < copy.len() {
            let step = (random.next() as usize % 30_000 + 1).min(copy.len() - at);
            at += send(client, &copy[at..at + step], 0).unwrap();
        }
        sys::close(client);
    });
    let mut random = Random::new(8);
    let mut got = Vec::new();
    loop {
        let some = receive(server, random.next() as usize % 50_000 + 1, 0).unwrap();
        if some.is_empty() {
            break;
        }
        got.extend(some);
    }
    writer.join().unwrap();
    assert!(got == data, "{} bytes of {}", got.len(), data.len());
}

fn a_connect_to_nobody_is_refused() {
    let (server, address) = listener(1);
    sys::close(server);
    let client = tcp();
    fails(connect(client, &address), ECONNREFUSED);
    // The socket can be used again.
    let (_server, address) = listener(1);
    connect(client, &address).unwrap();
    fails(connect(client, &address), EISCONN);
    // A bound socket that does not listen takes nobody.
    let bound = tcp();
    bind(bound, &v4(ONE, 0)).unwrap();
    fails(connect(tcp(), &own_address(bound)), ECONNREFUSED);
}

fn unreachable_addresses_are_told() {
    fails(connect(tcp(), &v4([192, 0, 2, 1], 80)), ENETUNREACH);
    fails(connect(tcp(), &v4([127, 255, 255, 255], 80)), ENETUNREACH);
    fails(connect(tcp(), &v4([224, 0, 0, 1], 80)), ENETUNREACH);
    let mut documented = LOOPBACK6;
    documented[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    fails(connect(socket(AF_INET6, SOCK_STREAM), &v6(documented, 80)), ENETUNREACH);
    fails(connect(tcp(), &v4(ONE, 80)[..15]), EINVAL);
    fails(connect(tcp(), &v6(LOOPBACK6, 80)), EAFNOSUPPORT);
    fails(connect(socket(AF_INET6, SOCK_STREAM), &v4(ONE, 80)), EINVAL);
    fails(bind(tcp(), &v4([192, 0, 2, 1], 0)), EADDRNOTAVAIL);
    fails(bind(tcp(), &v6(LOOPBACK6, 0)), EAFNOSUPPORT);
    fails(bind(tcp(), &v4(ONE, 0)[..10]), EINVAL);
}

fn a_connect_that_does_not_wait_is_told_later() {
    let (server, address) = listener(1);
    let client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    fails(connect(client, &address), EINPROGRESS);
    assert_eq!(ready_within(client, POLLOUT, 10_000), POLLOUT);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
    connect(client, &address).unwrap();
    fails(connect(client, &address), EISCONN);
    sys::close(server);
    let client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    fails(connect(client, &address), EINPROGRESS);
    let all = POLLIN | POLLOUT | POLLRDHUP;
    assert_eq!(ready_within(client, all, 10_000), all | POLLERR | POLLHUP);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), 0);
    fails(connect(client, &address), ECONNABORTED);
    fails(connect(client, &address), EINPROGRESS);
    ready_within(client, POLLOUT, 10_000);
    fails(connect(client, &address), ECONNREFUSED);
}

fn two_families_meet_on_one_socket() {
    let server = socket(AF_INET6, SOCK_STREAM);
    bind(server, &v6([0; 16], 0)).unwrap();
    listen_on(server, 5).unwrap();
    let port = port(&own_address(server));
    let old = tcp();
    connect(old, &v4(ONE, port)).unwrap();
    let accepted = accept(server).unwrap();
    assert_eq!(peer_address(accepted).unwrap()[8..24], mapped(ONE));
    assert_eq!(own_address(accepted)[8..24], mapped(ONE));
    let new = socket(AF_INET6, SOCK_STREAM);
    connect(new, &v6(LOOPBACK6, port)).unwrap();
    let accepted = accept(server).unwrap();
    assert_eq!(peer_address(accepted).unwrap()[8..24], LOOPBACK6);
    let both = socket(AF_INET6, SOCK_STREAM);
    connect(both, &v6(mapped(ONE), port)).unwrap();
    assert_eq!(own_address(both)[8..24], mapped(ONE));
    // With IPV6_V6ONLY it is of one family.
    let only = socket(AF_INET6, SOCK_STREAM);
    set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1).unwrap();
    bind(only, &v6([0; 16], 0)).unwrap();
    fails(set(only, IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
    listen_on(only, 5).unwrap();
    let port = super::port(&own_address(only));
    fails(connect(tcp(), &v4(ONE, port)), ECONNREFUSED);
    connect(socket(AF_INET6, SOCK_STREAM), &v6(LOOPBACK6, port)).unwrap();
    let old = tcp();
    bind(old, &v4([0; 4], port)).unwrap();
    fails(connect(only, &v6(mapped(ONE), port)), EISCONN);
}

fn what_is_peeked_at_stays() {
    let (client, server) = pair();
    send(client, b"abcdef", 0).unwrap();
    assert_eq!(receive(server, 3, MSG_PEEK).unwrap(), b"abc");
    assert_eq!(count(server, FIONREAD), 6);
    assert_eq!(receive(server, 2, 0).unwrap(), b"ab");
    assert_eq!(receive(server, 10, MSG_PEEK).unwrap(), b"cdef");
    // MSG_TRUNC throws away.
    let mut bytes = [b'-'; 3];
    let n = sys!(SYS_recvfrom, server, bytes.as_mut_ptr(), 3, MSG_TRUNC, 0, 0).unwrap();
    assert_eq!((n, &bytes), (3, b"---"));
    assert_eq!(receive(server, 10, 0).unwrap(), b"f");
    fails(receive(server, 10, MSG_DONTWAIT), EAGAIN);
    fails(receive(server, 10, MSG_OOB), EINVAL);
}

fn waiting_for_all_waits_for_all() {
    let (client, server) = pair();
    let child = spawn(|| {
        assert_eq!(receive(server, 6, MSG_WAITALL).unwrap(), b"abcdef");
        assert_eq!(receive(server, 6, MSG_WAITALL).unwrap(), b"gh");
    });
    until_asleep(child);
    send(client, b"abc", 0).unwrap();
    // Whether it woke or not: it must sleep again, with three bytes.
    until_asleep(child);
    assert_eq!(sys!(SYS_wait4, child, 0, WNOHANG, 0), Ok(0));
    send(client, b"defgh", 0).unwrap();
    sys!(SYS_shutdown, client, SHUT_WR).unwrap();
    assert_eq!(join(child), 0);
}

fn a_receiver_waits_until_its_time_is_over() {
    let (_client, server) = pair();
    let limit = timeval { tv_sec: 0, tv_usec: 50_000 };
    sys!(SYS_setsockopt, server, SOL_SOCKET, SO_RCVTIMEO, &raw const limit, 16).unwrap();
    let start = std::time::Instant::now();
    fails(receive(server, 1, 0), EAGAIN);
    assert!(start.elapsed().as_millis() >= 50);
    let (listener, _) = listener(1);
    sys!(SYS_setsockopt, listener, SOL_SOCKET, SO_RCVTIMEO, &raw const limit, 16).unwrap();
    fails(accept(listener), EAGAIN);
}

fn a_sender_waits_for_room() {
    let (client, server) = pair();
    let data = vec![1; 1 << 20];
    let mut sent = 0;
    loop {
        match send(client, &data, MSG_DONTWAIT) {
            Ok(n) => sent += n,
            Err(error) => {
                assert_eq!(error.0, EAGAIN);
                break;
            }
        }
        assert!(sent < 64 << 20, "no end of room");
    }
    assert!(sent > 100_000, "room for {sent} bytes only");
    assert_eq!(ready(client, POLLOUT), 0);
    let child = spawn(|| {
        send(client, &data, 0).unwrap();
    });
    until_asleep(child);
    let mut left = sent + data.len();
    while left > 0 {
        left -= receive(server, 1 << 20, 0).unwrap().len();
    }
    assert_eq!(join(child), 0);
    assert_eq!(ready(client, POLLOUT), POLLOUT);
    fails(receive(server, 1, MSG_DONTWAIT), EAGAIN);
}

fn the_backlog_holds_one_more_than_it_says() {
    let (server, address) = listener(1);
    let clients: Vec<i32> = (0..2)
        .map(|_| {
            let client = tcp();
            connect(client, &address).unwrap();
            client
        })
        .collect();
    let late = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    fails(connect(late, &address), EINPROGRESS);
    assert_eq!(ready(late, POLLOUT), 0);
    fails(connect(late, &address), EALREADY);
    for client in clients {
        let accepted = accept(server).unwrap();
        assert_eq!(peer_address(accepted).unwrap(), own_address(client));
    }
    assert_eq!(ready_within(late, POLLOUT, 20_000), POLLOUT);
    let accepted = accept(server).unwrap();
    send(late, b"x", 0).unwrap();
    assert_eq!(receive(accepted, 1, 0).unwrap(), b"x");
}

fn accepted_sockets_have_their_listeners_options() {
    let (server, address) = listener(1);
    set(server, SOL_SOCKET, SO_KEEPALIVE, 1).unwrap();
    set(server, IPPROTO_TCP, TCP_NODELAY, 1).unwrap();
    set(server, SOL_SOCKET, SO_RCVBUF, 30_000).unwrap();
    let client = tcp();
    connect(client, &address).unwrap();
    let accepted = accept(server).unwrap();
    assert_eq!(option(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_eq!(option(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_eq!(option(accepted, SOL_SOCKET, SO_RCVBUF), 60_000);
    assert_eq!(option(client, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_eq!(option(server, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_eq!(option(accepted, SOL_SOCKET, SO_ACCEPTCONN), 0);
}

fn splice_and_sendfile_reach_a_socket() {
    let (client, server) = pair();
    let path = format!("/tmp/tests-net-{}", sys::getpid());
    std::fs::write(&path, [b'f'; 10_000]).unwrap();
    let file = sys!(SYS_openat, AT_FDCWD, sys::c(&path).as_ptr(), O_RDONLY, 0).unwrap() as i32;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(sys!(SYS_sendfile, client, file, 0, 20_000), Ok(10_000));
    let (reader, writer) = sys::pipe().unwrap();
    assert_eq!(sys!(SYS_splice, server, 0, writer, 0, 4000, 0), Ok(4000));
    assert_eq!(receive(server, 20_000, 0).unwrap(), vec![b'f'; 6000]);
    assert_eq!(sys!(SYS_splice, reader, 0, server, 0, 4000, 0), Ok(4000));
    assert_eq!(receive(client, 4000, MSG_WAITALL).unwrap(), vec![b'f'; 4000]);
}

fn vectors_of_messages_go_at_once() {
    let (client, server) = pair();
    let mut parts: Vec<iovec> = [&b"one"[..], b"two", b"three"]
        .iter()
        .map(|part| iovec { iov_base: part.as_ptr() as *mut c_void, iov_len: part.len() })
        .collect();
    let mut messages: Vec<mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            let mut message: mmsghdr = sys::zeroed();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    assert_eq!(sys!(SYS_sendmmsg, client, messages.as_mut_ptr(), 3, 0), Ok(3));
    assert_eq!(messages[2].msg_len, 5);
    assert_eq!(receive(server, 20, 0).unwrap(), b"onetwothree");
}

fn sockets_that_are_not_there() {
    fails(sys!(SYS_socket, AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    fails(sys!(SYS_socket, AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    fails(sys!(SYS_socket, AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    fails(sys!(SYS_socket, AF_INET, SOCK_RAW, 0), EPROTONOSUPPORT);
    fails(sys!(SYS_socket, AF_INET, 77, 0), EINVAL);
    fails(sys!(SYS_socket, AF_INET, SOCK_STREAM, -1), EINVAL);
    let mut ends = [0i32; 2];
    fails(sys!(SYS_socketpair, AF_INET, SOCK_STREAM, 0, ends.as_mut_ptr()), EOPNOTSUPP);
    fails(accept(tcp()), EINVAL);
    fails(receive(tcp(), 1, 0), ENOTCONN);
    fails(send(tcp(), b"x", 0), EPIPE);
    fails(accept(socket(AF_INET, SOCK_DGRAM)), EOPNOTSUPP);
}
