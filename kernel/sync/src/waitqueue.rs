//! Wait queues: who waits for a condition, and how they are told to look again.
//!
//! A waiter enters the queue, announces that it will park, looks at the condition, and parks only
//! if it does not hold; a waker changes the condition first and then wakes. So no wake-up is lost.
//! Pollers (poll, select, epoll) enter a [`Notify`] instead of a task.

use crate::hooks::{Park, scheduler};
use crate::{IrqGuard, IrqLock};
use abi::Errno;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

/// Told that the queue's condition may have changed. Called under the queue's lock with interrupts
/// off, possibly in an interrupt: short, no sleeping, only [`IrqLock`]s, and not the same queue.
pub trait Notify: Send + Sync {
    /// Look again.
    fn notify(&self);

    /// As [`Notify::notify`], of an exclusive poller: true when the event found somebody who waited
    /// for it, so that no other exclusive waiter need be told.
    fn notify_exclusive(&self) -> bool {
        self.notify();
        true
    }
}

/// Why a wait ended without its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// A signal is pending.
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

impl From<WaitError> for Errno {
    /// An interrupted wait restarts if the handler says so; a deadline is the caller's to map.
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted => Errno::ERESTARTSYS,
            WaitError::TimedOut => Errno::ETIMEDOUT,
        }
    }
}

/// An entry of a queue.
#[derive(Clone)]
pub enum Waiter {
    /// A sleeping task. `exclusive`: `wake_one` stops after waking it.
    Task { task: Arc<dyn Park>, exclusive: bool },
    /// A poller. `exclusive`: `wake_one` stops after it if it found somebody (EPOLLEXCLUSIVE).
    Notify { target: Arc<dyn Notify>, exclusive: bool },
}

struct Entry {
    id: usize,
    waiter: Waiter,
}

/// A queue of waiters.
pub struct WaitQueue {
    /// Number of entries: wakers of an empty queue touch nothing else.
    count: AtomicUsize,
    entries: IrqLock<Entries>,
}

struct Entries {
    next_id: usize,
    /// Those that every wake-up tells, then the exclusive ones: a wake-up of one stops there,
    /// however many wait behind it.
    list: VecDeque<Entry>,
}

impl Waiter {
    fn is_exclusive(&self) -> bool {
        match self {
            Self::Task { exclusive, .. } | Self::Notify { exclusive, .. } => *exclusive,
        }
    }
}

