//! nanosleep(2) and clock_nanosleep(2).

use super::clock::{self, Clock, CpuClock};
use crate::sched::hooks::Hooks;
use crate::task::{Restart, current};
use abi::uapi::Timespec;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::VirtAddr;
use sync::WaitError;
use sync::hooks::Scheduler;

/// Sleeps until `deadline` (monotonic ns) or a signal. The timer may be late by the task's slack
/// (PR_SET_TIMERSLACK; none for real-time tasks), so that even the shortest sleep is one.
pub fn until(deadline: u64) -> core::result::Result<(), WaitError> {
    let slack = current().timer_slack.load(Ordering::Relaxed);
    let alarm = deadline.saturating_add(slack);
    let outcome = loop {
        Hooks.prepare(true);
        if hal::time::now() >= deadline {
            break Ok(());
        }
        if Hooks.interrupted() {
            break Err(WaitError::Interrupted);
        }
        Hooks.park(Some(alarm));
    };
    Hooks.finish();
    outcome
}

/// Sleeps for a relative time, until the monotonic time `end`. A signal stores what is left at
/// `remaining` (if not 0), and without a handler the sleep goes on.
pub fn relative(end: u64, remaining: u64) -> Result<()> {
    if until(end).is_ok() {
        return Ok(());
    }
    let left = end.saturating_sub(hal::time::now());
    if left == 0 {
        return Ok(());
    }
    if remaining != 0 {
        hal::user::write(VirtAddr::new(remaining), &Timespec::from_ns(left))?;
    }
    *current().restart.lock() = Some(Restart::Sleep { until: end, remaining });
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// Sleeps until processor time `end` has been used.
fn until_used(clock: &CpuClock, end: u64) -> Result<u64> {
    /// The clock is looked at no more often than this, ns.
    const LOOK: u64 = 200_000;
    loop {
        let now = clock.now().map_err(|_| Errno::EINVAL)?;
        let Some(left) = end.checked_sub(now).filter(|&left| left > 0) else { return Ok(0) };
        let pause = (left / clock.speed()).max(LOOK);
        if until(hal::time::now().saturating_add(pause)).is_err() {
            return Ok(left);
        }
    }
}

/// clock_nanosleep(2).
pub fn on_clock(clock: &Clock, absolute: bool, time: u64, remaining: u64) -> Result<()> {
    match clock {
        Clock::Cpu(cpu) => {
            let end = if absolute { time } else { cpu.now()?.saturating_add(time) };
            let left = until_used(cpu, end)?;
            if left == 0 {
                return Ok(());
            }
            if absolute {
                return Err(Errno::ERESTARTNOHAND);
            }
            if remaining != 0 {
                hal::user::write(VirtAddr::new(remaining), &Timespec::from_ns(left))?;
            }
            Err(Errno::EINTR)
        }
        _ if !absolute => relative(hal::time::now().saturating_add(time), remaining),
        Clock::Wall { .. } => clock::sleep_until_wall(time).map_err(|_| Errno::ERESTARTNOHAND),
        Clock::Monotonic { .. } => until(time).map_err(|_| Errno::ERESTARTNOHAND),
    }
}
