//! Sockets of the local domain.

use libc::*;

use super::scratch;
use crate::child::{join, run, spawn, until_asleep};
use crate::harness::{Test, tests};
use crate::memory::*;
use crate::sys::{self, fails, read, sys, write};

pub const TESTS: &[Test] = tests![
    a_stream_carries_bytes_both_ways,
    datagrams_keep_their_borders,
    a_server_accepts_its_clients,
    names_are_refused_when_taken_or_missing,
    descriptors_are_passed,
    descriptors_never_received_are_closed_with_the_socket,
    ends_on_all_cpus_at_once_close_sockets,
    credentials_of_the_peer_are_told,
    shutdown_ends_one_direction,
    peeking_leaves_the_bytes,
    waiting_all_waits_for_all,
    a_full_stream_makes_its_writer_wait,
    datagrams_are_sent_to_names,
];

fn pair(kind: i32) -> (i32, i32) {
    let mut ends = [0i32; 2];
    sys!(SYS_socketpair, AF_UNIX, kind, 0, ends.as_mut_ptr()).unwrap();
    (ends[0], ends[1])
}

fn socket(kind: i32) -> i32 {
    sys!(SYS_socket, AF_UNIX, kind, 0).unwrap() as i32
}

/// The address of a path; a name that begins with NUL is abstract.
fn address(name: &str) -> Vec<u8> {
    let mut bytes = (AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    if !name.starts_with('\0') {
        bytes.push(0);
    }
    bytes
}

fn bind(fd: i32, name: &str) -> sys::Result<usize> {
    let address = address(name);
    sys!(SYS_bind, fd, address.as_ptr(), address.len())
}

fn connect(fd: i32, name: &str) -> sys::Result<usize> {
    let address = address(name);
    sys!(SYS_connect, fd, address.as_ptr(), address.len())
}

/// Sends a byte with descriptors.
fn send_descriptors(socket: i32, fds: &[i32]) -> sys::Result<usize> {
    let mut control = [0u64; 8];
    control[0] = 16 + 4 * fds.len() as u64;
    control[1] = (SCM_RIGHTS as u64) << 32 | SOL_SOCKET as u64;
    for (i, fd) in fds.iter().enumerate() {
        control[2 + i / 2] |= (*fd as u32 as u64) << (32 * (i % 2));
    }
    let byte = [b'd'];
    let vector = [byte.as_ptr() as usize, 1];
    let space = 16 + (4 * fds.len()).next_multiple_of(8);
    let at = |pointer: *const u64| pointer as usize;
    let header = [0, 0, vector.as_ptr() as usize, 1, at(control.as_ptr()), space, 0usize];
    sys!(SYS_sendmsg, socket, header.as_ptr(), 0)
}

/// Receives a byte with descriptors.
fn receive_descriptors(socket: i32) -> Vec<i32> {
    let mut control = [0u64; 8];
    let mut byte = [0u8];
    let vector = [byte.as_mut_ptr() as usize, 1];
    let header = [0, 0, vector.as_ptr() as usize, 1, control.as_mut_ptr() as usize, 64, 0usize];
    assert_eq!(sys!(SYS_recvmsg, socket, header.as_ptr(), MSG_CMSG_CLOEXEC), Ok(1));
    let control = std::hint::black_box(control);
    let count = (control[0] as usize).saturating_sub(16) / 4;
    (0..count).map(|i| (control[2 + i / 2] >> (32 * (i % 2))) as u32 as i32).collect()
}

fn a_stream_carries_bytes_both_ways() {
    let (one, two) = pair(SOCK_STREAM);
    write(one, b"hello").unwrap();
    write(one, b"world").unwrap();
    let mut bytes = [0; 20];
    assert_eq!(read(two, &mut bytes), Ok(10));
    write(two, b"back").unwrap();
    assert_eq!(read(one, &mut bytes), Ok(4));
    sys::close(one);
    assert_eq!(read(two, &mut bytes), Ok(0));
    crate::signal::ignore(SIGPIPE);
    fails(write(two, b"x"), EPIPE);
}

fn datagrams_keep_their_borders() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let (one, two) = pair(kind);
        write(one, b"one").unwrap();
        write(one, b"three").unwrap();
        let mut bytes = [0; 20];
        assert_eq!(read(two, &mut bytes), Ok(3));
        // What does not fit is cut off.
        assert_eq!(read(two, &mut bytes[..2]), Ok(2));
        let flags = MSG_DONTWAIT;
        fails(sys!(SYS_recvfrom, two, bytes.as_mut_ptr(), 20, flags, 0, 0), EAGAIN);
    }
}

