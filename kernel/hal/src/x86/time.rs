//! Clocks: the TSC, calibrated at boot and refined a second later, and what the clock goes by where the
//! TSC is not to be relied upon; the wall clock's start from CMOS.

use super::cpu::{cpuid, features, rdtsc};
use super::power::{inb, inl, outb};
use super::{apic, hpet, kvmclock, warp};
use crate::clock::{Found, Source};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// Nanoseconds = cycles x multiplier >> SHIFT.
pub const SHIFT: u32 = 32;

/// The line that turns the TSC into nanoseconds.
struct Line {
    /// TSC at monotonic 0.
    base: AtomicU64,
    mult: AtomicU64,
    inverse: AtomicU64,
}

/// The line by the short measurement at boot, and the one by the long measurement that follows. A
/// line is written before it becomes the one in use, and not afterwards.
static LINES: [Line; 2] = [const { Line::new() }; 2];
/// In use where another source than the TSC is: no TSC ever reaches its base, and what is not found by
/// the TSC is asked of [`now_otherwise`]. So the way by the TSC costs nothing more.
static OTHERWISE: Line = Line::new();
/// What the clock goes by, and what is added to its time there.
static SOURCE: AtomicU8 = AtomicU8::new(Source::Tsc as u8);
static OFFSET: AtomicU64 = AtomicU64::new(0);
/// One bit for each [`Source`] that there is.
static OFFERED: AtomicU8 = AtomicU8::new(1);
/// The line that is in use.
static IN_USE: AtomicPtr<Line> = AtomicPtr::new((&raw const LINES).cast_mut().cast());
/// Wall-clock nanoseconds at monotonic 0.
static WALL: AtomicU64 = AtomicU64::new(0);
/// The ACPI timer's port, its counter and the TSC at the beginning of the measurement; port 0: there
/// is nothing to refine by.
static BEGIN: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

const PM_TIMER_HZ: u64 = 3_579_545;
/// 24 bits count on every machine; they wrap after 4.7 s.
const PM_MASK: u32 = 0xff_ffff;

#[inline(always)]
fn line() -> &'static Line {
    // SAFETY: points to one of the two lines, which are there for ever and change by atomics only.
    unsafe { &*IN_USE.load(Ordering::Acquire) }
}

/// The clock as programs read it.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// TSC at monotonic 0.
    pub base: u64,
    /// Nanoseconds are cycles x this >> [`SHIFT`].
    pub mult: u64,
    /// Wall-clock nanoseconds at monotonic 0.
    pub wall: u64,
    /// The clock goes by the TSC, so that programs can read it.
    pub by_tsc: bool,
}

/// The clock's parameters at present.
pub fn parameters() -> Parameters {
    let in_use @ Line { base, mult, .. } = line();
    Parameters {
        base: base.load(Ordering::Relaxed),
        mult: mult.load(Ordering::Relaxed),
        wall: WALL.load(Ordering::Relaxed),
        by_tsc: !core::ptr::eq(in_use, &OTHERWISE),
    }
}

/// The time-stamp counter when the machine began.
pub fn first_tsc() -> u64 {
    LINES[0].base.load(Ordering::Relaxed)
}

/// Nanoseconds since boot.
#[inline]
pub fn now() -> u64 {
    loop {
        let in_use @ Line { base, mult, .. } = line();
        let cycles = rdtsc().wrapping_sub(base.load(Ordering::Relaxed));
        // Another line is in use by now: this one's value may be ahead of it.
        if !core::ptr::eq(IN_USE.load(Ordering::Relaxed), in_use) {
            continue;
        }
        // A CPU whose TSC is a little behind must not see a huge value.
        if cycles as i64 <= 0 {
            return now_otherwise();
        }
        return ((u128::from(cycles) * u128::from(mult.load(Ordering::Relaxed))) >> SHIFT) as u64;
    }
}

