//! Which of the known faults of processors this one has, and what the kernel does about them:
//! `bugs` in /proc/cpuinfo, and /sys/devices/system/cpu/vulnerabilities.
//!
//! The kernel mitigates none of them: it has no retpolines, no barriers against speculation, and its
//! own memory is mapped (for the kernel only) while programs run. So a file says "Vulnerable", as a
//! Linux that was told to mitigate nothing does, unless the processor does not have the fault. Where
//! that depends on models that came out one by one, a processor that does not deny a fault (in
//! IA32_ARCH_CAPABILITIES or CPUID) and has what the fault needs is taken to have it.
//!
//! Sources: AMD's and Intel's manuals and security notices, AMD's revision guide 33610 (errata of
//! family 0Fh).

use super::line;
use super::topology::{self, Vendor};
use crate::proc::cpuinfo::signature;
use crate::proc::put;
use fs::pseudo::Dir;
use hal::cpu::cpuid;

/// What is asked of the processor.
struct Cpu {
    amd: bool,
    intel: bool,
    family: u32,
    model: u32,
    /// IA32_ARCH_CAPABILITIES, 0 without it.
    capabilities: u64,
}

impl Cpu {
    fn here() -> Self {
        let (family, model, _) = signature();
        let amd = topology::vendor() == Vendor::Amd;
        let [_, b, c, d] = cpuid(0, 0);
        let intel = [b, d, c].map(u32::to_le_bytes).concat() == b"GenuineIntel";
        let told = bit(7, 3, 29);
        let capabilities = if told { hal::cpu::rdmsr(0x10a) } else { 0 };
        Self { amd, intel, family, model, capabilities }
    }

    /// It does not say that it is free of what bit `no` names.
    fn denies_not(&self, no: u32) -> bool {
        self.capabilities & 1 << no == 0
    }

    /// An Intel processor that runs ahead of what is known, and does not say that it is free of what
    /// bit `no` names.
    fn intel_without(&self, no: u32) -> bool {
        self.intel && self.family == 6 && self.denies_not(no)
    }
}

/// A bit of CPUID (sub-leaf 0); registers count from eax on.
fn bit(leaf: u32, register: usize, position: u32) -> bool {
    let max = cpuid(leaf & 0x8000_0000, 0)[0];
    leaf <= max && cpuid(leaf, 0)[register] & 1 << position != 0
}

/// True if the processor has the fault of that name.
type Has = fn(&Cpu) -> bool;

/// The files, by name.
const FILES: &[(&str, Has)] = &[
    ("gather_data_sampling", |c| c.intel_without(26) && bit(7, 1, 5)),
    ("indirect_target_selection", |c| c.intel_without(62) && bit(7, 3, 26) && bit(7, 1, 5)),
    ("itlb_multihit", |c| c.intel_without(6)),
    ("l1tf", |c| c.intel_without(0)),
    ("mds", |c| c.intel_without(5)),
    ("meltdown", |c| c.intel_without(0)),
    // Three kinds, each denied by a bit of its own.
    ("mmio_stale_data", |c| [13, 14, 15].iter().any(|&no| c.intel_without(no))),
    // Atoms' registers: those cores have no AVX-512, and say so when they are free of it.
    ("reg_file_data_sampling", |c| c.intel_without(27) && bit(7, 3, 15)),
    ("retbleed", |c| {
        c.amd && (0x15..=0x18).contains(&c.family) || c.intel_without(1) && bit(7, 2, 3)
    }),
    ("spec_rstack_overflow", |c| c.amd && (0x17..=0x19).contains(&c.family)),
    ("spec_store_bypass", |c| {
        c.amd && c.family >= 0x15 && !bit(0x8000_0008, 1, 26) || c.intel_without(4)
    }),
    ("spectre_v1", |_| true),
    ("spectre_v2", |_| true),
    ("srbds", |c| c.intel_without(31) && bit(1, 2, 30) && bit(7, 3, 9)),
    ("tsa", |c| c.amd && c.family == 0x19),
    ("tsx_async_abort", |c| c.intel_without(8) && bit(7, 1, 11)),
    // From a guest to who runs it: this kernel runs none.
    ("vmscape", |_| false),
];

/// Enters the files.
pub fn fill(dir: &Dir) {
    let dir = dir.dir("vulnerabilities");
    for &(name, has) in FILES {
        line(&dir, name, move |out| {
            put!(out, "{}", if has(&Cpu::here()) { "Vulnerable" } else { "Not affected" });
        });
    }
}

/// The words of the line `bugs`, in Linux's order.
const BUGS: &[(&str, Has)] = &[
    // FXSAVE keeps the last exception's pointers from who may not see them, unless it is told that
    // they are restored.
    ("fxsave_leak", |c| c.amd && !bit(0x8000_0008, 1, 2)),
    // SYSRET leaves the stack segment's attributes as they were.
    ("sysret_ss_attrs", |c| c.amd),
    // A null selector leaves the segment's base as it was.
    ("null_seg", |c| c.amd && !bit(0x8000_0021, 0, 6)),
    // What follows SWAPGS does not wait for it.
    ("swapgs_fence", |c| c.amd && c.family == 0xf),
    // Erratum 400: the APIC's timer stops in C1E.
    ("amd_e400", |c| c.amd && (c.family == 0xf && c.model >= 0x41 || c.family == 0x10)),
    ("cpu_meltdown", |c| c.intel_without(0)),
    ("spectre_v1", |_| true),
    ("spectre_v2", |_| true),
    ("spec_store_bypass", |c| file("spec_store_bypass", c)),
    ("l1tf", |c| file("l1tf", c)),
    ("mds", |c| file("mds", c)),
    ("swapgs", |c| c.intel && c.family == 6),
    ("taa", |c| file("tsx_async_abort", c)),
    ("itlb_multihit", |c| file("itlb_multihit", c)),
    ("srbds", |c| file("srbds", c)),
    ("mmio_stale_data", |c| file("mmio_stale_data", c)),
    ("retbleed", |c| file("retbleed", c)),
    ("gds", |c| file("gather_data_sampling", c)),
    ("srso", |c| file("spec_rstack_overflow", c)),
    ("rfds", |c| file("reg_file_data_sampling", c)),
    ("its", |c| file("indirect_target_selection", c)),
    ("tsa", |c| file("tsa", c)),
];

fn file(name: &str, cpu: &Cpu) -> bool {
    FILES.iter().any(|&(known, has)| known == name && has(cpu))
}

/// Calls `f` with each word of the line `bugs`.
pub fn each_bug(f: impl FnMut(&'static str)) {
    let cpu = Cpu::here();
    BUGS.iter().filter(|(_, has)| has(&cpu)).map(|&(name, _)| name).for_each(f);
}
