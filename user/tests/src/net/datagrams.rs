//! UDP: datagrams, their senders, and what comes beside them.

use libc::*;

use super::{
    LOOPBACK6, ONE, bind, connect, count, get, listen_on, mapped, option, own_address,
    peer_address, port, ready, receive, receive_from, send, send_to, set, socket, v4, v6,
};
use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_datagram_arrives_whole_with_its_sender,
    a_connected_socket_hears_only_its_peer,
    nobody_there_is_told_to_who_is_connected,
    long_datagrams_are_cut_or_refused,
    datagrams_without_room_are_lost,
    broadcasts_need_permission_and_reach_all,
    a_datagram_tells_where_it_was_sent_to,
    a_sender_chooses_its_address,
    families_meet_in_datagrams,
    a_shut_socket_receives_nothing,
    a_sleeping_receiver_is_woken,
    batches_are_sent_and_received,
    what_is_refused,
];

fn udp() -> i32 {
    socket(AF_INET, SOCK_DGRAM)
}

fn bound() -> (i32, Vec<u8>) {
    let fd = udp();
    bind(fd, &v4(ONE, 0)).unwrap();
    (fd, own_address(fd))
}

fn a_datagram_arrives_whole_with_its_sender() {
    let (server, to) = bound();
    let (client, from) = bound();
    for bytes in [&b"first"[..], b"", b"third"] {
        assert_eq!(send_to(client, bytes, &to), Ok(bytes.len()));
    }
    assert_eq!(count(server, FIONREAD), 5);
    assert_eq!(receive(server, 100, MSG_PEEK).unwrap(), b"first");
    assert_eq!(receive_from(server).unwrap(), (b"first".to_vec(), from.clone()));
    assert_eq!(receive_from(server).unwrap(), (Vec::new(), from.clone()));
    assert_eq!(receive_from(server).unwrap(), (b"third".to_vec(), from));
    fails(receive_from(server), EAGAIN);
    // A sender without a name gets one.
    let client = udp();
    send_to(client, b"x", &to).unwrap();
    let own = own_address(client);
    assert_eq!(own[4..8], [0; 4]);
    assert_eq!(port(&receive_from(server).unwrap().1), port(&own));
}

fn a_connected_socket_hears_only_its_peer() {
    let (server, to) = bound();
    let client = udp();
    connect(client, &to).unwrap();
    assert_eq!(peer_address(client).unwrap(), to);
    let from = own_address(client);
    assert_eq!(from[4..8], ONE);
    send(client, b"from the peer", 0).unwrap();
    assert_eq!(receive_from(server).unwrap().1, from);
    let (stranger, _) = bound();
    send_to(stranger, b"from a stranger", &from).unwrap();
    fails(receive_from(client), EAGAIN);
    send_to(server, b"an answer", &from).unwrap();
    assert_eq!(receive_from(client).unwrap(), (b"an answer".to_vec(), to));
    // No longer connected it hears everybody, by its new port.
    connect(client, &[0u8; 16]).unwrap();
    fails(peer_address(client), ENOTCONN);
    bind(client, &v4(ONE, 0)).unwrap();
    fails(send(client, b"x", 0), EDESTADDRREQ);
    send_to(stranger, b"now", &own_address(client)).unwrap();
    assert_eq!(receive_from(client).unwrap().0, b"now");
}

fn nobody_there_is_told_to_who_is_connected() {
    let (server, to) = bound();
    sys::close(server);
    let client = udp();
    assert_eq!(send_to(client, b"x", &to), Ok(1));
    fails(receive_from(client), EAGAIN);
    connect(client, &to).unwrap();
    assert_eq!(send(client, b"x", 0), Ok(1));
    assert_eq!(ready(client, POLLIN), POLLERR);
    fails(receive_from(client), ECONNREFUSED);
    fails(receive_from(client), EAGAIN);
    assert_eq!(send(client, b"x", 0), Ok(1));
    fails(send(client, b"x", 0), ECONNREFUSED);
    assert_eq!(send(client, b"x", 0), Ok(1));
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
}

fn long_datagrams_are_cut_or_refused() {
    let (server, to) = bound();
    let client = udp();
    let bytes: Vec<u8> = (0..65_507u32).map(|n| (n * 7) as u8).collect();
    assert_eq!(send_to(client, &bytes, &to), Ok(65_507));
    assert!(receive_from(server).unwrap().0 == bytes);
    fails(send_to(client, &[0; 65_508], &to), EMSGSIZE);
    send_to(client, b"abcdef", &to).unwrap();
    let mut room = [0u8; 3];
    let n = sys!(SYS_recvfrom, server, room.as_mut_ptr(), 3, MSG_TRUNC, 0, 0).unwrap();
    assert_eq!((n, &room), (6, b"abc"));
    fails(receive_from(server), EAGAIN);
}

