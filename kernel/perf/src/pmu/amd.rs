//! AMD: four counters of 48 bits (legacy), six with the core extension, and with PerfMonV2 global
//! control and status.

use super::{Config, Registers, Shape};

/// Legacy select and counter registers, one apart.
const LEGACY_SELECT: u32 = 0xc001_0000;
const LEGACY_COUNTER: u32 = 0xc001_0004;
/// Those of the core extension, in pairs.
const CORE_SELECT: u32 = 0xc001_0200;
const CORE_COUNTER: u32 = 0xc001_0201;
/// PerfMonV2.
const GLOBAL_STATUS: u32 = 0xc000_0300;
const GLOBAL_CONTROL: u32 = 0xc000_0301;
const GLOBAL_ACKNOWLEDGE: u32 = 0xc000_0302;

const USER: u64 = 1 << 16;
const KERNEL: u64 = 1 << 17;
const INTERRUPT: u64 = 1 << 20;
const ENABLE: u64 = 1 << 22;

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amd {
    pub shape: Shape,
    /// Six counters in pairs of registers.
    pub core: bool,
    /// Global control and status.
    pub v2: bool,
}

impl Amd {
    /// From CPUID: every AMD64 processor has the four legacy counters.
    pub fn detect(cpuid: &impl Fn(u32, u32) -> [u32; 4]) -> Option<Self> {
        /// CPUID 8000_0001h, ecx: PerfCtrExtCore.
        const CORE: u32 = 1 << 23;
        let highest = cpuid(0x8000_0000, 0)[0];
        if highest < 0x8000_0001 {
            return None;
        }
        let core = cpuid(0x8000_0001, 0)[2] & CORE != 0;
        let [a, b, ..] = if highest >= 0x8000_0022 { cpuid(0x8000_0022, 0) } else { [0; 4] };
        let v2 = core && a & 1 != 0;
        let general = match (v2, core) {
            (true, _) => (b & 0xf).clamp(1, 16),
            (_, true) => 6,
            _ => 4,
        };
        let shape = Shape { general, width: 48, fixed: 0, fixed_width: 48 };
        // Virtual machines without a unit say the same: `Pmu::works` tells.
        Some(Self { shape, core, v2 })
    }

    fn select(&self, index: usize) -> u32 {
        let n = index as u32;
        if self.core { CORE_SELECT + 2 * n } else { LEGACY_SELECT + n }
    }

    fn counter(&self, index: usize) -> u32 {
        let n = index as u32;
        if self.core { CORE_COUNTER + 2 * n } else { LEGACY_COUNTER + n }
    }

    fn all(&self) -> u64 {
        (1 << self.shape.general) - 1
    }

    pub(super) fn reset(&self, regs: &impl Registers) {
        for index in 0..self.shape.general as usize {
            regs.write(self.select(index), 0);
        }
        if self.v2 {
            regs.write(GLOBAL_ACKNOWLEDGE, self.all());
            regs.write(GLOBAL_CONTROL, self.all());
        }
    }

    pub(super) fn start(&self, regs: &impl Registers, index: usize, config: &Config, value: u64) {
        self.stop(regs, index);
        regs.write(self.counter(index), value);
        let modes = if config.user { USER } else { 0 } | if config.kernel { KERNEL } else { 0 };
        regs.write(self.select(index), config.code | modes | INTERRUPT | ENABLE);
    }

    pub(super) fn stop(&self, regs: &impl Registers, index: usize) {
        regs.write(self.select(index), 0);
    }

    pub(super) fn value(&self, regs: &impl Registers, index: usize) -> u64 {
        regs.read(self.counter(index))
    }

    pub(super) fn freeze(&self, regs: &impl Registers) {
        if self.v2 {
            regs.write(GLOBAL_CONTROL, 0);
            return;
        }
        for index in 0..self.shape.general as usize {
            let select = regs.read(self.select(index));
            if select & INTERRUPT != 0 {
                regs.write(self.select(index), select & !ENABLE);
            }
        }
    }

    pub(super) fn thaw(&self, regs: &impl Registers) {
        if self.v2 {
            regs.write(GLOBAL_CONTROL, self.all());
            return;
        }
        for index in 0..self.shape.general as usize {
            let select = regs.read(self.select(index));
            // What was stopped for good has no interrupt bit.
            if select & INTERRUPT != 0 {
                regs.write(self.select(index), select | ENABLE);
            }
        }
    }

    pub(super) fn overflowed(&self, regs: &impl Registers, used: u64) -> u64 {
        if self.v2 {
            let status = regs.read(GLOBAL_STATUS) & self.all();
            if status != 0 {
                regs.write(GLOBAL_ACKNOWLEDGE, status);
            }
            return status & used;
        }
        // No status: a counter that began below zero and is not any more has overflowed.
        let sign = 1 << (self.shape.width - 1);
        (0..self.shape.general as usize)
            .filter(|&index| used & 1 << index != 0)
            .filter(|&index| regs.read(self.counter(index)) & sign == 0)
            .fold(0, |bits, index| bits | 1 << index)
    }
}
