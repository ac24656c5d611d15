//! Socket options that have no more to them than a value (socket(7), ip(7), ipv6(7), tcp(7)).
//!
//! Which there are, what they may be and what they are at first stands in one table. Options with an
//! effect are looked up where they have it; those without one on a loopback (there are no packets to
//! delay, mark or route) are kept and read back.

use abi::{Errno, Result};
use alloc::vec::Vec;
use fs::Cap;
use fs::env::env;

/// Levels.
pub const SOL_SOCKET: u32 = 1;
pub const IPPROTO_IP: u32 = 0;
pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_IPV6: u32 = 41;

/// Options of SOL_SOCKET (`SO_*`).
pub mod so {
    pub const DEBUG: u32 = 1;
    pub const REUSEADDR: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const ERROR: u32 = 4;
    pub const DONTROUTE: u32 = 5;
    pub const BROADCAST: u32 = 6;
    pub const SNDBUF: u32 = 7;
    pub const RCVBUF: u32 = 8;
    pub const KEEPALIVE: u32 = 9;
    pub const OOBINLINE: u32 = 10;
    pub const NO_CHECK: u32 = 11;
    pub const PRIORITY: u32 = 12;
    pub const LINGER: u32 = 13;
    pub const BSDCOMPAT: u32 = 14;
    pub const REUSEPORT: u32 = 15;
    pub const RCVLOWAT: u32 = 18;
    pub const SNDLOWAT: u32 = 19;
    pub const RCVTIMEO: u32 = 20;
    pub const SNDTIMEO: u32 = 21;
    pub const BINDTODEVICE: u32 = 25;
    pub const TIMESTAMP: u32 = 29;
    pub const ACCEPTCONN: u32 = 30;
    pub const SNDBUFFORCE: u32 = 32;
    pub const RCVBUFFORCE: u32 = 33;
    pub const TIMESTAMPNS: u32 = 35;
    pub const MARK: u32 = 36;
    pub const PROTOCOL: u32 = 38;
    pub const DOMAIN: u32 = 39;
    pub const RXQ_OVFL: u32 = 40;
    pub const INCOMING_CPU: u32 = 49;
    pub const COOKIE: u32 = 57;
}

/// Options of IPPROTO_IP (`IP_*`).
pub mod ip {
    pub const TOS: u32 = 1;
    pub const TTL: u32 = 2;
    pub const PKTINFO: u32 = 8;
    pub const MTU_DISCOVER: u32 = 10;
    pub const RECVTTL: u32 = 12;
    pub const RECVTOS: u32 = 13;
    pub const MTU: u32 = 14;
    pub const FREEBIND: u32 = 15;
    pub const BIND_ADDRESS_NO_PORT: u32 = 24;
    pub const MULTICAST_TTL: u32 = 33;
    pub const MULTICAST_LOOP: u32 = 34;
    pub const MULTICAST_ALL: u32 = 49;
}

/// Options of IPPROTO_IPV6 (`IPV6_*`).
pub mod ip6 {
    pub const UNICAST_HOPS: u32 = 16;
    pub const MULTICAST_HOPS: u32 = 18;
    pub const MULTICAST_LOOP: u32 = 19;
    pub const MTU_DISCOVER: u32 = 23;
    pub const MTU: u32 = 24;
    pub const V6ONLY: u32 = 26;
    pub const RECVPKTINFO: u32 = 49;
    pub const PKTINFO: u32 = 50;
    pub const RECVHOPLIMIT: u32 = 51;
    pub const HOPLIMIT: u32 = 52;
    pub const RECVTCLASS: u32 = 66;
    pub const TCLASS: u32 = 67;
}

