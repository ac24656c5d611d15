//! Options of sockets: what they are at first, and what they may be.

use libc::*;

use super::{
    accept, connect, get, listener, nonblocking, option, pair, receive, send, set, socket, tcp,
};
use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::{fails, sys};

pub const TESTS: &[Test] = tests![
    first_values,
    values_are_kept_within_bounds,
    buffers_grow_with_a_connection,
    what_a_connection_tells_of_itself,
    ioctls_tell_of_the_interface,
    interfaces_are_listed_with_their_addresses,
    only_an_administrator_changes_the_interface,
];

fn first_values() {
    let stream = tcp();
    for (level, name, value) in [
        (SOL_SOCKET, SO_TYPE, SOCK_STREAM),
        (SOL_SOCKET, SO_DOMAIN, AF_INET),
        (SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP),
        (SOL_SOCKET, SO_SNDBUF, 16_384),
        (SOL_SOCKET, SO_RCVBUF, 131_072),
        (SOL_SOCKET, SO_REUSEADDR, 0),
        (SOL_SOCKET, SO_RCVLOWAT, 1),
        (SOL_SOCKET, SO_ACCEPTCONN, 0),
        (SOL_SOCKET, SO_OOBINLINE, 0),
        (IPPROTO_IP, IP_TTL, 64),
        (IPPROTO_IP, IP_TOS, 0),
        (IPPROTO_TCP, TCP_NODELAY, 0),
        (IPPROTO_TCP, TCP_CORK, 0),
        (IPPROTO_TCP, TCP_MAXSEG, 536),
        (IPPROTO_TCP, TCP_KEEPIDLE, 7200),
        (IPPROTO_TCP, TCP_KEEPINTVL, 75),
        (IPPROTO_TCP, TCP_KEEPCNT, 9),
        (IPPROTO_TCP, TCP_SYNCNT, 6),
        (IPPROTO_TCP, TCP_LINGER2, 60),
        (IPPROTO_TCP, TCP_QUICKACK, 1),
        (IPPROTO_TCP, TCP_USER_TIMEOUT, 0),
    ] {
        assert_eq!(option(stream, level, name), value, "level {level}, option {name}");
    }
    let datagrams = socket(AF_INET6, SOCK_DGRAM);
    for (level, name, value) in [
        (SOL_SOCKET, SO_TYPE, SOCK_DGRAM),
        (SOL_SOCKET, SO_DOMAIN, AF_INET6),
        (SOL_SOCKET, SO_PROTOCOL, IPPROTO_UDP),
        (SOL_SOCKET, SO_SNDBUF, 212_992),
        (SOL_SOCKET, SO_RCVBUF, 212_992),
        (SOL_SOCKET, SO_BROADCAST, 0),
        (IPPROTO_IPV6, IPV6_V6ONLY, 0),
        (IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64),
        (IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1),
        (IPPROTO_IPV6, IPV6_RECVPKTINFO, 0),
    ] {
        assert_eq!(option(datagrams, level, name), value, "level {level}, option {name}");
    }
    let mut name = [0u8; 16];
    let mut len = 16u32;
    let at = name.as_mut_ptr();
    sys!(SYS_getsockopt, stream, IPPROTO_TCP, TCP_CONGESTION, at, &raw mut len).unwrap();
    assert_eq!((&name[..6], len), (&b"cubic\0"[..], 16));
    fails(get(stream, IPPROTO_TCP, 999), ENOPROTOOPT);
    fails(get(stream, SOL_SOCKET, 999), ENOPROTOOPT);
    fails(get(stream, IPPROTO_IPV6, IPV6_V6ONLY), EOPNOTSUPP);
}

