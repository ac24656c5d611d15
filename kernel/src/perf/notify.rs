//! Telling readers: poll(2) and signals, from wherever an event happened.
//!
//! The scheduler's own locks may be held there, so nobody is woken at once: the event goes on this
//! CPU's list, and the CPU interrupts itself. Signals are sent by the kernel's worker.

use super::buffer::Buffer;
use super::event::Event;
use crate::signal::SigInfo;
use crate::task::table;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use hal::apic::Ipi;
use numa::MAX_CPUS;
use sync::{IrqLock, Notify};

/// POLL_IN: there is something to read.
pub const IN: i32 = 1;
/// POLL_HUP: the event was disabled.
pub const HUP: i32 = 6;
/// SIGIO.
const SIGIO: i32 = 29;

static PENDING: [IrqLock<Vec<Arc<Event>>>; MAX_CPUS] =
    [const { IrqLock::new(Vec::new()) }; MAX_CPUS];

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
    let events = core::mem::take(&mut *PENDING[hal::percpu::cpu().index()].lock());
    for event in events {
        event.queued.store(false, Relaxed);
        event.waiters.wake_all();
        if let Some(buffer) = event.output() {
            buffer.waiters.wake_all();
        }
        let wants = event.file.lock().upgrade();
        let asynchronous = wants.as_ref().is_some_and(|f| f.flags() & fs::oflag::O_ASYNC != 0);
        if asynchronous {
            crate::time::worker::push_notify(event.clone());
        } else {
            event.pending.store(0, Relaxed);
        }
        // The last reference to a file must not go in an interrupt.
        if let Some(file) = wants {
            crate::time::worker::push_notify(Arc::new(Holder(IrqLock::new(Some(file)))));
        }
    }
}

/// Keeps a file until the worker has it.
struct Holder(IrqLock<Option<Arc<fs::File>>>);

impl Notify for Holder {
    fn notify(&self) {
        let file = self.0.lock().take();
        drop(file);
    }
}

impl Notify for Event {
    /// Sends the signal (in the worker).
    fn notify(&self) {
        let why = self.pending.swap(0, Relaxed);
        if why == 0 {
            // It was said already: something happened between the interrupt and the worker.
            return;
        }
        let Some(file) = self.file.lock().upgrade() else { return };
        let owner = file.owner().load(Relaxed) as i32;
        let wanted = file.signal().load(Relaxed) as i32;
        let info = if wanted == 0 {
            SigInfo::kernel(SIGIO)
        } else {
            SigInfo::ready(wanted, why, self.fd.load(Relaxed))
        };
        // A queue that is full loses the signal, as on Linux; an owner that is gone wants none.
        if owner > 0 {
            if let Some(task) = table::task(owner) {
                let _ = crate::signal::send::to_thread(&task, info.into());
            }
        } else {
            for process in table::group(-owner) {
                let _ = crate::signal::send::to_process(&process, info.into());
            }
        }
    }
}
