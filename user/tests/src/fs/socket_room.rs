//! Sockets of the local domain: how much fits, what empty messages and small control buffers do.

use libc::*;

use super::scratch;
use crate::child::{join, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::sys::{self, fails, read, sys, write};

pub const TESTS: &[Test] = tests![
    a_connection_whose_client_has_gone_is_accepted_with_its_bytes,
    a_listener_that_is_shut_takes_nobody,
    packets_end_no_record,
    as_many_messages_fit_as_the_send_buffer_says,
    a_sender_waits_until_its_message_was_received,
    pollers_are_told_when_three_quarters_are_free,
    the_longest_datagram_follows_the_send_buffer,
    buffer_sizes_are_doubled_within_bounds,
    an_empty_message_is_a_message,
    descriptors_without_a_byte_do_not_enter_a_stream,
    packets_go_to_the_peer_whatever_the_name,
    control_data_is_cut_to_the_room,
    credentials_are_passed_over_accept,
    options_of_one_bit_are_one_or_zero,
    a_sockets_mode_is_that_of_its_node,
];

type Ends = (i32, i32);

fn pair(kind: i32) -> Ends {
    let mut ends = [0i32; 2];
    sys!(SYS_socketpair, AF_UNIX, kind | SOCK_NONBLOCK, 0, ends.as_mut_ptr()).unwrap();
    (ends[0], ends[1])
}

fn socket(kind: i32) -> i32 {
    sys!(SYS_socket, AF_UNIX, kind, 0).unwrap() as i32
}

fn option(fd: i32, name: i32) -> i32 {
    let (mut value, mut len) = (-1i32, 4u32);
    sys!(SYS_getsockopt, fd, SOL_SOCKET, name, &raw mut value, &raw mut len).unwrap();
    value
}

fn set(fd: i32, name: i32, value: i32) -> sys::Result<usize> {
    sys!(SYS_setsockopt, fd, SOL_SOCKET, name, &raw const value, 4)
}

fn send(fd: i32, bytes: &[u8], flags: i32) -> sys::Result<usize> {
    sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0, 0)
}

fn receive(fd: i32, bytes: &mut [u8]) -> sys::Result<usize> {
    sys!(SYS_recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), MSG_DONTWAIT, 0, 0)
}

fn unsent(fd: i32) -> i32 {
    let mut bytes = -1i32;
    sys!(SYS_ioctl, fd, TIOCOUTQ, &raw mut bytes).unwrap();
    bytes
}

fn poll_out(fd: i32) -> bool {
    let mut entry = pollfd { fd, events: POLLOUT, revents: 0 };
    sys!(SYS_poll, &raw mut entry, 1, 0).unwrap();
    entry.revents & POLLOUT != 0
}

