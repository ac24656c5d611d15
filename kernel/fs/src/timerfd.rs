//! timerfd_create(2): a timer as a descriptor.
//!
//! Expirations are computed from the clock when somebody looks; the timer service only wakes
//! those who wait. A periodic timer is armed again when it is read, as on Linux.

use crate::file::{File, FileOps, Seek};
use crate::poll::{PollMask, PollTable};
use crate::timer::{self, TimerHandle};
use crate::{anon, env, oflag};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use frames::fallible::{TryVec, arc};
use hal::user::{Sink, Source};
use sync::{Notify, SpinLock, WaitQueue, hooks};

/// The clock that a timer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// CLOCK_REALTIME (and its alarm form).
    Realtime,
    /// CLOCK_MONOTONIC, CLOCK_BOOTTIME (and its alarm form): the machine never sleeps.
    Monotonic,
}

impl Clock {
    /// From the clock id; EINVAL.
    pub fn from_raw(id: u32) -> Result<Self> {
        match id {
            0 | 8 => Ok(Self::Realtime),
            1 | 7 | 9 => Ok(Self::Monotonic),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// `struct itimerspec` in nanoseconds: time to the next expiration (0: disarmed), and interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    pub value: u64,
    pub interval: u64,
}

/// TFD_TIMER_ABSTIME.
pub const ABSTIME: u32 = 1;
/// TFD_TIMER_CANCEL_ON_SET.
pub const CANCEL_ON_SET: u32 = 2;

struct Shared {
    clock: Clock,
    state: SpinLock<State>,
    changed: Arc<WaitQueue>,
}

#[derive(Default)]
struct State {
    /// Monotonic time of the next expiration; None when disarmed.
    next: Option<u64>,
    interval: u64,
    /// ECANCELED is due when the wall clock is set.
    cancellable: bool,
    cancelled: bool,
    armed: Option<Box<dyn TimerHandle>>,
}

/// Timers that follow the wall clock and want to know when it is set.
static CANCELLABLE: SpinLock<Vec<Weak<Shared>>> = SpinLock::new(Vec::new());

impl Notify for Shared {
    fn notify(&self) {
        self.changed.wake_one();
    }
}

impl Shared {
    /// Expirations since the last read; moves on. None before the next.
    fn take(&self) -> Option<Result<u64>> {
        let now = hooks::now();
        let mut state = self.state.lock();
        if core::mem::take(&mut state.cancelled) {
            return Some(Err(Errno::ECANCELED));
        }
        let next = state.next.filter(|&next| next <= now)?;
        if state.interval == 0 {
            state.next = None;
            return Some(Ok(1));
        }
        let ticks = 1 + (now - next) / state.interval;
        state.next = Some(next.saturating_add(ticks.saturating_mul(state.interval)));
        Some(Ok(ticks))
    }

    fn is_due(&self) -> bool {
        let state = self.state.lock();
        state.cancelled || state.next.is_some_and(|next| next <= hooks::now())
    }

    /// Has the service notify this timer at its next expiration.
    fn rearm(self: &Arc<Self>) {
        let next = self.state.lock().next;
        let armed = next.map(|at| timer::arm(at, self.clone()));
        let old = core::mem::replace(&mut self.state.lock().armed, armed);
        drop(old);
    }

    fn remaining(&self) -> Setting {
        let now = hooks::now();
        let state = self.state.lock();
        let value = match state.next {
            None => 0,
            Some(next) if next > now => next - now,
            // Expired: the time to the expiration after, or 0 for a single shot.
            Some(_) if state.interval == 0 => 0,
            Some(next) => state.interval - (now - next) % state.interval,
        };
        Setting { value, interval: state.interval }
    }
}

/// A timer descriptor's operations.
pub struct TimerFd(Arc<Shared>);

impl TimerFd {
    /// A new, disarmed timer. `flags`: O_NONBLOCK (and O_CLOEXEC, the table's business); EINVAL
    /// for others.
    pub fn open(clock: Clock, flags: u32) -> Result<Arc<File>> {
        if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        let shared = Shared {
            clock,
            state: SpinLock::new(State::default()),
            changed: arc(WaitQueue::new())?,
        };
        let flags = oflag::O_RDWR | (flags & oflag::O_NONBLOCK);
        anon::file(arc(Self(arc(shared)?))?, "[timerfd]", flags)
    }

    /// timerfd_settime(2): the old setting.
    pub fn set(&self, flags: u32, new: Setting) -> Result<Setting> {
        if flags & !(ABSTIME | CANCEL_ON_SET) != 0 {
            return Err(Errno::EINVAL);
        }
        let old = self.0.remaining();
        let now = hooks::now();
        let next = match (new.value, flags & ABSTIME != 0, self.0.clock) {
            (0, ..) => None,
            (value, false, _) => Some(now.saturating_add(value)),
            (value, true, Clock::Monotonic) => Some(value),
            (value, true, Clock::Realtime) => {
                let ahead = value.saturating_sub(env::now().max(0) as u64);
                Some(now.saturating_add(ahead))
            }
        };
        let cancellable = flags == ABSTIME | CANCEL_ON_SET && self.0.clock == Clock::Realtime;
        if cancellable {
            let me = Arc::downgrade(&self.0);
            let mut list = CANCELLABLE.lock();
            list.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&me));
            list.try_push(me)?;
        }
        {
            let mut state = self.0.state.lock();
            state.next = next;
            state.interval = new.interval;
            state.cancelled = false;
            state.cancellable = cancellable;
        }
        self.0.rearm();
        // Whoever reads has to look at the new time; it is no event for exclusive pollers.
        self.0.changed.wake(0);
        Ok(old)
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Setting {
        self.0.remaining()
    }
}

/// To be called when the wall clock has been set: reads of timers with TFD_TIMER_CANCEL_ON_SET
/// fail once with ECANCELED.
pub fn clock_was_set() {
    let list: Vec<_> = CANCELLABLE.lock().iter().filter_map(Weak::upgrade).collect();
    for shared in list {
        {
            let mut state = shared.state.lock();
            state.cancelled = state.cancellable;
        }
        shared.changed.wake_all();
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        // The armed timer holds the shared part: let go of it.
        let armed = self.0.state.lock().armed.take();
        drop(armed);
    }
}

impl FileOps for TimerFd {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }

    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        if dst.room() < 8 {
            return Err(Errno::EINVAL);
        }
        let ticks = match self.0.take() {
            Some(ticks) => ticks?,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => self.0.changed.wait_interruptible(None, || self.0.take())??,
        };
        if self.0.state.lock().next.is_some() {
            self.0.rearm();
        }
        dst.put_all(&ticks.to_le_bytes())?;
        Ok(8)
    }

    fn write(&self, _file: &File, _src: &mut dyn Source, _at: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            table.watch(&self.0.changed);
        }
        if self.0.is_due() { PollMask::IN & interest } else { PollMask::empty() }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn fdinfo(&self, out: &mut String) {
        use core::fmt::Write;
        let setting = self.get();
        let clock = if self.0.clock == Clock::Realtime { 0 } else { 1 };
        let split = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000);
        let (value, interval) = (split(setting.value), split(setting.interval));
        // Writing to a String cannot fail.
        let _ = write!(out, "clockid: {clock}\nticks: 0\nsettime flags: 00\n");
        let _ = writeln!(out, "it_value: ({}, {})", value.0, value.1);
        let _ = writeln!(out, "it_interval: ({}, {})", interval.0, interval.1);
    }
}
