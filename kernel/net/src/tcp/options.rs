//! Options of TCP sockets, beside those that are only kept.

use super::TcpSocket;
use crate::options::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET, ip, ip6, so, tcp, word};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Algorithms that TCP_CONGESTION knows: nothing is ever congested.
const ALGORITHMS: [&[u8]; 2] = [b"cubic", b"reno"];
/// What a connection sends at most in one packet: half of the largest window (TCP_MAXSEG), and before
/// there is one.
pub(super) const SEGMENT: u32 = 32_832;
const SEGMENT_UNCONNECTED: u32 = 536;

impl TcpSocket {
    pub(super) fn get_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, so::ACCEPTCONN) => word(u32::from(self.backlog().is_some())),
            (IPPROTO_IPV6, _) if !self.core.v6 => Err(Errno::EOPNOTSUPP),
            (IPPROTO_IP, ip::MTU) | (IPPROTO_IPV6, ip6::MTU) => match self.peer() {
                Some(_) => word(crate::device::MTU),
                None => Err(Errno::ENOTCONN),
            },
            (IPPROTO_TCP, tcp::INFO) => Ok(self.info()),
            (IPPROTO_TCP, tcp::MAXSEG) => {
                let set = self.core.options.lock().value(level, name) as u32;
                word(match (self.peer(), set) {
                    (Some(_), 0) => SEGMENT,
                    (Some(_), set) => set.min(SEGMENT),
                    (None, 0) => SEGMENT_UNCONNECTED,
                    (None, set) => set,
                })
            }
            (IPPROTO_TCP, tcp::CONGESTION) => {
                let mut name = [0; 16];
                name[..5].copy_from_slice(ALGORITHMS[0]);
                Ok(name.to_vec())
            }
            _ => self.core.option(level, name, 1, IPPROTO_TCP),
        }
    }

    pub(super) fn put_option(&self, level: u32, name: u32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (IPPROTO_IPV6, _) if !self.core.v6 => return Err(Errno::ENOPROTOOPT),
            (IPPROTO_IPV6, ip6::V6ONLY) if self.state.lock().port.is_some() => {
                return Err(Errno::EINVAL);
            }
            (IPPROTO_TCP, tcp::INFO) => return Err(Errno::ENOPROTOOPT),
            (IPPROTO_TCP, tcp::CONGESTION) => {
                let name = value.split(|&byte| byte == 0).next().unwrap_or(value);
                let known = ALGORITHMS.first().is_some_and(|usual| *usual == name);
                return if known { Ok(()) } else { Err(Errno::ENOENT) };
            }
            _ => {}
        }
        self.core.set_option(level, name, value)?;
        match (level, name) {
            (SOL_SOCKET, so::SNDBUF | so::SNDBUFFORCE) => self.send_room_set.store(true, Relaxed),
            (SOL_SOCKET, so::RCVLOWAT) => {
                let low = self.core.options.lock().value(level, name);
                self.low_water.store(low as usize, Relaxed);
            }
            (SOL_SOCKET, so::REUSEADDR | so::REUSEPORT) => self.say_again(),
            _ => {}
        }
        Ok(())
    }
}
