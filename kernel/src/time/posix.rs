//! timer_create(2) and its kin.
//!
//! A timer's signal is pending at most once. While it is, the timer stands still; when the signal
//! is taken, the expirations that were missed meanwhile are its overrun, and it goes on.

use super::clock::{self, Clock};
use super::cpu_timer::{self, LOOK};
use super::itimer::Setting;
use super::{Armed, arm};
use crate::signal::info::SigInfo;
use crate::signal::pending::{self, Queued};
use crate::signal::send::{self, Sent};
use crate::signal::user::Account;
use crate::task::process::limit;
use crate::task::{Process, Task, current, table};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use frames::fallible::{TryMap, ready_arc};
use sync::{Notify, SpinLock};

/// What an expiration does.
#[derive(Clone)]
pub struct Event {
    /// None: nothing (SIGEV_NONE).
    pub signal: Option<i32>,
    pub value: u64,
    /// SIGEV_THREAD_ID: the thread that gets the signal.
    pub thread: Option<Weak<Task>>,
}

/// The timers of one process, by id.
#[derive(Default)]
pub struct Timers {
    by_id: SpinLock<(i32, BTreeMap<i32, Arc<Timer>>)>,
}

/// A timer.
pub struct Timer {
    me: Weak<Timer>,
    id: i32,
    clock: Clock,
    process: Weak<Process>,
    event: Event,
    /// Its signal, of which there is one at most.
    _account: Account,
    state: SpinLock<State>,
}

#[derive(Default)]
struct State {
    /// Next expiration by the timer's clock.
    next: Option<u64>,
    interval: u64,
    /// The signal is pending: the timer stands still.
    pending: bool,
    /// Expirations since the signal was sent, that one included.
    passed: u64,
    /// Of the expiration delivered last.
    overrun: u64,
    armed: Armed,
}

impl State {
    /// Moves `next` beyond `now`; how many expirations were passed over, the first included.
    fn forward(&mut self, now: u64) -> u64 {
        let Some(next) = self.next.filter(|&next| next <= now) else { return 0 };
        if self.interval == 0 {
            self.next = None;
            return 1;
        }
        let count = (now - next) / self.interval + 1;
        self.next = Some(next.saturating_add(count.saturating_mul(self.interval)));
        count
    }
}

impl Timer {
    fn now(&self) -> u64 {
        // The time of what is gone never comes.
        self.clock.now().unwrap_or(0)
    }

    /// Has the service notify it when it may have expired.
    fn rearm(&self) {
        let next = self.state.lock().next;
        let armed = match (next, self.event.signal, self.me.upgrade()) {
            (Some(next), Some(_), Some(me)) => {
                let at = match &self.clock {
                    Clock::Wall { .. } => clock::monotonic_at(next),
                    Clock::Monotonic { .. } => next,
                    Clock::Cpu(clock) => {
                        let left = next.saturating_sub(self.now());
                        hal::time::now().saturating_add((left / clock.speed()).max(LOOK))
                    }
                };
                Some(arm(at, me))
            }
            _ => None,
        };
        let old = core::mem::replace(&mut self.state.lock().armed, armed);
        drop(old);
    }

    fn send(&self, signal: i32) -> Result<Sent> {
        let Some(me) = self.me.upgrade() else { return Ok(Sent::Ignored) };
        let info = SigInfo::timer(signal, self.id, self.event.value);
        let entry = Queued::of_timer(info, me);
        match &self.event.thread {
            Some(thread) => match thread.upgrade() {
                Some(task) => send::to_thread(&task, entry),
                None => Ok(Sent::Ignored),
            },
            None => match self.process.upgrade() {
                Some(process) if matches!(self.clock, Clock::Cpu(_)) => {
                    cpu_timer::send(&process, entry)
                }
                Some(process) => send::to_process(&process, entry),
                None => Ok(Sent::Ignored),
            },
        }
    }

    fn remaining(&self) -> Setting {
        let now = self.now();
        let mut state = self.state.lock();
        let silent = self.event.signal.is_none();
        if state.interval > 0 && (state.pending || silent) {
            let passed = state.forward(now);
            state.passed += passed;
        }
        let value = match state.next {
            None => 0,
            Some(next) if next > now => next - now,
            Some(_) if silent => 0,
            // A single expiration whose signal is under way is over.
            Some(_) if state.interval == 0 && state.pending => 0,
            Some(_) => 1,
        };
        Setting { value, interval: state.interval }
    }