fn a_server_accepts_its_clients() {
    for name in [scratch() + "/socket", "\0proxima-tests".to_string()] {
        let server = socket(SOCK_STREAM);
        bind(server, &name).unwrap();
        let early = socket(SOCK_STREAM);
        fails(connect(early, &name), ECONNREFUSED);
        sys!(SYS_listen, server, 8).unwrap();
        let child = spawn(|| {
            for n in 0..3u8 {
                let client = socket(SOCK_STREAM);
                connect(client, &name).unwrap();
                write(client, &[n]).unwrap();
                assert_eq!(read(client, &mut [0]), Ok(1));
            }
        });
        for n in 0..3 {
            let client = sys!(SYS_accept4, server, 0, 0, SOCK_CLOEXEC).unwrap() as i32;
            let mut byte = [9];
            assert_eq!((read(client, &mut byte), byte), (Ok(1), [n]));
            write(client, &[n]).unwrap();
            sys::close(client);
        }
        assert_eq!(join(child), 0);
    }
}

fn names_are_refused_when_taken_or_missing() {
    let path = scratch() + "/socket";
    let (one, two) = (socket(SOCK_STREAM), socket(SOCK_STREAM));
    bind(one, &path).unwrap();
    fails(bind(two, &path), EADDRINUSE);
    fails(bind(one, &(path.clone() + "2")), EINVAL);
    fails(connect(two, &(path.clone() + "none")), ENOENT);
    use std::os::unix::fs::FileTypeExt;
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    sys::close(one);
    fails(connect(two, &path), ECONNREFUSED);
    fails(sys!(SYS_socket, AF_UNIX, 6, 0), ESOCKTNOSUPPORT);
    fails(sys!(SYS_socket, 99, SOCK_STREAM, 0), EAFNOSUPPORT);
    fails(sys!(SYS_listen, memfd(0), 1), ENOTSOCK);
}

fn descriptors_are_passed() {
    let (one, two) = pair(SOCK_STREAM);
    let fd = memfd(1);
    let at = map_file(fd, 1, MAP_SHARED);
    let child = spawn(|| {
        let fds = receive_descriptors(two);
        assert_eq!(fds.len(), 2);
        assert_eq!(sys!(SYS_pwrite64, fds[0], b"ok".as_ptr(), 2, 0), Ok(2));
        assert_eq!(write(fds[1], b"!"), Ok(1));
        assert_eq!(sys!(SYS_fcntl, fds[0], F_GETFD), Ok(1));
    });
    let (reader, writer) = sys::pipe().unwrap();
    assert_eq!(send_descriptors(one, &[fd, writer]), Ok(1));
    sys::close(writer);
    let mut byte = [0];
    assert_eq!((read(reader, &mut byte), byte), (Ok(1), [b'!']));
    assert_eq!(join(child), 0);
    assert_eq!([get(at), get(at + 1)], *b"ok");
    // The child's copies are gone with it.
    assert_eq!(read(reader, &mut byte), Ok(0));
}

fn descriptors_never_received_are_closed_with_the_socket() {
    let (one, two) = pair(SOCK_STREAM);
    let (reader, writer) = sys::pipe().unwrap();
    send_descriptors(one, &[writer]).unwrap();
    sys::close(writer);
    sys::close(two);
    sys::close(one);
    assert_eq!(read(reader, &mut [0]), Ok(0));
    let (one, _two) = pair(SOCK_STREAM);
    fails(send_descriptors(one, &[777]), EBADF);
}

