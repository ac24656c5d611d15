//! The registers of a unit as the manuals describe them, in software: they count what is fed to
//! them, wrap at their width, set their status bits and raise the interrupt.
//!
//! The drivers are tested against it on the host; a kernel that is told so at boot runs on it, where
//! there is no unit.

use super::FIXED;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Version, general counters, bits, fixed counters, full-width writes.
    Intel {
        version: u32,
        general: u32,
        width: u32,
        fixed: u32,
        full: bool,
    },
    AmdLegacy,
    AmdCore,
    AmdV2 {
        general: u32,
    },
    None,
}

/// The registers.
pub struct Model {
    kind: Kind,
    msrs: BTreeMap<u32, u64>,
    /// Interrupts raised.
    interrupts: u64,
}

const USER: u64 = 1 << 16;
const KERNEL: u64 = 1 << 17;
const INTERRUPT: u64 = 1 << 20;
const ENABLE: u64 = 1 << 22;

impl Model {
    pub const fn new(kind: Kind) -> Self {
        Self { kind, msrs: BTreeMap::new(), interrupts: 0 }
    }

    /// Interrupts raised so far.
    pub fn interrupts(&self) -> u64 {
        self.interrupts
    }

    /// CPUID of a processor with this unit.
    pub fn cpuid(&self, leaf: u32, _sub: u32) -> [u32; 4] {
        let text = |s: &[u8; 12]| {
            let word = |at: usize| u32::from_le_bytes([s[at], s[at + 1], s[at + 2], s[at + 3]]);
            [word(0), word(4), word(8)]
        };
        match (self.kind, leaf) {
            (Kind::Intel { .. }, 0) => {
                let [b, d, c] = text(b"GenuineIntel");
                [13, b, c, d]
            }
            (Kind::Intel { full, .. }, 1) => [0, 0, u32::from(full) << 15, 0],
            (Kind::Intel { version, general, width, fixed, .. }, 10) => {
                [version | general << 8 | width << 16 | 7 << 24, 0, 0, fixed | width << 5]
            }
            (Kind::None, 0) => [13, 0, 0, 0],
            (_, 0) => {
                let [b, d, c] = text(b"AuthenticAMD");
                [13, b, c, d]
            }
            (Kind::AmdV2 { .. }, 0x8000_0000) => [0x8000_0022, 0, 0, 0],
            (_, 0x8000_0000) => [0x8000_0008, 0, 0, 0],
            (Kind::AmdCore | Kind::AmdV2 { .. }, 0x8000_0001) => [0, 0, 1 << 23, 0],
            (Kind::AmdV2 { general }, 0x8000_0022) => [1, general, 0, 0],
            _ => [0; 4],
        }
    }

    /// What a register holds.
    pub fn get(&self, msr: u32) -> u64 {
        self.msrs.get(&msr).copied().unwrap_or(0)
    }

    fn set(&mut self, msr: u32, value: u64) {
        self.msrs.insert(msr, value);
    }

    fn width(&self) -> u32 {
        if let Kind::Intel { width, .. } = self.kind { width } else { 48 }
    }

    fn counters(&self) -> Vec<(usize, u32, u32)> {
        // Index, select register, counter register.
        match self.kind {
            Kind::Intel { general, .. } => {
                (0..general).map(|n| (n as usize, 0x186 + n, 0xc1 + n)).collect()
            }
            Kind::AmdLegacy => {
                (0..4).map(|n| (n as usize, 0xc001_0000 + n, 0xc001_0004 + n)).collect()
            }
            Kind::AmdCore => self.pairs(6),
            Kind::AmdV2 { general } => self.pairs(general),
            Kind::None => Vec::new(),
        }
    }

    fn pairs(&self, n: u32) -> Vec<(usize, u32, u32)> {
        (0..n).map(|n| (n as usize, 0xc001_0200 + 2 * n, 0xc001_0201 + 2 * n)).collect()
    }

    fn global(&self) -> Option<(u32, u32)> {
        // Control and status.
        match self.kind {
            Kind::Intel { .. } => Some((0x38f, 0x38e)),
            Kind::AmdV2 { .. } => Some((0xc000_0301, 0xc000_0300)),
            _ => None,
        }
    }

