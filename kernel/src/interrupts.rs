//! Interrupts: who handles which, how often they came, and calls on other CPUs.

use core::sync::atomic::{AtomicU64, Ordering};
use hal::apic::Ipi;
use hal::{cpu_area, percpu};
use numa::{CpuId, CpuMask, MAX_CPUS};
use sync::Once;
use sync::call::CallSlot;

/// Interrupts of one CPU by kind (as /proc/interrupts shows them).
#[derive(Default)]
#[repr(align(64))]
pub struct Counts {
    pub timer: AtomicU64,
    pub flush: AtomicU64,
    pub reschedule: AtomicU64,
    pub call: AtomicU64,
    /// Overflows of performance counters.
    pub counter: AtomicU64,
    /// Of devices, by ISA line.
    pub lines: [AtomicU64; LINES],
    /// Page faults.
    pub faults: AtomicU64,
}

/// ISA interrupt lines.
pub const LINES: usize = 16;

static COUNTS: [Counts; MAX_CPUS] = [const {
    Counts {
        timer: AtomicU64::new(0),
        flush: AtomicU64::new(0),
        reschedule: AtomicU64::new(0),
        call: AtomicU64::new(0),
        counter: AtomicU64::new(0),
        lines: [const { AtomicU64::new(0) }; LINES],
        faults: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// A CPU's counts.
pub fn counts(cpu: CpuId) -> &'static Counts {
    &COUNTS[cpu.index()]
}

fn bump(pick: impl Fn(&Counts) -> &AtomicU64) {
    pick(counts(percpu::cpu())).fetch_add(1, Ordering::Relaxed);
}

pub fn count_timer() {
    bump(|c| &c.timer);
}
pub fn count_flush() {
    bump(|c| &c.flush);
}
pub fn count_reschedule() {
    bump(|c| &c.reschedule);
}
pub fn count_call() {
    bump(|c| &c.call);
}
pub fn count_counter() {
    bump(|c| &c.counter);
}
pub fn count_fault() {
    bump(|c| &c.faults);
}

/// A device's handler: called with interrupts off.
type Handler = fn();

static DEVICES: [Once<Handler>; LINES] = [const { Once::new() }; LINES];
/// First vector of the ISA interrupts.
pub const ISA: u8 = 32;

/// Registers the handler of an ISA interrupt.
pub fn register(irq: u8, handler: Handler) {
    DEVICES[irq as usize].get_or_init(|| handler);
}

/// The device behind an ISA interrupt that has a handler.
pub fn device_name(irq: usize) -> Option<&'static str> {
    DEVICES.get(irq)?.get()?;
    Some(match irq {
        3 => "ttyS1",
        4 => "ttyS0",
        11 => "virtio",
        _ => "device",
    })
}

/// A device's interrupt arrived.
pub fn device(vector: u8) {
    let Some(irq) = vector.checked_sub(ISA).map(usize::from).filter(|&irq| irq < LINES) else {
        return;
    };
    bump(|c| &c.lines[irq]);
    if let Some(handler) = DEVICES[irq].get() {
        handler();
    }
}

/// A function and its argument.
type Job = (fn(u64), u64);

#[repr(align(64))]
struct CallSlots(CallSlot<Job, { CpuMask::WORDS }>);

static CALLS: [CallSlots; MAX_CPUS] = [const { CallSlots(CallSlot::new()) }; MAX_CPUS];

/// Runs `run(arg)` on every CPU of `cpus` that is online, in interrupt context there, and returns
/// when all have. Any number of CPUs call at a time. Not with spinning locks held, and with
/// interrupts on: this CPU serves others while it waits.
pub fn call_on(cpus: CpuMask, run: fn(u64), arg: u64) {
    assert!(hal::irq::enabled(), "a call with interrupts off could not serve others");
    let cpus = cpus & crate::boot::cpus::online();
    let _stay = hal::preempt::PreemptGuard::new();
    let me = percpu::cpu();
    let slot = &CALLS[me.index()].0;
    slot.post((run, arg), cpus.count());
    for cpu in cpus.without(me).iter() {
        CALLS[cpu.index()].0.ring(me.index());
        if let Some(area) = cpu_area::of(cpu) {
            hal::apic::send_ipi(area, Ipi::Call);
        }
    }
    if cpus.contains(me) {
        let _irq = hal::irq::IrqOff::new();
        run(arg);
        slot.done_by_one();
    }
    while !slot.is_done() {
        core::hint::spin_loop();
    }
}

/// Runs what other CPUs asked of this one.
pub fn run_calls() {
    CALLS[percpu::cpu().index()].0.serve(|caller| &CALLS[caller].0, |(run, arg)| run(arg));
}

/// Routes the ISA interrupts that have a device to the boot CPU.
pub fn route(firmware: &hal::firmware::Description, irqs: &[u8]) {
    hal::ioapic::silence_pic();
    for &irq in irqs {
        let over = firmware.overrides.iter().find(|o| o.isa == irq);
        let gsi = over.map_or(u32::from(irq), |o| o.gsi);
        let (level, low) = over.map_or((false, false), |o| (o.level, o.active_low));
        let chip =
            firmware.io_apics.iter().filter(|a| a.gsi_base <= gsi).max_by_key(|a| a.gsi_base);
        if let Some(chip) = chip {
            let chip = hal::ioapic::IoApic::new(hal::PhysAddr::new(chip.address), chip.gsi_base);
            chip.route(gsi, ISA + irq, firmware.apic_ids[0], level, low);
        }
    }
}
