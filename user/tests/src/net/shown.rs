//! The tables of /proc/net, /proc/sys/net and /sys/class/net.

use std::fs::read_to_string;

use libc::*;

use super::{
    LOOPBACK6, ONE, accept, bind, connect, listen_on, listener, own_address, pair, port, ready,
    ready_within, receive, send, socket, tcp, v4, v6,
};
use crate::harness::{Test, tests};
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    streams_are_shown_with_their_states,
    datagram_sockets_are_shown,
    the_device_is_shown,
    settings_are_shown,
    sockets_are_counted,
];

/// The rows of a table that have this inode, in words.
fn rows(table: &str, inode: u64) -> Vec<Vec<String>> {
    let text = read_to_string(format!("/proc/net/{table}")).unwrap();
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    text.lines().skip(1).map(words).filter(|row| row[9] == inode.to_string()).collect()
}

fn inode(fd: i32) -> u64 {
    let mut status: stat = sys::zeroed();
    sys!(SYS_fstat, fd, &raw mut status).unwrap();
    status.st_ino
}

fn streams_are_shown_with_their_states() {
    let (server, address) = listener(7);
    let client = tcp();
    connect(client, &address).unwrap();
    let (server_name, client_name) = (
        format!("0100007F:{:04X}", port(&address)),
        format!("0100007F:{:04X}", port(&own_address(client))),
    );
    let row = rows("tcp", inode(server)).remove(0);
    assert_eq!(row[1..5], [&server_name, "00000000:0000", "0A", "00000000:00000001"]);
    let accepted = accept(server).unwrap();
    send(client, b"abcde", 0).unwrap();
    let row = rows("tcp", inode(accepted)).remove(0);
    assert_eq!(row[1..5], [&server_name, &client_name, "01", "00000000:00000005"]);
    assert_eq!(row[7], "0", "the user");
    receive(accepted, 10, 0).unwrap();
    sys!(SYS_shutdown, client, SHUT_WR).unwrap();
    // Until its end is acknowledged it is in the state before.
    let state = rows("tcp", inode(client)).remove(0).remove(3);
    assert!(["04", "05"].contains(&&state[..]), "{state}");
    assert_eq!(rows("tcp", inode(accepted)).remove(0)[3], "08");
    sys::close(accepted);
    sys::close(client);
    let text = read_to_string("/proc/net/tcp").unwrap();
    let waits = text.lines().any(|line| {
        let row: Vec<&str> = line.split_whitespace().collect();
        row[1] == client_name && row[3] == "06"
    });
    assert!(waits, "{text}");
    let new = socket(AF_INET6, SOCK_STREAM);
    bind(new, &v6(LOOPBACK6, 0)).unwrap();
    listen_on(new, 1).unwrap();
    let row = rows("tcp6", inode(new)).remove(0);
    let name = format!("00000000000000000000000001000000:{:04X}", port(&own_address(new)));
    assert_eq!((&row[1], &row[3][..]), (&name, "0A"));
    let text = read_to_string("/proc/net/tcp").unwrap();
    assert!(text.lines().all(|line| line.len() == 149), "{text}");
}

fn datagram_sockets_are_shown() {
    let fd = socket(AF_INET, SOCK_DGRAM);
    bind(fd, &v4(ONE, 0)).unwrap();
    let row = rows("udp", inode(fd)).remove(0);
    let name = format!("0100007F:{:04X}", port(&own_address(fd)));
    assert_eq!(row[1..4], [&name, "00000000:0000", "07"]);
    connect(fd, &v4(ONE, 9)).unwrap();
    let row = rows("udp", inode(fd)).remove(0);
    assert_eq!(row[1..4], [&name, "0100007F:0009", "01"]);
    let text = read_to_string("/proc/net/udp").unwrap();
    assert!(text.lines().all(|line| line.len() == 127), "{text}");
}

fn the_device_is_shown() {
    let packets = || {
        let text = read_to_string("/proc/net/dev").unwrap();
        let line = text.lines().find(|line| line.trim_start().starts_with("lo:")).unwrap();
        let words: Vec<u64> =
            line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        assert_eq!(words.len(), 16);
        (words[0], words[1], words[8], words[9])
    };
    let before = packets();
    let (client, server) = pair();
    send(client, &[0; 1000], 0).unwrap();
    receive(server, 1000, MSG_WAITALL).unwrap();
    let after = packets();
    assert!(after.0 >= before.0 + 1000 && after.1 > before.1, "{before:?} {after:?}");
    assert!(after.2 >= before.2 + 1000 && after.3 > before.3, "{before:?} {after:?}");
    let text = read_to_string("/proc/net/if_inet6").unwrap();
    assert!(text.contains("00000000000000000000000000000001 01 80 10 80       lo\n"), "{text}");
    let file = |name: &str| read_to_string(format!("/sys/class/net/lo/{name}")).unwrap();
    for (name, text) in [
        ("address", "00:00:00:00:00:00\n"),
        ("mtu", "65536\n"),
        ("ifindex", "1\n"),
        ("flags", "0x9\n"),
        ("operstate", "unknown\n"),
        ("type", "772\n"),
        ("carrier", "1\n"),
        ("tx_queue_len", "1000\n"),
        ("uevent", "INTERFACE=lo\nIFINDEX=1\n"),
    ] {
        assert_eq!(file(name), text, "{name}");
    }
    assert!(file("statistics/rx_bytes").trim().parse::<u64>().unwrap() >= after.0);
    let text = read_to_string("/proc/net/route").unwrap();
    assert!(text.starts_with("Iface\tDestination\tGateway \tFlags"), "{text}");
}

fn settings_are_shown() {
    let setting = |name: &str| read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    for (name, text) in [
        ("core/somaxconn", "4096\n"),
        ("core/rmem_max", "212992\n"),
        ("core/wmem_default", "212992\n"),
        ("ipv4/ip_local_port_range", "32768\t60999\n"),
        ("ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
        ("ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
        ("ipv4/tcp_fin_timeout", "60\n"),
        ("ipv4/tcp_keepalive_time", "7200\n"),
        ("ipv4/ip_forward", "0\n"),
        ("ipv6/conf/lo/disable_ipv6", "0\n"),
        ("ipv6/bindv6only", "0\n"),
    ] {
        assert_eq!(setting(name), text, "{name}");
    }
    // A shorter longest backlog holds for listeners from then on.
    std::fs::write("/proc/sys/net/core/somaxconn", "1\n").unwrap();
    let (server, address) = listener(100);
    std::fs::write("/proc/sys/net/core/somaxconn", "4096\n").unwrap();
    for _ in 0..2 {
        connect(tcp(), &address).unwrap();
    }
    let late = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    let _ = connect(late, &address);
    assert_eq!(ready(late, POLLOUT), 0);
    accept(server).unwrap();
    assert_eq!(ready_within(late, POLLOUT, 20_000), POLLOUT);
}

fn sockets_are_counted() {
    let line = |name: &str| {
        let text = read_to_string("/proc/net/sockstat").unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap()
    };
    let (used, streams, datagrams) = (line("sockets:"), line("TCP:"), line("UDP:"));
    let (_server, _address) = listener(1);
    let fd = socket(AF_INET, SOCK_DGRAM);
    bind(fd, &v4(ONE, 0)).unwrap();
    socket(AF_UNIX, SOCK_STREAM);
    assert_eq!(line("sockets:"), used + 3);
    assert_eq!(line("TCP:"), streams + 1);
    assert_eq!(line("UDP:"), datagrams + 1);
}
