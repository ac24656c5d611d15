//! What a CPU has to load for a task beside its registers: for tracees only.

use crate::task::Task;
use core::sync::atomic::Ordering;
use hal::user::USER_END;

/// System calls enter by the way of tracees.
pub const CALLS: u32 = 1;
/// Debug registers are in use.
pub const DEBUG: u32 = 2;

/// Has `task`, which sleeps, enter system calls by the way of tracees, or no more. One that runs
/// changes its way at its next switch.
pub fn set_calls(task: &Task, traced: bool) {
    if traced {
        task.trace.special.fetch_or(CALLS, Ordering::Relaxed);
    } else {
        task.trace.special.fetch_and(!CALLS, Ordering::Relaxed);
    }
}

/// `task`, which sleeps or is the running one, has other debug registers from its next switch on.
pub fn arm(task: &Task, registers: &ptrace::debug::Registers) {
    let (addrs, control) = registers.loaded();
    for (armed, value) in task.trace.armed.iter().zip(addrs.into_iter().chain([control])) {
        armed.store(value, Ordering::Relaxed);
    }
    if registers.is_active() {
        task.trace.special.fetch_or(DEBUG, Ordering::Release);
    } else {
        task.trace.special.fetch_and(!DEBUG, Ordering::Release);
    }
}

/// Loads what `next` needs on this CPU, which has `loaded`; what it has then. Interrupts are off.
#[cold]
pub fn load(next: &Task, loaded: u32) -> u32 {
    let wanted = next.trace.special.load(Ordering::Acquire);
    if (wanted ^ loaded) & CALLS != 0 {
        hal::syscall::set_traced(wanted & CALLS != 0);
    }
    if wanted & DEBUG != 0 {
        let mut values = [0; 5];
        for (value, armed) in values.iter_mut().zip(&next.trace.armed) {
            *value = armed.load(Ordering::Relaxed);
        }
        let [a, b, c, d, control] = values;
        hal::debug::load([a, b, c, d].map(|addr| addr.min(USER_END)), control);
    } else if loaded & DEBUG != 0 {
        hal::debug::unload();
    }
    wanted
}
