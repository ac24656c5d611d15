//! Sending and receiving.

use super::{Phase, TcpSocket, flag};
use crate::common::Core;
use crate::device;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use fs::File;
use fs::env::env;
use fs::socket::{Received, msg};
use hal::user::{Sink, Source};

/// Takes what it is given and keeps nothing.
struct Nowhere(usize);

impl Sink for Nowhere {
    fn room(&self) -> usize {
        self.0
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
}

/// What one try to send came to.
enum Sent {
    Some(usize),
    Full(Arc<TcpSocket>),
    /// Nobody is there to take it.
    Gone,
}

impl TcpSocket {
    /// Bytes that this end has sent and the other one's window has no room for.
    pub(super) fn queued(&self, peer: &Self) -> usize {
        peer.held.load(Relaxed).saturating_sub(peer.window())
    }

    /// True for pollers, who are told only when a third is free.
    pub(super) fn is_writable(&self, peer: &Self) -> bool {
        let queued = self.queued(peer);
        queued + queued / 2 < self.core.send_room.load(Relaxed)
    }

    /// Puts in what there is room for.
    fn put(&self, src: &mut dyn Source) -> Result<Sent> {
        let Some(peer) = self.peer() else { return Ok(Sent::Gone) };
        let mut inbox = peer.inbox.lock();
        if peer.has(flag::GONE) || !peer.is_with(self) {
            return Ok(Sent::Gone);
        }
        let limit = peer.window() + self.core.send_room.load(Relaxed);
        let room = limit.saturating_sub(inbox.len());
        if room == 0 {
            peer.starved.store(true, Release);
            drop(inbox);
            return Ok(Sent::Full(peer));
        }
        let n = inbox.fill(src, room, peer.core.node())?;
        peer.held.store(inbox.len(), Release);
        drop(inbox);
        peer.received.fetch_add(n as u64, Relaxed);
        peer.core.came();
        Ok(Sent::Some(n))
    }

    /// Whether something may be sent. ENOTCONN's sort is EPIPE here; the error that is to be told.
    fn may_send(&self) -> Result<()> {
        // First: a reset leaves its error before its flags.
        let flags = self.flags();
        if self.core.has_error() {
            self.core.take_error()?;
        }
        if flags & flag::SEND_SHUT != 0 || flags & flag::CONNECTED == 0 {
            return Err(Errno::EPIPE);
        }
        Ok(())
    }