fn datagrams_without_room_are_lost() {
    let (server, to) = bound();
    set(server, SOL_SOCKET, SO_RCVBUF, 10_000).unwrap();
    let client = udp();
    for n in 0..100u8 {
        assert_eq!(send_to(client, &[n; 500], &to), Ok(500));
    }
    let mut got = Vec::new();
    while let Ok((bytes, _)) = receive_from(server) {
        got.push(bytes[0]);
    }
    // 20,000 bytes of room, and 1,280 or 2,304 charged for each.
    assert!((8..=17).contains(&got.len()), "{} datagrams", got.len());
    assert!(got.iter().zip(0..).all(|(a, b)| *a == b), "the first ones: {got:?}");
}

fn broadcasts_need_permission_and_reach_all() {
    let everybody = [127, 255, 255, 255];
    let shared = |ip: Vec<u8>| {
        let fd = udp();
        set(fd, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        bind(fd, &ip).unwrap();
        fd
    };
    let first = shared(v4([0; 4], 0));
    let number = port(&own_address(first));
    let second = shared(v4(everybody, number));
    let third = shared(v4(ONE, number));
    let client = udp();
    fails(send_to(client, b"x", &v4(everybody, number)), EACCES);
    set(client, SOL_SOCKET, SO_BROADCAST, 1).unwrap();
    send_to(client, b"all", &v4(everybody, number)).unwrap();
    assert_eq!(receive_from(first).unwrap().0, b"all");
    assert_eq!(receive_from(second).unwrap().0, b"all");
    fails(receive_from(third), EAGAIN);
    fails(send_to(client, b"x", &v4([224, 0, 0, 1], number)), ENETUNREACH);
}

/// Receives a datagram with its control messages: level, type, data.
fn with_control(fd: i32) -> Vec<(i32, i32, Vec<u8>)> {
    let (mut bytes, mut control) = ([0u8; 100], [0u64; 64]);
    let mut part = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 100 };
    let mut message: msghdr = sys::zeroed();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 512;
    sys!(SYS_recvmsg, fd, &raw mut message, MSG_DONTWAIT).unwrap();
    assert_eq!(message.msg_flags & MSG_CTRUNC, 0);
    let all: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut rest = &all[..message.msg_controllen as usize];
    let mut found = Vec::new();
    while rest.len() >= 16 {
        let len = u64::from_ne_bytes(rest[..8].try_into().unwrap()) as usize;
        let word = |at: usize| i32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
        found.push((word(8), word(12), rest[16..len].to_vec()));
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    found
}

fn a_datagram_tells_where_it_was_sent_to() {
    let server = udp();
    bind(server, &v4([0; 4], 0)).unwrap();
    let number = port(&own_address(server));
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS] {
        set(server, IPPROTO_IP, name, 1).unwrap();
    }
    set(server, SOL_SOCKET, SO_TIMESTAMPNS, 1).unwrap();
    let client = udp();
    set(client, IPPROTO_IP, IP_TTL, 33).unwrap();
    set(client, IPPROTO_IP, IP_TOS, 0x10).unwrap();
    send_to(client, b"x", &v4([127, 0, 0, 5], number)).unwrap();
    let mut found = with_control(server);
    assert_eq!(found[0].0, SOL_SOCKET);
    assert_eq!((found[0].1, found[0].2.len()), (SO_TIMESTAMPNS, 16));
    found.remove(0);
    let info = [1, 0, 0, 0, 127, 0, 0, 5, 127, 0, 0, 5].to_vec();
    assert!(found.contains(&(IPPROTO_IP, IP_PKTINFO, info)), "{found:?}");
    assert!(found.contains(&(IPPROTO_IP, IP_TTL, vec![33, 0, 0, 0])), "{found:?}");
    assert!(found.contains(&(IPPROTO_IP, IP_TOS, vec![0x10])), "{found:?}");
    assert_eq!(found.len(), 3);
    let server = socket(AF_INET6, SOCK_DGRAM);
    bind(server, &v6([0; 16], 0)).unwrap();
    let number = port(&own_address(server));
    for name in [IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS] {
        set(server, IPPROTO_IPV6, name, 1).unwrap();
    }
    send_to(socket(AF_INET6, SOCK_DGRAM), b"x", &v6(LOOPBACK6, number)).unwrap();
    let found = with_control(server);
    let mut info = LOOPBACK6.to_vec();
    info.extend(1i32.to_ne_bytes());
    assert!(found.contains(&(IPPROTO_IPV6, IPV6_PKTINFO, info)), "{found:?}");
    assert!(found.contains(&(IPPROTO_IPV6, IPV6_HOPLIMIT, vec![64, 0, 0, 0])), "{found:?}");
    assert!(found.contains(&(IPPROTO_IPV6, IPV6_TCLASS, vec![0; 4])), "{found:?}");
}

