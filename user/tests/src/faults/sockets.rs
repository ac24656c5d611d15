//! Sockets.

use super::each_fails;
use crate::harness::{Test, tests};
use crate::sys::{self, Errno, Result, sys};

pub const TESTS: &[Test] = tests![
    socket,
    socketpair,
    bind_connect_and_accept,
    bytes_are_sent,
    datagrams_are_sent,
    descriptors_are_sent,
    a_long_message_vector,
    options,
];

/// What says that there is no room for a message: sockets may say it so.
const NO_ROOM: &[i32] = &[libc::ENOBUFS];

fn pair(kind: i32) -> Result<(i32, i32)> {
    let mut ends = [0i32; 2];
    sys!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, ends.as_mut_ptr())?;
    Ok((ends[0], ends[1]))
}

fn socket() {
    each_fails(NO_ROOM, |turn| {
        let fd = turn.call(|| sys!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0))?;
        sys::close(fd as i32);
        Ok(())
    });
}

fn socketpair() {
    each_fails(NO_ROOM, |turn| {
        let (one, other) = turn.call(|| pair(libc::SOCK_SEQPACKET))?;
        sys::close(one);
        sys::close(other);
        Ok(())
    });
}

fn bind_connect_and_accept() {
    let mut name: libc::sockaddr_un = sys::zeroed();
    name.sun_family = libc::AF_UNIX as u16;
    let path = format!("/tmp/faults-{}-socket", sys::getpid());
    for (to, from) in name.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as i8;
    }
    let size = size_of_val(&name);
    each_fails(NO_ROOM, |turn| {
        let server = sys!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)? as i32;
        let client = sys!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)? as i32;
        let result = turn.call(|| {
            sys!(libc::SYS_bind, server, &raw const name, size)?;
            sys!(libc::SYS_listen, server, 5)?;
            sys!(libc::SYS_connect, client, &raw const name, size)?;
            let mut peer: libc::sockaddr_un = sys::zeroed();
            let mut length = size as u32;
            // Refused, the connection is gone or still waits: not in between.
            sys!(libc::SYS_accept4, server, &raw mut peer, &raw mut length, libc::SOCK_NONBLOCK)
        });
        if let Ok(fd) = result {
            sys::close(fd as i32);
        }
        sys::close(server);
        sys::close(client);
        let _ = std::fs::remove_file(&path);
        result.map(drop)
    });
}

fn exchange(kind: i32) {
    each_fails(NO_ROOM, |turn| {
        let (one, other) = pair(kind)?;
        let mut data = [9u8; 9000];
        let result = turn.call(|| {
            let sent = sys::write(one, &data)?;
            sys::read(other, &mut data[..sent])
        });
        sys::close(one);
        sys::close(other);
        assert!(result.is_err() || result.is_ok_and(|count| count > 0));
        result.map(drop)
    });
}

fn bytes_are_sent() {
    exchange(libc::SOCK_STREAM);
}

fn datagrams_are_sent() {
    exchange(libc::SOCK_DGRAM);
}

fn descriptors_are_sent() {
    each_fails(NO_ROOM, |turn| {
        let (one, other) = pair(libc::SOCK_STREAM)?;
        let mut data = [1u8; 100];
        let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
        // A header, and two descriptors.
        let mut control =
            [24u64, (libc::SCM_RIGHTS as u64) << 32 | libc::SOL_SOCKET as u64, 0, 0, 0];
        control[2] = (other as u64) << 32 | one as u64;
        let mut message: libc::msghdr = sys::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = 24;
        let mut got = [0u64; 5];
        let result = turn.call(|| {
            sys!(libc::SYS_sendmsg, one, &raw const message, 0)?;
            message.msg_control = got.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&got) as _;
            sys!(libc::SYS_recvmsg, other, &raw mut message, libc::MSG_DONTWAIT)
        });
        if got[0] >= 20 {
            for at in 0..(got[0] as usize - 16) / 4 {
                sys::close((got[2 + at / 2] >> (at % 2 * 32)) as i32);
            }
        }
        sys::close(one);
        sys::close(other);
        if result.is_ok() {
            assert_eq!(result, Ok(100));
        }
        result.map(drop)
    });
}

fn a_long_message_vector() {
    each_fails(NO_ROOM, |turn| {
        let (one, other) = pair(libc::SOCK_DGRAM)?;
        let mut data = [1u8; 8];
        let part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: 8 };
        let mut parts = [part; 600];
        let mut message: libc::msghdr = sys::zeroed();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
        let result = turn.call(|| {
            sys!(libc::SYS_sendmsg, one, &raw const message, 0)?;
            sys!(libc::SYS_recvmsg, other, &raw mut message, libc::MSG_DONTWAIT)
        });
        sys::close(one);
        sys::close(other);
        if result != Err(Errno(libc::EAGAIN)) && result.is_ok() {
            assert_eq!(result, Ok(4800));
        }
        result.map(drop)
    });
}

fn options() {
    each_fails(NO_ROOM, |turn| {
        let (one, other) = pair(libc::SOCK_STREAM)?;
        let size = 100_000i32;
        let mut peer = [0u32; 3];
        let mut length = 12u32;
        let result = turn.call(|| {
            let to = libc::SOL_SOCKET;
            sys!(libc::SYS_setsockopt, one, to, libc::SO_SNDBUF, &raw const size, 4)?;
            let (at, length) = (peer.as_mut_ptr(), &raw mut length);
            sys!(libc::SYS_getsockopt, one, to, libc::SO_PEERCRED, at, length)
        });
        sys::close(one);
        sys::close(other);
        result.map(drop)
    });
}