    fn set(&self, absolute: bool, new: Setting) -> Setting {
        let old = self.remaining();
        let now = self.now();
        {
            let mut state = self.state.lock();
            state.next = match new.value {
                0 => None,
                value if absolute => Some(value),
                value => Some(now.saturating_add(value)),
            };
            state.interval = new.interval;
            state.pending = false;
            state.passed = 0;
            state.overrun = 0;
        }
        self.rearm();
        old
    }
}

impl Notify for Timer {
    fn notify(&self) {
        let now = self.now();
        let due = {
            let state = self.state.lock();
            !state.pending && state.next.is_some_and(|next| next <= now)
        };
        if !due {
            // It was set anew, or processor time runs slower than the clock.
            if !self.state.lock().pending {
                self.rearm();
            }
            return;
        }
        let Some(signal) = self.event.signal else { return };
        self.state.lock().pending = true;
        match self.send(signal) {
            Ok(Sent::Pending | Sent::Merged) => {}
            Ok(Sent::Ignored) | Err(_) => {
                let mut state = self.state.lock();
                state.pending = false;
                // Nobody takes it, so it goes on by itself.
                state.forward(now);
                drop(state);
                self.rearm();
            }
        }
    }
}

impl pending::Timer for Timer {
    fn taken(&self, info: &mut SigInfo) {
        let now = self.now();
        let overrun = {
            let mut state = self.state.lock();
            if !core::mem::take(&mut state.pending) {
                return;
            }
            let passed = core::mem::take(&mut state.passed) + state.forward(now);
            state.overrun = passed.saturating_sub(1);
            state.overrun
        };
        info.set_overrun(overrun.min(i32::MAX as u64) as i32);
        self.rearm();
    }
}

fn own(id: i32) -> Result<Arc<Timer>> {
    let process = &current().process;
    process.timers.posix.by_id.lock().1.get(&id).cloned().ok_or(Errno::EINVAL)
}

/// timer_create(2): its id. EAGAIN when there are too many. `event` gets the id, which is the value
/// of a timer made without an event.
pub fn create(clock: Clock, event: impl FnOnce(i32) -> Event) -> Result<i32> {
    let task = current();
    let process = &task.process;
    let most = process.soft_limit(limit::SIGPENDING);
    let account = task.credentials().user.queue(most).ok_or(Errno::EAGAIN)?;
    let mut timers = process.timers.posix.by_id.lock();
    let id = timers.0;
    timers.0 = if id == i32::MAX { 0 } else { id + 1 };
    if timers.1.contains_key(&id) {
        return Err(Errno::EAGAIN);
    }
    ready_arc::<Timer>()?;
    timers.1.room_for_one()?;
    let timer = Arc::new_cyclic(|me| Timer {
        me: me.clone(),
        id,
        clock,
        process: Arc::downgrade(process),
        event: event(id),
        _account: account,
        state: SpinLock::new(State::default()),
    });
    timers.1.insert(id, timer);
    Ok(id)
}

/// timer_settime(2): the former setting. EINVAL without such a timer.
pub fn set(id: i32, absolute: bool, new: Setting) -> Result<Setting> {
    Ok(own(id)?.set(absolute, new))
}

/// timer_gettime(2).
pub fn get(id: i32) -> Result<Setting> {
    Ok(own(id)?.remaining())
}

/// timer_getoverrun(2).
pub fn overrun(id: i32) -> Result<i32> {
    let timer = own(id)?;
    let overrun = timer.state.lock().overrun;
    Ok(overrun.min(i32::MAX as u64) as i32)
}

fn stop(timer: &Timer) {
    let old = {
        let mut state = timer.state.lock();
        state.next = None;
        state.interval = 0;
        state.pending = false;
        state.armed.take()
    };
    drop(old);
}

/// timer_delete(2).
pub fn delete(id: i32) -> Result<()> {
    let process = &current().process;
    let timer = process.timers.posix.by_id.lock().1.remove(&id).ok_or(Errno::EINVAL)?;
    stop(&timer);
    Ok(())
}

/// exec or the end of the process: all timers go.
pub fn forget(process: &Process) {
    let all = core::mem::take(&mut process.timers.posix.by_id.lock().1);
    for timer in all.values() {
        stop(timer);
    }
}

/// The wall clock was set: its timers look again.
pub fn clock_was_set() {
    for process in table::processes() {
        let mut next = 0;
        loop {
            let timers = &process.timers.posix.by_id;
            let found =
                timers.lock().1.range(next..).next().map(|(&id, timer)| (id, timer.clone()));
            let Some((id, timer)) = found else { break };
            next = id.saturating_add(1);
            if matches!(timer.clock, Clock::Wall { .. }) && !timer.state.lock().pending {
                timer.rearm();
            }
            if id == i32::MAX {
                break;
            }
        }
    }
}