impl Entries {
    /// Where an entry is: looked for from both ends, as entries leave where they were woken, at
    /// the front, or, if that moved them, from the back.
    fn position(&self, id: usize) -> Option<usize> {
        let len = self.list.len();
        (0..len.div_ceil(2))
            .flat_map(|near| [near, len - 1 - near])
            .find(|&at| self.list[at].id == id)
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            entries: IrqLock::new(Entries { next_id: 0, list: VecDeque::new() }),
        }
    }

    /// As [`WaitQueue::add`], of whoever may enter any number of times. ENOMEM.
    pub fn try_add(&self, waiter: Waiter) -> abi::Result<usize> {
        let mut entries = self.entries.lock();
        let list = &mut entries.list;
        if list.len() == list.capacity() {
            let more = list.len().max(4);
            hal::room::for_array::<Entry>(list.len() + more)?;
            list.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(self.enter(entries, waiter))
    }

    /// Adds an entry; its id for [`WaitQueue::remove`].
    pub fn add(&self, waiter: Waiter) -> usize {
        self.enter(self.entries.lock(), waiter)
    }

    #[inline(always)]
    fn enter(&self, mut entries: IrqGuard<'_, Entries>, waiter: Waiter) -> usize {
        let id = entries.next_id;
        entries.next_id = id.wrapping_add(1);
        if waiter.is_exclusive() {
            entries.list.push_back(Entry { id, waiter });
        } else {
            entries.list.push_front(Entry { id, waiter });
        }
        self.count.store(entries.list.len(), Ordering::Relaxed);
        drop(entries);
        // Pairs with the fence of `wake`: either the waker sees the entry, or we, who look at the
        // condition after this, see what the waker changed.
        fence(Ordering::SeqCst);
        id
    }

    /// Removes an entry, if it is still there.
    pub fn remove(&self, id: usize) {
        let mut entries = self.entries.lock();
        if let Some(at) = entries.position(id) {
            entries.list.remove(at);
        }
        self.count.store(entries.list.len(), Ordering::Relaxed);
    }

    /// True when somebody waits.
    pub fn has_waiters(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Wakes pollers, plain waiters, and one exclusive waiter; true when a task slept.
    pub fn wake_one(&self) -> bool {
        self.wake(1)
    }

    /// Wakes everybody; true when a task slept.
    pub fn wake_all(&self) -> bool {
        self.wake(usize::MAX)
    }

    /// Wakes pollers, plain waiters, and up to `exclusive` exclusive waiters; true when a task slept.
    pub fn wake(&self, mut exclusive: usize) -> bool {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut entries = self.entries.lock();
        let mut slept = false;
        let mut woken_exclusive = None;
        for (at, entry) in entries.list.iter().enumerate() {
            if exclusive == 0 && entry.waiter.is_exclusive() {
                break;
            }
            match &entry.waiter {
                Waiter::Notify { target, exclusive: false } => target.notify(),
                Waiter::Notify { target, exclusive: true } => {
                    if target.notify_exclusive() {
                        exclusive -= 1;
                    }
                }
                Waiter::Task { task, exclusive: false } => slept |= task.unpark(),
                Waiter::Task { task, exclusive: true } => {
                    slept |= task.unpark();
                    exclusive -= 1;
                    woken_exclusive = Some(at);
                }
            }
        }
        // A woken exclusive waiter goes to the back, so that a second wake-up before it has run
        // reaches another one.
        if exclusive != usize::MAX
            && let Some(at) = woken_exclusive
            && let Some(entry) = entries.list.remove(at)
        {
            entries.list.push_back(entry);
        }
        slept
    }

    /// Sleeps until `condition` gives a value; signals do not end it.
    pub fn wait_until<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        loop {
            if let Ok(value) = self.wait(false, false, None, &mut condition) {
                return value;
            }
        }
    }

    /// As [`WaitQueue::wait_until`], as an exclusive waiter: one is woken per `wake_one`, which whoever
    /// got a value owes to the next.
    pub fn wait_until_exclusive<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        loop {
            if let Ok(value) = self.wait(false, true, None, &mut condition) {
                return value;
            }
        }
    }

    /// Sleeps until `condition` gives a value, a signal arrives, or `deadline` (monotonic ns)
    /// passes.
    pub fn wait_interruptible<R>(
        &self,
        deadline: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(true, false, deadline, condition)
    }

    /// As [`WaitQueue::wait_interruptible`], as an exclusive waiter (one is woken per `wake_one`).
    pub fn wait_exclusive<R>(
        &self,
        deadline: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(true, true, deadline, condition)
    }

    fn wait<R>(
        &self,
        interruptible: bool,
        exclusive: bool,
        deadline: Option<u64>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        let sched = scheduler();
        let id = self.add(Waiter::Task { task: sched.current(), exclusive });
        let outcome = loop {
            sched.prepare(interruptible);
            if let Some(value) = condition() {
                break Ok(value);
            }
            if interruptible && sched.interrupted() {
                break Err(WaitError::Interrupted);
            }
            if deadline.is_some_and(|at| sched.now() >= at) {
                break Err(WaitError::TimedOut);
            }
            sched.park(deadline);
        };
        sched.finish();
        self.remove(id);
        if exclusive && outcome.is_err() {
            // A wake-up may have been spent on us while we gave up: pass it on.
            self.wake_one();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;
    use std::sync::Arc as StdArc;
    use std::thread;

    #[test]
    fn no_wakeup_is_lost_between_a_producer_and_a_consumer() {
        let state = StdArc::new((WaitQueue::new(), AtomicU32::new(0)));
        let other = state.clone();
        let producer = thread::spawn(move || {
            for turn in 0..2000 {
                other.0.wait_until(|| (other.1.load(Ordering::Acquire) == turn * 2).then_some(()));
                other.1.store(turn * 2 + 1, Ordering::Release);
                other.0.wake_all();
            }
        });
        for turn in 0..2000 {
            state.0.wait_until(|| (state.1.load(Ordering::Acquire) == turn * 2 + 1).then_some(()));
            state.1.store(turn * 2 + 2, Ordering::Release);
            state.0.wake_all();
        }
        producer.join().expect("producer");
        assert_eq!(state.1.load(Ordering::Relaxed), 4000);
        assert!(!state.0.has_waiters());
    }

    #[test]
    fn a_deadline_ends_a_wait() {
        let queue = WaitQueue::new();
        let deadline = crate::hooks::now() + 1_000_000;
        let ended = queue.wait_interruptible(Some(deadline), || None::<()>);
        assert_eq!(ended, Err(WaitError::TimedOut));
        assert!(crate::hooks::now() >= deadline);
        assert!(!queue.has_waiters());
    }
}
