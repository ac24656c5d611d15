//! Chooses the thread that a timer of a process's processor time signals: the one that runs.
//!
//! On Linux the tick that finds such a timer expired has interrupted a thread of the process, and
//! that thread takes the signal; profilers live by it. Here a worker finds it, so the thread is told
//! from what each has used since it was last chosen. Over many expirations each thread that runs is
//! chosen in proportion to its time.

use crate::signal::pending::Queued;
use crate::signal::send::{self, Sent};
use crate::task::{Process, State, TaskRef, usage_of_task};
use abi::Result;
use core::sync::atomic::Ordering;

/// Processor time is looked at no more often than this, ns.
pub const LOOK: u64 = 200_000;

/// Sends the signal of a timer that counts the processor time of `process`.
pub fn send(process: &Process, entry: Queued) -> Result<Sent> {
    let running = running_thread(process, entry.signal());
    send::to_process_by(process, running.as_ref(), entry)
}

/// The thread with the most time since it was last chosen, of those that would take the signal; one
/// that sleeps only where none runs.
fn running_thread(process: &Process, signal: i32) -> Option<TaskRef> {
    let place = process.place.lock();
    let used = |thread: &TaskRef| {
        let used = usage_of_task(thread);
        used.user + used.system
    };
    let chosen = place.threads.iter().filter(|t| send::takes(t, signal)).max_by_key(|t| {
        let since = used(t).saturating_sub(t.counters.chosen_at.load(Ordering::Relaxed));
        (t.run_state.state() == State::Runnable, since)
    })?;
    chosen.counters.chosen_at.store(used(chosen), Ordering::Relaxed);
    Some(chosen.clone())
}