/// Nanoseconds since boot where the TSC does not tell.
#[cold]
fn now_otherwise() -> u64 {
    /// The latest that was told by counters that differ.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let offset = OFFSET.load(Ordering::Relaxed);
    match source() {
        Source::KvmClock => kvmclock::now().wrapping_add(offset),
        Source::Hpet => hpet::now().wrapping_add(offset),
        Source::Tsc if core::ptr::eq(line(), &OTHERWISE) => {
            let cycles = rdtsc().saturating_sub(first_tsc());
            let now =
                (u128::from(cycles) * u128::from(OTHERWISE.mult.load(Ordering::Relaxed))) >> SHIFT;
            (now as u64).max(LAST.fetch_max(now as u64, Ordering::AcqRel))
        }
        Source::Tsc => 0,
    }
}

/// The TSC value at `ns` since boot, on this CPU.
#[inline]
pub fn tsc_at(ns: u64) -> u64 {
    let in_use @ Line { base, inverse, .. } = line();
    let cycles =
        |ns: u64| ((u128::from(ns) * u128::from(inverse.load(Ordering::Relaxed))) >> SHIFT) as u64;
    if core::ptr::eq(in_use, &OTHERWISE) {
        return rdtsc().wrapping_add(cycles(ns.saturating_sub(now())));
    }
    base.load(Ordering::Relaxed).wrapping_add(cycles(ns))
}

/// What the clock goes by.
pub fn source() -> Source {
    let number = SOURCE.load(Ordering::Relaxed);
    Source::ALL.into_iter().find(|source| *source as u8 == number).unwrap_or(Source::Tsc)
}

/// What it could go by.
pub fn offered() -> impl Iterator<Item = Source> {
    let offered = OFFERED.load(Ordering::Relaxed);
    Source::ALL.into_iter().filter(move |source| offered & 1 << *source as u8 != 0)
}

/// What was found out about this machine's counters, on the CPU that boots, when all have looked.
pub fn find_sources() -> Found {
    let kvm_clock = kvmclock::is_offered();
    if kvm_clock {
        kvmclock::start_cpu();
    }
    Found {
        warped: warp::widest() > 0,
        invariant: features().invariant_tsc(),
        kvm: kvmclock::is_host(),
        kvm_clock,
        kvm_stable: kvm_clock && kvmclock::is_stable(),
        hpet: hpet::is_offered(),
    }
}

/// Goes on from the present time by `source`, as [`Found::choose`] said. Before the other CPUs ask for
/// the time, and programs.
pub fn go_by(source: Source, found: &Found) {
    let bits = Source::ALL.into_iter().filter(|source| found.offers(*source));
    OFFERED.store(bits.fold(0, |bits, source| bits | 1 << source as u8), Ordering::Relaxed);
    if source == Source::Tsc && !found.warped {
        return;
    }
    let now = now();
    OTHERWISE.mult.store(LINES[0].mult.load(Ordering::Relaxed), Ordering::Relaxed);
    OTHERWISE.inverse.store(LINES[0].inverse.load(Ordering::Relaxed), Ordering::Relaxed);
    let there = match source {
        Source::KvmClock => kvmclock::now(),
        Source::Hpet => hpet::now(),
        Source::Tsc => now,
    };
    OFFSET.store(now.wrapping_sub(there), Ordering::Relaxed);
    SOURCE.store(source as u8, Ordering::Relaxed);
    IN_USE.store((&raw const OTHERWISE).cast_mut(), Ordering::Release);
}

/// A CPU that started later does what the chosen source asks of each.
pub fn start_cpu() {
    if source() == Source::KvmClock {
        kvmclock::start_cpu();
    }
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
    let mult = line().mult.load(Ordering::Relaxed);
    ((1_000_000_000u128 << SHIFT) / u128::from(mult)) as u64
}

impl Line {
    const fn new() -> Self {
        Self {
            // Far ahead: until the clock is calibrated it says 0, as cycles of an unknown length would
            // be ahead of what it says then.
            base: AtomicU64::new(i64::MAX as u64),
            mult: AtomicU64::new(1 << SHIFT),
            inverse: AtomicU64::new(1 << SHIFT),
        }
    }

