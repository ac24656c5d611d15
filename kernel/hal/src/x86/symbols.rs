//! The kernel's own symbol table, appended to the image after linking.
//!
//! Layout (little endian), at `__ksyms_start`: u64 magic `PXKSYMS\0`, u64 length of all, u32 count,
//! u32 length of names; `count` pairs of u32 (address less the kernel's base, name offset) sorted
//! by address; NUL-terminated names. An image that was not sealed has only magic and length.

use super::boot::KERNEL_BASE;
use core::arch::global_asm;

const MAGIC: u64 = u64::from_le_bytes(*b"PXKSYMS\0");

global_asm!(
    r#"
.section .ksyms, "a"
    .quad {magic}
    .quad 16
.text
"#,
    magic = const MAGIC,
);

unsafe extern "C" {
    static __ksyms_start: u8;
}

fn blob() -> &'static [u8] {
    // SAFETY: the linker script places the header here; its second word is the true length (the
    // sealing step grows the segment to match).
    unsafe {
        let base = &raw const __ksyms_start;
        let len = base.add(8).cast::<u64>().read_unaligned() as usize;
        core::slice::from_raw_parts(base, len)
    }
}

/// Bytes of the table.
pub fn blob_len() -> usize {
    blob().len()
}

fn word(blob: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(blob.get(at..at + 4)?.try_into().ok()?))
}

/// Where the kernel's code begins and ends.
pub fn text() -> (u64, u64) {
    unsafe extern "C" {
        static __text_start: u8;
        static __text_end: u8;
    }
    (&raw const __text_start as u64, &raw const __text_end as u64)
}

/// A number for this build of the kernel: a digest (FNV-1a) of all its symbols and addresses.
pub fn build_id() -> [u8; 20] {
    let mut id = [0; 20];
    for (lane, bytes) in id.chunks_mut(8).enumerate() {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ lane as u64;
        for &byte in blob() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        bytes.copy_from_slice(&hash.to_le_bytes()[..bytes.len()]);
    }
    id
}

/// Number of symbols.
pub fn count() -> usize {
    word(blob(), 16).unwrap_or(0) as usize
}

/// The `index`-th symbol by address: address and name.
pub fn get(index: usize) -> Option<(u64, &'static str)> {
    let blob = blob();
    let count = count();
    if index >= count {
        return None;
    }
    let addr = word(blob, 24 + index * 8)? as u64 + KERNEL_BASE;
    let name = 24 + count * 8 + word(blob, 24 + index * 8 + 4)? as usize;
    let bytes = blob.get(name..)?;
    let end = bytes.iter().position(|&b| b == 0)?;
    Some((addr, core::str::from_utf8(&bytes[..end]).ok()?))
}

/// The symbol that holds `addr`: its name and the offset into it.
pub fn lookup(addr: u64) -> Option<(&'static str, u64)> {
    let (mut low, mut high) = (0, count());
    while low < high {
        let mid = (low + high) / 2;
        if get(mid)?.0 <= addr { low = mid + 1 } else { high = mid }
    }
    let (start, name) = get(low.checked_sub(1)?)?;
    Some((name, addr - start))
}