fn ends_on_all_cpus_at_once_close_sockets() {
    const ROUNDS: u64 = 40;
    let cpus = crate::child::affinity(0);
    for _ in 0..ROUNDS {
        let mut watched = Vec::new();
        let start = pair(SOCK_STREAM);
        for &cpu in cpus.iter().take(8) {
            let (near, far) = pair(SOCK_STREAM);
            let child = spawn(|| {
                crate::child::pin(cpu);
                // Sockets, and sockets in flight: what is closed looks for more.
                for _ in 0..8 {
                    let (one, two) = pair(SOCK_DGRAM);
                    send_descriptors(one, &[one, two]).unwrap();
                }
                sys::close(start.1);
                sys::close(far);
                let mut byte = [0];
                read(start.0, &mut byte).unwrap();
                sys::exit_group(i32::from(near < 0));
            });
            sys::close(near);
            watched.push((child, far));
        }
        // All of them wait for the end of the other end.
        sys::close(start.1);
        for (child, far) in watched {
            assert_eq!(join(child), 0);
            assert_eq!(read(far, &mut [0]), Ok(0));
            sys::close(far);
        }
        sys::close(start.0);
    }
}

fn credentials_of_the_peer_are_told() {
    let (one, _two) = pair(SOCK_STREAM);
    let mut data = [0u32; 3];
    let mut length = 12u32;
    let nr = SYS_getsockopt;
    sys!(nr, one, SOL_SOCKET, SO_PEERCRED, data.as_mut_ptr(), &raw mut length).unwrap();
    assert_eq!(data, [sys::getpid() as u32, 0, 0]);
}

fn shutdown_ends_one_direction() {
    let (one, two) = pair(SOCK_STREAM);
    sys!(SYS_shutdown, one, SHUT_WR).unwrap();
    assert_eq!(read(two, &mut [0]), Ok(0));
    write(two, b"x").unwrap();
    assert_eq!(read(one, &mut [0]), Ok(1));
    crate::signal::ignore(SIGPIPE);
    fails(write(one, b"x"), EPIPE);
    fails(sys!(SYS_shutdown, one, 9), EINVAL);
}

fn peeking_leaves_the_bytes() {
    let (one, two) = pair(SOCK_STREAM);
    write(one, b"abc").unwrap();
    let mut bytes = [0; 3];
    let mut receive = |flags: i32| sys!(SYS_recvfrom, two, bytes.as_mut_ptr(), 3, flags, 0, 0);
    assert_eq!(receive(MSG_PEEK), Ok(3));
    assert_eq!(receive(0), Ok(3));
    fails(receive(MSG_DONTWAIT), EAGAIN);
}

fn waiting_all_waits_for_all() {
    let (one, two) = pair(SOCK_STREAM);
    let child = spawn(|| {
        let mut bytes = [0; 10];
        let received = sys!(SYS_recvfrom, two, bytes.as_mut_ptr(), 10, MSG_WAITALL, 0, 0);
        assert_eq!(received, Ok(10));
    });
    write(one, b"01234").unwrap();
    until_asleep(child);
    write(one, b"56789").unwrap();
    assert_eq!(join(child), 0);
}

fn a_full_stream_makes_its_writer_wait() {
    let (one, two) = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let mut sent = 0;
    let end = loop {
        match write(one, &[1; 4096]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(end.0, EAGAIN);
    let mut got = 0;
    let mut buffer = vec![0; 65536];
    while got < sent {
        got += read(two, &mut buffer).unwrap();
    }
    assert_eq!(got, sent);
    run(|| assert_eq!(write(one, b"x"), Ok(1)));
}

fn datagrams_are_sent_to_names() {
    let receiver = socket(SOCK_DGRAM);
    bind(receiver, "\0proxima-datagrams").unwrap();
    let sender = socket(SOCK_DGRAM);
    let to = address("\0proxima-datagrams");
    let nr = SYS_sendto;
    assert_eq!(sys!(nr, sender, b"hi".as_ptr(), 2, 0, to.as_ptr(), to.len()), Ok(2));
    let mut bytes = [0; 5];
    assert_eq!(read(receiver, &mut bytes), Ok(2));
    fails(sys!(nr, sender, b"hi".as_ptr(), 2, 0, 0, 0), ENOTCONN);
    connect(sender, "\0proxima-datagrams").unwrap();
    assert_eq!(write(sender, b"again"), Ok(5));
    assert_eq!(read(receiver, &mut bytes), Ok(5));
}
