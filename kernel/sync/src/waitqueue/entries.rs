//! The entries of a wait queue, linked where their owners keep them: on a sleeping task's stack, in
//! a poller's block. So to sleep takes no memory, however many sleep, and to leave takes no search.
#![allow(unsafe_code, reason = "a list through what others own; see each SAFETY comment")]

use super::{Notify, WaitQueue};
use crate::hooks::Park;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

/// Who is told.
pub(super) enum Waiter {
    /// A sleeping task. `exclusive`: `wake_one` stops after waking it.
    Task { task: Arc<dyn Park>, exclusive: bool },
    /// A poller. `exclusive`: `wake_one` stops after it if it found somebody (EPOLLEXCLUSIVE).
    Notify { target: Arc<dyn Notify>, exclusive: bool },
}

impl Waiter {
    pub(super) fn is_exclusive(&self) -> bool {
        match self {
            Self::Task { exclusive, .. } | Self::Notify { exclusive, .. } => *exclusive,
        }
    }
}

type Link = Option<NonNull<Node>>;

/// Somebody who waits, in one queue at most.
pub(super) struct Node {
    waiter: Waiter,
    /// The neighbours (before, after): touched with the queue's lock held alone.
    links: UnsafeCell<(Link, Link)>,
}

// SAFETY: `waiter` may be shared, as what it holds may; `links` are accessed under the lock of the
// queue that the node is in.
unsafe impl Sync for Node {}
// SAFETY: it may move to another thread with what it holds, as long as it is in no queue.
unsafe impl Send for Node {}

impl Node {
    pub(super) const fn new(waiter: Waiter) -> Self {
        Self { waiter, links: UnsafeCell::new((None, None)) }
    }
}

/// What becomes of an entry that was looked at.
pub(super) enum Visit {
    /// The next one is looked at.
    Next,
    /// The same; the last one of which this is said goes to the list's end.
    Woken,
    /// No more are looked at.
    Stop,
}

/// The entries in their order: those that every wake-up tells, then the exclusive ones. A wake-up of
/// one stops there, however many wait behind it.
///
/// Every node in it stays where it is until it was taken out: [`Entered`] and [`Watches`] see to that.
pub(super) struct List {
    front: Link,
    back: Link,
    len: usize,
}

// SAFETY: the nodes may be shared between threads, and the list is behind the queue's lock.
unsafe impl Send for List {}

impl List {
    pub(super) const fn new() -> Self {
        Self { front: None, back: None, len: 0 }
    }

    /// The place of the link from `node` (None: the list's own end) forward or back.
    ///
    /// # Safety
    /// `node` is in this list.
    unsafe fn forward(&mut self, node: Link) -> &mut Link {
        match node {
            None => &mut self.front,
            // SAFETY: it is in the list, so it exists, and the list's lock guards its links.
            Some(node) => unsafe { &mut (*node.as_ref().links.get()).1 },
        }
    }

    /// As [`List::forward`].
    ///
    /// # Safety
    /// `node` is in this list.
    unsafe fn backward(&mut self, node: Link) -> &mut Link {
        match node {
            None => &mut self.back,
            // SAFETY: as above.
            Some(node) => unsafe { &mut (*node.as_ref().links.get()).0 },
        }
    }

    /// Puts `node` between two neighbours.
    ///
    /// # Safety
    /// `before` and `after` are neighbours in this list; `node` is in none, and stays where it is
    /// until it was taken out.
    unsafe fn link(&mut self, before: Link, node: NonNull<Node>, after: Link) {
        // SAFETY: as the caller says; nobody looks at the links of a node that is in no list.
        unsafe {
            *node.as_ref().links.get() = (before, after);
            *self.forward(before) = Some(node);
            *self.backward(after) = Some(node);
        }
        self.len += 1;
    }

    /// Takes `node` out.
    ///
    /// # Safety
    /// It is in this list.
    unsafe fn unlink(&mut self, node: NonNull<Node>) {
        // SAFETY: it and its neighbours are in this list.
        unsafe {
            let (before, after) = *node.as_ref().links.get();
            *self.forward(before) = after;
            *self.backward(after) = before;
        }
        self.len -= 1;
    }

