//! What this CPU can do, and its control registers.

use core::arch::x86_64::__cpuid_count;
use sync_once::OnceBits;
use x86_64::registers::model_specific::Msr;

/// CPUID leaf `leaf`, sub-leaf `sub`: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, sub: u32) -> [u32; 4] {
    let r = __cpuid_count(leaf, sub);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Reads a model-specific register that exists.
pub fn rdmsr(index: u32) -> u64 {
    // SAFETY: callers name registers that CPUID says exist; reads have no memory effects.
    unsafe { Msr::new(index).read() }
}

/// Writes a model-specific register.
///
/// # Safety
/// The value is right for the register: some change how memory is reached.
pub unsafe fn wrmsr(index: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { Msr::new(index).write(value) }
}

/// The time-stamp counter.
#[inline(always)]
pub fn rdtsc() -> u64 {
    // SAFETY: RDTSC is available in kernel mode on every x86_64.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The time-stamp counter, read after everything before it.
#[inline(always)]
pub fn rdtsc_ordered() -> u64 {
    // SAFETY: as `rdtsc`; LFENCE has no other effect than to wait.
    unsafe { core::arch::x86_64::_mm_lfence() };
    rdtsc()
}

/// Features that the kernel uses where they are present (the boot CPU's; others must match).
#[derive(Clone, Copy, Debug)]
pub struct Features(u32);

macro_rules! features {
    ($($name:ident = $bit:expr, $leaf:expr, $sub:expr, $reg:expr, $pos:expr;)*) => {
        impl Features {
            $(
                #[doc = concat!("CPU has ", stringify!($name), ".")]
                pub fn $name(self) -> bool { self.0 & (1 << $bit) != 0 }
            )*
            fn detect() -> u32 {
                let max = [cpuid(0, 0)[0], cpuid(0x8000_0000, 0)[0]];
                let mut bits = 0;
                $(
                    let limit = if $leaf >= 0x8000_0000u32 { max[1] } else { max[0] };
                    if $leaf <= limit && cpuid($leaf, $sub)[$reg] & (1 << $pos) != 0 {
                        bits |= 1 << $bit;
                    }
                )*
                bits
            }
        }
    };
}

features! {
    x2apic = 0, 1u32, 0, 2, 21;
    tsc_deadline = 1, 1u32, 0, 2, 24;
    xsave = 2, 1u32, 0, 2, 26;
    smep = 3, 7u32, 0, 1, 7;
    smap = 4, 7u32, 0, 1, 20;
    umip = 5, 7u32, 0, 2, 2;
    fsgsbase = 6, 7u32, 0, 1, 0;
    pge = 7, 1u32, 0, 3, 13;
    pdpe1gb = 8, 0x8000_0001u32, 0, 3, 26;
    rdtscp = 9, 0x8000_0001u32, 0, 3, 27;
    rdpid = 10, 7u32, 0, 2, 22;
    pcid = 11, 1u32, 0, 2, 17;
    rdrand = 12, 1u32, 0, 2, 30;
    rdseed = 13, 7u32, 0, 1, 18;
    erms = 14, 7u32, 0, 1, 9;
    xsaveopt = 15, 0xdu32, 1, 0, 0;
    invariant_tsc = 16, 0x8000_0007u32, 0, 3, 8;
    hypervisor = 17, 1u32, 0, 2, 31;
    invpcid = 18, 7u32, 0, 1, 10;
    fxsr = 19, 1u32, 0, 3, 24;
    sse = 20, 1u32, 0, 3, 25;
    sse2 = 21, 1u32, 0, 3, 26;
    mce = 22, 1u32, 0, 3, 7;
    fpu = 23, 1u32, 0, 3, 0;
    tsc = 24, 1u32, 0, 3, 4;
    msr = 25, 1u32, 0, 3, 5;
    cx8 = 26, 1u32, 0, 3, 8;
    apic = 27, 1u32, 0, 3, 9;
    cmov = 28, 1u32, 0, 3, 15;
    syscall = 29, 0x8000_0001u32, 0, 3, 11;
}

/// The first feature without which the kernel or any x86-64 program cannot run that this CPU lacks.
/// (Long mode and NX are asked for before there is Rust: `boot`.)
pub fn missing() -> Option<&'static str> {
    let f = features();
    [
        (f.fpu(), "fpu"),
        (f.tsc(), "tsc"),
        (f.msr(), "msr"),
        (f.cx8(), "cx8"),
        (f.apic(), "apic"),
        (f.cmov(), "cmov"),
        (f.fxsr(), "fxsr"),
        (f.sse(), "sse"),
        (f.sse2(), "sse2"),
        (f.syscall(), "syscall"),
    ]
    .into_iter()
    .find_map(|(has, name)| (!has).then_some(name))
}

