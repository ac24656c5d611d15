//! /proc/interrupts and softirqs.

use super::put;
use crate::interrupts::{Counts, LINES, counts};
use abi::Result;
use core::sync::atomic::{AtomicU64, Ordering};
use fs::pseudo::Text;

fn header(out: &mut Text) {
    for cpu in crate::boot::cpus::online().iter() {
        put!(out, "CPU{:<8}", cpu.index());
    }
    out.bytes(b"\n");
}

fn row(out: &mut Text, name: &str, pick: impl Fn(&Counts) -> &AtomicU64, what: &str) {
    put!(out, "{name:>3}:");
    for cpu in crate::boot::cpus::online().iter() {
        put!(out, " {:>10}", pick(counts(cpu)).load(Ordering::Relaxed));
    }
    put!(out, "   {what}\n");
}

/// Lines of devices that have a driver or ever fired, then what CPUs send each other.
pub fn interrupts(out: &mut Text) -> Result<()> {
    out.bytes(b"           ");
    header(out);
    for irq in 0..LINES {
        let Some(device) = crate::interrupts::device_name(irq) else { continue };
        let is_message = irq == usize::from(crate::shares::LINE);
        let chip = if is_message { "PCI-MSI" } else { "IO-APIC" };
        let what = alloc::format!("{chip} {irq:>3}-edge      {device}");
        row(out, &alloc::format!("{irq}"), |c| &c.lines[irq], &what);
    }
    row(out, "LOC", |c| &c.timer, "Local timer interrupts");
    row(out, "PMI", |c| &c.counter, "Performance monitoring interrupts");
    row(out, "RES", |c| &c.reschedule, "Rescheduling interrupts");
    row(out, "CAL", |c| &c.call, "Function call interrupts");
    row(out, "TLB", |c| &c.flush, "TLB shootdowns");
    Ok(())
}

/// Deferred interrupts do not exist: the header alone.
pub fn softirqs(out: &mut Text) -> Result<()> {
    out.bytes(b"                    ");
    header(out);
    Ok(())
}
