//! Clocks: the TSC as the only clock source, calibrated once; the wall clock's start from CMOS.

use super::apic;
use super::cpu::{cpuid, features, rdtsc};
use super::power::{inb, inl, outb};
use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds = cycles x MULT >> SHIFT.
pub const SHIFT: u32 = 32;
static MULT: AtomicU64 = AtomicU64::new(1 << SHIFT);
static INVERSE: AtomicU64 = AtomicU64::new(1 << SHIFT);
static BASE: AtomicU64 = AtomicU64::new(0);
/// Wall-clock nanoseconds at monotonic 0.
static WALL: AtomicU64 = AtomicU64::new(0);

const PM_TIMER_HZ: u64 = 3_579_545;

/// The clock's parameters, for the vDSO: TSC at monotonic 0, multiplier, wall clock at 0.
pub fn parameters() -> (u64, u64, u64) {
    (BASE.load(Ordering::Relaxed), MULT.load(Ordering::Relaxed), WALL.load(Ordering::Relaxed))
}

/// Nanoseconds since boot.
#[inline]
pub fn now() -> u64 {
    let cycles = rdtsc().wrapping_sub(BASE.load(Ordering::Relaxed));
    // A CPU whose TSC is a little behind must not see a huge value.
    if cycles as i64 <= 0 {
        return 0;
    }
    ((u128::from(cycles) * u128::from(MULT.load(Ordering::Relaxed))) >> SHIFT) as u64
}

/// The TSC value at `ns` since boot.
#[inline]
pub fn tsc_at(ns: u64) -> u64 {
    let cycles = (u128::from(ns) * u128::from(INVERSE.load(Ordering::Relaxed))) >> SHIFT;
    BASE.load(Ordering::Relaxed).wrapping_add(cycles as u64)
}

/// Wall-clock nanoseconds since 1970 at monotonic 0.
pub fn wall_base() -> u64 {
    WALL.load(Ordering::Relaxed)
}

/// Sets the wall clock.
pub fn set_wall_base(ns: u64) {
    WALL.store(ns, Ordering::Relaxed);
}

/// TSC frequency in Hz.
pub fn tsc_hz() -> u64 {
    ((1_000_000_000u128 << SHIFT) / u128::from(MULT.load(Ordering::Relaxed))) as u64
}

fn set_frequency(cycles: u64, ns: u64) {
    MULT.store(((u128::from(ns) << SHIFT) / u128::from(cycles.max(1))) as u64, Ordering::Relaxed);
    INVERSE
        .store(((u128::from(cycles) << SHIFT) / u128::from(ns.max(1))) as u64, Ordering::Relaxed);
}

/// A reference clock: reads a counter; ticks per second; bits that count.
struct Reference<'a> {
    read: &'a dyn Fn() -> u32,
    hz: u64,
    mask: u32,
}

impl Reference<'_> {
    /// The counter and the TSC at nearly the same moment: the tightest of a few tries.
    fn sample(&self) -> (u32, u64) {
        let mut best = (0, 0, u64::MAX);
        for _ in 0..5 {
            let before = rdtsc();
            let ticks = (self.read)();
            let after = rdtsc();
            if after - before < best.2 {
                best = (ticks, before + (after - before) / 2, after - before);
            }
        }
        (best.0, best.1)
    }
}

