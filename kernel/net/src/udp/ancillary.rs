//! What goes beside a datagram: control messages of both directions.

use super::transfer::Datagram;
use crate::common::Core;
use crate::device::{self, INDEX};
use crate::options::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, int, ip, ip6, so};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use frames::fallible::{TryVec, copied};
use fs::socket::{Control, Message};

/// How a datagram is sent.
pub(super) struct Sending {
    /// The address that it is to come from.
    pub(super) from: Option<IpAddr>,
    pub(super) hops: u8,
    pub(super) class: u8,
}

impl Sending {
    /// From the socket's options and a message's control data. EINVAL.
    pub(super) fn new(core: &Core, control: &Control, to: IpAddr) -> Result<Self> {
        let options = core.options.lock();
        let (level, hops, class) = if to.is_ipv4() {
            (IPPROTO_IP, ip::TTL, ip::TOS)
        } else {
            (IPPROTO_IPV6, ip6::UNICAST_HOPS, ip6::TCLASS)
        };
        let byte = |name| options.value(level, name) as u8;
        let mut sending = Self { from: None, hops: byte(hops), class: byte(class) };
        drop(options);
        for message in &control.others {
            sending.apply(message)?;
        }
        Ok(sending)
    }

    fn apply(&mut self, message: &Message) -> Result<()> {
        let data = &message.data[..];
        match (message.level, message.kind) {
            (IPPROTO_IP, ip::PKTINFO) => {
                let [index, source, ..] = words::<3>(data)?;
                interface(u32::from_le_bytes(index))?;
                self.source(IpAddr::V4(Ipv4Addr::from(source)))
            }
            (IPPROTO_IPV6, ip6::PKTINFO) => {
                let source: [u8; 16] =
                    data.get(..16).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
                interface(int(data.get(16..).unwrap_or(&[]))? as u32)?;
                self.source(crate::address::unmapped(Ipv6Addr::from(source)))
            }
            (IPPROTO_IP, ip::TTL) => {
                self.hops = within(data, 1)?;
                Ok(())
            }
            (IPPROTO_IPV6, ip6::HOPLIMIT) => {
                self.hops = within(data, 0)?;
                Ok(())
            }
            (IPPROTO_IP, ip::TOS) if data.len() == 1 => {
                self.class = data[0];
                Ok(())
            }
            (IPPROTO_IP, ip::TOS) | (IPPROTO_IPV6, ip6::TCLASS) => {
                self.class = within(data, 0)?;
                Ok(())
            }
            (IPPROTO_IP | IPPROTO_IPV6, _) => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    fn source(&mut self, ip: IpAddr) -> Result<()> {
        if !ip.is_unspecified() {
            if !device::is_own(ip) {
                return Err(Errno::EINVAL);
            }
            self.from = Some(ip);
        }
        Ok(())
    }
}

fn words<const N: usize>(data: &[u8]) -> Result<[[u8; 4]; N]> {
    let mut out = [[0; 4]; N];
    if data.len() != 4 * N {
        return Err(Errno::EINVAL);
    }
    for (word, bytes) in out.iter_mut().zip(data.chunks_exact(4)) {
        word.copy_from_slice(bytes);
    }
    Ok(out)
}

/// Any interface, or the only one. ENODEV.
fn interface(index: u32) -> Result<()> {
    if index <= INDEX { Ok(()) } else { Err(Errno::ENODEV) }
}

fn within(data: &[u8], least: i32) -> Result<u8> {
    let number = int(data)?;
    if (least..=255).contains(&number) { Ok(number as u8) } else { Err(Errno::EINVAL) }
}

/// The control messages that a received datagram comes with. ENOMEM.
pub(super) fn received(core: &Core, datagram: &Datagram, lost: u32) -> Result<Vec<Message>> {
    let mut out = Vec::new();
    let options = core.options.lock().clone();
    let mut add = |level, name, kind, data: &[u8]| -> Result<()> {
        if options.is_on(level, name) {
            out.try_push(Message { level, kind, data: copied(data)? })?;
        }
        Ok(())
    };
    let (sec, ns) = (datagram.stamp / 1_000_000_000, datagram.stamp % 1_000_000_000);
    let pair = |a: i64, b: i64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..].copy_from_slice(&b.to_le_bytes());
        bytes
    };
    add(SOL_SOCKET, so::TIMESTAMP, so::TIMESTAMP, &pair(sec, ns / 1000))?;
    add(SOL_SOCKET, so::TIMESTAMPNS, so::TIMESTAMPNS, &pair(sec, ns))?;
    if lost > 0 {
        add(SOL_SOCKET, so::RXQ_OVFL, so::RXQ_OVFL, &lost.to_le_bytes())?;
    }
    let (hops, class) = (i32::from(datagram.hops), i32::from(datagram.class));
    if core.v6 {
        let mut info = [0; 20];
        info[..16].copy_from_slice(&crate::address::octets(datagram.to));
        info[16..].copy_from_slice(&INDEX.to_le_bytes());
        add(IPPROTO_IPV6, ip6::RECVPKTINFO, ip6::PKTINFO, &info)?;
    }
    if let IpAddr::V4(to) = datagram.to {
        let mut info = [0; 12];
        info[..4].copy_from_slice(&INDEX.to_le_bytes());
        // The address of this host that an answer would come from, and the one in the header.
        let own = if to == device::BROADCAST { Ipv4Addr::LOCALHOST } else { to };
        info[4..8].copy_from_slice(&own.octets());
        info[8..].copy_from_slice(&to.octets());
        add(IPPROTO_IP, ip::PKTINFO, ip::PKTINFO, &info)?;
        add(IPPROTO_IP, ip::RECVTTL, ip::TTL, &hops.to_le_bytes())?;
        add(IPPROTO_IP, ip::RECVTOS, ip::TOS, &[datagram.class])?;
    } else {
        add(IPPROTO_IPV6, ip6::RECVHOPLIMIT, ip6::HOPLIMIT, &hops.to_le_bytes())?;
        add(IPPROTO_IPV6, ip6::RECVTCLASS, ip6::TCLASS, &class.to_le_bytes())?;
    }
    Ok(out)
}