/// The boot CPU's features.
#[inline]
pub fn features() -> Features {
    static BITS: OnceBits = OnceBits::new();
    Features(BITS.get_or(Features::detect))
}

mod sync_once {
    use core::sync::atomic::{AtomicU32, Ordering};
    /// A word computed once (racing computations give the same value).
    pub struct OnceBits(AtomicU32);
    impl OnceBits {
        pub const fn new() -> Self {
            Self(AtomicU32::new(u32::MAX))
        }
        #[inline]
        pub fn get_or(&self, f: impl FnOnce() -> u32) -> u32 {
            match self.0.load(Ordering::Relaxed) {
                u32::MAX => {
                    let v = f();
                    self.0.store(v, Ordering::Relaxed);
                    v
                }
                v => v,
            }
        }
    }
}

const CR4_PGE: u64 = 1 << 7;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const CR4_PAE: u64 = 1 << 5;
const CR4_MCE: u64 = 1 << 6;

/// Sets this CPU's control registers: write protection, FPU, and the protections it has.
pub fn init_control_registers() {
    let f = features();
    let mut cr4 = CR4_PAE;
    for (has, bit) in [
        (f.mce(), CR4_MCE),
        (f.fxsr(), CR4_OSFXSR),
        (f.sse(), CR4_OSXMMEXCPT),
        (f.pge(), CR4_PGE),
        (f.umip(), CR4_UMIP),
        (f.fsgsbase(), CR4_FSGSBASE),
        (f.xsave(), CR4_OSXSAVE),
        (f.smep(), CR4_SMEP),
        (f.smap(), CR4_SMAP),
    ] {
        if has {
            cr4 |= bit;
        }
    }
    // SAFETY: each bit is set only where CPUID has the feature; kernel text is not user-mapped
    // and the kernel touches user memory only under STAC, so SMEP and SMAP change nothing else.
    // CR0: PG, WP, NE, ET, MP, PE.
    unsafe {
        core::arch::asm!("mov cr4, {}", in(reg) cr4);
        core::arch::asm!("mov cr0, {}", in(reg) 0x8001_0033u64);
        if f.smap() {
            core::arch::asm!("clac");
        }
    }
}

/// Waits for an interrupt with interrupts on, and turns them off again.
///
/// STI takes effect after the next instruction, so an interrupt that comes in between wakes HLT.
#[inline]
pub fn idle_wait() {
    #[cfg(feature = "latency")]
    super::latency::end(super::latency::Off::Interrupts, super::latency::here());
    // SAFETY: the idle task's context takes interrupts.
    unsafe { core::arch::asm!("sti", "hlt", "cli") };
    #[cfg(feature = "latency")]
    super::latency::begin(super::latency::Off::Interrupts, super::latency::here());
}

/// A random word from the CPU, if it gives one.
pub fn random() -> Option<u64> {
    if !features().rdrand() {
        return None;
    }
    for _ in 0..10 {
        let (value, ok): (u64, u8);
        // SAFETY: RDRAND exists; it writes a register and flags.
        unsafe { core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok) };
        if ok != 0 {
            return Some(value);
        }
    }
    None
}
