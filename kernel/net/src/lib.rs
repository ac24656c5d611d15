//! Sockets of AF_INET, AF_INET6 and AF_NETLINK on a loopback device.
//!
//! Nothing here makes packets: a loopback loses, delays and reorders nothing, so streams are pairs of
//! queues ([`tcp`]) and datagrams are put where they go ([`udp`]). Which ports are whose is decided in
//! [`ports`], which addresses there are in [`device`]; [`netlink`] and [`interface`] tell of both, and
//! [`show`] makes the tables of /proc/net.
//!
//! What is sent lies in pages of the node where its receiver last received ([`memory`]).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
extern crate std;

extern crate alloc;

pub mod address;
pub mod common;
pub mod device;
pub mod interface;
pub mod memory;
pub mod netlink;
pub mod options;
pub mod ports;
pub mod queue;
pub mod show;
pub mod spread;
pub mod tcp;
pub mod udp;

pub use address::{AF_INET, AF_INET6};
pub use netlink::AF_NETLINK;

use abi::{Errno, Result};
use alloc::sync::Arc;
use fs::env::env;
use fs::{Cap, File, oflag};

/// SOCK_STREAM and what else socket(2) takes.
const STREAM: u32 = 1;
const DGRAM: u32 = 2;
const RAW: u32 = 3;
const KINDS: u32 = 11;

/// IPPROTO_TCP and IPPROTO_UDP.
const TCP: u32 = 6;
const UDP: u32 = 17;

/// socket(2) of these families: None for others. EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPERM.
pub fn create(family: u32, kind: u32, protocol: u32) -> Option<Result<Arc<File>>> {
    matches!(family, AF_INET | AF_INET6 | AF_NETLINK).then(|| make(family, kind, protocol))
}

fn make(family: u32, kind: u32, protocol: u32) -> Result<Arc<File>> {
    let flags = kind & !0xf;
    let kind = kind & 0xf;
    if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 || kind >= KINDS {
        return Err(Errno::EINVAL);
    }
    let open = oflag::O_RDWR | (flags & oflag::O_NONBLOCK);
    if family == AF_NETLINK {
        return netlink::create(kind, protocol, open);
    }
    if protocol > 262 {
        return Err(Errno::EINVAL);
    }
    let v6 = family == AF_INET6;
    match (kind, protocol) {
        (STREAM, 0 | TCP) => File::anonymous(tcp::TcpSocket::new(v6)?, open),
        (DGRAM, 0 | UDP) => File::anonymous(udp::UdpSocket::new(v6)?, open),
        (RAW, 1..) if !env().capable(Cap::NetRaw) => Err(Errno::EPERM),
        (STREAM | DGRAM | RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}
