//! Sockets: what every family offers, and AF_UNIX. Others stand in crates of their own.

pub mod cmsg;
pub mod unix;

use crate::context::Caller;
use crate::env::Ucred;
use crate::file::File;
use crate::oflag;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use hal::user::{Sink, Source};

/// AF_UNIX.
pub const AF_UNIX: u32 = 1;

/// Flags of sendmsg(2) and recvmsg(2) (`MSG_*`).
pub mod msg {
    pub const OOB: u32 = 0x1;
    pub const PEEK: u32 = 0x2;
    pub const CTRUNC: u32 = 0x8;
    pub const TRUNC: u32 = 0x20;
    pub const DONTWAIT: u32 = 0x40;
    pub const EOR: u32 = 0x80;
    pub const WAITALL: u32 = 0x100;
    pub const NOSIGNAL: u32 = 0x4000;
    pub const WAITFORONE: u32 = 0x10000;
    pub const CMSG_CLOEXEC: u32 = 0x4000_0000;
}

/// Sorts of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Datagram,
    SeqPacket,
}

impl Kind {
    /// `SOCK_*`.
    pub fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::SeqPacket => 5,
        }
    }
}

/// A control message that belongs to the socket's family or protocol.
pub struct Message {
    pub level: u32,
    pub kind: u32,
    pub data: Vec<u8>,
}

/// Control data that goes with a message.
#[derive(Default)]
pub struct Control {
    /// SCM_RIGHTS.
    pub files: Vec<Arc<File>>,
    /// SCM_CREDENTIALS, checked.
    pub creds: Option<Ucred>,
    /// Of other levels than SOL_SOCKET.
    pub others: Vec<Message>,
}

/// What a receive gave.
#[derive(Default)]
pub struct Received {
    /// What the call returns: bytes taken, or with MSG_TRUNC the datagram's full length.
    pub len: usize,
    /// `msg_flags`.
    pub flags: u32,
    /// The sender's address as `struct sockaddr`; empty when there is none to tell.
    pub from: Vec<u8>,
    pub creds: Option<Ucred>,
    pub files: Vec<Arc<File>>,
    /// Control messages of the family or protocol.
    pub control: Vec<Message>,
}

/// Which directions to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub read: bool,
    pub write: bool,
}

impl Shutdown {
    /// From shutdown(2)'s number; EINVAL.
    pub fn from_raw(how: u32) -> Result<Self> {
        match how {
            0 => Ok(Self { read: true, write: false }),
            1 => Ok(Self { read: false, write: true }),
            2 => Ok(Self { read: true, write: true }),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// A socket's operations; addresses are `struct sockaddr` bytes.
pub trait SocketOps {
    fn bind(&self, caller: &Caller<'_>, address: &[u8]) -> Result<()>;
    fn listen(&self, backlog: i32) -> Result<()>;
    /// The next connection, opened with `flags` (O_NONBLOCK).
    fn accept(&self, file: &File, flags: u32) -> Result<Arc<File>>;
    fn connect(&self, file: &File, caller: &Caller<'_>, address: &[u8]) -> Result<()>;
    fn shutdown(&self, how: Shutdown) -> Result<()>;
    fn local_address(&self) -> Vec<u8>;
    /// ENOTCONN.
    fn peer_address(&self) -> Result<Vec<u8>>;
    /// The address that accept(2) tells of a new connection, be it gone already.
    fn accepted_from(&self) -> Result<Vec<u8>> {
        self.peer_address()
    }
    /// Sends to `to`, or to the peer. EPIPE: the caller raises SIGPIPE unless MSG_NOSIGNAL.
    fn send(
        &self,
        file: &File,
        src: &mut dyn Source,
        to: Option<(&Caller<'_>, &[u8])>,
        control: Control,
        flags: u32,
    ) -> Result<usize>;
    fn receive(&self, file: &File, dst: &mut dyn Sink, flags: u32) -> Result<Received>;
    fn option(&self, level: u32, name: u32) -> Result<Vec<u8>>;
    fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()>;
}

/// The socket behind a description; ENOTSOCK.
pub fn of(file: &File) -> Result<&dyn SocketOps> {
    file.ops().as_socket().ok_or(Errno::ENOTSOCK)
}

fn kind(family: u32, kind: u32, protocol: u32) -> Result<(Kind, u32)> {
    if family != AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    let flags = kind & !0xf;
    if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    // PF_UNIX is accepted as a protocol.
    if protocol > 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match kind & 0xf {
        1 => Kind::Stream,
        // SOCK_RAW of AF_UNIX is SOCK_DGRAM.
        2 | 3 => Kind::Datagram,
        5 => Kind::SeqPacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok((kind, oflag::O_RDWR | (flags & oflag::O_NONBLOCK)))
}

/// Sockets that processes have.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// How many sockets there are.
pub fn count() -> usize {
    COUNT.load(Relaxed)
}

/// One among the sockets that are counted.
pub struct Counted(());

impl Counted {
    /// One more.
    #[allow(clippy::new_without_default, reason = "it counts")]
    pub fn new() -> Self {
        COUNT.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Relaxed);
    }
}

/// socket(2); `kind` with SOCK_NONBLOCK (SOCK_CLOEXEC is the table's business). EAFNOSUPPORT for
/// families other than AF_UNIX.
pub fn create(family: u32, socket_kind: u32, protocol: u32) -> Result<Arc<File>> {
    let (kind, flags) = kind(family, socket_kind, protocol)?;
    File::anonymous(unix::UnixSocket::new(kind)?, flags)
}

/// socketpair(2).
pub fn pair(family: u32, socket_kind: u32, protocol: u32) -> Result<(Arc<File>, Arc<File>)> {
    let (kind, flags) = kind(family, socket_kind, protocol)?;
    let (a, b) = unix::UnixSocket::pair(kind)?;
    Ok((File::anonymous(a, flags)?, File::anonymous(b, flags)?))
}
