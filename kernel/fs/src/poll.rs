//! Readiness: masks, and how a poller is told to look again.
//!
//! A file's `poll` answers what is ready now, and when it is given a [`PollTable`] also enters the
//! poller into the wait queues that tell of changes. Queues stand in `Arc`s so that a poller may
//! outlive the file it waits for.

use abi::raw::general as g;
use alloc::sync::Arc;
use bitflags::bitflags;
use sync::{Notify, WaitQueue, Watches};

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
    watches: Watches,
    /// A queue could not be entered.
    refused: bool,
}

impl PollTable {
    /// An empty table whose changes go to `target`.
    pub fn new(target: Arc<dyn Notify>) -> Self {
        Self { target, exclusive: false, watches: Watches::new(), refused: false }
    }

    /// As [`PollTable::new`]; of the exclusive waiters of a queue, one is told of each event.
    pub fn exclusive(target: Arc<dyn Notify>) -> Self {
        Self { target, exclusive: true, watches: Watches::new(), refused: false }
    }

    /// Enters `queue`.
    pub fn watch(&mut self, queue: &Arc<WaitQueue>) {
        let entered = self.watches.enter(queue, self.target.clone(), self.exclusive);
        self.refused |= entered.is_err();
    }

    /// A queue could not be made.
    pub fn refuse(&mut self) {
        self.refused = true;
    }

    /// True when there was no memory to enter some queue: its changes are not told.
    pub fn was_refused(&self) -> bool {
        self.refused
    }
}
