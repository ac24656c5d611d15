//! epoll(7).
//!
//! Each watched description has an [`item::Item`], which the description's wait queues notify. A
//! notified item goes to the ready list; whether it is still ready is found out when events are
//! collected, by polling it. Level-triggered items go back to the list's end while they are ready.

mod item;

use crate::file::{File, FileOps, Seek};
use crate::poll::{PollMask, PollTable};
use crate::pollwait::Timeout;
use crate::{anon, oflag};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use frames::fallible::{Grow, TryMap, TryVec, arc};
use hal::user::Sink;
use item::{Collected, Item};
use sync::{IrqLock, Mutex, SpinLock, WaitError, WaitQueue};

/// Bytes of `struct epoll_event` on x86_64 (packed).
pub const EVENT_SIZE: usize = 12;
/// Epoll descriptors that may watch each other in a row.
const MAX_NESTING: usize = 5;

/// EPOLL_CTL_ADD, DEL, MOD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Watch; EEXIST when it is watched.
    Add { events: u32, data: u64 },
    /// Change what is watched for; ENOENT.
    Modify { events: u32, data: u64 },
    /// Stop watching; ENOENT.
    Delete,
}

/// Descriptor number and description's address: as on Linux, a description may be watched under
/// several numbers.
type Key = (i32, usize);

/// An epoll descriptor's state.
pub struct Epoll {
    /// Held while requests change what is watched and while events are collected. Not by
    /// [`Epoll::forget`], which runs when a description goes: that may happen in the midst.
    lock: Mutex<()>,
    /// What is watched.
    items: SpinLock<BTreeMap<Key, Arc<Item>>>,
    /// Put on by whoever wakes, an interrupt too.
    ready: IrqLock<VecDeque<Arc<Item>>>,
    /// Tasks in epoll_wait.
    waiters: WaitQueue,
    /// Those who poll this descriptor.
    pollers: Arc<WaitQueue>,
}

/// The description's operations.
pub struct EpollFile(Arc<Epoll>);

/// Items that are gone which the ready list may hold beside as many as there are items.
const SPARE: usize = 16;

/// Held while epoll descriptors are put into each other.
static NESTING: Mutex<()> = Mutex::new(());

/// epoll_create1(2). `flags`: O_CLOEXEC (the table's business); EINVAL for others.
pub fn create(flags: u32) -> Result<Arc<File>> {
    if flags & !oflag::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let epoll = Epoll {
        lock: Mutex::new(()),
        items: SpinLock::new(BTreeMap::new()),
        ready: IrqLock::new(VecDeque::new()),
        waiters: WaitQueue::new(),
        pollers: arc(WaitQueue::new())?,
    };
    anon::file(arc(EpollFile(arc(epoll)?))?, "[eventpoll]", oflag::O_RDWR)
}

/// The epoll behind a description; EINVAL when it is none.
fn of(file: &File) -> Result<&Arc<Epoll>> {
    file.ops_as::<EpollFile>().map(|file| &file.0).ok_or(Errno::EINVAL)
}

/// epoll_ctl(2) on `epoll` for `target`, which has the number `fd`.
pub fn control(epoll: &Arc<File>, fd: i32, target: &Arc<File>, request: Control) -> Result<()> {
    if target.is_path_only() {
        return Err(Errno::EBADF);
    }
    if !target.ops().pollable() {
        return Err(Errno::EPERM);
    }
    let ep = of(epoll)?;
    if Arc::ptr_eq(epoll, target) {
        return Err(Errno::EINVAL);
    }
    if let Control::Add { events, .. } | Control::Modify { events, .. } = request
        && events & g::EPOLLEXCLUSIVE != 0
    {
        let allowed = g::EPOLLIN
            | g::EPOLLOUT
            | g::EPOLLERR
            | g::EPOLLHUP
            | g::EPOLLWAKEUP
            | g::EPOLLET
            | g::EPOLLEXCLUSIVE;
        let adds = matches!(request, Control::Add { .. });
        if !adds || events & !allowed != 0 || of(target).is_ok() {
            return Err(Errno::EINVAL);
        }
    }
    let key = (fd, Arc::as_ptr(target) as usize);
    match request {
        Control::Add { events, data } => {
            let nesting = match of(target) {
                Ok(inner) => {
                    let guard = NESTING.lock();
                    if inner.reaches(ep, 1)? {
                        return Err(Errno::ELOOP);
                    }
                    Some(guard)
                }
                Err(_) => None,
            };
            let guard = ep.lock.lock();
            if ep.items.lock().contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            ep.room_for_one()?;
            let item = Item::new(ep, key, target, events, data)?;
            target.add_watcher(item.as_watcher())?;
            ep.items.lock().try_insert_in(key, item.clone())?;
            let watched = item.watch(target);
            if watched.is_err() {
                ep.items.lock().remove(&key);
                item.retire();
                ep.sweep();
            }
            drop(guard);
            drop(nesting);
            watched?;
        }
        Control::Modify { events, data } => {
            let _guard = ep.lock.lock();
            let item = ep.items.lock().get(&key).cloned().ok_or(Errno::ENOENT)?;
            if !item.modify(events, data) {
                return Err(Errno::EINVAL);
            }
            item.watch(target)?;
        }
        Control::Delete => {
            let _guard = ep.lock.lock();
            let item = ep.items.lock().remove(&key);
            item.ok_or(Errno::ENOENT)?.retire();
            ep.sweep();
        }
    }
    Ok(())
}

