//! The codes of the generic events, by vendor.

use crate::attr::{Attr, hardware, kind};
use abi::{Errno, Result};

/// Whose unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Intel,
    Amd,
}

/// Intel's architectural events (code and unit mask), by generic number; 0 for none.
const INTEL: [u64; hardware::MAX as usize] =
    [0x003c, 0x00c0, 0x4f2e, 0x412e, 0x00c4, 0x00c5, 0x013c, 0, 0, 0x0300];
/// AMD family 17h and later.
const AMD: [u64; hardware::MAX as usize] =
    [0x0076, 0x00c0, 0xff60, 0x0964, 0x00c2, 0x00c3, 0, 0x0287, 0x0187, 0x1_0000_0120];

/// The cache events that both name alike enough: (cache, operation, result) to a code.
const INTEL_CACHE: &[(u64, u64)] = &[
    (0x0_0002, 0x4f2e), // last level, reads
    (0x1_0002, 0x412e),
];
const AMD_CACHE: &[(u64, u64)] = &[
    (0x0_0000, 0x0040), // first level data, reads
    (0x1_0000, 0xc860),
    (0x0_0003, 0xff45), // data TLB reads, missed in the first level
    (0x1_0003, 0xf045),
    (0x0_0005, 0x00c2), // branches
    (0x1_0005, 0x00c3),
];

/// What a raw event may set: event number, unit mask, edge, invert, counter mask; AMD's event
/// numbers have four more bits above.
const INTEL_RAW: u64 = 0xff84_ffff;
const AMD_RAW: u64 = 0x000f_ff84_ffff | 0xf << 32;

/// Caches, operations and results that a cache event can name.
const CACHES: u64 = 7;
const OPERATIONS: u64 = 3;
const RESULTS: u64 = 2;

/// The code of an attribute's event: EINVAL for a number that names no event, ENOENT when the unit
/// has none for it. Of a raw event the bits that are the kernel's (modes, interrupt, enable) are
/// left out, as on Linux.
pub fn code(vendor: Vendor, attr: &Attr) -> Result<u64> {
    let generic = |table: &[u64]| {
        let at = usize::try_from(attr.config).map_err(|_| Errno::EINVAL)?;
        let code = table.get(at).copied().ok_or(Errno::EINVAL)?;
        if code == 0 { Err(Errno::ENOENT) } else { Ok(code) }
    };
    let cache = |table: &[(u64, u64)]| {
        let part = |shift: u32| attr.config >> shift & 0xff;
        let known = part(0) < CACHES && part(8) < OPERATIONS && part(16) < RESULTS;
        if !known || attr.config >> 24 != 0 {
            return Err(Errno::EINVAL);
        }
        let found = table.iter().find(|(name, _)| *name == attr.config);
        found.map(|(_, code)| *code).ok_or(Errno::ENOENT)
    };
    let raw = |mask: u64| Ok(attr.config & mask);
    match (attr.kind, vendor) {
        (kind::HARDWARE, Vendor::Intel) => generic(&INTEL),
        (kind::HARDWARE, Vendor::Amd) => generic(&AMD),
        (kind::HW_CACHE, Vendor::Intel) => cache(INTEL_CACHE),
        (kind::HW_CACHE, Vendor::Amd) => cache(AMD_CACHE),
        (kind::RAW, Vendor::Intel) => raw(INTEL_RAW),
        (kind::RAW, Vendor::Amd) => raw(AMD_RAW),
        _ => Err(Errno::ENOENT),
    }
}

/// The fields of a raw event: names, and bits of `config` (sysfs: format).
pub fn formats(vendor: Vendor) -> &'static [(&'static str, &'static str)] {
    match vendor {
        Vendor::Intel => &[
            ("event", "config:0-7"),
            ("umask", "config:8-15"),
            ("edge", "config:18"),
            ("inv", "config:23"),
            ("cmask", "config:24-31"),
        ],
        Vendor::Amd => &[
            ("event", "config:0-7,32-35"),
            ("umask", "config:8-15"),
            ("edge", "config:18"),
            ("inv", "config:23"),
            ("cmask", "config:24-31"),
        ],
    }
}

/// The names that generic events have in sysfs, by their numbers.
const NAMES: [&str; hardware::MAX as usize] = [
    "cpu-cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branch-instructions",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "ref-cycles",
];

/// The named events of a unit: name, event number, unit mask.
pub fn named(vendor: Vendor) -> impl Iterator<Item = (&'static str, u64, u64)> {
    let codes = match vendor {
        Vendor::Intel => &INTEL,
        Vendor::Amd => &AMD,
    };
    let all = NAMES.iter().zip(codes).filter(|(_, code)| **code != 0);
    all.map(|(name, code)| (*name, code & 0xff | code >> 24 & 0xf00, code >> 8 & 0xff))
}
