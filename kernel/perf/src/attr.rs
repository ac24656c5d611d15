//! `struct perf_event_attr`: parsing, and which contents are refused with what.
//!
//! Sizes and fields are those of Linux 6.12's include/uapi/linux/perf_event.h (136 bytes). What
//! depends on who asks, or on the machine, is the kernel's to check.

use abi::{Errno, Result};

/// The first published size.
pub const SIZE_VER0: u32 = 64;
/// The size that is known here.
pub const SIZE: u32 = 136;

/// `type`: who counts.
pub mod kind {
    pub const HARDWARE: u32 = 0;
    pub const SOFTWARE: u32 = 1;
    pub const TRACEPOINT: u32 = 2;
    pub const HW_CACHE: u32 = 3;
    pub const RAW: u32 = 4;
    pub const BREAKPOINT: u32 = 5;
}

/// `config` of software events.
pub mod software {
    pub const CPU_CLOCK: u64 = 0;
    pub const TASK_CLOCK: u64 = 1;
    pub const PAGE_FAULTS: u64 = 2;
    pub const CONTEXT_SWITCHES: u64 = 3;
    pub const CPU_MIGRATIONS: u64 = 4;
    pub const PAGE_FAULTS_MIN: u64 = 5;
    pub const PAGE_FAULTS_MAJ: u64 = 6;
    pub const ALIGNMENT_FAULTS: u64 = 7;
    pub const EMULATION_FAULTS: u64 = 8;
    pub const DUMMY: u64 = 9;
    pub const BPF_OUTPUT: u64 = 10;
    pub const CGROUP_SWITCHES: u64 = 11;
    /// One past the last.
    pub const MAX: u64 = 12;
}

/// `config` of hardware events.
pub mod hardware {
    pub const CPU_CYCLES: u64 = 0;
    pub const INSTRUCTIONS: u64 = 1;
    pub const CACHE_REFERENCES: u64 = 2;
    pub const CACHE_MISSES: u64 = 3;
    pub const BRANCH_INSTRUCTIONS: u64 = 4;
    pub const BRANCH_MISSES: u64 = 5;
    pub const BUS_CYCLES: u64 = 6;
    pub const STALLED_FRONTEND: u64 = 7;
    pub const STALLED_BACKEND: u64 = 8;
    pub const REF_CPU_CYCLES: u64 = 9;
    /// One past the last.
    pub const MAX: u64 = 10;
}

/// `sample_type`: what a sample holds.
pub mod sample {
    pub const IP: u64 = 1;
    pub const TID: u64 = 1 << 1;
    pub const TIME: u64 = 1 << 2;
    pub const ADDR: u64 = 1 << 3;
    pub const READ: u64 = 1 << 4;
    pub const CALLCHAIN: u64 = 1 << 5;
    pub const ID: u64 = 1 << 6;
    pub const CPU: u64 = 1 << 7;
    pub const PERIOD: u64 = 1 << 8;
    pub const STREAM_ID: u64 = 1 << 9;
    pub const RAW: u64 = 1 << 10;
    pub const BRANCH_STACK: u64 = 1 << 11;
    pub const REGS_USER: u64 = 1 << 12;
    pub const STACK_USER: u64 = 1 << 13;
    pub const WEIGHT: u64 = 1 << 14;
    pub const DATA_SRC: u64 = 1 << 15;
    pub const IDENTIFIER: u64 = 1 << 16;
    pub const TRANSACTION: u64 = 1 << 17;
    pub const REGS_INTR: u64 = 1 << 18;
    pub const PHYS_ADDR: u64 = 1 << 19;
    pub const AUX: u64 = 1 << 20;
    pub const CGROUP: u64 = 1 << 21;
    pub const DATA_PAGE_SIZE: u64 = 1 << 22;
    pub const CODE_PAGE_SIZE: u64 = 1 << 23;
    pub const WEIGHT_STRUCT: u64 = 1 << 24;
    /// One past the last.
    pub const MAX: u64 = 1 << 25;
}