/// epoll_wait(2), epoll_pwait2(2): writes up to `max` events to `dst`; how many. EINTR when a
/// signal comes first.
pub fn wait(epoll: &File, dst: &mut dyn Sink, max: usize, timeout: Timeout) -> Result<usize> {
    let ep = of(epoll)?;
    let deadline = match timeout {
        Timeout::At(deadline) => Some(deadline),
        _ => None,
    };
    loop {
        let count = ep.collect(dst, max)?;
        if count > 0 || timeout == Timeout::Now {
            return Ok(count);
        }
        let some = || (!ep.ready.lock().is_empty()).then_some(());
        match ep.waiters.wait_exclusive(deadline, some) {
            Ok(()) => {}
            Err(WaitError::TimedOut) => return ep.collect(dst, max),
            Err(WaitError::Interrupted) => return Err(Errno::EINTR),
        }
    }
}

impl Epoll {
    /// Makes room on the ready list for all items and one more, since they get there under a wait
    /// queue's spinlock. ENOMEM.
    fn room_for_one(&self) -> Result<()> {
        let living = self.items.lock().len();
        self.ready.lock().room_for(living + 1)
    }

    /// Takes items that are gone off the ready list when they are most of it.
    fn sweep(&self) {
        let living = self.items.lock().len();
        let mut ready = self.ready.lock();
        if ready.len() > 2 * living + SPARE {
            ready.retain(|item| !item.is_retired());
        }
    }

    /// Puts an item on the ready list. Called under a wait queue's spinlock.
    fn enqueue(&self, item: Arc<Item>) {
        self.ready.lock().push_back(item);
    }

    /// Wakes one who waits for events, and who polls the descriptor; true when one waited.
    fn wake(&self) -> bool {
        let waited = self.waiters.wake_one();
        self.pollers.wake_all();
        waited
    }

    fn collect(&self, dst: &mut dyn Sink, max: usize) -> Result<usize> {
        if self.ready.lock().is_empty() {
            return Ok(0);
        }
        let _guard = self.lock.lock();
        // Only what is on the list now: level-triggered items that go back to it are for the
        // next call.
        let mut left = self.ready.lock().len();
        let mut count = 0;
        let mut outcome = Ok(());
        while count < max && left > 0 {
            left -= 1;
            let Some(item) = self.ready.lock().pop_front() else { break };
            match item.collect() {
                Collected::Nothing => {}
                Collected::Event { events, data } => {
                    let mut bytes = [0; EVENT_SIZE];
                    bytes[..4].copy_from_slice(&events.to_le_bytes());
                    bytes[4..].copy_from_slice(&data.to_le_bytes());
                    if let Err(error) = dst.put_all(&bytes) {
                        // The event was not delivered: it stays ready.
                        if item.requeue() {
                            self.ready.lock().push_front(item);
                        }
                        outcome = Err(error);
                        break;
                    }
                    count += 1;
                    if item.delivered() && item.requeue() {
                        self.ready.lock().push_back(item);
                    }
                }
            }
        }
        let more = !self.ready.lock().is_empty();
        if more {
            self.waiters.wake_one();
        }
        match outcome {
            Err(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    /// True when an event could be collected now.
    fn is_ready(&self) -> bool {
        if self.ready.lock().is_empty() {
            return false;
        }
        let _guard = self.lock.lock();
        // Items that are no longer ready leave the list, so that each is looked at once.
        loop {
            let Some(item) = self.ready.lock().pop_front() else { return false };
            if let Collected::Event { .. } = item.collect() {
                if item.requeue() {
                    self.ready.lock().push_front(item);
                }
                return true;
            }
        }
    }

    /// True when `other` is watched by this one, directly or through others. EINVAL beyond the
    /// nesting limit.
    fn reaches(self: &Arc<Self>, other: &Arc<Self>, depth: usize) -> Result<bool> {
        if Arc::ptr_eq(self, other) {
            return Ok(true);
        }
        if depth >= MAX_NESTING {
            return Err(Errno::ELOOP);
        }
        let items = {
            let items = self.items.lock();
            alloc::vec::Vec::gather(items.values().cloned())?
        };
        for file in items.iter().filter_map(|item| item.file()) {
            if let Ok(epoll) = of(&file)
                && epoll.reaches(other, depth + 1)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn forget(&self, key: Key) {
        let gone = self.items.lock().remove(&key);
        if let Some(item) = gone {
            item.retire();
            self.sweep();
        }
    }
}

impl Drop for EpollFile {
    fn drop(&mut self) {
        let items = core::mem::take(&mut *self.0.items.lock());
        for item in items.into_values() {
            item.retire();
        }
        // Items hold the queue entries that hold them: the list must not keep them.
        let ready = core::mem::take(&mut *self.0.ready.lock());
        drop(ready);
    }
}

impl FileOps for EpollFile {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            table.watch(&self.0.pollers);
        }
        if self.0.is_ready() { PollMask::READABLE & interest } else { PollMask::empty() }
    }
    fn pollable(&self) -> bool {
        true
    }
    fn fdinfo(&self, out: &mut String) {
        use core::fmt::Write;
        let items = self.0.items.lock().clone();
        for ((fd, _), item) in items {
            let (events, data) = item.interest();
            // Writing to a String cannot fail.
            let _ = writeln!(out, "tfd: {fd:8} events: {events:8x} data: {data:16x}");
        }
    }
}

/// True when `file` is an epoll descriptor.
pub fn is_epoll(file: &File) -> bool {
    (&**file.ops() as &dyn Any).is::<EpollFile>()
}
