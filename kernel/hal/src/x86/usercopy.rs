//! The copies between kernel and user memory, and their fix-up.
//!
//! Each instruction that may fault on a user address stands in `.extable` with the address to go
//! on at. The fault handler first tries to make the page present; only then is it fixed up.

use super::alternatives::{clac, stac};
use super::trap::TrapFrame;
use core::arch::naked_asm;

/// An entry of the table: a fault at label `from` goes on at label `to`.
macro_rules! extable {
    ($from:literal, $to:literal) => {
        concat!(".pushsection .extable, \"a\"\n.quad ", $from, ", ", $to, "\n.popsection")
    };
}

pub(super) use extable;

#[repr(C)]
struct Entry {
    from: u64,
    to: u64,
}

unsafe extern "C" {
    static __extable_start: Entry;
    static __extable_end: Entry;
}

/// If the frame's instruction has a fix-up, continues there.
pub(super) fn fix_up(frame: &mut TrapFrame) -> bool {
    // SAFETY: the linker collects the entries between the two symbols.
    let table = unsafe {
        let start = &raw const __extable_start;
        let end = &raw const __extable_end;
        core::slice::from_raw_parts(start, end.offset_from(start) as usize)
    };
    match table.iter().find(|e| e.from == frame.rip) {
        Some(entry) => {
            frame.rip = entry.to;
            true
        }
        None => false,
    }
}

/// True when a fault at this instruction can be fixed up.
pub fn has_fix_up(rip: u64) -> bool {
    let mut probe = TrapFrame { rip, ..TrapFrame::default() };
    fix_up(&mut probe)
}

/// Copies `len` bytes where one side is user memory; bytes NOT copied.
///
/// # Safety
/// The kernel side is valid for `len` bytes, the user side lies in the user half.
#[unsafe(naked)]
pub unsafe extern "C" fn raw_copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // Whole words first. A fault there retries byte by byte, so that the count is exact.
    naked_asm!(
        stac!(),
        "cmp rdx, 8",
        "je 7f",
        "ja 2f",
        "cmp edx, 4",
        "je 31f",
        "jmp 6f",
        "2:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "and edx, 7",
        "34: rep movsq",
        "6: mov ecx, edx",
        "3: rep movsb",
        "4:",
        clac!(),
        "mov rax, rcx",
        "ret",
        "5: lea rcx, [rcx*8 + rdx]",
        "8: rep movsb",
        "jmp 4b",
        "7: mov rax, [rsi]",
        "9: mov [rdi], rax",
        clac!(),
        "xor eax, eax",
        "ret",
        "30: mov ecx, 8",
        "jmp 8b",
        "31: mov eax, [rsi]",
        "32: mov [rdi], eax",
        clac!(),
        "xor eax, eax",
        "ret",
        "33: mov ecx, 4",
        "jmp 8b",
        extable!("31b", "33b"),
        extable!("32b", "33b"),
        extable!("34b", "5b"),
        extable!("3b", "4b"),
        extable!("8b", "4b"),
        extable!("7b", "30b"),
        extable!("9b", "30b"),
    )
}

/// Stores a 32-bit word in user memory; false when it cannot be written.
///
/// # Safety
/// `addr` lies in the user half.
#[inline(always)]
pub unsafe fn store_u32(addr: *mut u32, value: u32) -> bool {
    let stored: u32;
    // SAFETY: the caller's promise; a fault is fixed up.
    unsafe {
        core::arch::asm!(
            "mov {stored:e}, 1",
            stac!(),
            "2: mov [{addr}], {value:e}",
            "3:",
            clac!(),
            ".pushsection .text.fixup, \"ax\"",
            "4: xor {stored:e}, {stored:e}",
            "jmp 3b",
            ".popsection",
            extable!("2b", "4b"),
            addr = in(reg) addr,
            value = in(reg) value,
            stored = out(reg) stored,
            options(nostack),
        );
    }
    stored != 0
}

/// Compares and exchanges a 32-bit word of user memory: `(faulted, value seen)`.
///
/// # Safety
/// `addr` lies in the user half and is 4-byte aligned.
pub unsafe fn cmpxchg_u32(addr: *mut u32, old: u32, new: u32) -> (bool, u32) {
    let fault: u32;
    let seen: u32;
    // SAFETY: the caller's promise; a fault is fixed up.
    unsafe {
        core::arch::asm!(
            stac!(),
            "xor {fault:e}, {fault:e}",
            "2: lock cmpxchg [{addr}], {new:e}",
            "3:",
            clac!(),
            "jmp 5f",
            "4: mov {fault:e}, 1",
            "jmp 3b",
            "5:",
            extable!("2b", "4b"),
            addr = in(reg) addr,
            new = in(reg) new,
            fault = out(reg) fault,
            inout("eax") old => seen,
        );
    }
    (fault != 0, seen)
}

/// Replaces a word of user memory if it is `old`; the value that was there. EFAULT when the address
/// is bad.
pub fn exchange_u32(addr: crate::VirtAddr, old: u32, new: u32) -> abi::Result<u32> {
    if !crate::user::range_ok(addr, 4) {
        return Err(abi::Errno::EFAULT);
    }
    // SAFETY: the address lies in the user half; misalignment only makes the locked operation
    // slower.
    let (fault, seen) = unsafe { cmpxchg_u32(addr.raw() as *mut u32, old, new) };
    if fault { Err(abi::Errno::EFAULT) } else { Ok(seen) }
}

/// Adds to, sets, or otherwise changes a word of user memory by compare and exchange.
/// Returns the old value; EFAULT when the address is bad.
pub fn update_u32(addr: crate::VirtAddr, mut change: impl FnMut(u32) -> u32) -> abi::Result<u32> {
    let mut old: u32 = crate::user::read(addr)?;
    loop {
        let new = change(old);
        // SAFETY: `read` checked that the address lies in the user half; misalignment only makes
        // the locked operation slower.
        let (fault, seen) = unsafe { cmpxchg_u32(addr.raw() as *mut u32, old, new) };
        if fault {
            return Err(abi::Errno::EFAULT);
        }
        if seen == old {
            return Ok(old);
        }
        old = seen;
    }
}

/// Zeroes `len` bytes of user memory; EFAULT when the address is bad.
pub fn clear(addr: crate::VirtAddr, len: usize) -> abi::Result<()> {
    const ZEROES: [u8; 256] = [0; 256];
    let mut at = addr;
    let mut left = len;
    while left > 0 {
        let step = left.min(ZEROES.len());
        crate::user::copy_to(at, &ZEROES[..step])?;
        at = at + step as u64;
        left -= step;
    }
    Ok(())
}
