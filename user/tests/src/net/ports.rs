//! Who may have which port.

use libc::*;

use super::{
    LOOPBACK6, ONE, accept, bind, connect, listen_on, listener, mapped, nonblocking, own_address,
    pair, port, receive, set, socket, tcp, v4, v6,
};
use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    a_port_is_one_sockets,
    a_port_is_shared_where_both_agree,
    listeners_share_a_port_and_its_connections,
    a_connection_that_ended_keeps_its_port,
    low_ports_are_for_the_privileged,
    a_socket_is_bound_once,
    families_overlap_in_their_ports,
    connections_to_different_places_share_ports,
];

fn bound(address: &[u8], options: &[i32]) -> crate::sys::Result<i32> {
    let fd = tcp();
    for name in options {
        set(fd, SOL_SOCKET, *name, 1).unwrap();
    }
    bind(fd, address).map(|_| fd).inspect_err(|_| {
        sys::close(fd);
    })
}

fn a_port_is_one_sockets() {
    let first = bound(&v4(ONE, 0), &[]).unwrap();
    let address = own_address(first);
    assert_ne!(port(&address), 0);
    fails(bound(&address, &[]), EADDRINUSE);
    fails(bound(&v4([0; 4], port(&address)), &[]), EADDRINUSE);
    // One that may be shared does not help against one that may not.
    fails(bound(&address, &[SO_REUSEADDR]), EADDRINUSE);
    bound(&v4([127, 0, 0, 2], port(&address)), &[]).unwrap();
    // Datagrams have ports of their own.
    bind(socket(AF_INET, SOCK_DGRAM), &address).unwrap();
    sys::close(first);
    bound(&address, &[]).unwrap();
}

fn a_port_is_shared_where_both_agree() {
    let first = bound(&v4(ONE, 0), &[SO_REUSEADDR]).unwrap();
    let address = own_address(first);
    let second = bound(&address, &[SO_REUSEADDR]).unwrap();
    listen_on(first, 1).unwrap();
    fails(listen_on(second, 1), EADDRINUSE);
    fails(bound(&address, &[SO_REUSEADDR]), EADDRINUSE);
    sys::close(first);
    listen_on(second, 1).unwrap();
}

fn listeners_share_a_port_and_its_connections() {
    let first = bound(&v4(ONE, 0), &[SO_REUSEPORT]).unwrap();
    let address = own_address(first);
    let second = bound(&address, &[SO_REUSEPORT]).unwrap();
    fails(bound(&address, &[]), EADDRINUSE);
    for fd in [first, second] {
        listen_on(fd, 200).unwrap();
        nonblocking(fd);
    }
    for _ in 0..100 {
        connect(tcp(), &address).unwrap();
    }
    let taken = |fd| {
        let mut count = 0;
        while accept(fd).is_ok() {
            count += 1;
        }
        count
    };
    let counts = (taken(first), taken(second));
    assert_eq!(counts.0 + counts.1, 100);
    assert!(counts.0 > 0 && counts.1 > 0, "{counts:?}");
    if sys!(SYS_geteuid) == Ok(0) {
        run(|| {
            sys!(SYS_setuid, 1000).unwrap();
            fails(bound(&address, &[SO_REUSEPORT]), EADDRINUSE);
        });
    }
}

fn a_connection_that_ended_keeps_its_port() {
    let (server, address) = listener(1);
    let client = tcp();
    connect(client, &address).unwrap();
    let accepted = accept(server).unwrap();
    // The server ends first: its side waits.
    sys::close(accepted);
    assert_eq!(receive(client, 1, 0).unwrap(), b"");
    sys::close(client);
    sys::close(server);
    fails(bound(&address, &[]), EADDRINUSE);
    // The connection had its listener's option, which was off.
    fails(bound(&address, &[SO_REUSEPORT]), EADDRINUSE);
    let server = tcp();
    set(server, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
    bind(server, &v4(ONE, 0)).unwrap();
    listen_on(server, 1).unwrap();
    let address = own_address(server);
    let client = tcp();
    connect(client, &address).unwrap();
    let accepted = accept(server).unwrap();
    sys::close(accepted);
    sys::close(client);
    sys::close(server);
    fails(bound(&address, &[]), EADDRINUSE);
    let again = bound(&address, &[SO_REUSEADDR]).unwrap();
    listen_on(again, 1).unwrap();
}

fn low_ports_are_for_the_privileged() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert_eq!(first.trim(), "1024");
    sys::close(bound(&v4(ONE, 1023), &[]).unwrap());
    run(|| {
        sys!(SYS_setuid, 1000).unwrap();
        fails(bound(&v4(ONE, 1023), &[]), EACCES);
        fails(bind(socket(AF_INET6, SOCK_DGRAM), &v6(LOOPBACK6, 1)), EACCES);
        bound(&v4(ONE, 1024), &[]).unwrap();
    });
}

fn a_socket_is_bound_once() {
    let fd = bound(&v4(ONE, 0), &[]).unwrap();
    fails(bind(fd, &v4(ONE, 0)), EINVAL);
    let (client, _server) = pair();
    fails(bind(client, &v4(ONE, 0)), EINVAL);
    fails(listen_on(client, 1), EINVAL);
    // One that listens without a name gets one.
    let fd = tcp();
    listen_on(fd, 1).unwrap();
    let named = own_address(fd);
    assert_eq!(named[4..8], [0; 4]);
    assert_ne!(port(&named), 0);
    connect(tcp(), &v4(ONE, port(&named))).unwrap();
}

fn families_overlap_in_their_ports() {
    let both = socket(AF_INET6, SOCK_STREAM);
    bind(both, &v6([0; 16], 0)).unwrap();
    let number = port(&own_address(both));
    fails(bound(&v4(ONE, number), &[]), EADDRINUSE);
    sys::close(both);
    let only = socket(AF_INET6, SOCK_STREAM);
    set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1).unwrap();
    bind(only, &v6([0; 16], number)).unwrap();
    bound(&v4(ONE, number), &[]).unwrap();
    let other = socket(AF_INET6, SOCK_STREAM);
    fails(bind(other, &v6(mapped(ONE), number)), EADDRINUSE);
}

fn connections_to_different_places_share_ports() {
    let (_a, first) = listener(5);
    let (_b, second) = listener(5);
    let one = bound(&v4(ONE, 0), &[SO_REUSEADDR]).unwrap();
    let own = own_address(one);
    let other = bound(&own, &[SO_REUSEADDR]).unwrap();
    connect(one, &first).unwrap();
    fails(connect(other, &first), EADDRNOTAVAIL);
    connect(other, &second).unwrap();
}
