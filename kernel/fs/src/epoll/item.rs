//! One watched description.

use super::{Epoll, Key};
use crate::file::{File, Watcher};
use crate::poll::{PollMask, PollTable};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use frames::fallible::ready_arc;
use sync::{IrqLock, Mutex, Notify};

/// Bits of `events` that are no events.
const MODE_BITS: u32 = g::EPOLLET | g::EPOLLONESHOT | g::EPOLLEXCLUSIVE | g::EPOLLWAKEUP;

/// What collecting an item gave.
pub(super) enum Collected {
    Nothing,
    Event { events: u32, data: u64 },
}

/// An entry of an interest list.
pub(super) struct Item {
    me: Weak<Item>,
    epoll: Weak<Epoll>,
    key: Key,
    file: Weak<File>,
    /// Looked at by whoever wakes, an interrupt too.
    interest: IrqLock<(u32, u64)>,
    /// It is on the ready list (or about to be).
    queued: AtomicBool,
    /// The queues it waits in; its own lock, since polling fills it.
    table: Mutex<Option<PollTable>>,
}

impl Item {
    pub(super) fn new(
        epoll: &Arc<Epoll>,
        key: Key,
        file: &Arc<File>,
        events: u32,
        data: u64,
    ) -> Result<Arc<Self>> {
        ready_arc::<Self>()?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            epoll: Arc::downgrade(epoll),
            key,
            file: Arc::downgrade(file),
            interest: IrqLock::new((events | g::EPOLLERR | g::EPOLLHUP, data)),
            queued: AtomicBool::new(false),
            table: Mutex::new(None),
        }))
    }

    pub(super) fn as_watcher(&self) -> Weak<dyn Watcher> {
        self.me.clone()
    }

    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.file.upgrade()
    }

    pub(super) fn interest(&self) -> (u32, u64) {
        *self.interest.lock()
    }

    fn mask(&self) -> PollMask {
        PollMask::from_bits_truncate(self.interest.lock().0 & !MODE_BITS)
    }

    /// Enters the description's queues (anew), and the ready list if it is ready now.
    /// ENOMEM.
    pub(super) fn watch(&self, file: &Arc<File>) -> Result<()> {
        let mut slot = self.table.lock();
        let Some(me) = self.me.upgrade() else { return Ok(()) };
        let exclusive = self.interest.lock().0 & g::EPOLLEXCLUSIVE != 0;
        let mut table = if exclusive { PollTable::exclusive(me) } else { PollTable::new(me) };
        let ready = file.poll(self.mask(), Some(&mut table));
        if table.was_refused() {
            return Err(Errno::ENOMEM);
        }
        *slot = Some(table);
        drop(slot);
        if ready.intersects(self.mask()) {
            self.notify();
        }
        Ok(())
    }

    /// New interest; false for an exclusive item, which cannot change.
    pub(super) fn modify(&self, events: u32, data: u64) -> bool {
        let mut interest = self.interest.lock();
        if interest.0 & g::EPOLLEXCLUSIVE != 0 {
            return false;
        }
        *interest = (events | g::EPOLLERR | g::EPOLLHUP, data);
        true
    }

    /// Polls; the item counts as off the list from before the poll, so that a change after it
    /// puts it back.
    pub(super) fn collect(&self) -> Collected {
        self.queued.swap(false, AcqRel);
        let Some(file) = self.file.upgrade() else { return Collected::Nothing };
        let (_, data) = self.interest();
        let mask = self.mask();
        let ready = if mask.is_empty() { mask } else { file.poll(mask, None) & mask };
        if ready.is_empty() {
            Collected::Nothing
        } else {
            Collected::Event { events: ready.bits(), data }
        }
    }

    /// The event has reached the user: true when the item stays on the list (level-triggered).
    pub(super) fn delivered(&self) -> bool {
        let mut interest = self.interest.lock();
        if interest.0 & g::EPOLLONESHOT != 0 {
            interest.0 &= MODE_BITS;
            return false;
        }
        interest.0 & g::EPOLLET == 0
    }

    /// Claims a place on the list; false when it has one.
    pub(super) fn requeue(&self) -> bool {
        !self.queued.swap(true, AcqRel)
    }

    /// It was taken out, or its file is gone.
    pub(super) fn is_retired(&self) -> bool {
        self.interest.lock().0 == 0
    }

    /// Leaves all queues; never notified again.
    pub(super) fn retire(&self) {
        self.interest.lock().0 = 0;
        self.queued.store(true, Release);
        let table = self.table.lock().take();
        drop(table);
    }
}

impl Notify for Item {
    fn notify(&self) {
        self.notify_exclusive();
    }

    fn notify_exclusive(&self) -> bool {
        if self.interest.lock().0 & !MODE_BITS == 0 {
            return false;
        }
        let (Some(epoll), Some(me)) = (self.epoll.upgrade(), self.me.upgrade()) else {
            return false;
        };
        if self.requeue() {
            epoll.enqueue(me);
        }
        // Also when it was on the list: who polls the epoll descriptor may never have collected it.
        epoll.wake()
    }
}

impl Watcher for Item {
    fn closed(&self) {
        if let Some(epoll) = self.epoll.upgrade() {
            epoll.forget(self.key);
        }
    }
}