/// Options of IPPROTO_TCP (`TCP_*`).
pub mod tcp {
    pub const NODELAY: u32 = 1;
    pub const MAXSEG: u32 = 2;
    pub const CORK: u32 = 3;
    pub const KEEPIDLE: u32 = 4;
    pub const KEEPINTVL: u32 = 5;
    pub const KEEPCNT: u32 = 6;
    pub const SYNCNT: u32 = 7;
    pub const LINGER2: u32 = 8;
    pub const WINDOW_CLAMP: u32 = 10;
    pub const INFO: u32 = 11;
    pub const QUICKACK: u32 = 12;
    pub const CONGESTION: u32 = 13;
    pub const USER_TIMEOUT: u32 = 18;
    pub const NOTSENT_LOWAT: u32 = 25;
}

/// What may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Zero or not: read back as 0 or 1.
    Flag,
    /// A number in this range, EINVAL beyond.
    Within(i32, i32),
    /// A number in this range; -1 stands for the third.
    Or(i32, i32, i32),
}
use Takes::{Flag, Or, Within};

struct Row {
    level: u32,
    name: u32,
    initial: i32,
    takes: Takes,
}

const fn row(level: u32, name: u32, initial: i32, takes: Takes) -> Row {
    Row { level, name, initial, takes }
}

const TABLE: [Row; 47] = [
    row(SOL_SOCKET, so::DEBUG, 0, Flag),
    row(SOL_SOCKET, so::REUSEADDR, 0, Flag),
    row(SOL_SOCKET, so::DONTROUTE, 0, Flag),
    row(SOL_SOCKET, so::BROADCAST, 0, Flag),
    row(SOL_SOCKET, so::KEEPALIVE, 0, Flag),
    row(SOL_SOCKET, so::OOBINLINE, 0, Flag),
    row(SOL_SOCKET, so::NO_CHECK, 0, Flag),
    row(SOL_SOCKET, so::PRIORITY, 0, Within(i32::MIN, i32::MAX)),
    row(SOL_SOCKET, so::REUSEPORT, 0, Flag),
    row(SOL_SOCKET, so::RCVLOWAT, 1, Within(i32::MIN, i32::MAX)),
    row(SOL_SOCKET, so::TIMESTAMP, 0, Flag),
    row(SOL_SOCKET, so::TIMESTAMPNS, 0, Flag),
    row(SOL_SOCKET, so::MARK, 0, Within(i32::MIN, i32::MAX)),
    row(SOL_SOCKET, so::RXQ_OVFL, 0, Flag),
    row(IPPROTO_IP, ip::TOS, 0, Within(0, 255)),
    row(IPPROTO_IP, ip::TTL, 64, Or(1, 255, 64)),
    row(IPPROTO_IP, ip::PKTINFO, 0, Flag),
    row(IPPROTO_IP, ip::MTU_DISCOVER, 1, Within(0, 5)),
    row(IPPROTO_IP, ip::RECVTTL, 0, Flag),
    row(IPPROTO_IP, ip::RECVTOS, 0, Flag),
    row(IPPROTO_IP, ip::FREEBIND, 0, Flag),
    row(IPPROTO_IP, ip::BIND_ADDRESS_NO_PORT, 0, Flag),
    row(IPPROTO_IP, ip::MULTICAST_TTL, 1, Or(0, 255, 1)),
    row(IPPROTO_IP, ip::MULTICAST_LOOP, 1, Flag),
    row(IPPROTO_IP, ip::MULTICAST_ALL, 1, Within(0, 1)),
    row(IPPROTO_IPV6, ip6::UNICAST_HOPS, 64, Or(0, 255, 64)),
    row(IPPROTO_IPV6, ip6::MULTICAST_HOPS, 1, Or(0, 255, 1)),
    row(IPPROTO_IPV6, ip6::MULTICAST_LOOP, 1, Within(0, 1)),
    row(IPPROTO_IPV6, ip6::MTU_DISCOVER, 1, Within(0, 5)),
    row(IPPROTO_IPV6, ip6::V6ONLY, 0, Flag),
    row(IPPROTO_IPV6, ip6::RECVPKTINFO, 0, Flag),
    row(IPPROTO_IPV6, ip6::RECVHOPLIMIT, 0, Flag),
    row(IPPROTO_IPV6, ip6::RECVTCLASS, 0, Flag),
    row(IPPROTO_IPV6, ip6::TCLASS, 0, Or(0, 255, 0)),
    row(IPPROTO_TCP, tcp::NODELAY, 0, Flag),
    row(IPPROTO_TCP, tcp::MAXSEG, 0, Within(88, 32_767)),
    row(IPPROTO_TCP, tcp::CORK, 0, Flag),
    row(IPPROTO_TCP, tcp::KEEPIDLE, 7200, Within(1, 32_767)),
    row(IPPROTO_TCP, tcp::KEEPINTVL, 75, Within(1, 32_767)),
    row(IPPROTO_TCP, tcp::KEEPCNT, 9, Within(1, 127)),
    row(IPPROTO_TCP, tcp::SYNCNT, 6, Within(1, 127)),
    row(IPPROTO_TCP, tcp::LINGER2, 60, Within(i32::MIN, i32::MAX)),
    row(IPPROTO_TCP, tcp::WINDOW_CLAMP, 0, Within(0, i32::MAX)),
    row(IPPROTO_TCP, tcp::QUICKACK, 1, Flag),
    row(IPPROTO_TCP, tcp::USER_TIMEOUT, 0, Within(0, i32::MAX)),
    row(IPPROTO_TCP, tcp::NOTSENT_LOWAT, 0, Within(i32::MIN, i32::MAX)),
    row(SOL_SOCKET, so::INCOMING_CPU, -1, Within(i32::MIN, i32::MAX)),
];