/// `read_format`: what read(2) gives.
pub mod format {
    pub const ENABLED: u64 = 1;
    pub const RUNNING: u64 = 1 << 1;
    pub const ID: u64 = 1 << 2;
    pub const GROUP: u64 = 1 << 3;
    pub const LOST: u64 = 1 << 4;
    /// One past the last.
    pub const MAX: u64 = 1 << 5;
}

/// The bits of the flag word, as they stand in the structure.
pub mod flag {
    pub const DISABLED: u64 = 1;
    pub const INHERIT: u64 = 1 << 1;
    pub const PINNED: u64 = 1 << 2;
    pub const EXCLUSIVE: u64 = 1 << 3;
    pub const EXCLUDE_USER: u64 = 1 << 4;
    pub const EXCLUDE_KERNEL: u64 = 1 << 5;
    pub const EXCLUDE_HV: u64 = 1 << 6;
    pub const EXCLUDE_IDLE: u64 = 1 << 7;
    pub const MMAP: u64 = 1 << 8;
    pub const COMM: u64 = 1 << 9;
    pub const FREQ: u64 = 1 << 10;
    pub const INHERIT_STAT: u64 = 1 << 11;
    pub const ENABLE_ON_EXEC: u64 = 1 << 12;
    pub const TASK: u64 = 1 << 13;
    pub const WATERMARK: u64 = 1 << 14;
    pub const MMAP_DATA: u64 = 1 << 17;
    pub const SAMPLE_ID_ALL: u64 = 1 << 18;
    pub const EXCLUDE_HOST: u64 = 1 << 19;
    pub const EXCLUDE_GUEST: u64 = 1 << 20;
    pub const EXCLUDE_CALLCHAIN_KERNEL: u64 = 1 << 21;
    pub const EXCLUDE_CALLCHAIN_USER: u64 = 1 << 22;
    pub const MMAP2: u64 = 1 << 23;
    pub const COMM_EXEC: u64 = 1 << 24;
    pub const USE_CLOCKID: u64 = 1 << 25;
    pub const CONTEXT_SWITCH: u64 = 1 << 26;
    pub const WRITE_BACKWARD: u64 = 1 << 27;
    pub const NAMESPACES: u64 = 1 << 28;
    pub const KSYMBOL: u64 = 1 << 29;
    pub const BPF_EVENT: u64 = 1 << 30;
    pub const AUX_OUTPUT: u64 = 1 << 31;
    pub const CGROUP: u64 = 1 << 32;
    pub const TEXT_POKE: u64 = 1 << 33;
    pub const BUILD_ID: u64 = 1 << 34;
    pub const INHERIT_THREAD: u64 = 1 << 35;
    pub const REMOVE_ON_EXEC: u64 = 1 << 36;
    pub const SIGTRAP: u64 = 1 << 37;
    /// Those above are reserved.
    pub const KNOWN: u64 = (1 << 38) - 1;
}

/// Registers that REGS_USER can hold on x86-64: 0 (AX) to 23 (R15), without the segments that
/// long mode lacks (DS, ES, FS, GS: 12 to 15).
pub const REGISTERS: u64 = 0x00ff_ffff & !(0xf << 12);

/// The structure, without its reserved fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    pub kind: u32,
    pub size: u32,
    pub config: u64,
    /// Period, or frequency with [`flag::FREQ`].
    pub sample_period: u64,
    pub sample_type: u64,
    pub read_format: u64,
    pub flags: u64,
    /// Events, or bytes with [`flag::WATERMARK`].
    pub wakeup: u32,
    pub bp_type: u32,
    pub config1: u64,
    pub config2: u64,
    pub branch_sample_type: u64,
    pub sample_regs_user: u64,
    pub sample_stack_user: u32,
    pub clockid: i32,
    pub sample_regs_intr: u64,
    pub sample_max_stack: u16,
    pub aux_sample_size: u32,
    pub sig_data: u64,
    pub config3: u64,
}

