//! Addresses: `struct sockaddr_in` and `sockaddr_in6`, and what a socket is bound to.
//!
//! Everywhere inside an IPv4-mapped IPv6 address is the IPv4 address that it maps; only what a user
//! reads from an IPv6 socket shows it mapped.

use abi::{Errno, Result};
use alloc::vec::Vec;
pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// AF_INET and AF_INET6.
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;

/// Bytes of `struct sockaddr_in`.
const V4_LEN: usize = 16;
/// Bytes of `struct sockaddr_in6`, and without its scope (RFC 2133).
const V6_LEN: usize = 28;
const V6_LEAST: usize = 24;

/// An address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
}

/// What an address argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// AF_UNSPEC.
    Nobody,
    To(Endpoint),
}

/// An IPv4-mapped address as the IPv4 address, any other as it is.
pub fn unmapped(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

impl Endpoint {
    /// The unspecified address of a family, port 0.
    pub const fn nowhere(v6: bool) -> Self {
        let ip =
            if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        Self { ip, port: 0 }
    }

    /// Reads the address argument of a socket of family `v6`. EINVAL when it is too short,
    /// EAFNOSUPPORT for another family.
    pub fn decode(bytes: &[u8], v6: bool) -> Result<Named> {
        let [low, high, rest @ ..] = bytes else { return Err(Errno::EINVAL) };
        let family = u32::from(u16::from_le_bytes([*low, *high]));
        if family == 0 {
            return Ok(Named::Nobody);
        }
        if bytes.len() < if v6 { V6_LEAST } else { V4_LEN } {
            return Err(Errno::EINVAL);
        }
        if family != if v6 { AF_INET6 } else { AF_INET } {
            return Err(Errno::EAFNOSUPPORT);
        }
        let port = u16::from_be_bytes([rest[0], rest[1]]);
        let ip = if v6 {
            let ip: [u8; 16] = rest[6..22].try_into().map_err(|_| Errno::EINVAL)?;
            unmapped(Ipv6Addr::from(ip))
        } else {
            IpAddr::V4(Ipv4Addr::new(rest[2], rest[3], rest[4], rest[5]))
        };
        Ok(Named::To(Self { ip, port }))
    }

    /// Writes it as a socket of family `v6` shows it.
    pub fn encode(&self, v6: bool) -> Vec<u8> {
        let mut bytes = [0; V6_LEN];
        bytes[2..4].copy_from_slice(&self.port.to_be_bytes());
        let len = match (v6, self.ip) {
            (false, IpAddr::V4(ip)) => {
                bytes[0] = AF_INET as u8;
                bytes[4..8].copy_from_slice(&ip.octets());
                V4_LEN
            }
            (_, ip) => {
                bytes[0] = AF_INET6 as u8;
                bytes[8..24].copy_from_slice(&octets(ip));
                V6_LEN
            }
        };
        bytes[..len].to_vec()
    }
}

/// The sixteen bytes of an address, an IPv4 one mapped (the unspecified one stays unspecified).
pub fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The addresses of this host that a socket answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One IPv4 address; the unspecified one is all of them.
    V4(Ipv4Addr),
    /// One IPv6 address; the unspecified one is all of them.
    V6(Ipv6Addr),
    /// All of both families.
    Both,
}

impl Scope {
    /// The scope of a socket of family `v6` that is bound to `ip`.
    pub fn of(ip: IpAddr, v6: bool, v6_only: bool) -> Self {
        match ip {
            IpAddr::V6(ip) if ip.is_unspecified() && v6 && !v6_only => Self::Both,
            IpAddr::V6(ip) => Self::V6(ip),
            IpAddr::V4(ip) => Self::V4(ip),
        }
    }

    /// True when both answer to some address.
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Both, _) | (_, Self::Both) => true,
            (Self::V4(a), Self::V4(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            (Self::V6(a), Self::V6(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            _ => false,
        }
    }

    /// How well it answers to `ip`: a named address best, then all of its family, then all.
    pub fn answers(self, ip: IpAddr) -> Option<u32> {
        match (self, ip) {
            (Self::Both, _) => Some(1),
            (Self::V4(own), IpAddr::V4(ip)) if own == ip => Some(3),
            (Self::V6(own), IpAddr::V6(ip)) if own == ip => Some(3),
            (Self::V4(own), IpAddr::V4(_)) if own.is_unspecified() => Some(2),
            (Self::V6(own), IpAddr::V6(_)) if own.is_unspecified() => Some(2),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let v4 = Endpoint { ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), port: 8080 };
        assert_eq!(v4.encode(false), [2, 0, 0x1f, 0x90, 127, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Endpoint::decode(&v4.encode(false), false), Ok(Named::To(v4)));
        let shown = v4.encode(true);
        assert_eq!(shown.len(), 28);
        assert_eq!(shown[18..24], [0xff, 0xff, 127, 0, 0, 9]);
        assert_eq!(Endpoint::decode(&shown, true), Ok(Named::To(v4)));
        assert_eq!(Endpoint::decode(&v4.encode(false), true), Err(Errno::EINVAL));
        assert_eq!(Endpoint::decode(&shown, false), Err(Errno::EAFNOSUPPORT));
        assert_eq!(Endpoint::decode(&[0; 2], false), Ok(Named::Nobody));
        assert_eq!(Endpoint::decode(&[2], false), Err(Errno::EINVAL));
    }

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..4).prop_map(|n| IpAddr::V4(Ipv4Addr::from(n))),
            (0u128..4).prop_map(|n| IpAddr::V6(Ipv6Addr::from(n))),
        ]
    }

    proptest! {
        #[test]
        fn who_answers_to_one_address_overlaps(a in ip(), b in ip(), to in ip(), only: [bool; 2]) {
            let a = Scope::of(a, a.is_ipv6(), only[0]);
            let b = Scope::of(b, b.is_ipv6(), only[1]);
            prop_assert_eq!(a.overlaps(b), b.overlaps(a));
            if a.answers(to).is_some() && b.answers(to).is_some() {
                prop_assert!(a.overlaps(b));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40), v6: bool) {
            let _ = Endpoint::decode(&bytes, v6);
        }
    }
}
