//! The local APIC: identity, end of interrupt, inter-processor interrupts, the one-shot timer.

use super::cpu::{features, rdmsr, wrmsr};
use super::percpu::CpuLocal;
use super::trap::vector;
use crate::{PhysAddr, phys};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BASE_MSR: u32 = 0x1b;
const X2APIC_MSR: u32 = 0x800;
const XAPIC: u64 = 0xfee0_0000;

const REG_ID: u32 = 0x2;
const REG_EOI: u32 = 0xb;
const REG_SPURIOUS: u32 = 0xf;
const REG_ESR: u32 = 0x28;
const REG_ICR: u32 = 0x30;
const REG_ICR_HIGH: u32 = 0x31;
const REG_TIMER: u32 = 0x32;
const REG_LINT0: u32 = 0x35;
const REG_LINT1: u32 = 0x36;
const REG_ERROR: u32 = 0x37;
const REG_TIMER_INIT: u32 = 0x38;
const REG_TIMER_NOW: u32 = 0x39;
const REG_TIMER_DIVIDE: u32 = 0x3e;
const REG_PERF: u32 = 0x34;

static X2APIC: AtomicBool = AtomicBool::new(false);
/// Ticks of the APIC timer per 2^32 nanoseconds; 0 means TSC deadline.
static TIMER_SCALE: AtomicU64 = AtomicU64::new(0);
static DEADLINE: AtomicBool = AtomicBool::new(false);

fn read(reg: u32) -> u32 {
    if X2APIC.load(Ordering::Relaxed) {
        rdmsr(X2APIC_MSR + reg) as u32
    } else {
        // SAFETY: the page is mapped uncached at boot.
        unsafe { phys::ptr::<u32>(PhysAddr::new(XAPIC + u64::from(reg) * 16)).read_volatile() }
    }
}

fn write(reg: u32, value: u32) {
    // SAFETY: APIC registers do not touch memory; the callers below write documented values.
    unsafe {
        if X2APIC.load(Ordering::Relaxed) {
            wrmsr(X2APIC_MSR + reg, u64::from(value));
        } else {
            phys::ptr::<u32>(PhysAddr::new(XAPIC + u64::from(reg) * 16)).write_volatile(value);
        }
    }
}

/// Turns this CPU's APIC on: x2APIC where the boot CPU has it.
pub fn init() {
    let mut base = rdmsr(BASE_MSR) | 1 << 11;
    if features().x2apic() {
        base |= 1 << 10;
        X2APIC.store(true, Ordering::Relaxed);
    }
    // SAFETY: enables the APIC at its present address.
    unsafe { wrmsr(BASE_MSR, base) };
    write(REG_SPURIOUS, 0x100 | vector::SPURIOUS as u32);
    write(REG_LINT0, 1 << 16);
    // The machine's own NMI (a button, a host's request): one CPU is to hear of it, the first.
    let is_first = base & 1 << 8 != 0;
    write(REG_LINT1, if is_first { 4 << 8 } else { 1 << 16 });
    write(REG_PERF, 1 << 16);
    write(REG_ERROR, vector::ERROR as u32);
    write(REG_ESR, 0);
    write(REG_TIMER_DIVIDE, 0xb);
    let mode = if DEADLINE.load(Ordering::Relaxed) { 2 << 17 } else { 0 };
    write(REG_TIMER, vector::TIMER as u32 | mode);
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    let id = read(REG_ID);
    if X2APIC.load(Ordering::Relaxed) { id } else { id >> 24 }
}

/// True when the xAPIC's page must be mapped.
pub fn needs_mmio() -> bool {
    !features().x2apic()
}

/// Ends the interrupt being served.
#[inline]
pub fn end_of_interrupt() {
    write(REG_EOI, 0);
}

fn send(apic_id: u32, low: u32) {
    // Writes before the interrupt are visible to its handler: x2APIC writes are not serializing.
    core::sync::atomic::fence(Ordering::SeqCst);
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: x2APIC's fence-free 64-bit ICR; `low` is a documented delivery command.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack));
            wrmsr(X2APIC_MSR + REG_ICR, u64::from(apic_id) << 32 | u64::from(low));
        }
    } else {
        let _irq = crate::irq::IrqOff::new();
        while read(REG_ICR) & 1 << 12 != 0 {
            core::hint::spin_loop();
        }
        write(REG_ICR_HIGH, apic_id << 24);
        write(REG_ICR, low);
    }
}

