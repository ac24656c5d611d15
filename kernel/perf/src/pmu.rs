//! The counters of the processor: Intel's architectural performance monitoring (version 2 and up)
//! and AMD's core counters (legacy, extended, and PerfMonV2), behind a register interface.
//!
//! A [`Pmu`] is made from what CPUID says and programs counters through [`Registers`]: RDMSR and
//! WRMSR, or a [`model`] of the registers that counts, overflows at its width, and raises the
//! interrupt as the manuals say. QEMU's emulator has no such unit; on KVM with a virtual one, and
//! on hardware, the same code runs against the real registers.
//!
//! Sources: Intel SDM volume 3B, "Performance Monitoring"; AMD APM volume 2, "Performance
//! Monitoring Counters", and volume 3, CPUID function 8000_0022h.

pub mod amd;
mod events;
pub mod intel;
pub mod model;
#[cfg(test)]
mod tests;

pub use events::{Vendor, code, formats, named};

/// Model-specific registers.
pub trait Registers {
    fn read(&self, msr: u32) -> u64;
    fn write(&self, msr: u32, value: u64);
}

/// Counters that one unit can have.
pub const MOST: usize = 32;
/// Fixed counters stand from this index on.
pub const FIXED: usize = 32;

/// What a counter is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Event number, unit mask and the other bits of the select register that a user may give.
    pub code: u64,
    pub user: bool,
    pub kernel: bool,
}

/// What a unit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// General counters, and bits of each.
    pub general: u32,
    pub width: u32,
    /// Fixed counters (Intel), and bits of each.
    pub fixed: u32,
    pub fixed_width: u32,
}

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pmu {
    Intel(intel::Intel),
    Amd(amd::Amd),
}

impl Pmu {
    /// From CPUID (`cpuid(leaf, subleaf)` gives eax, ebx, ecx, edx); None when there is no unit
    /// that this code knows.
    pub fn detect(cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Option<Self> {
        let [max, b, c, d] = cpuid(0, 0);
        let mut vendor = [0; 12];
        for (to, word) in vendor.chunks_mut(4).zip([b, d, c]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        match &vendor {
            b"GenuineIntel" if max >= 10 => intel::Intel::detect(&cpuid).map(Self::Intel),
            b"AuthenticAMD" | b"HygonGenuine" => amd::Amd::detect(&cpuid).map(Self::Amd),
            _ => None,
        }
    }

    /// Whose it is: which codes its events have.
    pub fn vendor(&self) -> Vendor {
        match self {
            Self::Intel(_) => Vendor::Intel,
            Self::Amd(_) => Vendor::Amd,
        }
    }

    /// What it has.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Intel(unit) => unit.shape,
            Self::Amd(unit) => unit.shape,
        }
    }

    /// A free counter (not in `used`) that can count `code`. Whoever can have a fixed one gets it,
    /// so that groups that fit at all fit in any order.
    pub fn choose(&self, code: u64, used: u64) -> Option<usize> {
        let free = |index: &usize| used & 1 << index == 0;
        let (fixed, general) = match self {
            Self::Intel(unit) => (unit.fixed_for(code).filter(free), unit.is_general(code)),
            Self::Amd(_) => (None, true),
        };
        fixed.or_else(|| (0..self.shape().general as usize).find(|n| general && free(n)))
    }

    /// True when all of `codes` can be counted at once.
    pub fn fits(&self, codes: impl Iterator<Item = u64>) -> bool {
        let mut used = 0;
        codes.into_iter().all(|code| {
            let index = self.choose(code, used);
            used |= index.map_or(0, |index| 1 << index);
            index.is_some()
        })
    }

    /// True when the unit really is there and counts: a hypervisor may say so in CPUID and drop
    /// what is written. `work` runs some instructions in kernel mode.
    pub fn works(&self, regs: &impl Registers, work: impl FnOnce()) -> bool {
        const INSTRUCTIONS: u64 = 0x00c0;
        let Some(index) = self.choose(INSTRUCTIONS, 0) else { return false };
        self.reset(regs);
        self.start(regs, index, &Config { code: INSTRUCTIONS, user: false, kernel: true }, 1 << 30);
        let before = self.value(regs, index);
        work();
        let passed = self.passed(index, before, self.value(regs, index));
        self.stop(regs, index);
        passed > 0 && passed < 1 << 30
    }

    /// Prepares this CPU's unit: nothing counts, no overflow is pending.
    pub fn reset(&self, regs: &impl Registers) {
        match self {
            Self::Intel(unit) => unit.reset(regs),
            Self::Amd(unit) => unit.reset(regs),
        }
    }

    /// Bits of counter `index`.
    pub fn width(&self, index: usize) -> u32 {
        let shape = self.shape();
        if index >= FIXED { shape.fixed_width } else { shape.width }
    }

    /// Has counter `index` count `config`, with an overflow after `period` events or, when that is
    /// more than the counter can be set to, earlier.
    pub fn start(&self, regs: &impl Registers, index: usize, config: &Config, period: u64) {
        let period = period.clamp(1, self.longest(regs, index));
        let value = period.wrapping_neg() & ((1 << self.width(index)) - 1);
        match self {
            Self::Intel(unit) => unit.start(regs, index, config, value),
            Self::Amd(unit) => unit.start(regs, index, config, value),
        }
    }

    /// The longest period that counter `index` can be set to: half of what it holds, so that one
    /// overflow is always told from none.
    pub fn longest(&self, regs: &impl Registers, index: usize) -> u64 {
        let bits = match self {
            // 32 bits are written, and the highest is extended through the rest.
            Self::Intel(unit) if index < FIXED && !unit.full_width(regs) => 32,
            _ => self.width(index),
        };
        (1 << (bits - 1)) - 1
    }

    /// Stops counter `index`.
    pub fn stop(&self, regs: &impl Registers, index: usize) {
        match self {
            Self::Intel(unit) => unit.stop(regs, index),
            Self::Amd(unit) => unit.stop(regs, index),
        }
    }

    /// The value of counter `index`.
    pub fn value(&self, regs: &impl Registers, index: usize) -> u64 {
        let raw = match self {
            Self::Intel(unit) => unit.value(regs, index),
            Self::Amd(unit) => unit.value(regs, index),
        };
        raw & ((1 << self.width(index)) - 1)
    }

    /// Events between two values of counter `index`, over at most one overflow.
    pub fn passed(&self, index: usize, before: u64, now: u64) -> u64 {
        now.wrapping_sub(before) & ((1 << self.width(index)) - 1)
    }

    /// Stops all counters at once (for the time of an overflow's handling).
    pub fn freeze(&self, regs: &impl Registers) {
        match self {
            Self::Intel(unit) => unit.freeze(regs),
            Self::Amd(unit) => unit.freeze(regs),
        }
    }

    /// Undoes [`Pmu::freeze`].
    pub fn thaw(&self, regs: &impl Registers) {
        match self {
            Self::Intel(unit) => unit.thaw(regs),
            Self::Amd(unit) => unit.thaw(regs),
        }
    }

    /// The counters (of those in `used`) that have overflowed, as bits; they are acknowledged.
    pub fn overflowed(&self, regs: &impl Registers, used: u64) -> u64 {
        match self {
            Self::Intel(unit) => unit.overflowed(regs, used),
            Self::Amd(unit) => unit.overflowed(regs, used),
        }
    }
}