/// Calibrates the TSC and this CPU's APIC timer. `pm_timer` is the ACPI timer's I/O port.
///
/// Where CPUID names the TSC's frequency nothing is waited for; else both are measured together
/// over 2 ms against the ACPI timer, or the PIT.
pub fn calibrate(pm_timer: Option<u16>) {
    BASE.store(rdtsc(), Ordering::Relaxed);
    let leaf = if cpuid(0, 0)[0] >= 0x15 { cpuid(0x15, 0) } else { [0; 4] };
    let known = (leaf[0] > 0 && leaf[1] > 0 && leaf[2] > 0)
        .then(|| u64::from(leaf[2]) * u64::from(leaf[1]) / u64::from(leaf[0]));
    if let (Some(hz), true) = (known, features().tsc_deadline()) {
        set_frequency(hz, 1_000_000_000);
        apic::set_timer_source(true, 0, 1);
    } else {
        let pm_read = |port: u16| inl(port);
        let pit_read = || {
            outb(0x43, 0);
            let low = inb(0x40);
            0xffff - (u32::from(inb(0x40)) << 8 | u32::from(low))
        };
        let (cycles, ticks, ns) = match pm_timer {
            Some(port) => {
                measure(&Reference { read: &|| pm_read(port), hz: PM_TIMER_HZ, mask: 0xff_ffff })
            }
            None => {
                // Channel 0, mode 2, from the top.
                outb(0x43, 0x34);
                outb(0x40, 0);
                outb(0x40, 0);
                measure(&Reference { read: &pit_read, hz: 1_193_182, mask: 0xffff })
            }
        };
        set_frequency(cycles, ns);
        apic::set_timer_source(features().tsc_deadline(), ticks, ns);
    }
    WALL.store(cmos_seconds() * 1_000_000_000, Ordering::Relaxed);
}

/// TSC cycles, APIC ticks and nanoseconds over about 2 ms.
fn measure(reference: &Reference<'_>) -> (u64, u64, u64) {
    let goal = (reference.hz / 500) as u32;
    apic::start_measuring();
    let (ticks0, tsc0) = reference.sample();
    loop {
        let passed = (reference.read)().wrapping_sub(ticks0) & reference.mask;
        if passed >= goal {
            break;
        }
        core::hint::spin_loop();
    }
    let (ticks1, tsc1) = reference.sample();
    let apic_ticks = apic::stop_measuring();
    let apic_tsc = rdtsc();
    let passed = u64::from(ticks1.wrapping_sub(ticks0) & reference.mask);
    let ns = passed * 1_000_000_000 / reference.hz;
    let cycles = tsc1 - tsc0;
    // The APIC counter ran a little longer than the reference window: scale by the TSC.
    let longer = apic_tsc - tsc0;
    let ticks = (u128::from(apic_ticks) * u128::from(cycles) / u128::from(longer.max(1))) as u64;
    (cycles, ticks, ns)
}

/// Waits `ns` nanoseconds with PAUSE (hardware waits at boot only).
pub fn spin_ns(ns: u64) {
    let end = now() + ns;
    while now() < end {
        core::hint::spin_loop();
    }
}

fn cmos(reg: u8) -> u8 {
    outb(0x70, reg);
    inb(0x71)
}

/// Seconds since 1970 by the CMOS clock (UTC), read twice until it holds still.
fn cmos_seconds() -> u64 {
    let read = || {
        while cmos(0x0a) & 0x80 != 0 {
            core::hint::spin_loop();
        }
        [0u8, 2, 4, 7, 8, 9].map(cmos)
    };
    let mut fields = read();
    loop {
        let again = read();
        if again == fields {
            break;
        }
        fields = again;
    }
    let status = cmos(0x0b);
    let value = |v: u8| if status & 4 != 0 { v } else { (v >> 4) * 10 + (v & 15) };
    let pm = fields[2] & 0x80 != 0 && status & 2 == 0;
    let mut hour = u64::from(value(fields[2] & 0x7f));
    if status & 2 == 0 {
        hour = hour % 12 + if pm { 12 } else { 0 };
    }
    let (y, m, d) = (
        2000 + u64::from(value(fields[5])),
        u64::from(value(fields[4])).clamp(1, 12),
        u64::from(value(fields[3])),
    );
    // Days from civil date: years begin in March so that leap days come last.
    let (y2, m2) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    let days = y2 * 365 + y2 / 4 - y2 / 100 + y2 / 400 + (m2 * 306 + 5) / 10 + d - 1 - 719_468;
    ((days * 24 + hour) * 60 + u64::from(value(fields[1]))) * 60 + u64::from(value(fields[0]))
}
