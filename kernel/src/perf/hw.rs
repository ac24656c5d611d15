//! The performance monitoring unit of this machine's processors: found at boot, and its registers.
//!
//! CPUID says what there is; whether it counts is tried out on every CPU before it is trusted. With
//! `pmu=model` on the command line there is none, and [`super::model`] stands in for its registers.

use super::{counters, model};
use ::perf::attr::{Attr, flag, sample};
use ::perf::pmu::{Pmu, Registers, code as code_of};
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use hal::percpu;
use numa::{AtomicCpuMask, CpuId};
use sync::Once;

/// The unit.
pub struct Unit {
    pub pmu: Pmu,
    /// Its registers are those of the model.
    pub model: bool,
}

static UNIT: Once<Option<Unit>> = Once::new();
/// CPUs whose unit counts.
static READY: AtomicCpuMask = AtomicCpuMask::new();

/// The unit, when the machine has one.
pub fn unit() -> Option<&'static Unit> {
    UNIT.get()?.as_ref()
}

/// The unit of this CPU.
pub fn here() -> Option<&'static Pmu> {
    let unit = unit().filter(|_| READY.test(percpu::cpu(), Relaxed))?;
    Some(&unit.pmu)
}

/// Registers of this CPU's unit.
pub struct Ports;

impl Registers for Ports {
    fn read(&self, msr: u32) -> u64 {
        if model::stands_in() { model::read(msr) } else { hal::pmu::read(msr).unwrap_or(0) }
    }

    fn write(&self, msr: u32, value: u64) {
        if model::stands_in() {
            model::write(msr, value);
        } else {
            msrs::write(msr, value);
        }
    }
}

#[allow(unsafe_code, reason = "the one place that writes registers of the unit")]
mod msrs {
    pub fn write(msr: u32, value: u64) {
        // SAFETY: the drivers name registers of the performance monitoring unit only. One that is
        // refused is not there, which shows when the unit is tried out.
        let _there = unsafe { hal::pmu::write(msr, value) };
    }
}

/// Looks for this CPU's unit and tries it out. The boot CPU comes first: the others must have the
/// same.
pub fn start_cpu(cpu: CpuId) {
    let found = match model::chosen() {
        Some(model) => Pmu::detect(|leaf, sub| model.cpuid(leaf, sub)),
        None => Pmu::detect(hal::cpu::cpuid),
    };
    let first = UNIT.get_or_init(|| {
        let model = model::chosen().is_some();
        let pmu = found.filter(|pmu| model || counts(pmu))?;
        let shape = pmu.shape();
        log::info!(
            "cpu events: {:?}{}, {} counters of {} bits, {} fixed",
            pmu.vendor(),
            if model { " in software (pmu=model: counts are ticks, not events)" } else { "" },
            shape.general,
            shape.width,
            shape.fixed,
        );
        Some(Unit { pmu, model })
    });
    let Some(unit) = first else { return };
    if found != Some(unit.pmu) || !unit.model && !counts(&unit.pmu) {
        log::warn!("cpu events: CPU {cpu} has another unit, or none: nothing is counted there");
        return;
    }
    unit.pmu.reset(&Ports);
    hal::apic::allow_counter_interrupt();
    READY.set(cpu, Relaxed);
}

fn counts(pmu: &Pmu) -> bool {
    pmu.works(&Ports, || {
        for n in 0..1000 {
            core::hint::black_box(n);
        }
    })
}

/// The unit's code of an attribute's event. ENOENT without a unit or when it has no such event,
/// EINVAL for what is no event, EOPNOTSUPP for what no unit here does.
pub fn code(attr: &Attr) -> Result<u64> {
    /// Bits of the flag word: how precise a sample's instruction pointer must be.
    const PRECISE: u64 = 3 << 15;
    let unit = unit().ok_or(Errno::ENOENT)?;
    let code = code_of(unit.pmu.vendor(), attr)?;
    if attr.flags & PRECISE != 0 || attr.samples(sample::BRANCH_STACK) {
        return Err(Errno::EOPNOTSUPP);
    }
    if attr.has(flag::EXCLUDE_HOST) && attr.has(flag::EXCLUDE_GUEST)
        || !unit.pmu.fits(core::iter::once(code))
    {
        return Err(Errno::EINVAL);
    }
    Ok(code)
}

/// EINVAL for a group that can never be on the counters at once.
pub fn check_group(codes: impl Iterator<Item = u64>) -> Result<()> {
    match unit() {
        Some(unit) if !unit.pmu.fits(codes) => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// A counter's interrupt, on this CPU.
pub fn on_interrupt() {
    if here().is_some() {
        counters::on_overflow();
        hal::apic::allow_counter_interrupt();
    }
}
