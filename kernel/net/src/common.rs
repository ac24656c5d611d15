//! What every socket here has: options, an error to tell, who waits, and how much it may hold.

use crate::address::{Endpoint, Scope};
use crate::memory;
use crate::options::{self, Options, SOL_SOCKET, so, word};
use crate::ports::Claim;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};
use frames::fallible::arc;
use fs::env::env;
use fs::fasync::{Band, Fasync};
use fs::socket::Counted;
use fs::{Cap, InodeBase};
use numa::NodeId;
use sync::{SpinLock, WaitError, WaitQueue};

/// The common part of a socket.
pub struct Core {
    pub base: InodeBase,
    pub v6: bool,
    pub options: SpinLock<Options>,
    /// SO_ERROR, 0 without one.
    error: AtomicU16,
    /// Something to receive or accept, an end, a change of state.
    pub readable: Arc<WaitQueue>,
    /// Room to send, or a change of state.
    pub writable: Arc<WaitQueue>,
    pub fasync: Fasync,
    /// SO_SNDBUF and SO_RCVBUF, bytes.
    pub send_room: AtomicUsize,
    pub receive_room: AtomicUsize,
    /// The node of who received last, where what is sent to it is put.
    node: AtomicUsize,
    _counted: Counted,
}

impl Core {
    /// With buffers of these sizes. ENOMEM.
    pub fn new(v6: bool, send_room: usize, receive_room: usize) -> Result<Self> {
        Ok(Self {
            base: InodeBase::anonymous(8, g::S_IFSOCK | 0o777),
            v6,
            options: SpinLock::new(Options::default()),
            error: AtomicU16::new(0),
            readable: arc(WaitQueue::new())?,
            writable: arc(WaitQueue::new())?,
            fasync: Fasync::default(),
            send_room: AtomicUsize::new(send_room),
            receive_room: AtomicUsize::new(receive_room),
            node: AtomicUsize::new(memory::here().index()),
            _counted: Counted::new(),
        })
    }

    /// The running task reads: what comes is to be on its node.
    #[inline]
    pub fn reads_here(&self) {
        let here = memory::here().index();
        if self.node.load(Relaxed) != here {
            self.node.store(here, Relaxed);
        }
    }

    /// Where what is sent to it is put.
    #[inline]
    pub fn node(&self) -> NodeId {
        NodeId::new(self.node.load(Relaxed) as u16)
    }

    /// Whether there is an error to tell.
    #[inline]
    pub fn has_error(&self) -> bool {
        self.error.load(Relaxed) != 0
    }

    /// Leaves an error to be told.
    pub fn fail(&self, error: Errno) {
        self.error.store(error.code(), Relaxed);
    }

    /// The error, which is told once.
    #[inline]
    pub fn take_error(&self) -> Result<()> {
        if !self.has_error() {
            return Ok(());
        }
        match self.error.swap(0, Relaxed) {
            0 => Ok(()),
            code => Err(Errno::from_code(code)),
        }
    }

    /// Wakes everybody: the state has changed.
    pub fn wake(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
    }

    /// Something came: wakes a receiver.
    #[inline]
    pub fn came(&self) {
        self.readable.wake_one();
        self.fasync.kill(Band::In);
    }

    /// Sleeps on `queue` for `ready`, at most `timeout` (ns; None: no limit): EAGAIN then. An
    /// interrupted wait restarts only without a limit.
    pub fn sleep<R>(
        queue: &WaitQueue,
        timeout: Option<u64>,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let deadline = timeout.map(|ns| sync::hooks::now().saturating_add(ns));
        queue.wait_exclusive(deadline, ready).map_err(|error| match error {
            WaitError::TimedOut => Errno::EAGAIN,
            WaitError::Interrupted if timeout.is_some() => Errno::EINTR,
            WaitError::Interrupted => Errno::ERESTARTSYS,
        })
    }

    /// What it says of a port that it takes at `ip`.
    pub fn claim(&self, ip: core::net::IpAddr) -> Claim {
        use crate::options::{IPPROTO_IPV6, ip6};
        let options = self.options.lock();
        Claim {
            scope: Scope::of(ip, self.v6, options.is_on(IPPROTO_IPV6, ip6::V6ONLY)),
            reuse: options.is_on(SOL_SOCKET, so::REUSEADDR),
            reuse_port: options.is_on(SOL_SOCKET, so::REUSEPORT),
            uid: self.base.uid(),
            listening: false,
            remote: None,
            by_connect: false,
        }
    }

    /// An address as this socket shows it; None is nowhere.
    pub fn show(&self, endpoint: Option<Endpoint>) -> Vec<u8> {
        endpoint.unwrap_or(Endpoint::nowhere(self.v6)).encode(self.v6)
    }

    /// getsockopt(2) of SOL_SOCKET that all have.
    pub fn option(&self, level: u32, name: u32, kind: u32, protocol: u32) -> Result<Vec<u8>> {
        if level != SOL_SOCKET {
            return self.options.lock().get(level, name);
        }
        match name {
            so::ERROR => word(self.take_error().err().map_or(0, |error| u32::from(error.code()))),
            so::TYPE => word(kind),
            so::PROTOCOL => word(protocol),
            so::DOMAIN => word(if self.v6 { crate::AF_INET6 } else { crate::AF_INET }),
            so::SNDBUF => word(self.send_room.load(Relaxed) as u32),
            so::RCVBUF => word(self.receive_room.load(Relaxed) as u32),
            so::COOKIE => Ok(self.base.ino.to_le_bytes().to_vec()),
            _ => self.options.lock().get(level, name),
        }
    }

    /// setsockopt(2) of what all have.
    pub fn set_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if level == SOL_SOCKET {
            match name {
                so::SNDBUF | so::SNDBUFFORCE => {
                    self.send_room.store(options::buffer_size(name, value)?, Relaxed);
                    self.writable.wake_all();
                    return Ok(());
                }
                so::RCVBUF | so::RCVBUFFORCE => {
                    self.receive_room.store(options::buffer_size(name, value)?, Relaxed);
                    return Ok(());
                }
                so::TYPE | so::PROTOCOL | so::DOMAIN | so::ERROR | so::ACCEPTCONN => {
                    return Err(Errno::ENOPROTOOPT);
                }
                _ => {}
            }
        }
        self.options.lock().set(level, name, value)
    }

    /// The timeouts of receiving and sending.
    pub fn receive_timeout(&self) -> Option<u64> {
        self.options.lock().receive_timeout
    }
    pub fn send_timeout(&self) -> Option<u64> {
        self.options.lock().send_timeout
    }
}

/// Ports below this are for CAP_NET_BIND_SERVICE (net.ipv4.ip_unprivileged_port_start).
pub static UNPRIVILEGED_FROM: core::sync::atomic::AtomicU32 =
    core::sync::atomic::AtomicU32::new(1024);

/// EACCES for a port that the running task may not name.
pub fn may_bind(port: u16) -> Result<()> {
    let privileged = port != 0 && u32::from(port) < UNPRIVILEGED_FROM.load(Relaxed);
    if privileged && !env().capable(Cap::NetBindService) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// A number that nobody guesses, to choose a port by.
pub fn seed() -> u32 {
    let mut bytes = [0; 4];
    env().entropy(&mut bytes);
    u32::from_le_bytes(bytes)
}