    fn on(&self, index: usize) -> bool {
        self.global().is_none_or(|(control, _)| self.get(control) & 1 << index != 0)
    }

    /// The fixed counters: index and counter register.
    fn fixed(&self) -> impl Iterator<Item = (usize, u32)> + use<> {
        let fixed = if let Kind::Intel { fixed, .. } = self.kind { fixed } else { 0 };
        (0..fixed).map(|n| (FIXED + n as usize, 0x309 + n))
    }

    /// The event `code` happens `n` times in user or kernel mode.
    pub fn happen(&mut self, code: u64, n: u64, user: bool) {
        self.advance(Some(code), n, user);
    }

    /// Every event happens `n` times.
    pub fn tick(&mut self, n: u64, user: bool) {
        self.advance(None, n, user);
    }

    fn advance(&mut self, code: Option<u64>, n: u64, user: bool) {
        let mode = if user { USER } else { KERNEL };
        for (index, select, counter) in self.counters() {
            let s = self.get(select);
            let codes = 0xf_0000_ffff;
            let meant = code.is_none_or(|code| s & codes == code & codes);
            if s & ENABLE != 0 && s & mode != 0 && meant && self.on(index) {
                self.count(index, counter, n, s & INTERRUPT != 0);
            }
        }
        for (index, counter) in self.fixed() {
            let meant = code.is_none_or(|code| [0x00c0, 0x003c, 0x0300][index - FIXED] == code);
            let bits = self.get(0x38d) >> (4 * (index - FIXED));
            if meant && bits & if user { 2 } else { 1 } != 0 && self.on(index) {
                self.count(index, counter, n, bits & 8 != 0);
            }
        }
    }

    fn count(&mut self, index: usize, counter: u32, n: u64, interrupt: bool) {
        let mask = (1 << self.width()) - 1;
        let before = self.get(counter);
        self.set(counter, (before + n) & mask);
        if before + n > mask {
            if let Some((_, status)) = self.global() {
                self.set(status, self.get(status) | 1 << index);
            }
            self.interrupts += u64::from(interrupt);
        }
    }

    /// After how many events at the earliest a counter overflows; None while none counts.
    pub fn until_overflow(&self) -> Option<u64> {
        let left = |counter: u32| (1 << self.width()) - self.get(counter);
        let general = self
            .counters()
            .into_iter()
            .filter(|(index, select, _)| self.get(*select) & ENABLE != 0 && self.on(*index))
            .map(|(_, _, counter)| left(counter));
        let fixed = self
            .fixed()
            .filter(|(index, _)| {
                self.get(0x38d) >> (4 * (index - FIXED)) & 3 != 0 && self.on(*index)
            })
            .map(|(_, counter)| left(counter));
        general.chain(fixed).min()
    }

    /// RDMSR.
    pub fn read(&self, msr: u32) -> u64 {
        match (self.kind, msr) {
            (Kind::Intel { full, .. }, 0x345) => u64::from(full) << 13,
            (Kind::Intel { .. }, 0x4c1..=0x4e0) => self.get(msr - 0x400),
            _ => self.get(msr),
        }
    }

    /// WRMSR.
    pub fn write(&mut self, msr: u32, value: u64) {
        let mask = (1 << self.width()) - 1;
        match (self.kind, msr) {
            (Kind::None, _) => {}
            // Through the old address the upper half is the sign of the lower.
            (Kind::Intel { .. }, 0xc1..=0xe0) => self.set(msr, value as u32 as i32 as u64 & mask),
            (Kind::Intel { full, .. }, 0x4c1..=0x4e0) => {
                assert!(full, "a register that is not there");
                self.set(msr - 0x400, value & mask);
            }
            (Kind::Intel { .. }, 0x390) => self.set(0x38e, self.get(0x38e) & !value),
            (Kind::AmdV2 { .. }, 0xc000_0302) => {
                self.set(0xc000_0300, self.get(0xc000_0300) & !value)
            }
            (Kind::Intel { .. }, 0x38e) | (Kind::AmdV2 { .. }, 0xc000_0300) => {
                panic!("the status is read-only")
            }
            (_, m) if self.counters().iter().any(|c| c.2 == m) => self.set(m, value & mask),
            _ => self.set(msr, value),
        }
    }
}
