//! Readiness: masks, and how a poller is told to look again.
//!
//! A file's `poll` answers what is ready now, and when it is given a [`PollTable`] also enters the
//! poller into the wait queues that tell of changes. Queues stand in `Arc`s so that a poller may
//! outlive the file it waits for.

use abi::raw::general as g;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use frames::fallible::Grow;
use sync::{Notify, WaitQueue, Waiter};

bitflags! {
    /// Events of poll(2) and epoll(7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct PollMask: u32 {
        const IN = g::POLLIN;
        const PRI = g::POLLPRI;
        const OUT = g::POLLOUT;
        const ERR = g::POLLERR;
        const HUP = g::POLLHUP;
        const NVAL = g::POLLNVAL;
        const RDNORM = g::POLLRDNORM;
        const RDBAND = g::POLLRDBAND;
        const WRNORM = g::POLLWRNORM;
        const WRBAND = g::POLLWRBAND;
        const RDHUP = g::POLLRDHUP;
    }
}

impl PollMask {
    /// Data to read.
    pub const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// Room to write.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
    /// What is reported whether asked for or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);
    /// Interest that the reading side's queue serves.
    pub const READ_SIDE: Self =
        Self::READABLE.union(Self::PRI).union(Self::RDBAND).union(Self::RDHUP).union(Self::ALWAYS);
    /// Interest that the writing side's queue serves.
    pub const WRITE_SIDE: Self = Self::WRITABLE.union(Self::WRBAND).union(Self::ALWAYS);
}

/// The queues that a poller waits in; leaves them when dropped.
pub struct PollTable {
    target: Arc<dyn Notify>,
    exclusive: bool,
    entries: Vec<(Arc<WaitQueue>, usize)>,
    /// A queue could not be entered.
    refused: bool,
}

impl PollTable {
    /// An empty table whose changes go to `target`.
    pub fn new(target: Arc<dyn Notify>) -> Self {
        Self { target, exclusive: false, entries: Vec::new(), refused: false }
    }

    /// As [`PollTable::new`]; of the exclusive waiters of a queue, one is told of each event.
    pub fn exclusive(target: Arc<dyn Notify>) -> Self {
        Self { target, exclusive: true, entries: Vec::new(), refused: false }
    }

    /// Enters `queue`.
    pub fn watch(&mut self, queue: &Arc<WaitQueue>) {
        let waiter = Waiter::Notify { target: self.target.clone(), exclusive: self.exclusive };
        let entered = self.entries.room_for(1).and_then(|()| queue.try_add(waiter));
        match entered {
            Ok(id) => self.entries.push((queue.clone(), id)),
            Err(_) => self.refused = true,
        }
    }

    /// True when there was no memory to enter some queue: its changes are not told.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// Leaves all queues.
    pub fn clear(&mut self) {
        for (queue, id) in self.entries.drain(..) {
            queue.remove(id);
        }
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        self.clear();
    }
}