/// The address of an abstract name.
fn address(name: &str) -> Vec<u8> {
    let mut bytes = (AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

fn listen(kind: i32, name: &str) -> i32 {
    let (fd, address) = (socket(kind), address(name));
    sys!(SYS_bind, fd, address.as_ptr(), address.len()).unwrap();
    sys!(SYS_listen, fd, 5).unwrap();
    fd
}

fn try_connect(kind: i32, name: &str) -> sys::Result<i32> {
    let (fd, address) = (socket(kind), address(name));
    sys!(SYS_connect, fd, address.as_ptr(), address.len()).map(|_| fd)
}

fn accept(listener: i32) -> i32 {
    sys!(SYS_accept4, listener, 0, 0, SOCK_NONBLOCK).unwrap() as i32
}

fn a_connection_whose_client_has_gone_is_accepted_with_its_bytes() {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET] {
        let name = format!("gone-{kind}");
        let listener = listen(kind, &name);
        let client = try_connect(kind, &name).unwrap();
        let own = address(&format!("client-{kind}"));
        sys!(SYS_bind, client, own.as_ptr(), own.len()).unwrap();
        write(client, b"hello").unwrap();
        sys::close(client);
        let (mut peer, mut len) = ([0u8; 110], 110u32);
        let accepted = sys!(SYS_accept, listener, peer.as_mut_ptr(), &raw mut len).unwrap() as i32;
        assert_eq!(&peer[..len as usize], own);
        len = 110;
        sys!(SYS_getpeername, accepted, peer.as_mut_ptr(), &raw mut len).unwrap();
        assert_eq!(&peer[..len as usize], own);
        let mut bytes = [0; 20];
        assert_eq!(receive(accepted, &mut bytes), Ok(5));
        assert_eq!(&bytes[..5], b"hello");
        assert_eq!(receive(accepted, &mut bytes), Ok(0));
        fails(send(accepted, b"x", MSG_NOSIGNAL), EPIPE);
    }
}

fn a_listener_that_is_shut_takes_nobody() {
    let listener = listen(SOCK_STREAM, "shut");
    let early = try_connect(SOCK_STREAM, "shut").unwrap();
    sys!(SYS_shutdown, listener, SHUT_RD).unwrap();
    fails(try_connect(SOCK_STREAM, "shut"), ECONNREFUSED);
    accept(listener);
    fails(sys!(SYS_accept, listener, 0, 0), EINVAL);
    sys::close(early);
}

fn packets_end_no_record() {
    let (one, two) = pair(SOCK_SEQPACKET);
    for flags in [0, MSG_EOR] {
        send(one, b"packet", flags).unwrap();
        let (_, told, _) = receive_control(two, 0);
        assert_eq!(told, 0);
    }
}

/// Sends until the buffer is full: messages and bytes.
fn fill(fd: i32, size: usize) -> (usize, usize) {
    let bytes = vec![b'x'; size];
    let mut sent = (0, 0);
    loop {
        match send(fd, &bytes, 0) {
            Ok(n) => sent = (sent.0 + 1, sent.1 + n),
            Err(error) => {
                assert_eq!(error.0, EAGAIN);
                return sent;
            }
        }
    }
}

fn as_many_messages_fit_as_the_send_buffer_says() {
    for (kind, buffer, size, messages, bytes, charged) in [
        (SOCK_STREAM, 212_992, 1, 278, 278, 213_504),
        (SOCK_STREAM, 212_992, 1000, 93, 93_000, 214_272),
        (SOCK_STREAM, 212_992, 4096, 44, 180_224, 214_016),
        (SOCK_STREAM, 212_992, 33_000, 7, 231_000, 238_336),
        (SOCK_STREAM, 212_992, 1 << 20, 1, 219_264, 222_720),
        (SOCK_STREAM, 4608, 1, 6, 6, 4608),
        (SOCK_STREAM, 4608, 10_000, 1, 4480, 8704),
        (SOCK_STREAM, 60_000, 33_000, 2, 62_936, 66_304),
        (SOCK_DGRAM, 212_992, 0, 278, 0, 213_504),
        (SOCK_DGRAM, 212_992, 4000, 26, 104_000, 219_648),
        (SOCK_DGRAM, 60_000, 10_000, 4, 40_000, 66_560),
        (SOCK_SEQPACKET, 212_992, 33_000, 6, 198_000, 222_720),
        (SOCK_SEQPACKET, 4608, 4096, 1, 4096, 8448),
    ] {
        let (one, two) = pair(kind);
        set(one, SO_SNDBUF, buffer / 2).unwrap();
        assert_eq!(option(one, SO_SNDBUF), buffer);
        // The receiver's buffer has no say.
        set(two, SO_RCVBUF, 0).unwrap();
        let what = format!("kind {kind}, {size} bytes into {buffer}");
        assert_eq!(fill(one, size), (messages, bytes), "{what}");
        assert_eq!(unsent(one), charged, "{what}");
        assert!(!poll_out(one));
        sys::close(two);
        assert_eq!(unsent(one), 0, "what nobody will receive is charged to nobody");
        sys::close(one);
    }
}

fn a_sender_waits_until_its_message_was_received() {
    let (one, two) = pair(SOCK_SEQPACKET);
    set(one, SO_SNDBUF, 2304).unwrap();
    fill(one, 4096);
    sys!(SYS_fcntl, one, F_SETFL, O_RDWR).unwrap();
    let child = spawn(|| assert_eq!(write(one, b"more"), Ok(4)));
    until_asleep(child);
    let mut bytes = vec![0; 4096];
    assert_eq!(receive(two, &mut bytes), Ok(4096));
    assert_eq!(join(child), 0);
    assert_eq!(receive(two, &mut bytes), Ok(4));
}

fn pollers_are_told_when_three_quarters_are_free() {
    let (one, two) = pair(SOCK_STREAM);
    fill(one, 1000);
    let mut read = 0;
    let mut bytes = [0; 1000];
    while !poll_out(one) {
        read += receive(two, &mut bytes).unwrap();
    }
    // 23 messages of 2304 bytes are a quarter of the buffer.
    assert_eq!(read, 70_000);
    // A sender need not wait for that.
    let (one, two) = pair(SOCK_STREAM);
    fill(one, 1000);
    receive(two, &mut bytes).unwrap();
    assert!(!poll_out(one));
    assert_eq!(send(one, &bytes, 0), Ok(1000));
    fails(send(one, &bytes, 0), EAGAIN);
}

fn the_longest_datagram_follows_the_send_buffer() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let (one, _two) = pair(kind);
        for buffer in [212_992, 4608, 60_000] {
            set(one, SO_SNDBUF, buffer / 2).unwrap();
            let bytes = vec![0u8; buffer as usize - 31];
            fails(send(one, &bytes, 0), EMSGSIZE);
        }
        assert_eq!(send(one, &vec![0u8; 59_968], 0), Ok(59_968));
    }
}

