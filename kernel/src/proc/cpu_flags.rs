//! Names of CPU features, as the `flags` line of /proc/cpuinfo gives them: one table per CPUID
//! register. Source: the processor manuals' names in Linux's spelling.

use super::cpuinfo::signature;
use crate::sys::topology::{self, Vendor};
use hal::cpu::cpuid;

/// Leaf, sub-leaf, register (eax to edx), names by bit; an empty name is not shown.
type Table = (u32, u32, usize, [&'static str; 32]);

/// Names at the bits given, others empty.
const fn at<const N: usize>(pairs: [(usize, &'static str); N]) -> [&'static str; 32] {
    let mut names = [""; 32];
    let mut i = 0;
    while i < N {
        names[pairs[i].0] = pairs[i].1;
        i += 1;
    }
    names
}

const TABLES: &[Table] = &[
    (
        1,
        0,
        3,
        [
            "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep",
            "mtrr", "pge", "mca", "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi",
            "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe",
        ],
    ),
    (
        0x8000_0001,
        0,
        3,
        at([
            (11, "syscall"),
            (19, "mp"),
            (20, "nx"),
            (22, "mmxext"),
            (25, "fxsr_opt"),
            (26, "pdpe1gb"),
            (27, "rdtscp"),
            (29, "lm"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ]),
    ),
    (
        1,
        0,
        2,
        [
            "pni",
            "pclmulqdq",
            "dtes64",
            "monitor",
            "ds_cpl",
            "vmx",
            "smx",
            "est",
            "tm2",
            "ssse3",
            "cid",
            "sdbg",
            "fma",
            "cx16",
            "xtpr",
            "pdcm",
            "",
            "pcid",
            "dca",
            "sse4_1",
            "sse4_2",
            "x2apic",
            "movbe",
            "popcnt",
            "tsc_deadline_timer",
            "aes",
            "xsave",
            "",
            "avx",
            "f16c",
            "rdrand",
            "hypervisor",
        ],
    ),
    (
        0x8000_0001,
        0,
        2,
        at([
            (0, "lahf_lm"),
            (1, "cmp_legacy"),
            (2, "svm"),
            (3, "extapic"),
            (4, "cr8_legacy"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (9, "osvw"),
            (10, "ibs"),
            (11, "xop"),
            (12, "skinit"),
            (13, "wdt"),
            (15, "lwp"),
            (16, "fma4"),
            (17, "tce"),
            (19, "nodeid_msr"),
            (21, "tbm"),
            (22, "topoext"),
            (23, "perfctr_core"),
            (24, "perfctr_nb"),
            (26, "bpext"),
            (27, "ptsc"),
            (28, "perfctr_llc"),
            (29, "mwaitx"),
        ]),
    ),
    (0x8000_0007, 0, 3, at([(9, "cpb")])),
    (
        7,
        0,
        1,
        at([
            (0, "fsgsbase"),
            (1, "tsc_adjust"),
            (2, "sgx"),
            (3, "bmi1"),
            (4, "hle"),
            (5, "avx2"),
            (7, "smep"),
            (8, "bmi2"),
            (9, "erms"),
            (10, "invpcid"),
            (11, "rtm"),
            (12, "cqm"),
            (14, "mpx"),
            (15, "rdt_a"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (20, "smap"),
            (21, "avx512ifma"),
            (23, "clflushopt"),
            (24, "clwb"),
            (25, "intel_pt"),
            (26, "avx512pf"),
            (27, "avx512er"),
            (28, "avx512cd"),
            (29, "sha_ni"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ]),
    ),
    (0xd, 1, 0, at([(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1"), (3, "xsaves"), (4, "xfd")])),
    (
        7,
        1,
        0,
        at([
            (0, "sha512"),
            (1, "sm3"),
            (2, "sm4"),
            (4, "avx_vnni"),
            (5, "avx512_bf16"),
            (7, "cmpccxadd"),
            (23, "avx_ifma"),
            (26, "lam"),
        ]),
    ),
    (
        0x8000_0008,
        0,
        1,
        at([
            (0, "clzero"),
            (1, "irperf"),
            (2, "xsaveerptr"),
            (4, "rdpru"),
            (9, "wbnoinvd"),
            (12, "amd_ibpb"),
            (14, "amd_ibrs"),
            (15, "amd_stibp"),
            (24, "amd_ssbd"),
            (25, "virt_ssbd"),
        ]),
    ),
    (6, 0, 0, at([(0, "dtherm"), (1, "ida"), (2, "arat"), (4, "pln"), (6, "pts"), (7, "hwp")])),
    (
        0x8000_000a,
        0,
        3,
        at([
            (0, "npt"),
            (1, "lbrv"),
            (2, "svm_lock"),
            (3, "nrip_save"),
            (4, "tsc_scale"),
            (5, "vmcb_clean"),
            (6, "flushbyasid"),
            (7, "decodeassists"),
            (10, "pausefilter"),
            (12, "pfthreshold"),
            (13, "avic"),
            (15, "v_vmsave_vmload"),
            (16, "vgif"),
        ]),
    ),
    (
        7,
        0,
        2,
        at([
            (1, "avx512vbmi"),
            (2, "umip"),
            (6, "avx512_vbmi2"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512_vnni"),
            (12, "avx512_bitalg"),
            (13, "tme"),
            (14, "avx512_vpopcntdq"),
            (22, "rdpid"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
            (29, "enqcmd"),
        ]),
    ),
    (
        7,
        0,
        3,
        at([
            (2, "avx512_4vnniw"),
            (3, "avx512_4fmaps"),
            (4, "fsrm"),
            (8, "avx512_vp2intersect"),
            (10, "md_clear"),
            (14, "serialize"),
            (16, "tsxldtrk"),
            (18, "pconfig"),
            (19, "arch_lbr"),
            (22, "amx_bf16"),
            (23, "avx512_fp16"),
            (24, "amx_tile"),
            (25, "amx_int8"),
            (28, "flush_l1d"),
            (29, "arch_capabilities"),
        ]),
    ),
];

/// The register behind whose bits the names of [`derived`] stand.
const BEFORE_DERIVED: (u32, usize) = (0x8000_0001, 3);
/// The register behind whose bits `vmmcall` stands.
const BEFORE_VMMCALL: (u32, usize) = (0x8000_0001, 2);

/// Facts that are no CPUID bits of their own, or not of every processor that has them.
fn derived(mut f: impl FnMut(&'static str)) {
    let amd = topology::vendor() == Vendor::Amd;
    let (family, model, _) = signature();
    // Strings are moved and filled well by microcode: on AMD's family 0Fh from revision C on.
    let revised = matches!(cpuid(1, 0)[0], 0xf48..0xf50 | 0xf58..);
    let strings = if amd { family >= 0x10 || family == 0xf && revised } else { family == 6 };
    let steady = hal::cpu::features().invariant_tsc();
    for (name, has) in [
        ("constant_tsc", steady || !amd && family == 6 && model >= 0xe),
        ("rep_good", strings),
        ("nopl", true),
        ("xtopology", cpuid(0, 0)[0] >= 0xb && cpuid(0xb, 0)[1] & 0xffff != 0),
        ("nonstop_tsc", steady),
        ("cpuid", true),
        ("extd_apicid", amd && family >= 0xf),
    ] {
        if has {
            f(name);
        }
    }
}

/// Calls `f` with the name of every feature that CPUID reports and programs can use or see, in
/// Linux's order.
///
/// Memory protection keys are not among them: the kernel has no pkey_mprotect(2) and leaves CR4.PKE
/// clear, so programs see what a Linux started with `nopku` shows.
pub fn each(mut f: impl FnMut(&'static str)) {
    let max = [cpuid(0, 0)[0], cpuid(0x8000_0000, 0)[0]];
    let amd = topology::vendor() == Vendor::Amd;
    for &(leaf, sub, register, ref names) in TABLES {
        let limit = if leaf >= 0x8000_0000 { max[1] } else { max[0] };
        let word = if leaf <= limit { cpuid(leaf, sub)[register] } else { 0 };
        for (bit, name) in names.iter().enumerate() {
            // Every AMD processor of 64 bits has PREFETCHW.
            let has = word & 1 << bit != 0 || amd && *name == "3dnowprefetch";
            if has && !name.is_empty() {
                f(name);
            }
        }
        if (leaf, register) == BEFORE_DERIVED {
            derived(&mut f);
        }
        if (leaf, register) == BEFORE_VMMCALL && amd {
            // Of every AMD processor: the call that leaves a guest.
            f("vmmcall");
        }
    }
}
