//! Instructions that not every CPU has, on paths too hot to ask: they are assembled as NOPs of the
//! same length, and written into the kernel's text at boot where CPUID has them.

use super::cpu::{cpuid, features};

/// Assembles three bytes of NOP and notes that SMAP makes them `instruction` (its bytes, the first
/// one lowest).
macro_rules! with_smap {
    ($instruction:literal) => {
        concat!(
            "661: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection .alternatives, \"a\"\n.quad 661b, ",
            $instruction,
            "\n.popsection"
        )
    };
}

/// Lets the kernel touch user memory (STAC).
macro_rules! stac {
    () => {
        $crate::x86::alternatives::with_smap!("0xcb010f")
    };
}

/// Keeps the kernel from touching user memory (CLAC).
macro_rules! clac {
    () => {
        $crate::x86::alternatives::with_smap!("0xca010f")
    };
}

pub(super) use {clac, stac, with_smap};

/// Bytes of a replaced instruction.
const LENGTH: usize = 3;

#[repr(C)]
struct Site {
    at: u64,
    instruction: u64,
}

unsafe extern "C" {
    static __alternatives_start: Site;
    static __alternatives_end: Site;
}

/// Writes the instructions that this CPU has. The boot CPU, on the early tables, which map the text
/// writable; before it touches user memory and before other CPUs run.
pub(super) fn apply() {
    if !features().smap() {
        return;
    }
    // SAFETY: the linker collects the sites between the two symbols; each is LENGTH bytes of NOP in
    // the kernel's text, and nobody runs it meanwhile: this function contains none.
    unsafe {
        let start = &raw const __alternatives_start;
        let count = (&raw const __alternatives_end).offset_from(start) as usize;
        for site in core::slice::from_raw_parts(start, count) {
            let bytes = site.instruction.to_le_bytes();
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), site.at as *mut u8, LENGTH);
        }
    }
    // CPUID serializes: what was fetched before is fetched again.
    cpuid(0, 0);
}