fn buffer_sizes_are_doubled_within_bounds() {
    let (one, _two) = pair(SOCK_STREAM);
    for (asked, send, receive) in [
        (0, 4608, 2304),
        (1153, 4608, 2306),
        (2305, 4610, 4610),
        (100_000, 200_000, 200_000),
        (212_993, 425_984, 425_984),
        (-1, 425_984, 425_984),
    ] {
        set(one, SO_SNDBUF, asked).unwrap();
        set(one, SO_RCVBUF, asked).unwrap();
        assert_eq!((option(one, SO_SNDBUF), option(one, SO_RCVBUF)), (send, receive), "{asked}");
    }
    for (asked, send, receive) in [(1 << 20, 2 << 20, 2 << 20), (-5, 4608, 2304)] {
        set(one, SO_SNDBUFFORCE, asked).unwrap();
        set(one, SO_RCVBUFFORCE, asked).unwrap();
        assert_eq!((option(one, SO_SNDBUF), option(one, SO_RCVBUF)), (send, receive), "{asked}");
    }
}

fn an_empty_message_is_a_message() {
    let mut bytes = [0; 10];
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let (one, two) = pair(kind);
        assert_eq!(send(one, b"", 0), Ok(0));
        assert_eq!(write(one, b""), Ok(0));
        // A vector of nothing is not.
        let nothing = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        assert_eq!(sys!(SYS_writev, one, &raw const nothing, 1), Ok(0));
        // Nor does reading nothing take one.
        assert_eq!(read(two, &mut []), Ok(0));
        assert_eq!(receive(two, &mut bytes), Ok(0));
        assert_eq!(receive(two, &mut bytes), Ok(0));
        fails(receive(two, &mut bytes), EAGAIN);
        send(one, b"x", 0).unwrap();
        assert_eq!(receive(two, &mut []), Ok(0));
        fails(receive(two, &mut bytes), EAGAIN);
    }
}

/// Sends bytes with `count` descriptors.
fn send_descriptors(fd: i32, count: usize, bytes: &[u8]) -> sys::Result<usize> {
    let mut control = [0u64; 8];
    control[0] = 16 + 4 * count as u64;
    control[1] = (SCM_RIGHTS as u64) << 32 | SOL_SOCKET as u64;
    let vector = [bytes.as_ptr() as usize, bytes.len()];
    let space = 16 + (4 * count).next_multiple_of(8);
    let at = control.as_ptr() as usize;
    let header = [0, 0, vector.as_ptr() as usize, 1, at, space, 0usize];
    sys!(SYS_sendmsg, fd, header.as_ptr(), 0)
}

/// Receives with so many bytes for control data: their number, the flags, the lengths and types.
fn receive_control(fd: i32, room: usize) -> (usize, i32, Vec<(u64, i32)>) {
    let (mut control, mut bytes) = ([0u64; 16], [0u8; 16]);
    let vector = [bytes.as_mut_ptr() as usize, 16];
    let at = control.as_mut_ptr() as usize;
    let mut header = [0, 0, vector.as_ptr() as usize, 1, at, room, 0usize];
    sys!(SYS_recvmsg, fd, header.as_mut_ptr(), MSG_DONTWAIT).unwrap();
    let header = std::hint::black_box(header);
    let control = std::hint::black_box(control);
    let (mut at, mut found) = (0, Vec::new());
    while at + 16 <= header[5] {
        let (len, kind) = (control[at / 8], (control[at / 8 + 1] >> 32) as i32);
        found.push((len, kind));
        at += (len as usize).next_multiple_of(8);
    }
    (header[5], header[6] as i32, found)
}

fn descriptors_without_a_byte_do_not_enter_a_stream() {
    let (one, two) = pair(SOCK_STREAM);
    assert_eq!(send_descriptors(one, 1, b""), Ok(0));
    fails(receive(two, &mut [0; 4]), EAGAIN);
    let (one, two) = pair(SOCK_DGRAM);
    assert_eq!(send_descriptors(one, 1, b""), Ok(0));
    assert_eq!(receive_control(two, 64).2, [(20, SCM_RIGHTS)]);
}

fn packets_go_to_the_peer_whatever_the_name() {
    let (one, two) = pair(SOCK_SEQPACKET);
    let to = |fd: i32, address: &[u8]| {
        sys!(SYS_sendto, fd, b"x".as_ptr(), 1, 0, address.as_ptr(), address.len())
    };
    for name in [&address("nowhere")[..], &[1, 0], &[7, 0], &[1]] {
        assert_eq!(to(one, name), Ok(1));
        assert_eq!(receive(two, &mut [0; 4]), Ok(1));
    }
    fails(to(one, &[0; 129]), EINVAL);
    fails(to(socket(SOCK_SEQPACKET), &address("nowhere")), ENOTCONN);
}