fn a_sender_chooses_its_address() {
    let (server, to) = bound();
    let client = udp();
    let mut control = [0u64; 4];
    let words = [28u32, 0, IPPROTO_IP as u32, IP_PKTINFO as u32, 0, 0x0900_007f, 0, 0];
    for (to, pair) in control.iter_mut().zip(words.chunks(2)) {
        *to = u64::from(pair[0]) | u64::from(pair[1]) << 32;
    }
    let mut part = iovec { iov_base: c"x".as_ptr() as *mut c_void, iov_len: 1 };
    let mut message: msghdr = sys::zeroed();
    message.msg_name = to.as_ptr() as *mut c_void;
    message.msg_namelen = to.len() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 32;
    sys!(SYS_sendmsg, client, &raw const message, 0).unwrap();
    assert_eq!(receive_from(server).unwrap().1[4..8], [127, 0, 0, 9]);
}

fn families_meet_in_datagrams() {
    let server = socket(AF_INET6, SOCK_DGRAM);
    bind(server, &v6([0; 16], 0)).unwrap();
    let number = port(&own_address(server));
    let client = udp();
    send_to(client, b"old", &v4(ONE, number)).unwrap();
    let (bytes, from) = receive_from(server).unwrap();
    assert_eq!((&bytes[..], &from[8..24]), (&b"old"[..], &mapped(ONE)[..]));
    send_to(server, b"back", &from).unwrap();
    assert_eq!(receive_from(client).unwrap().0, b"back");
    let new = socket(AF_INET6, SOCK_DGRAM);
    send_to(new, b"new", &v6(LOOPBACK6, number)).unwrap();
    assert_eq!(receive_from(server).unwrap().1[8..24], LOOPBACK6);
}

fn a_shut_socket_receives_nothing() {
    let fd = udp();
    fails(sys!(SYS_shutdown, fd, SHUT_RD), ENOTCONN);
    let (_server, to) = bound();
    let client = udp();
    connect(client, &to).unwrap();
    let child = spawn(|| assert_eq!(receive(client, 1, 0).unwrap(), b""));
    until_asleep(child);
    sys!(SYS_shutdown, client, SHUT_RDWR).unwrap();
    assert_eq!(join(child), 0);
    fails(send(client, b"x", 0), EPIPE);
    assert_eq!(ready(client, POLLIN | POLLRDHUP), POLLIN | POLLRDHUP | POLLHUP);
}

fn a_sleeping_receiver_is_woken() {
    let (server, to) = bound();
    let child = spawn(|| assert_eq!(receive(server, 10, 0).unwrap(), b"wake"));
    until_asleep(child);
    send_to(udp(), b"wake", &to).unwrap();
    assert_eq!(join(child), 0);
}

fn batches_are_sent_and_received() {
    let (server, to) = bound();
    let client = udp();
    connect(client, &to).unwrap();
    let mut bytes = [[1u8; 8], [2; 8], [3; 8]];
    let mut parts: Vec<iovec> = bytes
        .iter_mut()
        .map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: 8 })
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
    bytes.as_flattened_mut().fill(0);
    let at = messages.as_mut_ptr();
    assert_eq!(sys!(SYS_recvmmsg, server, at, 3, MSG_DONTWAIT, 0), Ok(3));
    assert_eq!(bytes, [[1; 8], [2; 8], [3; 8]]);
    assert_eq!(messages[1].msg_len, 8);
}

fn what_is_refused() {
    let fd = udp();
    fails(send(fd, b"x", 0), EDESTADDRREQ);
    // It has got a port all the same.
    assert_ne!(port(&own_address(fd)), 0);
    fails(bind(fd, &v4(ONE, 0)), EINVAL);
    fails(send_to(fd, b"x", &v4(ONE, 0)), EINVAL);
    fails(send_to(fd, b"x", &v4(ONE, 9)[..12]), EINVAL);
    fails(send_to(fd, b"x", &v4([192, 0, 2, 1], 9)), ENETUNREACH);
    fails(listen_on(fd, 1), EOPNOTSUPP);
    fails(peer_address(fd), ENOTCONN);
    fails(get(fd, IPPROTO_TCP, TCP_NODELAY), EOPNOTSUPP);
    fails(set(fd, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT);
    fails(receive(fd, 1, MSG_OOB | MSG_DONTWAIT), EAGAIN);
}