    /// Waits for a connect to end, before the first byte.
    fn await_connection(&self, nonblocking: bool, timeout: Option<u64>) -> Result<()> {
        let waits = || matches!(self.state.lock().phase, Phase::Waiting(_));
        if self.has(flag::CONNECTED) || !waits() {
            return Ok(());
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        Core::sleep(&self.core.writable, timeout, || (!waits()).then_some(()))
    }

    pub(super) fn send_bytes(
        &self,
        file: &File,
        src: &mut dyn Source,
        flags: u32,
    ) -> Result<usize> {
        let nonblocking = file.nonblocking() || flags & msg::DONTWAIT != 0;
        let timeout = self.core.send_timeout();
        self.await_connection(nonblocking, timeout)?;
        if flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut done = 0;
        loop {
            if let Err(error) = self.may_send() {
                if done > 0 {
                    if error == Errno::EPIPE && flags & msg::NOSIGNAL == 0 {
                        env().broken_pipe();
                    }
                    break;
                }
                return Err(error);
            }
            if src.left() == 0 {
                break;
            }
            match self.put(src) {
                Ok(Sent::Some(0)) => break,
                Ok(Sent::Some(n)) => done += n,
                Ok(Sent::Gone) => {
                    // It was sent all the same, and answered by a reset.
                    let left = src.left();
                    self.reset();
                    done += left;
                    break;
                }
                Ok(Sent::Full(_)) if nonblocking && done > 0 => break,
                Ok(Sent::Full(_)) if nonblocking => {
                    self.core.fasync.want_space();
                    return Err(Errno::EAGAIN);
                }
                Ok(Sent::Full(peer)) => {
                    let ready = || {
                        let ready = self.is_writable(&peer) || self.has(flag::SEND_SHUT);
                        if !ready {
                            peer.starved.store(true, Release);
                        }
                        // It may have been emptied before that was seen.
                        (ready || self.is_writable(&peer)).then_some(())
                    };
                    match Core::sleep(&self.core.writable, timeout, ready) {
                        Ok(()) => {}
                        Err(_) if done > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.sent.fetch_add(done as u64, Relaxed);
        device::count(done);
        Ok(done)
    }

    /// Tells the other end that there is room again, if it waits for that.
    #[inline]
    fn drained(&self) {
        if self.starved.load(Acquire) {
            self.feed();
        }
    }

    #[cold]
    fn feed(&self) {
        let Some(peer) = self.peer() else { return };
        if peer.is_writable(self) && self.starved.swap(false, AcqRel) {
            peer.core.writable.wake_all();
            peer.core.fasync.space();
        }
    }

    /// Why there is nothing to receive and will not be: the end of the stream is Ok.
    fn nothing_comes(&self, flags: u32) -> Option<Result<()>> {
        if flags & flag::FIN != 0 {
            return Some(Ok(()));
        }
        if let Err(error) = self.core.take_error() {
            return Some(Err(error));
        }
        if flags & flag::RECV_SHUT != 0 {
            return Some(Ok(()));
        }
        match self.state.lock().phase {
            Phase::Closed | Phase::Listening(_) => Some(Err(Errno::ENOTCONN)),
            _ => None,
        }
    }

    pub(super) fn receive_bytes(
        &self,
        file: &File,
        dst: &mut dyn Sink,
        flags: u32,
    ) -> Result<Received> {
        let mut received = Received::default();
        if flags & msg::OOB != 0 {
            // There is no urgent data.
            return Err(Errno::EINVAL);
        }
        let nonblocking = file.nonblocking() || flags & msg::DONTWAIT != 0;
        let (peek, drop_it) = (flags & msg::PEEK != 0, flags & msg::TRUNC != 0);
        let wanted = dst.room();
        let target = match flags & msg::WAITALL {
            0 => wanted.min(self.low_water.load(Relaxed)),
            _ => wanted,
        }
        .max(1);
        self.core.reads_here();
        let mut nowhere = Nowhere(wanted);
        loop {
            // Before the inbox is looked at: what came before the end is there then.
            let seen = self.flags();
            if self.held.load(Acquire) > 0 && received.len < wanted {
                let sink: &mut dyn Sink = if drop_it { &mut nowhere } else { dst };
                let mut inbox = self.inbox.lock();
                let step = match peek {
                    true => inbox.peek(received.len, sink, wanted),
                    false => inbox.drain(sink, wanted),
                };
                self.held.store(inbox.len(), Release);
                let left = inbox.len();
                drop(inbox);
                match step {
                    Ok(n) => received.len += n,
                    Err(_) if received.len > 0 => break,
                    Err(error) => return Err(error),
                }
                if !peek {
                    self.drained();
                    if left > 0 && self.asleep.load(Relaxed) > 0 {
                        // One reader was woken for all that is here: pass it on.
                        self.core.readable.wake_one();
                    }
                }
                if step == Ok(0) && !peek {
                    // Another reader was faster, or there is a fault.
                    if left > 0 {
                        break;
                    }
                }
            }
            if received.len >= target || received.len == wanted {
                break;
            }
            let there = self.held.load(Acquire);
            if if peek { there > received.len } else { there > 0 } {
                continue;
            }
            match self.nothing_comes(seen) {
                Some(Ok(())) => break,
                Some(Err(_)) if received.len > 0 => break,
                Some(Err(error)) => return Err(error),
                None => {}
            }
            if nonblocking {
                if received.len > 0 {
                    break;
                }
                return Err(Errno::EAGAIN);
            }
            let have = if peek { received.len } else { 0 };
            let ready = || {
                let ends = flag::FIN | flag::RECV_SHUT | flag::RESET;
                let news = self.held.load(Acquire) > have || self.has(ends);
                (news || self.core.has_error()).then_some(())
            };
            self.asleep.fetch_add(1, Relaxed);
            let slept = Core::sleep(&self.core.readable, self.core.receive_timeout(), ready);
            self.asleep.fetch_sub(1, Relaxed);
            match slept {
                Ok(()) => {}
                Err(_) if received.len > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }

    /// Bytes that can be received at once.
    pub(super) fn there(&self) -> usize {
        self.held.load(Acquire)
    }

    /// Whether readers are to be told: there is as much as SO_RCVLOWAT says.
    pub(super) fn is_readable(&self) -> bool {
        self.there() >= self.low_water.load(Relaxed).min(self.window().max(1))
    }
}
