//! Wait queues: who waits for a condition, and how they are told to look again.
//!
//! A waiter enters the queue, announces that it will park, looks at the condition, and parks only
//! if it does not hold; a waker changes the condition first and then wakes. So no wake-up is lost.
//! Pollers (poll, select, epoll) enter a [`Notify`] instead of a task ([`Watches`]).

mod entries;

pub use entries::Watches;

use crate::IrqLock;
use crate::hooks::scheduler;
use abi::Errno;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use entries::{List, Node, Visit, Waiter};

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

/// A queue of waiters.
pub struct WaitQueue {
    /// Number of entries: wakers of an empty queue touch nothing else.
    count: AtomicUsize,
    list: IrqLock<List>,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { count: AtomicUsize::new(0), list: IrqLock::new(List::new()) }
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
        let limited = exclusive != usize::MAX;
        let mut slept = false;
        self.list.lock().visit(|waiter| {
            if exclusive == 0 && waiter.is_exclusive() {
                return Visit::Stop;
            }
            match waiter {
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
                    // It goes to the back, so that a second wake-up before it has run reaches
                    // another one.
                    if limited {
                        return Visit::Woken;
                    }
                }
            }
            Visit::Next
        });
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
        let mut node = Node::new(Waiter::Task { task: sched.current(), exclusive });
        let entered = self.enter(&mut node);
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
        drop(entered);
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
    use std::vec::Vec;

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

    /// Counts what it is told.
    struct Told(AtomicU32);

    impl Notify for Told {
        fn notify(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn pollers_leave_from_anywhere_and_exclusive_ones_share_events() {
        let queue = StdArc::new(WaitQueue::new());
        let told: Vec<_> = (0..6).map(|_| StdArc::new(Told(AtomicU32::new(0)))).collect();
        let mut watches: Vec<_> = told
            .iter()
            .enumerate()
            .map(|(at, told)| {
                let mut watches = Watches::new();
                watches.enter(&queue, told.clone(), at % 2 == 1).map(|()| watches).ok()
            })
            .collect();
        let counts = || told.iter().map(|t| t.0.swap(0, Ordering::Relaxed)).collect::<Vec<_>>();
        queue.wake_one();
        assert_eq!(counts(), [1, 1, 1, 0, 1, 0], "the plain ones and the first exclusive one");
        for (gone, left) in
            [(1, [1, 0, 1, 1, 1, 0]), (4, [1, 0, 1, 1, 0, 0]), (3, [1, 0, 1, 0, 0, 1])]
        {
            watches[gone] = None;
            queue.wake_one();
            assert_eq!(counts(), left, "without {gone}");
        }
        watches.clear();
        assert!(!queue.has_waiters());
        queue.wake_all();
        assert_eq!(counts(), [0; 6]);
    }

    #[test]
    fn a_poller_of_many_queues_is_told_by_each_and_leaves_all() {
        let queues: Vec<_> = (0..1000).map(|_| StdArc::new(WaitQueue::new())).collect();
        let told = StdArc::new(Told(AtomicU32::new(0)));
        let mut watches = Watches::new();
        for queue in &queues {
            assert_eq!(watches.enter(queue, told.clone(), false), Ok(()));
        }
        for queue in &queues {
            queue.wake_all();
        }
        assert_eq!(told.0.load(Ordering::Relaxed), 1000);
        drop(watches);
        assert!(queues.iter().all(|queue| !queue.has_waiters()));
    }
}
