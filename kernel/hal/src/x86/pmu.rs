//! The registers of the performance monitoring unit, and its interrupt.
//!
//! CPUID of a virtual machine may name a unit whose registers are not there: an access that the
//! processor refuses is told, not fatal.

use super::usercopy::extable;
use core::arch::asm;

/// RDMSR; None when the processor refuses it.
pub fn read(msr: u32) -> Option<u64> {
    let (low, high, ok): (u32, u32, u32);
    // SAFETY: reads a register; a general protection fault goes on at the fix-up.
    unsafe {
        asm!(
            "mov {ok:e}, 1",
            "2: rdmsr",
            "3:",
            ".pushsection .text.fixup, \"ax\"",
            "4: xor {ok:e}, {ok:e}",
            "jmp 3b",
            ".popsection",
            extable!("2b", "4b"),
            ok = out(reg) ok,
            in("ecx") msr,
            out("eax") low,
            out("edx") high,
            options(nostack),
        );
    }
    (ok != 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// WRMSR; false when the processor refuses it.
///
/// # Safety
/// `msr` is a register of the performance monitoring unit.
pub unsafe fn write(msr: u32, value: u64) -> bool {
    let ok: u32;
    // SAFETY: such registers do not change how memory is reached; a general protection fault goes
    // on at the fix-up.
    unsafe {
        asm!(
            "mov {ok:e}, 1",
            "2: wrmsr",
            "3:",
            ".pushsection .text.fixup, \"ax\"",
            "4: xor {ok:e}, {ok:e}",
            "jmp 3b",
            ".popsection",
            extable!("2b", "4b"),
            ok = out(reg) ok,
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack),
        );
    }
    ok != 0
}
