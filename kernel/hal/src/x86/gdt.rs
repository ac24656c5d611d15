//! Segments and the task-state segment, one set per CPU.

use core::arch::asm;

/// Selectors. SYSRET wants user data just below user code.
pub const KERNEL_CODE: u16 = 0x08;
pub const KERNEL_DATA: u16 = 0x10;
pub const USER_DATA: u16 = 0x28 | 3;
pub const USER_CODE: u16 = 0x30 | 3;
const TSS_SELECTOR: u16 = 0x40;
/// Holds CPU and node in its limit, for LSL without entering the kernel (as Linux's 0x7b).
pub const CPU_NODE: u16 = 0x78 | 3;

/// IST slots (1-based in the IDT).
pub const IST_DOUBLE_FAULT: u8 = 1;
pub const IST_NMI: u8 = 2;
pub const IST_MACHINE_CHECK: u8 = 3;
pub const IST_DEBUG: u8 = 4;

#[repr(C, packed(4))]
struct Tss {
    _reserved0: u32,
    rsp: [u64; 3],
    _reserved1: u64,
    ist: [u64; 7],
    _reserved2: u64,
    _reserved3: u16,
    iomap: u16,
}

/// A CPU's descriptor tables; lives for ever at one address.
#[repr(C, align(64))]
pub struct Tables {
    gdt: [u64; 16],
    tss: Tss,
}

impl Tables {
    /// Tables whose interrupt stacks end at `ist` (double fault, NMI, machine check, debug).
    pub fn new(ist: [u64; 4], cpu_node: u32) -> Self {
        let mut gdt = [0u64; 16];
        gdt[1] = 0x00af_9b00_0000_ffff;
        gdt[2] = 0x00cf_9300_0000_ffff;
        // No 32-bit code: on AMD its SYSCALL would enter the kernel at CSTAR, on the user's stack. SYSRET
        // to 64-bit code counts from this place, but does not read it.
        gdt[4] = 0;
        gdt[5] = 0x00cf_f300_0000_ffff;
        gdt[6] = 0x00af_fb00_0000_ffff;
        // Limit bits 15:0 and 19:16; present, DPL 3, read-only data.
        let limit = u64::from(cpu_node);
        gdt[15] = (limit & 0xffff) | ((limit >> 16 & 0xf) << 48) | 0x0040_f500_0000_0000;
        Self {
            gdt,
            tss: Tss {
                _reserved0: 0,
                rsp: [0; 3],
                _reserved1: 0,
                ist: [ist[0], ist[1], ist[2], ist[3], 0, 0, 0],
                _reserved2: 0,
                _reserved3: 0,
                iomap: size_of::<Tss>() as u16,
            },
        }
    }

    /// Loads the tables on this CPU and tells its per-CPU data where the TSS is.
    ///
    /// # Safety
    /// `this` lives for ever and belongs to this CPU, whose per-CPU data is installed.
    pub unsafe fn load(this: *mut Self) {
        // SAFETY: the caller's promise. GS.base is reloaded after the selectors, since writing a
        // selector to GS would clear it: so GS is left alone.
        unsafe {
            let tss = &raw mut (*this).tss as u64;
            (*this).gdt[8] = (size_of::<Tss>() as u64 - 1)
                | (tss & 0xff_ffff) << 16
                | 0x89 << 40
                | (tss >> 24 & 0xff) << 56;
            (*this).gdt[9] = tss >> 32;
            let pointer = Pointer { limit: 16 * 8 - 1, base: &raw const (*this).gdt as u64 };
            asm!(
                "lgdt [{ptr}]",
                "push {code}",
                "lea {tmp}, [rip + 2f]",
                "push {tmp}",
                "retfq",
                "2:",
                "mov ss, {data:x}",
                "mov ds, {zero:x}",
                "mov es, {zero:x}",
                "ltr {tr:x}",
                ptr = in(reg) &pointer,
                code = const KERNEL_CODE,
                tmp = out(reg) _,
                data = in(reg) KERNEL_DATA as u32,
                zero = in(reg) 0u32,
                tr = in(reg) TSS_SELECTOR as u32,
            );
            (*super::percpu::local()).tss = tss;
        }
    }
}

#[repr(C, packed)]
pub(super) struct Pointer {
    pub limit: u16,
    pub base: u64,
}

/// Sets the stack that interrupts from user mode begin on.
///
/// # Safety
/// `tss` is this CPU's TSS (or 0 before it is loaded), `top` the top of a mapped stack.
#[inline]
pub(super) unsafe fn set_kernel_stack(tss: u64, top: u64) {
    if tss != 0 {
        // SAFETY: the caller's promise; RSP0 is at offset 4, unaligned.
        unsafe { ((tss + 4) as *mut u64).write_unaligned(top) }
    }
}
