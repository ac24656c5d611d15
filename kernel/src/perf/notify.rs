//! Telling readers: poll(2) and signals, from wherever an event happened.
//!
//! The scheduler's own locks may be held there, so nobody is woken at once: the event goes on this
//! CPU's list, and the CPU interrupts itself. Signals are sent by the kernel's worker.

use super::buffer::Buffer;
use super::event::{Event, Pending};
use crate::chain::Chain;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use fs::fasync::Band;
use hal::apic::Ipi;
use numa::MAX_CPUS;
use sync::{IrqLock, Notify};

/// POLL_IN: there is something to read.
pub const IN: i32 = Band::In as i32;
/// POLL_HUP: the event was disabled.
pub const HUP: i32 = Band::Hup as i32;

static PENDING: [IrqLock<Chain<Event, Pending>>; MAX_CPUS] =
    [const { IrqLock::new(Chain::new()) }; MAX_CPUS];

/// Readers of `buffer` have something to read; `event` filled it.
pub fn wake(event: &Arc<Event>, buffer: &Buffer) {
    buffer.set_ready();
    signal(event.parent.as_ref().unwrap_or(event), IN);
}

/// Something happened to an event that its owner may want a signal for.
pub fn signal(event: &Arc<Event>, why: i32) {
    event.pending.fetch_max(why, Relaxed);
    if event.queued.swap(true, AcqRel) {
        return;
    }
    let cpu = hal::percpu::cpu();
    PENDING[cpu.index()].lock().push(event.clone());
    if let Some(area) = hal::cpu_area::of(cpu) {
        hal::apic::send_ipi(area, Ipi::Perf);
    }
}

/// The interrupt that this CPU sent to itself.
pub fn on_interrupt() {
    let mut events = PENDING[hal::percpu::cpu().index()].lock().take();
    while let Some(event) = events.pop() {
        event.queued.store(false, Release);
        event.waiters.wake_all();
        if let Some(buffer) = event.output() {
            buffer.waiters.wake_all();
        }
        if event.fasync.is_armed() {
            if !event.telling.swap(true, AcqRel) {
                crate::time::worker::push_event(event);
            }
        } else {
            event.pending.store(0, Relaxed);
        }
    }
}

impl Notify for Event {
    /// Sends the signal (in the worker).
    fn notify(&self) {
        self.telling.store(false, Release);
        let why = self.pending.swap(0, Relaxed);
        if why == 0 {
            // It was said already: something happened between the interrupt and the worker.
            return;
        }
        self.fasync.kill(if why == HUP { Band::Hup } else { Band::In });
    }
}