    /// Calls `look` for the entries in their order.
    pub(super) fn visit(&mut self, mut look: impl FnMut(&Waiter) -> Visit) {
        let mut woken = None;
        let mut at = self.front;
        while let Some(node) = at {
            // SAFETY: it is in the list.
            let entry = unsafe { node.as_ref() };
            match look(&entry.waiter) {
                Visit::Next => {}
                Visit::Woken => woken = Some(node),
                Visit::Stop => break,
            }
            // SAFETY: as above; the lock is held.
            at = unsafe { (*entry.links.get()).1 };
        }
        if let Some(node) = woken {
            // SAFETY: it is in the list, and the last one's neighbour is the end.
            unsafe {
                self.unlink(node);
                self.link(self.back, node, None);
            }
        }
    }
}

impl WaitQueue {
    /// Enters a node: at the front, or at the back if it is exclusive.
    ///
    /// # Safety
    /// It is in no queue, and stays where it is until [`WaitQueue::take`] has taken it out of this
    /// one.
    #[inline(always)]
    unsafe fn put(&self, node: &Node) {
        let mut list = self.list.lock();
        let at = NonNull::from(node);
        let (front, back) = (list.front, list.back);
        // SAFETY: the list's first and last have its ends as neighbours; the rest is the caller's.
        unsafe {
            if node.waiter.is_exclusive() {
                list.link(back, at, None);
            } else {
                list.link(None, at, front);
            }
        }
        self.count.store(list.len, Ordering::Relaxed);
        drop(list);
        // Pairs with the fence of `wake`: either the waker sees the entry, or we, who look at the
        // condition after this, see what the waker changed.
        fence(Ordering::SeqCst);
    }

    /// Takes a node out.
    ///
    /// # Safety
    /// [`WaitQueue::put`] has put it into this queue.
    #[inline(always)]
    unsafe fn take(&self, node: &Node) {
        let mut list = self.list.lock();
        // SAFETY: it is in this list.
        unsafe { list.unlink(NonNull::from(node)) };
        self.count.store(list.len, Ordering::Relaxed);
    }

    /// Enters `node`, which is the caller's, until what this returns is dropped: it must be.
    #[inline(always)]
    pub(super) fn enter<'a>(&'a self, node: &'a mut Node) -> Entered<'a> {
        // SAFETY: it was the caller's alone, so it is in no queue; it is borrowed as long as the
        // entry lives, whose end takes it out.
        unsafe { self.put(node) };
        Entered { queue: self, node }
    }
}

/// A task in a queue, by a node on its stack.
pub(super) struct Entered<'a> {
    queue: &'a WaitQueue,
    node: &'a Node,
}

impl Drop for Entered<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `enter` has put it there.
        unsafe { self.queue.take(self.node) };
    }
}

/// A poller in a queue.
struct Watch {
    queue: Arc<WaitQueue>,
    node: Node,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: `Watches::enter` has put it there.
        unsafe { self.queue.take(&self.node) };
    }
}

/// A poller in any number of queues, which it leaves when this is dropped.
#[derive(Default)]
pub struct Watches {
    /// Filled without being moved, and so are those in `more`, each four times as large as the one
    /// before.
    first: Vec<Watch>,
    more: Vec<Vec<Watch>>,
}

/// Entries of the first block: most pollers watch a file's two queues at most.
const FIRST: usize = 2;

impl Watches {
    /// In no queue yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: Vec::new(), more: Vec::new() }
    }

    /// Enters a queue; `exclusive`: see [`Notify::notify_exclusive`]. ENOMEM.
    pub fn enter(
        &mut self,
        queue: &Arc<WaitQueue>,
        target: Arc<dyn Notify>,
        exclusive: bool,
    ) -> Result<()> {
        let last = self.more.last().unwrap_or(&self.first);
        if last.len() == last.capacity() {
            let capacity = last.capacity() * 4;
            self.grow(capacity)?;
        }
        let block = self.more.last_mut().unwrap_or(&mut self.first);
        let node = Node::new(Waiter::Notify { target, exclusive });
        block.push(Watch { queue: queue.clone(), node });
        if let Some(watch) = block.last() {
            // SAFETY: it is new, and stays in its block until it is dropped.
            unsafe { queue.put(&watch.node) };
        }
        Ok(())
    }

    /// Makes the first block, or the next one. ENOMEM.
    fn grow(&mut self, capacity: usize) -> Result<()> {
        let block = |capacity| {
            let mut block = Vec::new();
            hal::room::for_array::<Watch>(capacity)?;
            block.try_reserve_exact(capacity).map_err(|_| Errno::ENOMEM)?;
            Ok::<_, Errno>(block)
        };
        if capacity == 0 {
            self.first = block(FIRST)?;
            return Ok(());
        }
        hal::room::for_array::<Vec<Watch>>((2 * self.more.len()).max(4))?;
        self.more.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.more.push(block(capacity)?);
        Ok(())
    }
}
