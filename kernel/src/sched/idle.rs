//! What a CPU does when there is nothing to do.

use core::sync::atomic::Ordering;
use hal::percpu;

/// The idle task's life. Interrupts come only while it waits.
pub fn run() -> ! {
    loop {
        hal::irq::disable();
        if !percpu::preempt_state().1 {
            let began = hal::time::now();
            hal::cpu::idle_wait();
            if let Some(here) = super::cpu(percpu::cpu()) {
                here.idle_time.fetch_add(hal::time::now() - began, Ordering::Relaxed);
            }
        }
        hal::irq::allow();
        crate::exit::put_delayed_tasks();
        if percpu::preempt_state().1 {
            super::schedule();
        }
    }
}