    fn set(&self, base: u64, cycles: u64, ns: u64) {
        let ratio = |a: u64, b: u64| ((u128::from(a) << SHIFT) / u128::from(b.max(1))) as u64;
        self.base.store(base, Ordering::Relaxed);
        self.mult.store(ratio(ns, cycles).max(1), Ordering::Relaxed);
        self.inverse.store(ratio(cycles, ns), Ordering::Relaxed);
    }
}

/// A reference clock: reads a counter; ticks per second; bits that count.
struct Reference<'a> {
    read: &'a dyn Fn() -> u32,
    hz: u64,
    mask: u32,
}

/// A counter and the TSC at nearly the same moment: the tightest of a few tries.
fn sample(read: &dyn Fn() -> u32) -> (u32, u64) {
    let mut best = (0, 0, u64::MAX);
    for _ in 0..8 {
        let before = rdtsc();
        let ticks = read();
        let after = rdtsc();
        if after - before < best.2 {
            best = (ticks, before + (after - before) / 2, after - before);
        }
    }
    (best.0, best.1)
}

/// Calibrates the TSC and this CPU's APIC timer. `pm_timer` is the ACPI timer's I/O port.
///
/// Where CPUID or KVM names the TSC's frequency, and the APIC's timer goes by it, nothing is waited for;
/// else both are measured together
/// over 2 ms against the ACPI timer, or the PIT. What the ACPI timer gave is good to some 0.05 %;
/// [`refine`] makes it better.
pub fn calibrate(pm_timer: Option<u16>) {
    let base = rdtsc();
    let leaf = if cpuid(0, 0)[0] >= 0x15 { cpuid(0x15, 0) } else { [0; 4] };
    let known = (leaf[0] > 0 && leaf[1] > 0 && leaf[2] > 0)
        .then(|| u64::from(leaf[2]) * u64::from(leaf[1]) / u64::from(leaf[0]));
    let known = known.or_else(|| {
        kvmclock::is_offered().then(kvmclock::start_cpu)?;
        kvmclock::tsc_hz()
    });
    if let (Some(hz), true) = (known, features().tsc_deadline()) {
        LINES[0].set(base, hz, 1_000_000_000);
        apic::set_timer_source(true, 0, 1);
    } else {
        let pm_read = |port: u16| inl(port);
        let pit_read = || {
            outb(0x43, 0);
            let low = inb(0x40);
            0xffff - (u32::from(inb(0x40)) << 8 | u32::from(low))
        };
        let measured = match pm_timer {
            Some(port) => {
                BEGIN[0].store(u64::from(port), Ordering::Relaxed);
                measure(&Reference { read: &|| pm_read(port), hz: PM_TIMER_HZ, mask: PM_MASK })
            }
            None => {
                // Channel 0, mode 2, from the top.
                outb(0x43, 0x34);
                outb(0x40, 0);
                outb(0x40, 0);
                measure(&Reference { read: &pit_read, hz: 1_193_182, mask: 0xffff })
            }
        };
        let (cycles, ns) = match known {
            Some(hz) => (hz, 1_000_000_000),
            None => (measured.cycles, measured.ns),
        };
        if known.is_some() {
            // There is nothing better to measure.
            BEGIN[0].store(0, Ordering::Relaxed);
        }
        LINES[0].set(base, cycles, ns);
        let (ticks, ns) = timer_rate(&measured);
        apic::set_timer_source(features().tsc_deadline(), ticks, ns);
    }
    WALL.store(cmos_seconds() * 1_000_000_000, Ordering::Relaxed);
}

/// What was counted at the same time, each by the TSC: `cycles` in `ns`, `ticks` of the APIC's timer
/// in `timer_cycles`.
struct Measured {
    cycles: u64,
    ns: u64,
    ticks: u64,
    timer_cycles: u64,
}

