//! Sending and receiving datagrams.

use super::ancillary::{Sending, received};
use super::{BOUND, Inbox, UdpSocket};
use crate::address::{AF_INET, Endpoint, Named};
use crate::common::{Core, seed};
use crate::device::{self, Reach};
use crate::memory::{Charge, Pool};
use crate::queue::Queue;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use frames::fallible::{TryQueue, filled};
use fs::File;
use fs::socket::{Control, Received, msg};
use hal::user::{KernelSource, Sink, Source};

/// The longest datagram of either family, bytes.
const LONGEST_V4: usize = 65_507;
const LONGEST_V6: usize = 65_527;
/// Up to so many bytes a datagram is an object of the heap; longer ones are in pages.
const SHORT: usize = 1024;

/// The bytes of a datagram.
enum Data {
    Short { bytes: Vec<u8>, _charge: Charge },
    Pages(Queue),
}

/// A datagram in an inbox.
pub(super) struct Datagram {
    data: Data,
    pub(super) from: Endpoint,
    /// The address that it was sent to.
    pub(super) to: IpAddr,
    pub(super) hops: u8,
    pub(super) class: u8,
    /// When it came, ns since 1970.
    pub(super) stamp: i64,
}

/// What Linux charges for a datagram: a descriptor, and a head in a power of two of bytes, or pages.
fn cost(len: usize) -> usize {
    /// `struct sk_buff`, `struct skb_shared_info`, room for headers; the largest head.
    const DESCRIPTOR: usize = 256;
    const SHARED_INFO: usize = 320;
    const HEADERS: usize = 64;
    const LARGEST_HEAD: usize = 16_384;
    let head = len + HEADERS + SHARED_INFO;
    if head <= LARGEST_HEAD {
        DESCRIPTOR + head.next_power_of_two()
    } else {
        DESCRIPTOR + 512 + len.next_multiple_of(abi::PAGE_SIZE)
    }
}

impl Datagram {
    fn len(&self) -> usize {
        match &self.data {
            Data::Short { bytes, .. } => bytes.len(),
            Data::Pages(queue) => queue.len(),
        }
    }

    /// Copies the beginning, as far as there is room.
    fn copy(&self, dst: &mut dyn Sink) -> Result<usize> {
        let room = dst.room().min(self.len());
        match &self.data {
            _ if room == 0 => Ok(0),
            Data::Short { bytes, .. } => dst.put(&bytes[..room]),
            Data::Pages(queue) => queue.peek(0, dst, room),
        }
    }
}

impl Inbox {
    /// Adds a datagram, unless there is no room. True when it is there.
    fn push(&mut self, datagram: Datagram, room: usize) -> bool {
        if self.closed || self.used > room || self.datagrams.try_push_back(datagram).is_err() {
            self.lost = self.lost.wrapping_add(1);
            return false;
        }
        self.used += cost(self.datagrams.back().map_or(0, Datagram::len));
        true
    }

    pub(super) fn first_len(&self) -> usize {
        self.datagrams.front().map_or(0, Datagram::len)
    }
}

