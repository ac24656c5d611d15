//! NETLINK_ROUTE as `ip`, getifaddrs(3) and the resolver use it.

use std::ffi::CStr;

use libc::*;

use super::{
    LOOPBACK6, ONE, bind, connect, listener, option, own_address, receive, send, socket, tcp, v4,
};
use crate::child::run;
use crate::harness::{Test, tests};
use crate::sys::{self, fails, sys};

pub const TESTS: &[Test] = tests![
    the_interface_is_dumped,
    addresses_are_dumped_by_family,
    a_route_is_found,
    the_local_table_is_dumped,
    errors_carry_their_requests,
    a_socket_has_a_number,
    an_answer_is_peeked_at_for_its_length,
    the_library_lists_interfaces,
    names_are_resolved_for_the_families_that_are_there,
    strangers_may_ask_but_not_change,
];

const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
const DUMP: u16 = 0x301;

fn open() -> i32 {
    socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC)
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(42u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// A message: type, flags, everything behind the header.
type Message = (u16, u16, Vec<u8>);

/// The messages of one datagram.
fn messages(bytes: &[u8]) -> Vec<Message> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        let half = |at: usize| u16::from_ne_bytes(rest[at..at + 2].try_into().unwrap());
        assert_eq!(rest[8..12], 42u32.to_ne_bytes(), "the sequence number");
        found.push((half(4), half(6), rest[16..len].to_vec()));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// All of a dump, without its end.
fn dump(kind: u16, body: &[u8]) -> Vec<Message> {
    let fd = open();
    send(fd, &request(kind, DUMP, body), 0).unwrap();
    let mut all = Vec::new();
    loop {
        for message in messages(&receive(fd, 65_536, 0).unwrap()) {
            assert_eq!(message.1 & 2, 2, "one of many");
            if message.0 == 3 {
                crate::sys::close(fd);
                return all;
            }
            all.push(message);
        }
    }
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    while bytes.len() >= 4 {
        let len = u16::from_ne_bytes([bytes[0], bytes[1]]) as usize;
        if u16::from_ne_bytes([bytes[2], bytes[3]]) == wanted {
            return Some(bytes[4..len].to_vec());
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
}

fn check_link(body: &[u8]) {
    assert_eq!(body[2..4], 772u16.to_ne_bytes(), "a loopback");
    assert_eq!(body[4..8], 1i32.to_ne_bytes());
    assert_eq!(body[8..12], 0x1_0049u32.to_ne_bytes(), "UP, LOOPBACK, RUNNING, LOWER_UP");
    let value = |kind| attribute(&body[16..], kind).unwrap();
    assert_eq!(value(3), b"lo\0");
    assert_eq!(value(1), [0; 6]);
    assert_eq!(value(4), 65_536u32.to_ne_bytes());
    assert_eq!(value(6), b"noqueue\0");
    assert_eq!(value(13), 1000u32.to_ne_bytes());
    assert_eq!(value(16), [0], "the state is not known");
    assert!(value(23).len() >= 192, "statistics");
}

fn the_interface_is_dumped() {
    let all = dump(GETLINK, &[0; 16]);
    assert_eq!(all[0].0, 16);
    check_link(&all[0].2);
    // One alone, by its number and by its name.
    let fd = open();
    let mut body = vec![0; 16];
    body[4] = 1;
    send(fd, &request(GETLINK, 1, &body), 0).unwrap();
    check_link(&messages(&receive(fd, 8192, 0).unwrap())[0].2);
    body[4] = 0;
    body.extend([7, 0, 3, 0]);
    body.extend(b"lo\0\0");
    send(fd, &request(GETLINK, 1, &body), 0).unwrap();
    check_link(&messages(&receive(fd, 8192, 0).unwrap())[0].2);
}

fn addresses_are_dumped_by_family() {
    let ours = |family: i32| -> Vec<Vec<u8>> {
        let all = dump(GETADDR, &[family as u8, 0, 0, 0, 0, 0, 0, 0]);
        let on_lo = all.into_iter().filter(|message| message.2[4..8] == 1i32.to_ne_bytes());
        on_lo.map(|message| message.2).collect()
    };
    let old = ours(AF_INET);
    assert_eq!(old.len(), 1);
    assert_eq!(old[0][..4], [AF_INET as u8, 8, 0x80, 254]);
    let value = |body: &[u8], kind| attribute(&body[8..], kind);
    assert_eq!(value(&old[0], 1).unwrap(), ONE);
    assert_eq!(value(&old[0], 2).unwrap(), ONE);
    assert_eq!(value(&old[0], 3).unwrap(), b"lo\0");
    assert_eq!(value(&old[0], 8).unwrap(), 0x80u32.to_ne_bytes());
    assert_eq!(value(&old[0], 6).unwrap()[..8], [0xff; 8]);
    let new = ours(AF_INET6);
    assert_eq!(new.len(), 1);
    assert_eq!(new[0][..4], [AF_INET6 as u8, 128, 0x80, 254]);
    assert_eq!(value(&new[0], 1).unwrap(), LOOPBACK6);
    assert_eq!(value(&new[0], 8).unwrap(), 0x80u32.to_ne_bytes());
    assert_eq!(ours(AF_UNSPEC).len(), 2);
}

fn a_route_is_found() {
    let fd = open();
    let mut body = vec![AF_INET as u8, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0];
    body.extend([127, 3, 2, 1]);
    send(fd, &request(GETROUTE, 1, &body), 0).unwrap();
    let answer = messages(&receive(fd, 8192, 0).unwrap()).remove(0);
    assert_eq!(answer.0, 24);
    assert_eq!(answer.2[..2], [AF_INET as u8, 32]);
    assert_eq!((answer.2[4], answer.2[7]), (254, 2), "local, told by the main table");
    let value = |kind| attribute(&answer.2[12..], kind).unwrap();
    assert_eq!(value(1), [127, 3, 2, 1]);
    assert_eq!(value(4), 1i32.to_ne_bytes());
    assert_eq!(value(7), ONE);
    let at = body.len() - 4;
    body[at..].copy_from_slice(&[192, 0, 2, 1]);
    send(fd, &request(GETROUTE, 1, &body), 0).unwrap();
    let answer = messages(&receive(fd, 8192, 0).unwrap()).remove(0);
    assert_eq!(answer.0, 2);
    assert_eq!(answer.2[..4], (-ENETUNREACH).to_ne_bytes());
}

fn the_local_table_is_dumped() {
    let mut body = [0; 12];
    body[0] = AF_INET as u8;
    let all = dump(GETROUTE, &body);
    let rows: Vec<(Vec<u8>, u8, u8, u8)> = all
        .iter()
        .map(|m| (attribute(&m.2[12..], 1).unwrap_or_default(), m.2[1], m.2[4], m.2[7]))
        .collect();
    assert_eq!(
        rows,
        [
            (vec![127, 0, 0, 0], 8, 255, 2),
            (vec![127, 0, 0, 1], 32, 255, 2),
            (vec![127, 255, 255, 255], 32, 255, 3),
        ]
    );
}

fn errors_carry_their_requests() {
    let fd = open();
    let mut body = vec![0; 16];
    body[4] = 77;
    let asked = request(GETLINK, 1, &body);
    send(fd, &asked, 0).unwrap();
    let answer = messages(&receive(fd, 8192, 0).unwrap()).remove(0);
    assert_eq!(answer.0, 2);
    assert_eq!(answer.2[..4], (-ENODEV).to_ne_bytes());
    assert_eq!(answer.2[4..20], asked[..16]);
    // A type that nobody knows.
    send(fd, &request(9999, 5, &body), 0).unwrap();
    let answer = messages(&receive(fd, 8192, 0).unwrap()).remove(0);
    assert_eq!((answer.0, &answer.2[..4]), (2, &(-EOPNOTSUPP).to_ne_bytes()[..]));
    fails(receive(fd, 8192, MSG_DONTWAIT), EAGAIN);
}

fn a_socket_has_a_number() {
    let first = open();
    let mut address = [0u8; 12];
    address[0] = AF_NETLINK as u8;
    bind(first, &address).unwrap();
    let number = |fd| u32::from_ne_bytes(own_address(fd)[4..8].try_into().unwrap());
    assert_eq!(number(first), sys::getpid() as u32);
    let second = open();
    bind(second, &address).unwrap();
    assert_ne!(number(second), number(first));
    assert_ne!(number(second), 0);
    address[4..8].copy_from_slice(&number(first).to_ne_bytes());
    fails(bind(open(), &address), EADDRINUSE);
    fails(bind(open(), &v4(ONE, 0)), EINVAL);
    fails(sys!(SYS_socket, AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
    assert_eq!(option(first, SOL_SOCKET, SO_TYPE), SOCK_RAW);
    assert_eq!(option(first, SOL_SOCKET, SO_DOMAIN), AF_NETLINK);
}

fn an_answer_is_peeked_at_for_its_length() {
    let fd = open();
    send(fd, &request(GETLINK, DUMP, &[0; 16]), 0).unwrap();
    let n = sys!(SYS_recvfrom, fd, 0, 0, MSG_PEEK | MSG_TRUNC, 0, 0).unwrap();
    assert!(n > 400, "{n} bytes");
    assert_eq!(receive(fd, 65_536, 0).unwrap().len(), n);
}

fn the_library_lists_interfaces() {
    let mut list: *mut ifaddrs = std::ptr::null_mut();
    // SAFETY: the library fills the list, which is walked once and freed.
    let rows = unsafe {
        assert_eq!(getifaddrs(&raw mut list), 0);
        let mut rows = Vec::new();
        let mut at = list;
        while let Some(row) = at.as_ref() {
            let name = CStr::from_ptr(row.ifa_name).to_str().unwrap().to_owned();
            if name == "lo" && !row.ifa_addr.is_null() {
                rows.push((row.ifa_flags, i32::from((*row.ifa_addr).sa_family)));
            }
            at = row.ifa_next;
        }
        freeifaddrs(list);
        rows
    };
    for family in [AF_PACKET, AF_INET, AF_INET6] {
        let found = rows.iter().find(|row| row.1 == family);
        assert_eq!(found.map(|row| row.0), Some(0x1_0049), "family {family}");
    }
    // SAFETY: names and numbers go in, a number comes out.
    unsafe {
        assert_eq!(if_nametoindex(c"lo".as_ptr()), 1);
        assert_eq!(if_nametoindex(c"eth7".as_ptr()), 0);
    }
}

fn names_are_resolved_for_the_families_that_are_there() {
    use std::net::ToSocketAddrs;
    let all: Vec<_> = "127.0.0.1:80".to_socket_addrs().unwrap().collect();
    assert_eq!(all.len(), 1);
    let mut hints: addrinfo = sys::zeroed();
    hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICHOST;
    hints.ai_socktype = SOCK_STREAM;
    for name in [c"127.0.0.1", c"::1"] {
        let mut found: *mut addrinfo = std::ptr::null_mut();
        // SAFETY: the library fills the list, which is freed.
        unsafe {
            let code =
                getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut found);
            assert_eq!(code, 0, "{name:?}");
            freeaddrinfo(found);
        }
    }
}

fn strangers_may_ask_but_not_change() {
    run(|| {
        sys!(SYS_setuid, 1000).unwrap();
        assert_eq!(dump(GETLINK, &[0; 16])[0].0, 16);
        let fd = open();
        let mut body = vec![0; 16];
        body[4] = 1;
        body[12] = 1;
        send(fd, &request(16, 5, &body), 0).unwrap();
        let answer = messages(&receive(fd, 8192, 0).unwrap()).remove(0);
        assert_eq!((answer.0, &answer.2[..4]), (2, &(-EPERM).to_ne_bytes()[..]));
    });
    // Down and up again: an acknowledgement each.
    let fd = open();
    for up in [0, 1] {
        let mut body = vec![0; 16];
        (body[4], body[8], body[12]) = (1, up, 1);
        send(fd, &request(16, 5, &body), 0).unwrap();
        let answer = messages(&receive(fd, 8192, 0).unwrap()).remove(0);
        assert_eq!((answer.0, &answer.2[..4]), (2, &[0; 4][..]));
    }
    connect(tcp(), &listener(1).1).unwrap();
}
