//! Intel: general counters with a select register each, fixed counters with four bits each of one
//! control register, and global control, status and acknowledgement.

use super::{Config, FIXED, Registers, Shape};

/// IA32_PMC0, and its alias through which all bits can be written.
const PMC: u32 = 0xc1;
const PMC_FULL: u32 = 0x4c1;
const SELECT: u32 = 0x186;
const FIXED_COUNTER: u32 = 0x309;
const FIXED_CONTROL: u32 = 0x38d;
const GLOBAL_STATUS: u32 = 0x38e;
const GLOBAL_CONTROL: u32 = 0x38f;
const GLOBAL_ACKNOWLEDGE: u32 = 0x390;

/// Select register: user mode, kernel mode, interrupt, enable.
const USER: u64 = 1 << 16;
const KERNEL: u64 = 1 << 17;
const INTERRUPT: u64 = 1 << 20;
const ENABLE: u64 = 1 << 22;

/// IA32_PERF_CAPABILITIES: counters can be written in full.
const CAPABILITIES: u32 = 0x345;
const FULL_WIDTH: u64 = 1 << 13;

/// Cycles at the reference rate, which only a fixed counter counts: not a code of the unit.
const REFERENCE: u64 = 0x0300;

/// A unit of version 2 or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intel {
    pub shape: Shape,
    pub version: u32,
    /// IA32_PERF_CAPABILITIES is there.
    capabilities: bool,
}

impl Intel {
    /// From CPUID leaf 10. Version 1 has no global control: it is left alone.
    pub fn detect(cpuid: &impl Fn(u32, u32) -> [u32; 4]) -> Option<Self> {
        let [a, _, _, d] = cpuid(10, 0);
        let (version, general, width) = (a & 0xff, a >> 8 & 0xff, a >> 16 & 0xff);
        if version < 2 || general == 0 || !(32..=63).contains(&width) {
            return None;
        }
        let (fixed, fixed_width) = (d & 0x1f, d >> 5 & 0xff);
        let fixed = if (32..=63).contains(&fixed_width) { fixed.min(16) } else { 0 };
        let shape = Shape {
            general: general.min(super::MOST as u32),
            width,
            fixed,
            fixed_width: fixed_width.clamp(32, 63),
        };
        /// CPUID leaf 1, ecx: PDCM.
        const PDCM: u32 = 1 << 15;
        Some(Self { shape, version, capabilities: cpuid(1, 0)[2] & PDCM != 0 })
    }

    /// The fixed counter that counts what this code means.
    pub fn fixed_for(&self, code: u64) -> Option<usize> {
        let which = match code {
            0x00c0 => 0,
            0x003c => 1,
            REFERENCE => 2,
            _ => return None,
        };
        (which < self.shape.fixed as usize).then_some(FIXED + which)
    }

    /// A code that general counters know, too.
    pub fn is_general(&self, code: u64) -> bool {
        code != REFERENCE
    }

    fn all(&self) -> u64 {
        ((1 << self.shape.general) - 1) | ((1 << self.shape.fixed) - 1) << FIXED
    }

    pub(super) fn reset(&self, regs: &impl Registers) {
        regs.write(GLOBAL_CONTROL, 0);
        for n in 0..self.shape.general {
            regs.write(SELECT + n, 0);
        }
        if self.shape.fixed > 0 {
            regs.write(FIXED_CONTROL, 0);
        }
        regs.write(GLOBAL_ACKNOWLEDGE, self.all());
        regs.write(GLOBAL_CONTROL, self.all());
    }

    fn counter(&self, regs: &impl Registers, index: usize) -> u32 {
        if index >= FIXED {
            return FIXED_COUNTER + (index - FIXED) as u32;
        }
        if self.full_width(regs) { PMC_FULL + index as u32 } else { PMC + index as u32 }
    }

    /// General counters can be written in full.
    pub(super) fn full_width(&self, regs: &impl Registers) -> bool {
        self.capabilities && regs.read(CAPABILITIES) & FULL_WIDTH != 0
    }

    pub(super) fn start(&self, regs: &impl Registers, index: usize, config: &Config, value: u64) {
        self.stop(regs, index);
        regs.write(self.counter(regs, index), value);
        if index >= FIXED {
            let bits = u64::from(config.kernel) | u64::from(config.user) << 1 | 1 << 3;
            self.set_fixed(regs, index, bits);
        } else {
            let modes = if config.user { USER } else { 0 } | if config.kernel { KERNEL } else { 0 };
            regs.write(SELECT + index as u32, config.code | modes | INTERRUPT | ENABLE);
        }
    }

    fn set_fixed(&self, regs: &impl Registers, index: usize, bits: u64) {
        let shift = 4 * (index - FIXED);
        let others = regs.read(FIXED_CONTROL) & !(0xf << shift);
        regs.write(FIXED_CONTROL, others | bits << shift);
    }

    pub(super) fn stop(&self, regs: &impl Registers, index: usize) {
        if index >= FIXED {
            self.set_fixed(regs, index, 0);
        } else {
            regs.write(SELECT + index as u32, 0);
        }
    }

    pub(super) fn value(&self, regs: &impl Registers, index: usize) -> u64 {
        regs.read(self.counter(regs, index))
    }

    pub(super) fn freeze(&self, regs: &impl Registers) {
        regs.write(GLOBAL_CONTROL, 0);
    }

    pub(super) fn thaw(&self, regs: &impl Registers) {
        regs.write(GLOBAL_CONTROL, self.all());
    }

    pub(super) fn overflowed(&self, regs: &impl Registers, used: u64) -> u64 {
        let status = regs.read(GLOBAL_STATUS);
        if status != 0 {
            regs.write(GLOBAL_ACKNOWLEDGE, status);
        }
        status & used & self.all()
    }
}