/// Counts for about 2 ms.
fn measure(reference: &Reference<'_>) -> Measured {
    let goal = (reference.hz / 500) as u32;
    apic::start_measuring();
    let (timer0, timer_tsc0) = sample(&apic::left);
    let (ticks0, tsc0) = sample(reference.read);
    BEGIN[1].store(u64::from(ticks0), Ordering::Relaxed);
    BEGIN[2].store(tsc0, Ordering::Relaxed);
    loop {
        let passed = (reference.read)().wrapping_sub(ticks0) & reference.mask;
        if passed >= goal {
            break;
        }
        core::hint::spin_loop();
    }
    let (ticks1, tsc1) = sample(reference.read);
    let (timer1, timer_tsc1) = sample(&apic::left);
    apic::stop_measuring();
    let passed = u64::from(ticks1.wrapping_sub(ticks0) & reference.mask);
    Measured {
        cycles: tsc1 - tsc0,
        ns: passed * 1_000_000_000 / reference.hz,
        ticks: u64::from(timer0 - timer1),
        timer_cycles: timer_tsc1 - timer_tsc0,
    }
}

/// Ticks of the APIC's timer in so many nanoseconds. A virtual machine's timer counts nanoseconds
/// (QEMU, KVM): a measurement that comes near that means it.
fn timer_rate(m: &Measured) -> (u64, u64) {
    let ns = (u128::from(m.timer_cycles) * u128::from(m.ns) / u128::from(m.cycles.max(1))) as u64;
    if features().hypervisor() && ns.abs_diff(m.ticks) < ns / 50 { (1, 1) } else { (m.ticks, ns) }
}

/// True when [`refine`] has something to measure by.
pub fn can_refine() -> bool {
    BEGIN[0].load(Ordering::Relaxed) != 0 && core::ptr::eq(line(), &LINES[0])
}

/// Measures the TSC once more, over all the time since [`calibrate`] (a second or more): cycles and
/// the nanoseconds that they took.
pub fn refine() -> Option<(u64, u64)> {
    let [port, ticks0, tsc0] = [0, 1, 2].map(|i| BEGIN[i].load(Ordering::Relaxed));
    if port == 0 || !core::ptr::eq(line(), &LINES[0]) {
        return None;
    }
    let (ticks1, tsc1) = sample(&|| inl(port as u16));
    let cycles = tsc1 - tsc0;
    let estimate = (u128::from(cycles) * u128::from(PM_TIMER_HZ) / u128::from(tsc_hz())) as u64;
    let ticks = unwrapped(ticks0, u64::from(ticks1), estimate);
    let ns = ticks_to_ns(ticks);
    // The first measurement cannot have been that wrong: the timer is.
    (ns.abs_diff(ticks_to_ns(estimate)) < ns / 50).then_some((cycles, ns))
}

/// Goes on from the present time by the better line that [`refine`] found. Once, with interrupts
/// off.
pub fn go_on_by((cycles, ns): (u64, u64)) {
    let inverse = (u128::from(cycles) << SHIFT) / u128::from(ns.max(1));
    let (now, tsc) = (now(), rdtsc());
    // Rounded up: the new line is not behind the old one.
    let since = ((u128::from(now) * inverse) >> SHIFT) as u64 + 2;
    LINES[1].set(tsc.wrapping_sub(since), cycles, ns);
    IN_USE.store((&raw const LINES[1]).cast_mut(), Ordering::Release);
}

fn ticks_to_ns(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(PM_TIMER_HZ)) as u64
}

/// Ticks from `first` to `last` of a counter that wraps, of which there were about `estimate`.
fn unwrapped(first: u64, last: u64, estimate: u64) -> u64 {
    let turn = u64::from(PM_MASK) + 1;
    let part = last.wrapping_sub(first) & u64::from(PM_MASK);
    part + (estimate + turn / 2).saturating_sub(part) / turn * turn
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
