//! Room for what a socket has sent and nobody has received (SO_SNDBUF).
//!
//! Messages are charged to their sender, and cost what Linux charges for them, so that as many fit
//! as there: a descriptor of the message, its head in a power of two of bytes, the rest in pages.

use crate::fasync::Fasync;
use crate::socket::Kind;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use frames::fallible::arc;
use sync::WaitQueue;

/// Bytes: Linux's default (net.core.wmem_default), and the most that may be asked for before it is
/// doubled (net.core.wmem_max, rmem_max).
pub(super) const BUFFER: usize = 212_992;

const PAGE: usize = 4096;
/// `struct sk_buff`.
const DESCRIPTOR: usize = 256;
/// `struct skb_shared_info`, behind the head.
const SHARED_INFO: usize = 320;
/// Pages beside the head of one message (MAX_SKB_FRAGS).
const MAX_PAGES: usize = 17;
/// Bytes that a head takes: a page's worth for streams, 4 pages' for messages.
const STREAM_HEAD: usize = PAGE - SHARED_INFO;
const MESSAGE_HEAD: usize = 4 * PAGE - SHARED_INFO;
/// Bytes of a stream's message beside the head (UNIX_SKB_FRAGS_SZ).
const STREAM_PAGES: usize = 8 * PAGE;

/// What a message of `len` bytes is charged.
pub(super) fn cost(kind: Kind, len: usize) -> usize {
    let head = if kind == Kind::Stream { STREAM_HEAD } else { MESSAGE_HEAD };
    let beyond = len.saturating_sub(head).min(MAX_PAGES * PAGE);
    let paged = beyond.next_multiple_of(PAGE).min(len);
    let head = (len - paged).next_multiple_of(64) + SHARED_INFO;
    DESCRIPTOR + head.next_power_of_two() + paged.next_multiple_of(PAGE)
}

/// A socket's room to send.
pub(super) struct Space {
    /// Bytes charged.
    used: AtomicUsize,
    /// SO_SNDBUF: one may begin to send while less is charged.
    limit: AtomicUsize,
    /// Where senders and pollers wait for room, or for a change of the socket's state.
    pub(super) queue: Arc<WaitQueue>,
    /// Who wants signals of the socket.
    pub(super) fasync: Fasync,
}

impl Space {
    pub(super) fn new() -> abi::Result<Arc<Self>> {
        arc(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(BUFFER),
            queue: arc(WaitQueue::new())?,
            fasync: Fasync::default(),
        })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
        self.queue.wake_all();
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The longest datagram.
    pub(super) fn longest(&self) -> usize {
        self.limit() - 32
    }

    /// The longest piece of a stream: two fit into what is left empty.
    pub(super) fn piece(&self) -> usize {
        (self.limit() / 2 - 64).min(STREAM_HEAD + STREAM_PAGES)
    }

    /// True when a sender need not wait.
    pub(super) fn has_room(&self) -> bool {
        self.used() < self.limit()
    }

    /// True for pollers, who are told only when most of it is free.
    pub(super) fn mostly_free(&self) -> bool {
        (self.used() + 1) * 4 <= self.limit()
    }

    /// Charges `bytes`, if there is room for a beginning.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        if !self.has_room() {
            return None;
        }
        self.used.fetch_add(bytes, Relaxed);
        Some(Charge { space: self.clone(), bytes })
    }
}

/// A message's share of its sender's room, given back when it goes.
pub(super) struct Charge {
    space: Arc<Space>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.space.used.fetch_sub(self.bytes, Relaxed);
        if self.space.mostly_free() {
            self.space.queue.wake_one();
            self.space.fasync.space();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cost_what_linux_charges() {
        let stream = [(1, 768), (1000, 2304), (4000, 4864), (4096, 4864), (10_000, 12_544)];
        for (len, charge) in
            stream.into_iter().chain([(2240, 4352), (33_000, 34_048), (36_544, 37_120)])
        {
            assert_eq!(cost(Kind::Stream, len), charge, "{len} bytes of a stream");
        }
        for (len, charge) in [(0, 768), (4000, 8448), (10_000, 16_640), (33_000, 37_120)] {
            assert_eq!(cost(Kind::Datagram, len), charge, "a datagram of {len} bytes");
        }
    }
}