/// How many bytes to read for a `size` field that a caller gave: 0 means the first version. E2BIG
/// (with [`SIZE`] stored in the caller's structure) when it is too small or above a page.
pub fn size_to_read(size: u32) -> Result<u32> {
    match size {
        0 => Ok(SIZE_VER0),
        SIZE_VER0..=4096 => Ok(size),
        _ => Err(Errno::E2BIG),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Attr {
    /// From the caller's bytes ([`size_to_read`] of them): missing ones are 0. E2BIG when bytes
    /// beyond the known size are not 0; EINVAL for contents that contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let known = bytes.len().min(SIZE as usize);
        if bytes[known..].iter().any(|&b| b != 0) {
            return Err(Errno::E2BIG);
        }
        let b = &bytes[..known];
        let attr = Self {
            kind: word(b, 0),
            size: bytes.len() as u32,
            config: long(b, 8),
            sample_period: long(b, 16),
            sample_type: long(b, 24),
            read_format: long(b, 32),
            flags: long(b, 40),
            wakeup: word(b, 48),
            bp_type: word(b, 52),
            config1: long(b, 56),
            config2: long(b, 64),
            branch_sample_type: long(b, 72),
            sample_regs_user: long(b, 80),
            sample_stack_user: word(b, 88),
            clockid: word(b, 92) as i32,
            sample_regs_intr: long(b, 96),
            sample_max_stack: word(b, 108) as u16,
            aux_sample_size: word(b, 112),
            sig_data: long(b, 120),
            config3: long(b, 128),
        };
        let reserved_2 = word(b, 108) >> 16;
        let reserved_3 = word(b, 116);
        if attr.flags & !flag::KNOWN != 0 || reserved_2 != 0 || reserved_3 != 0 {
            return Err(Errno::EINVAL);
        }
        attr.check()?;
        Ok(attr)
    }

    /// True when all bits of `flags` are set.
    #[inline]
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }

    /// True when a sample holds all of `bits`.
    #[inline]
    pub fn samples(&self, bits: u64) -> bool {
        self.sample_type & bits == bits
    }

    /// True when it takes samples.
    #[inline]
    pub fn is_sampling(&self) -> bool {
        self.sample_period != 0
    }

    fn check(&self) -> Result<()> {
        let s = self.sample_type;
        let bad = s & !(sample::MAX - 1) != 0
            || self.read_format & !(format::MAX - 1) != 0
            || s & sample::BRANCH_STACK != 0 && !branches_ok(self.branch_sample_type)
            || s & sample::REGS_USER != 0 && !registers_ok(self.sample_regs_user)
            || s & sample::STACK_USER != 0 && !stack_ok(self.sample_stack_user)
            || s & sample::REGS_INTR != 0 && !registers_ok(self.sample_regs_intr)
            // Control groups are not there to name.
            || s & sample::CGROUP != 0
            || s & sample::WEIGHT != 0 && s & sample::WEIGHT_STRUCT != 0
            // Whose count it is would be lost: heirs' samples need their ids.
            || self.has(flag::INHERIT) && s & sample::READ != 0 && s & sample::TID == 0
            || self.has(flag::INHERIT_THREAD) && !self.has(flag::INHERIT)
            || self.has(flag::REMOVE_ON_EXEC) && self.has(flag::ENABLE_ON_EXEC)
            || self.has(flag::SIGTRAP) && !self.has(flag::REMOVE_ON_EXEC);
        if bad { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// The period or frequency against `max_rate` samples a second: EINVAL.
    pub fn check_rate(&self, max_rate: u64) -> Result<()> {
        let too_much = if self.has(flag::FREQ) {
            self.sample_period > max_rate
        } else {
            self.sample_period >> 63 != 0
        };
        if too_much { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Bytes that read(2) of an event with `members` in its group gives.
    pub fn read_size(&self, members: usize) -> usize {
        let has = |bit: u64| usize::from(self.read_format & bit != 0);
        let entry = 1 + has(format::ID) + has(format::LOST);
        let times = has(format::ENABLED) + has(format::RUNNING);
        let group = self.read_format & format::GROUP != 0;
        8 * (times + if group { 1 + entry * members } else { entry })
    }
}

fn branches_ok(mask: u64) -> bool {
    /// Privilege levels: user, kernel, hypervisor.
    const LEVELS: u64 = 7;
    const MAX: u64 = 1 << 20;
    mask & !(MAX - 1) == 0 && mask & !LEVELS != 0
}

fn registers_ok(mask: u64) -> bool {
    mask != 0 && mask & !REGISTERS == 0
}

fn stack_ok(bytes: u32) -> bool {
    bytes < 0xffff && bytes.is_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(set: &[(usize, u64)], len: usize) -> Vec<u8> {
        let mut b = vec![0u8; len];
        for &(at, value) in set {
            b[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        b
    }

    #[test]
    fn every_published_size_is_read() {
        assert_eq!(size_to_read(0), Ok(64));
        for size in [64, 72, 80, 96, 104, 112, 120, 128, 136, 4096] {
            assert_eq!(size_to_read(size), Ok(size));
        }
        for size in [1, 63, 4097, u32::MAX] {
            assert_eq!(size_to_read(size), Err(Errno::E2BIG));
        }
    }

    #[test]
    fn what_lies_beyond_must_be_zero() {
        let mut b = bytes(&[(16, 1000)], 200);
        let attr = Attr::parse(&b).expect("zeroes beyond the end are fine");
        assert_eq!(attr.sample_period, 1000);
        b[150] = 1;
        assert_eq!(Attr::parse(&b), Err(Errno::E2BIG));
    }

    #[test]
    fn contradictions_are_refused() {
        let refused: &[&[(usize, u64)]] = &[
            &[(24, sample::MAX)],
            &[(32, format::MAX)],
            &[(40, 1 << 38)],
            &[(24, sample::REGS_USER)],
            &[(24, sample::REGS_USER), (80, 1 << 12)],
            &[(24, sample::STACK_USER), (88, 9)],
            &[(24, sample::STACK_USER), (88, 0xffff)],
            &[(24, sample::BRANCH_STACK)],
            &[(24, sample::WEIGHT | sample::WEIGHT_STRUCT)],
            &[(40, flag::INHERIT_THREAD)],
            &[(24, sample::READ), (40, flag::INHERIT)],
            &[(40, flag::ENABLE_ON_EXEC | flag::REMOVE_ON_EXEC)],
            &[(40, flag::SIGTRAP)],
            &[(104, 1 << 48)],
        ];
        for set in refused {
            assert_eq!(Attr::parse(&bytes(set, 136)), Err(Errno::EINVAL), "{set:?}");
        }
        let fine: &[&[(usize, u64)]] = &[
            &[(24, sample::REGS_USER), (80, 0xff0fff)],
            &[(24, sample::STACK_USER), (88, 8192)],
            &[(40, flag::SIGTRAP | flag::REMOVE_ON_EXEC)],
        ];
        for set in fine {
            assert!(Attr::parse(&bytes(set, 136)).is_ok(), "{set:?}");
        }
    }

    #[test]
    fn rates_have_a_limit() {
        let freq = Attr { flags: flag::FREQ, sample_period: 5000, ..Attr::default() };
        assert_eq!(freq.check_rate(4999), Err(Errno::EINVAL));
        assert_eq!(freq.check_rate(5000), Ok(()));
        let period = Attr { sample_period: 1 << 63, ..Attr::default() };
        assert_eq!(period.check_rate(1), Err(Errno::EINVAL));
    }

    #[test]
    fn reads_have_their_size() {
        let attr = |read_format| Attr { read_format, ..Attr::default() };
        assert_eq!(attr(0).read_size(1), 8);
        assert_eq!(attr(format::ENABLED | format::RUNNING | format::ID).read_size(1), 32);
        assert_eq!(attr(format::GROUP | format::ID | format::LOST).read_size(3), 8 + 3 * 24);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(b in proptest::collection::vec(any::<u8>(), 64..300)) {
            if let Ok(attr) = Attr::parse(&b) {
                prop_assert!(attr.sample_type < sample::MAX);
                prop_assert!(attr.read_format < format::MAX);
            }
        }
    }
}
