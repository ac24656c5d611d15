//! Sockets of AF_INET, AF_INET6 and AF_NETLINK on the loopback device.

mod datagrams;
mod ends;
mod netlink;
mod options;
mod placement;
mod ports;
mod races;
mod readiness;
mod shown;
mod streams;

use libc::*;

use crate::harness::Test;
use crate::sys::{self, sys};

pub const GROUPS: &[&[Test]] = &[
    streams::TESTS,
    ends::TESTS,
    readiness::TESTS,
    ports::TESTS,
    options::TESTS,
    datagrams::TESTS,
    netlink::TESTS,
    shown::TESTS,
    placement::TESTS,
    races::TESTS,
];

const ONE: [u8; 4] = [127, 0, 0, 1];

/// `struct sockaddr_in`.
fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = (AF_INET as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(ip);
    bytes.extend([0; 8]);
    bytes
}

/// `struct sockaddr_in6`.
fn v6(ip: [u8; 16], port: u16) -> Vec<u8> {
    let mut bytes = (AF_INET6 as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(ip);
    bytes.extend([0; 4]);
    bytes
}

const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn mapped(ip: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[10..12].fill(0xff);
    bytes[12..].copy_from_slice(&ip);
    bytes
}

#[track_caller]
fn socket(family: i32, kind: i32) -> i32 {
    sys!(SYS_socket, family, kind, 0).unwrap() as i32
}

fn tcp() -> i32 {
    socket(AF_INET, SOCK_STREAM)
}

fn bind(fd: i32, address: &[u8]) -> sys::Result<usize> {
    sys!(SYS_bind, fd, address.as_ptr(), address.len())
}

fn connect(fd: i32, address: &[u8]) -> sys::Result<usize> {
    sys!(SYS_connect, fd, address.as_ptr(), address.len())
}

fn listen_on(fd: i32, backlog: i32) -> sys::Result<usize> {
    sys!(SYS_listen, fd, backlog)
}

fn accept(fd: i32) -> sys::Result<i32> {
    sys!(SYS_accept4, fd, 0, 0, 0).map(|fd| fd as i32)
}

#[track_caller]
fn own_address(fd: i32) -> Vec<u8> {
    let (mut bytes, mut len) = ([0u8; 128], 128u32);
    sys!(SYS_getsockname, fd, bytes.as_mut_ptr(), &raw mut len).unwrap();
    bytes[..len as usize].to_vec()
}

fn peer_address(fd: i32) -> sys::Result<Vec<u8>> {
    let (mut bytes, mut len) = ([0u8; 128], 128u32);
    sys!(SYS_getpeername, fd, bytes.as_mut_ptr(), &raw mut len)?;
    Ok(bytes[..len as usize].to_vec())
}

/// The port of an address.
fn port(address: &[u8]) -> u16 {
    u16::from_be_bytes([address[2], address[3]])
}

/// A listener on a free port of 127.0.0.1, and its address.
#[track_caller]
fn listener(backlog: i32) -> (i32, Vec<u8>) {
    let fd = tcp();
    bind(fd, &v4(ONE, 0)).unwrap();
    listen_on(fd, backlog).unwrap();
    (fd, own_address(fd))
}

/// A connected pair: the client's end, the server's.
#[track_caller]
fn pair() -> (i32, i32) {
    let (server, address) = listener(1);
    let client = tcp();
    connect(client, &address).unwrap();
    let accepted = accept(server).unwrap();
    sys::close(server);
    (client, accepted)
}

fn send(fd: i32, bytes: &[u8], flags: i32) -> sys::Result<usize> {
    sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags | MSG_NOSIGNAL, 0, 0)
}

fn send_to(fd: i32, bytes: &[u8], to: &[u8]) -> sys::Result<usize> {
    sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), 0, to.as_ptr(), to.len())
}

/// At most `room` bytes.
fn receive(fd: i32, room: usize, flags: i32) -> sys::Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let n = sys!(SYS_recvfrom, fd, bytes.as_mut_ptr(), room, flags, 0, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// A datagram with where it came from.
fn receive_from(fd: i32) -> sys::Result<(Vec<u8>, Vec<u8>)> {
    let (mut bytes, mut from, mut len) = (vec![0u8; 70_000], [0u8; 128], 128u32);
    let room = bytes.len();
    let n = sys!(
        SYS_recvfrom,
        fd,
        bytes.as_mut_ptr(),
        room,
        MSG_DONTWAIT,
        from.as_mut_ptr(),
        &raw mut len
    )?;
    bytes.truncate(n);
    Ok((bytes, from[..len as usize].to_vec()))
}

#[track_caller]
fn option(fd: i32, level: i32, name: i32) -> i32 {
    get(fd, level, name).unwrap()
}

fn get(fd: i32, level: i32, name: i32) -> sys::Result<i32> {
    let (mut value, mut len) = (-1i32, 4u32);
    sys!(SYS_getsockopt, fd, level, name, &raw mut value, &raw mut len).map(|_| value)
}

fn set(fd: i32, level: i32, name: i32, value: i32) -> sys::Result<usize> {
    sys!(SYS_setsockopt, fd, level, name, &raw const value, 4)
}

/// What is ready of `events`, at once.
#[track_caller]
fn ready(fd: i32, events: i16) -> i16 {
    ready_within(fd, events, 0)
}

#[track_caller]
fn ready_within(fd: i32, events: i16, millis: i32) -> i16 {
    let mut entry = pollfd { fd, events, revents: 0 };
    sys!(SYS_poll, &raw mut entry, 1, millis).unwrap();
    entry.revents
}

#[track_caller]
fn count(fd: i32, request: i32) -> i32 {
    let mut bytes = -1i32;
    sys!(SYS_ioctl, fd, request, &raw mut bytes).unwrap();
    bytes
}

fn nonblocking(fd: i32) {
    sys!(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK).unwrap();
}