impl UdpSocket {
    /// The bytes of a datagram, on `self`'s reader's node. EFAULT, ENOBUFS.
    fn bytes_for(&self, src: &mut dyn Source) -> Result<Data> {
        let len = src.left();
        if len <= SHORT {
            let charge = Charge::new(len)?;
            let mut bytes = filled(0, len).map_err(|_| Errno::ENOBUFS)?;
            if len > 0 && src.get(&mut bytes)? < len {
                return Err(Errno::EFAULT);
            }
            return Ok(Data::Short { bytes, _charge: charge });
        }
        let mut queue = Queue::new(Pool::Messages);
        let got = queue.fill(src, len, self.core.node()).map_err(|error| match error {
            Errno::ENOMEM => Errno::ENOBUFS,
            other => other,
        })?;
        match (got == len, src.left()) {
            (true, _) => Ok(Data::Pages(queue)),
            // What was not copied cannot be, or there was no page for it.
            (false, _) if Pool::Messages.is_full() => Err(Errno::ENOBUFS),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Puts a datagram into the inbox, or loses it.
    fn deliver(&self, datagram: Datagram) {
        device::count(datagram.len());
        let room = self.core.receive_room.load(Relaxed);
        let mut inbox = self.inbox.lock();
        if inbox.push(datagram, room) {
            self.held.store(inbox.datagrams.len(), Release);
            drop(inbox);
            self.core.came();
        }
    }

    /// Where a send goes. EDESTADDRREQ, EINVAL, EAFNOSUPPORT.
    fn target(&self, address: Option<&[u8]>) -> Result<Endpoint> {
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return self.state.lock().remote.ok_or(Errno::EDESTADDRREQ);
        };
        let v6 = self.core.v6;
        let named = match Endpoint::decode(address, v6) {
            Err(Errno::EAFNOSUPPORT) if v6 && address[0] == AF_INET as u8 => {
                Endpoint::decode(address, false)?
            }
            // Of IPv4, no family is as good as this one.
            Ok(Named::Nobody) if !v6 && address.len() >= 16 => {
                let mut copy = [0; 16];
                copy.copy_from_slice(&address[..16]);
                copy[0] = AF_INET as u8;
                Endpoint::decode(&copy, false)?
            }
            other => other?,
        };
        match named {
            Named::To(to) if to.port != 0 => Ok(to),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn send_datagram(
        &self,
        src: &mut dyn Source,
        address: Option<&[u8]>,
        control: &Control,
        flags: u32,
    ) -> Result<usize> {
        // Whatever becomes of it, as Linux has it.
        self.has_port()?;
        let len = src.left();
        if len > 0xffff {
            return Err(Errno::EMSGSIZE);
        }
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = self.target(address)?;
        if len > if to.ip.is_ipv4() { LONGEST_V4 } else { LONGEST_V6 } {
            return Err(Errno::EMSGSIZE);
        }
        let sending = Sending::new(&self.core, control, to.ip)?;
        let (reach, to, from) = self.way(to)?;
        let from = sending.from.unwrap_or(from);
        self.core.take_error()?;
        if self.write_shut.load(Relaxed) {
            return Err(Errno::EPIPE);
        }
        let port = self.state.lock().local.map_or(0, |local| local.port);
        let datagram = |data| Datagram {
            data,
            from: Endpoint { ip: from, port },
            to: to.ip,
            hops: sending.hops,
            class: sending.class,
            stamp: fs::env::now(),
        };
        if reach == Reach::Broadcast {
            return self.send_to_all(src, to, from, datagram);
        }
        let from = Endpoint { ip: from, port };
        let found = BOUND.find(to.port, seed(), |held| match held.claim.remote {
            Some(remote) if remote != from => None,
            Some(_) => held.claim.scope.answers(to.ip).map(|mark| mark + 8),
            None => held.claim.scope.answers(to.ip),
        });
        match found.and_then(|found| found.upgrade()) {
            Some(receiver) => {
                let data = receiver.bytes_for(src)?;
                receiver.deliver(datagram(data));
            }
            None => {
                // A fault is told all the same.
                drop(self.bytes_for(src)?);
                device::count(len);
                // An ICMP message would say so: to whom has said that it listens.
                if self.state.lock().remote == Some(to) {
                    self.core.fail(Errno::ECONNREFUSED);
                    self.core.wake();
                }
            }
        }
        Ok(len)
    }

    /// To everybody at a port: each gets its own.
    fn send_to_all(
        &self,
        src: &mut dyn Source,
        to: Endpoint,
        from: IpAddr,
        datagram: impl Fn(Data) -> Datagram,
    ) -> Result<usize> {
        let len = src.left();
        let mut bytes = filled(0, len).map_err(|_| Errno::ENOBUFS)?;
        if len > 0 && src.get(&mut bytes)? < len {
            return Err(Errno::EFAULT);
        }
        let wanted = |held: &crate::ports::Held<_>| {
            let known = held.claim.remote.is_none_or(|remote| remote.ip == from);
            known && held.claim.scope.answers(to.ip).is_some()
        };
        let mut next = 0;
        while let Some((after, receiver)) = BOUND.next(to.port, next, wanted) {
            next = after;
            let Some(receiver) = receiver.upgrade() else { continue };
            let receiver: Arc<Self> = receiver;
            if let Ok(data) = receiver.bytes_for(&mut KernelSource(&bytes)) {
                receiver.deliver(datagram(data));
            }
        }
        Ok(len)
    }

    pub(super) fn receive_datagram(
        &self,
        file: &File,
        dst: &mut dyn Sink,
        flags: u32,
    ) -> Result<Received> {
        let nonblocking = file.nonblocking() || flags & msg::DONTWAIT != 0;
        self.core.reads_here();
        loop {
            self.core.take_error()?;
            let mut inbox = self.inbox.lock();
            if flags & msg::PEEK != 0 {
                if let Some(first) = inbox.datagrams.front() {
                    let lost = inbox.lost;
                    return self.give(first, dst, flags, lost);
                }
            } else if let Some(first) = inbox.datagrams.pop_front() {
                inbox.used -= cost(first.len());
                self.held.store(inbox.datagrams.len(), Release);
                let lost = inbox.lost;
                drop(inbox);
                return self.give(&first, dst, flags, lost);
            }
            drop(inbox);
            if self.read_shut.load(Relaxed) {
                return Ok(Received::default());
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let ready = || {
                let news = self.held.load(Acquire) > 0 || self.core.has_error();
                (news || self.read_shut.load(Relaxed)).then_some(())
            };
            Core::sleep(&self.core.readable, self.core.receive_timeout(), ready)?;
        }
    }

    /// Gives the user a datagram with what was asked for beside it.
    fn give(
        &self,
        datagram: &Datagram,
        dst: &mut dyn Sink,
        flags: u32,
        lost: u32,
    ) -> Result<Received> {
        let full = datagram.len();
        let take = full.min(dst.room());
        if datagram.copy(dst)? < take {
            return Err(Errno::EFAULT);
        }
        Ok(Received {
            len: if flags & msg::TRUNC != 0 { full } else { take },
            flags: if take < full { msg::TRUNC } else { 0 },
            from: self.core.show(Some(datagram.from)),
            control: received(&self.core, datagram, lost)?,
            ..Received::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_cost_about_what_linux_charges() {
        for (len, charge) in [(1, 768), (100, 768), (1000, 2304), (1400, 2304), (4000, 8448)] {
            assert_eq!(cost(len), charge, "{len}");
        }
    }
}