fn control_data_is_cut_to_the_room() {
    let (one, two) = pair(SOCK_DGRAM);
    set(two, SO_PASSCRED, 1).unwrap();
    let (creds, files) = (SCM_CREDENTIALS, SCM_RIGHTS);
    for (room, filled, found) in [
        (0, 0, vec![]),
        (15, 0, vec![]),
        (16, 16, vec![(16, creds)]),
        (19, 19, vec![(19, creds)]),
        (27, 27, vec![(27, creds)]),
        (28, 28, vec![(28, creds)]),
        (47, 32, vec![(28, creds)]),
        (51, 32, vec![(28, creds)]),
        (52, 52, vec![(28, creds), (20, files)]),
        (56, 56, vec![(28, creds), (24, files)]),
    ] {
        send_descriptors(one, 3, b"m").unwrap();
        assert_eq!(receive_control(two, room), (filled, MSG_CTRUNC, found), "room {room}");
    }
    send_descriptors(one, 3, b"m").unwrap();
    assert_eq!(receive_control(two, 60), (60, 0, vec![(28, creds), (28, files)]));
}

fn credentials_are_passed_over_accept() {
    let listener = listen(SOCK_STREAM, "credentials");
    set(listener, SO_PASSCRED, 1).unwrap();
    for own in [1, 0] {
        let client = try_connect(SOCK_STREAM, "credentials").unwrap();
        write(client, b"early").unwrap();
        set(listener, SO_PASSCRED, own).unwrap();
        let accepted = accept(listener);
        // It has what the listener has when it is accepted.
        assert_eq!(option(accepted, SO_PASSCRED), own);
        set(accepted, SO_PASSCRED, 1).unwrap();
        let mut control = [0u32; 8];
        let mut bytes = [0u8; 16];
        let vector = [bytes.as_mut_ptr() as usize, 16];
        let at = control.as_mut_ptr() as usize;
        let header = [0, 0, vector.as_ptr() as usize, 1, at, 32, 0usize];
        assert_eq!(sys!(SYS_recvmsg, accepted, header.as_ptr(), 0), Ok(5));
        let control = std::hint::black_box(control);
        assert_eq!(control[..5], [28, 0, 1, 2, sys::getpid() as u32]);
    }
}

fn options_of_one_bit_are_one_or_zero() {
    let (one, _two) = pair(SOCK_STREAM);
    for name in [
        SO_DEBUG,
        SO_REUSEADDR,
        SO_DONTROUTE,
        SO_BROADCAST,
        SO_KEEPALIVE,
        SO_OOBINLINE,
        SO_NO_CHECK,
        SO_PASSCRED,
        SO_PASSSEC,
        SO_TIMESTAMP,
        SO_RXQ_OVFL,
        SO_SELECT_ERR_QUEUE,
    ] {
        for (value, is) in [(5, 1), (-1, 1), (0, 0)] {
            set(one, name, value).unwrap();
            assert_eq!(option(one, name), is, "option {name}");
        }
    }
    fails(set(one, SO_REUSEPORT, 1), EOPNOTSUPP);
    set(one, SO_REUSEPORT, 0).unwrap();
    set(one, SO_PRIORITY, 5).unwrap();
    assert_eq!(option(one, SO_PRIORITY), 5);
    let short = 1u8;
    fails(sys!(SYS_setsockopt, one, SOL_SOCKET, SO_DEBUG, &raw const short, 1), EINVAL);
    for name in [SO_LINGER, SO_RCVTIMEO, SO_SNDTIMEO] {
        fails(set(one, name, 1), EINVAL);
    }
}

fn a_sockets_mode_is_that_of_its_node() {
    let directory = scratch();
    let old = sys!(SYS_umask, 0o022).unwrap();
    for (own, node) in [(None, 0o755), (Some(0o600), 0o600), (Some(0o1777), 0o1755)] {
        let fd = socket(SOCK_STREAM);
        if let Some(mode) = own {
            sys!(SYS_fchmod, fd, mode).unwrap();
        }
        let path = format!("{directory}/socket-{node:o}");
        let mut address = (AF_UNIX as u16).to_ne_bytes().to_vec();
        address.extend_from_slice(path.as_bytes());
        sys!(SYS_bind, fd, address.as_ptr(), address.len()).unwrap();
        let mode = || {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777
        };
        assert_eq!(mode(), node);
        // From then on they are apart.
        sys!(SYS_fchmod, fd, 0o640).unwrap();
        assert_eq!(mode(), node);
    }
    sys!(SYS_umask, old).unwrap();
}