/// What a CPU may ask of another; several requests of one kind coalesce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Ipi {
    /// Switch tasks.
    Reschedule = 0,
    Flush = 1,
    Call = 2,
    Stop = 3,
    /// A CPU to itself: performance events have readers to wake.
    Perf = 4,
    /// The run queue changed, or a signal came: look again, on the way back to user mode too.
    Look = 5,
}

/// Asks `target` for `what`. The request is a bit in the target's pending word, so none is lost
/// when interrupts merge; the interrupt is sent only when the word was empty.
pub fn send_ipi(target: &CpuLocal, what: Ipi) {
    if target.ipi_pending.ask(what as u64) {
        send(target.apic_id, vector::IPI as u32);
    }
}

/// Takes this CPU's pending requests, as bits by [`Ipi`].
pub fn take_ipis() -> u64 {
    // SAFETY: an atomic field of this CPU's data.
    unsafe { (*super::percpu::local()).ipi_pending.take() }
}

/// Lets the counters of this CPU's performance monitoring unit interrupt. Their interrupt masks
/// itself, so this is to be said again after each.
pub fn allow_counter_interrupt() {
    write(REG_PERF, vector::COUNTER as u32);
}

/// The interrupt of a counter, as if this CPU's unit had raised it.
pub fn raise_counter_interrupt() {
    // SAFETY: a field of this CPU's data that never changes.
    let apic_id = unsafe { (*super::percpu::local()).apic_id };
    send(apic_id, vector::COUNTER as u32);
}

/// INIT to one CPU.
pub fn send_init(apic_id: u32) {
    send(apic_id, 0x4500);
}

/// Start-up at physical page `page` to one CPU.
pub fn send_startup(apic_id: u32, page: u8) {
    send(apic_id, 0x4600 | u32::from(page));
}

/// NMI to one CPU (to see where it hangs).
pub fn send_nmi(apic_id: u32) {
    send(apic_id, 0x4400);
}

/// Chooses the timer: TSC deadline where present, else the APIC's counter at `ticks` per
/// `nanoseconds` (measured between [`start_measuring`] and [`stop_measuring`]).
pub fn set_timer_source(deadline: bool, ticks: u64, nanoseconds: u64) {
    DEADLINE.store(deadline, Ordering::Relaxed);
    if !deadline {
        TIMER_SCALE.store(((ticks << 32) / nanoseconds.max(1)).max(1), Ordering::Relaxed);
    }
    let mode = if deadline { 2 << 17 } else { 0 };
    write(REG_TIMER, vector::TIMER as u32 | mode);
}

/// Lets the counter run from its top.
pub fn start_measuring() {
    write(REG_TIMER, 1 << 16 | vector::TIMER as u32);
    write(REG_TIMER_INIT, u32::MAX);
}

/// Ticks that are left: the counter runs down.
pub fn left() -> u32 {
    read(REG_TIMER_NOW)
}

/// Stops the counter.
pub fn stop_measuring() {
    write(REG_TIMER_INIT, 0);
}

/// Programs this CPU's next timer interrupt: at `tsc` by the time-stamp counter, `delta_ns` from
/// now. A deadline in the past fires at once.
pub fn arm_timer(tsc: u64, delta_ns: u64) {
    if DEADLINE.load(Ordering::Relaxed) {
        // SAFETY: IA32_TSC_DEADLINE exists where this source was chosen.
        unsafe { wrmsr(0x6e0, tsc.max(1)) };
    } else {
        let scale = u128::from(TIMER_SCALE.load(Ordering::Relaxed));
        let ticks = ((u128::from(delta_ns) * scale) >> 32).clamp(1, u128::from(u32::MAX));
        write(REG_TIMER_INIT, ticks as u32);
    }
}

/// No timer interrupt until the next [`arm_timer`].
pub fn disarm_timer() {
    if DEADLINE.load(Ordering::Relaxed) {
        // SAFETY: as in `arm_timer`; zero disarms.
        unsafe { wrmsr(0x6e0, 0) };
    } else {
        write(REG_TIMER_INIT, 0);
    }
}
