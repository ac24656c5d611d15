//! The loopback device: whether it is up, what it counted, and which addresses are this host's.

use crate::spread::Spread;
use abi::{Errno, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Its name, number and largest packet.
pub const NAME: &str = "lo";
pub const INDEX: u32 = 1;
pub const MTU: u32 = 65_536;
/// ARPHRD_LOOPBACK.
pub const TYPE: u16 = 772;
/// Packets that could wait for it (IFF queue length).
pub const QUEUE: u32 = 1000;

/// netdevice(7)'s flags.
pub mod flag {
    pub const UP: u32 = 0x1;
    pub const LOOPBACK: u32 = 0x8;
    pub const RUNNING: u32 = 0x40;
    pub const LOWER_UP: u32 = 0x1_0000;
}

static UP: AtomicBool = AtomicBool::new(false);
static PACKETS: Spread = Spread::new();
static BYTES: Spread = Spread::new();

/// Whether it is up.
#[inline]
pub fn is_up() -> bool {
    UP.load(Relaxed)
}

/// Brings it up or down. Its addresses come with the first time.
pub fn set_up(up: bool) {
    UP.store(up, Relaxed);
}

/// Its flags as netlink shows them.
pub fn flags() -> u32 {
    if is_up() {
        flag::UP | flag::LOOPBACK | flag::RUNNING | flag::LOWER_UP
    } else {
        flag::LOOPBACK
    }
}

/// Counts a packet that it would have carried.
pub fn count(bytes: usize) {
    PACKETS.add(1);
    BYTES.add(bytes as i64);
}

/// Packets and bytes so far, in and out alike.
pub fn counted() -> (u64, u64) {
    (PACKETS.sum() as u64, BYTES.sum() as u64)
}

/// How far an address of the loopback's network goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This host's own.
    Local,
    /// 127.255.255.255: all of its network, and only by datagrams.
    Broadcast,
}

/// 127.255.255.255.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// Whether an address is this host's, so that a socket may be bound to it.
pub fn is_own(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() && is_up(),
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST && is_up(),
    }
}

/// Where a socket may be bound: EADDRNOTAVAIL.
pub fn bindable(ip: IpAddr, datagram: bool) -> Result<()> {
    let fits = match ip {
        _ if ip.is_unspecified() || is_own(ip) => true,
        IpAddr::V4(ip) => datagram && (ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => datagram && ip.is_multicast(),
    };
    if fits { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) }
}

/// The way to an address: how far it goes, the address itself (the unspecified one is this host),
/// and the address that packets come from unless the sender is bound. ENETUNREACH.
pub fn route(to: IpAddr) -> Result<(Reach, IpAddr, IpAddr)> {
    if !is_up() {
        return Err(Errno::ENETUNREACH);
    }
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match to {
        IpAddr::V4(ip) if ip == BROADCAST => Ok((Reach::Broadcast, to, v4)),
        IpAddr::V4(ip) if ip.is_unspecified() => Ok((Reach::Local, v4, v4)),
        IpAddr::V4(ip) if ip.is_loopback() => Ok((Reach::Local, to, v4)),
        IpAddr::V6(ip) if ip.is_unspecified() || ip == Ipv6Addr::LOCALHOST => {
            let own = IpAddr::V6(Ipv6Addr::LOCALHOST);
            Ok((Reach::Local, own, own))
        }
        _ => Err(Errno::ENETUNREACH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_can_be_reached_while_the_device_is_up() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        set_up(false);
        assert_eq!(route(ip("127.0.0.1")), Err(Errno::ENETUNREACH));
        set_up(true);
        assert_eq!(route(ip("0.0.0.0")), Ok((Reach::Local, ip("127.0.0.1"), ip("127.0.0.1"))));
        assert_eq!(route(ip("127.9.0.1")), Ok((Reach::Local, ip("127.9.0.1"), ip("127.0.0.1"))));
        assert_eq!(route(ip("::")), Ok((Reach::Local, ip("::1"), ip("::1"))));
        assert_eq!(route(ip("8.8.8.8")), Err(Errno::ENETUNREACH));
        assert_eq!(route(ip("fe80::1")), Err(Errno::ENETUNREACH));
        assert_eq!(bindable(ip("8.8.8.8"), true), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(bindable(ip("224.0.0.1"), true), Ok(()));
        assert_eq!(bindable(ip("224.0.0.1"), false), Err(Errno::EADDRNOTAVAIL));
    }
}