/// Values of a socket's options.
#[derive(Clone)]
pub struct Options {
    values: [i32; TABLE.len()],
    /// ns; None waits for ever.
    pub receive_timeout: Option<u64>,
    pub send_timeout: Option<u64>,
    /// SO_LINGER: on or off, seconds.
    pub linger: [i32; 2],
    /// SO_BINDTODEVICE: to the only one.
    pub on_device: bool,
}

impl Default for Options {
    fn default() -> Self {
        let mut values = [0; TABLE.len()];
        for (value, row) in values.iter_mut().zip(&TABLE) {
            *value = row.initial;
        }
        let linger = [0; 2];
        Self { values, receive_timeout: None, send_timeout: None, linger, on_device: false }
    }
}

/// A C int at the beginning of an option's value; EINVAL when it is shorter.
pub fn int(value: &[u8]) -> Result<i32> {
    match value {
        [a, b, c, d, ..] => Ok(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => Err(Errno::EINVAL),
    }
}

/// An option's value that is one word.
pub fn word(value: u32) -> Result<Vec<u8>> {
    Ok(value.to_le_bytes().to_vec())
}

fn long(value: &[u8], at: usize) -> Result<i64> {
    let bytes = value.get(at..at + 8).ok_or(Errno::EINVAL)?;
    Ok(i64::from_le_bytes(bytes.try_into().map_err(|_| Errno::EINVAL)?))
}

/// `struct timeval` to nanoseconds; zero is no limit.
fn timeout(value: &[u8]) -> Result<Option<u64>> {
    let (sec, usec) = (long(value, 0)?, long(value, 8)?);
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        // Linux: a limit in the past.
        return Ok(Some(0));
    }
    let ns = (sec as u64).saturating_mul(1_000_000_000).saturating_add(usec as u64 * 1000);
    Ok((ns > 0).then_some(ns))
}