fn values_are_kept_within_bounds() {
    let stream = tcp();
    set(stream, IPPROTO_TCP, TCP_NODELAY, 7).unwrap();
    assert_eq!(option(stream, IPPROTO_TCP, TCP_NODELAY), 1);
    for (level, name, good, bad) in [
        (IPPROTO_TCP, TCP_KEEPIDLE, 30, 32_768),
        (IPPROTO_TCP, TCP_KEEPINTVL, 10, 0),
        (IPPROTO_TCP, TCP_KEEPCNT, 127, 128),
        (IPPROTO_TCP, TCP_USER_TIMEOUT, 5000, -1),
        (IPPROTO_IP, IP_TTL, 255, 256),
    ] {
        set(stream, level, name, good).unwrap();
        fails(set(stream, level, name, bad), EINVAL);
        assert_eq!(option(stream, level, name), good);
    }
    set(stream, IPPROTO_IP, IP_TTL, -1).unwrap();
    assert_eq!(option(stream, IPPROTO_IP, IP_TTL), 64);
    set(stream, SOL_SOCKET, SO_SNDBUF, 1).unwrap();
    assert_eq!(option(stream, SOL_SOCKET, SO_SNDBUF), 4608);
    set(stream, SOL_SOCKET, SO_RCVBUF, 100_000_000).unwrap();
    assert_eq!(option(stream, SOL_SOCKET, SO_RCVBUF), 425_984);
    fails(set(stream, SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT);
    fails(set(stream, IPPROTO_IPV6, IPV6_V6ONLY, 1), ENOPROTOOPT);
    let value = 1i32;
    let at = &raw const value;
    fails(sys!(SYS_setsockopt, stream, SOL_SOCKET, SO_REUSEADDR, at, 3), EINVAL);
    let name = crate::sys::c("eth7");
    let named = sys!(SYS_setsockopt, stream, SOL_SOCKET, SO_BINDTODEVICE, name.as_ptr(), 5);
    fails(named, ENODEV);
}

fn buffers_grow_with_a_connection() {
    let (client, server) = pair();
    assert_eq!(option(client, SOL_SOCKET, SO_SNDBUF), 2_626_560);
    assert_eq!(option(server, SOL_SOCKET, SO_SNDBUF), 2_626_560);
    let (listener, address) = listener(1);
    let client = tcp();
    set(client, SOL_SOCKET, SO_SNDBUF, 10_000).unwrap();
    set(listener, SOL_SOCKET, SO_RCVBUF, 10_000).unwrap();
    connect(client, &address).unwrap();
    assert_eq!(option(client, SOL_SOCKET, SO_SNDBUF), 20_000);
    let server = accept(listener).unwrap();
    // Both bound what is on its way.
    nonblocking(client);
    let mut sent = 0;
    while let Ok(n) = send(client, &[1; 1000], 0) {
        sent += n;
        assert!(sent < 200_000, "no end of room");
    }
    assert!(sent >= 5000, "room for {sent} bytes only");
    let mut got = 0;
    while got < sent {
        got += receive(server, 100_000, 0).unwrap().len();
    }
    fails(receive(server, 1, MSG_DONTWAIT), EAGAIN);
}

fn what_a_connection_tells_of_itself() {
    let (client, server) = pair();
    send(client, &[1; 1000], 0).unwrap();
    receive(server, 400, 0).unwrap();
    let info = |fd| {
        let mut bytes = [0u8; 256];
        let mut len = 256u32;
        let at = bytes.as_mut_ptr();
        sys!(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, at, &raw mut len).unwrap();
        assert!(len >= 232, "{len} bytes");
        bytes
    };
    let word =
        |bytes: &[u8; 256], at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let (ours, theirs) = (info(client), info(server));
    assert_eq!((ours[0], theirs[0]), (1, 1), "ESTABLISHED");
    assert_eq!(word(&theirs, 128), 1000, "bytes received");
    assert_eq!(word(&ours, 200), 1000, "bytes sent");
    assert_eq!(word(&ours, 120) & !1, 1000, "bytes acknowledged, with a SYN");
    // Half of the largest window.
    assert_eq!(option(client, IPPROTO_TCP, TCP_MAXSEG), 32_832);
    let (listener, _) = listener(1);
    assert_eq!(info(listener)[0], 10, "LISTEN");
    sys!(SYS_shutdown, client, SHUT_WR).unwrap();
    assert!([4, 5].contains(&info(client)[0]), "FIN_WAIT1, FIN_WAIT2");
    assert_eq!(info(server)[0], 8, "CLOSE_WAIT");
    assert_eq!(info(tcp())[0], 7, "CLOSE");
}

/// `struct ifreq` of an interface, as a request leaves it.
fn ask(fd: i32, request: u64, name: &str) -> crate::sys::Result<[u8; 40]> {
    let mut bytes = [0u8; 40];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    sys!(SYS_ioctl, fd, request, bytes.as_mut_ptr()).map(|_| bytes)
}

fn ioctls_tell_of_the_interface() {
    let fd = socket(AF_INET, SOCK_DGRAM);
    let field = |request, len: usize| ask(fd, request, "lo").unwrap()[16..16 + len].to_vec();
    assert_eq!(field(SIOCGIFFLAGS, 2), [0x49, 0], "UP, LOOPBACK, RUNNING");
    assert_eq!(field(SIOCGIFADDR, 8), [2, 0, 0, 0, 127, 0, 0, 1]);
    assert_eq!(field(SIOCGIFNETMASK, 8), [2, 0, 0, 0, 255, 0, 0, 0]);
    assert_eq!(field(SIOCGIFMTU, 4), 65_536i32.to_ne_bytes());
    assert_eq!(field(SIOCGIFINDEX, 4), 1i32.to_ne_bytes());
    assert_eq!(field(SIOCGIFHWADDR, 8), [4, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(field(0x8942, 4), 1000i32.to_ne_bytes(), "the queue's length");
    fails(ask(fd, SIOCGIFFLAGS, "eth7"), ENODEV);
    let mut by_index = [0u8; 40];
    by_index[16] = 1;
    sys!(SYS_ioctl, fd, 0x8910, by_index.as_mut_ptr()).unwrap();
    assert_eq!(&by_index[..3], b"lo\0");
    by_index[16] = 77;
    fails(sys!(SYS_ioctl, fd, 0x8910, by_index.as_mut_ptr()), ENODEV);
    // Any socket will do for these.
    let local = socket(AF_UNIX, SOCK_DGRAM);
    assert_eq!(ask(local, SIOCGIFINDEX, "lo").unwrap()[16], 1);
}

fn interfaces_are_listed_with_their_addresses() {
    let fd = socket(AF_INET, SOCK_DGRAM);
    let mut requests = [0u8; 400];
    let mut list = [400u64, requests.as_mut_ptr().expose_provenance() as u64];
    sys!(SYS_ioctl, fd, 0x8912, list.as_mut_ptr()).unwrap();
    assert_eq!(list[0] as i32, 40);
    assert_eq!(&requests[..3], b"lo\0");
    assert_eq!(requests[16..24], [2, 0, 0, 0, 127, 0, 0, 1]);
    list = [0, 0];
    sys!(SYS_ioctl, fd, 0x8912, list.as_mut_ptr()).unwrap();
    assert_eq!(list[0] as i32, 40);
}

fn only_an_administrator_changes_the_interface() {
    let fd = socket(AF_INET, SOCK_DGRAM);
    let set_flags = |flags: u16| {
        let mut bytes = [0u8; 40];
        bytes[..2].copy_from_slice(b"lo");
        bytes[16..18].copy_from_slice(&flags.to_ne_bytes());
        sys!(SYS_ioctl, fd, 0x8914, bytes.as_mut_ptr())
    };
    run(|| {
        sys!(SYS_setuid, 1000).unwrap();
        fails(set_flags(0), EPERM);
    });
    let flags = || ask(fd, SIOCGIFFLAGS, "lo").unwrap()[16];
    set_flags(0).unwrap();
    assert_eq!(flags(), 0x8);
    set_flags(0x41).unwrap();
    assert_eq!(flags(), 0x49);
    connect(tcp(), &listener(5).1).unwrap();
}