fn timeval(ns: Option<u64>) -> Vec<u8> {
    let ns = ns.unwrap_or(0);
    let words = [ns / 1_000_000_000, ns % 1_000_000_000 / 1000];
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The most that buffers may be asked for before that is doubled (net.core.wmem_max, rmem_max).
pub const BUFFER_MAX: u32 = 212_992;
/// The least that buffers have (SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF).
const MIN_SEND: u32 = 4608;
const MIN_RECEIVE: u32 = 2304;

/// The size that SO_SNDBUF or SO_RCVBUF (or their FORCE) sets. EPERM, EINVAL.
pub fn buffer_size(name: u32, value: &[u8]) -> Result<usize> {
    let value = int(value)?;
    let forced = matches!(name, so::SNDBUFFORCE | so::RCVBUFFORCE);
    if forced && !env().capable(Cap::NetAdmin) {
        return Err(Errno::EPERM);
    }
    let bytes = if forced {
        value.clamp(0, i32::MAX / 2) as u32
    } else {
        // A negative number is a huge one.
        (value as u32).min(BUFFER_MAX)
    };
    let least = if matches!(name, so::SNDBUF | so::SNDBUFFORCE) { MIN_SEND } else { MIN_RECEIVE };
    Ok((bytes * 2).max(least) as usize)
}

impl Options {
    /// The value of an option of the table; 0 for any other.
    pub fn value(&self, level: u32, name: u32) -> i32 {
        let at = TABLE.iter().position(|row| row.level == level && row.name == name);
        at.map_or(0, |at| self.values[at])
    }

    /// Whether an option is on.
    pub fn is_on(&self, level: u32, name: u32) -> bool {
        self.value(level, name) != 0
    }

    /// Sets an option of the table, within what it may be.
    fn put(&mut self, level: u32, name: u32, number: i32) -> Result<()> {
        let at = TABLE.iter().position(|row| row.level == level && row.name == name);
        let at = at.ok_or(Errno::ENOPROTOOPT)?;
        self.values[at] = match TABLE[at].takes {
            Flag => i32::from(number != 0),
            Or(.., usual) if number == -1 => usual,
            Within(low, high) | Or(low, high, _) if (low..=high).contains(&number) => number,
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }

    /// getsockopt(2) of what stands here. ENOPROTOOPT.
    pub fn get(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, so::RCVTIMEO) => Ok(timeval(self.receive_timeout)),
            (SOL_SOCKET, so::SNDTIMEO) => Ok(timeval(self.send_timeout)),
            (SOL_SOCKET, so::LINGER) => {
                Ok(self.linger.into_iter().flat_map(i32::to_le_bytes).collect())
            }
            (SOL_SOCKET, so::SNDLOWAT) => word(1),
            (SOL_SOCKET, so::BSDCOMPAT) => word(0),
            (SOL_SOCKET, so::BINDTODEVICE) => {
                Ok(if self.on_device { b"lo\0".to_vec() } else { Vec::new() })
            }
            _ if TABLE.iter().any(|row| row.level == level && row.name == name) => {
                word(self.value(level, name) as u32)
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// setsockopt(2) of what stands here. ENOPROTOOPT, EINVAL, EPERM, ENODEV.
    pub fn set(&mut self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (SOL_SOCKET, so::RCVTIMEO) => self.receive_timeout = timeout(value)?,
            (SOL_SOCKET, so::SNDTIMEO) => self.send_timeout = timeout(value)?,
            (SOL_SOCKET, so::LINGER) => {
                let seconds = int(value.get(4..).unwrap_or(&[]))?;
                self.linger = [i32::from(int(value)? != 0), seconds];
            }
            (SOL_SOCKET, so::BSDCOMPAT) => {}
            (SOL_SOCKET, so::BINDTODEVICE) => {
                let name = value.split(|&byte| byte == 0).next().unwrap_or(value);
                self.on_device = match name {
                    b"" => false,
                    b"lo" => true,
                    _ => return Err(Errno::ENODEV),
                };
            }
            (SOL_SOCKET, so::SNDLOWAT) => return Err(Errno::ENOPROTOOPT),
            (SOL_SOCKET, so::PRIORITY) => {
                let number = int(value)?;
                let admin = || env().capable(Cap::NetRaw) || env().capable(Cap::NetAdmin);
                if !(0..=6).contains(&number) && !admin() {
                    return Err(Errno::EPERM);
                }
                self.put(level, name, number)?;
            }
            (SOL_SOCKET, so::MARK) if !env().capable(Cap::NetAdmin) => return Err(Errno::EPERM),
            (SOL_SOCKET, so::RCVLOWAT) => {
                let number = int(value)?;
                let number = if number < 0 { i32::MAX } else { number.max(1) };
                self.put(level, name, number)?;
            }
            (SOL_SOCKET, so::TIMESTAMP | so::TIMESTAMPNS) => {
                // One stamp is enough.
                self.put(level, so::TIMESTAMP + so::TIMESTAMPNS - name, 0)?;
                self.put(level, name, int(value)?)?;
            }
            // A byte will do, there.
            (IPPROTO_IP, _) if (1..4).contains(&value.len()) => {
                self.put(level, name, i32::from(value[0]))?;
            }
            _ => self.put(level, name, int(value).or_else(|e| self.unknown(level, name, e))?)?,
        }
        Ok(())
    }

    /// A short value of an option that is not there: that it is not there comes first, outside of
    /// SOL_SOCKET and IPPROTO_TCP.
    fn unknown(&self, level: u32, name: u32, short: Errno) -> Result<i32> {
        let known = TABLE.iter().any(|row| row.level == level && row.name == name);
        let late = !known && !matches!(level, SOL_SOCKET | IPPROTO_TCP);
        Err(if late { Errno::ENOPROTOOPT } else { short })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_keep_what_they_may_be() {
        let mut options = Options::default();
        let set =
            |options: &mut Options, level, name, n: i32| options.set(level, name, &n.to_le_bytes());
        set(&mut options, SOL_SOCKET, so::KEEPALIVE, 7).unwrap();
        assert_eq!(options.get(SOL_SOCKET, so::KEEPALIVE).unwrap(), [1, 0, 0, 0]);
        assert_eq!(set(&mut options, IPPROTO_TCP, tcp::KEEPCNT, 128), Err(Errno::EINVAL));
        set(&mut options, IPPROTO_IP, ip::TTL, 3).unwrap();
        set(&mut options, IPPROTO_IP, ip::TTL, -1).unwrap();
        assert_eq!(options.value(IPPROTO_IP, ip::TTL), 64);
        options.set(IPPROTO_IP, ip::TTL, &[9]).unwrap();
        assert_eq!(options.value(IPPROTO_IP, ip::TTL), 9);
        assert_eq!(set(&mut options, IPPROTO_TCP, 999, 1), Err(Errno::ENOPROTOOPT));
        assert_eq!(options.set(SOL_SOCKET, so::KEEPALIVE, &[1]), Err(Errno::EINVAL));
        assert_eq!(options.get(SOL_SOCKET, 999), Err(Errno::ENOPROTOOPT));
        assert_eq!(options.set(SOL_SOCKET, so::BINDTODEVICE, b"eth0"), Err(Errno::ENODEV));
        assert_eq!(options.set(SOL_SOCKET, so::RCVTIMEO, &[0; 15]), Err(Errno::EINVAL));
        let rows = TABLE.iter().enumerate();
        for (at, row) in rows {
            let first = TABLE.iter().position(|r| (r.level, r.name) == (row.level, row.name));
            assert_eq!(first, Some(at), "{} {} stands twice", row.level, row.name);
        }
    }

    #[test]
    fn buffers_are_doubled_within_bounds() {
        let size = |name, n: i32| buffer_size(name, &n.to_le_bytes()).unwrap();
        assert_eq!(size(so::SNDBUF, 0), 4608);
        assert_eq!(size(so::RCVBUF, 1), 2304);
        assert_eq!(size(so::RCVBUF, 10_000), 20_000);
        assert_eq!(size(so::SNDBUF, -1), 2 * BUFFER_MAX as usize);
    }
}
