//! The kernel's own shared object in this process, and functions of it by name.

use std::ffi::CStr;

use crate::sys::{Error, Result};

/// ELF-64 dynamic tags (System V gABI).
const DT_NULL: u64 = 0;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
/// Bytes of an Elf64_Sym: name u32, info u8, other u8, section u16, value u64, size u64.
const SYMBOL: usize = 24;

/// Address of `name`; an ENOSYS where the kernel gives no vDSO or it lacks the function.
pub fn function(name: &'static str) -> Result<usize> {
    // SAFETY: asks for a word of the auxiliary vector.
    let base = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    let missing = Error { what: name, errno: libc::ENOSYS };
    if base == 0 {
        return Err(missing);
    }
    // SAFETY: the kernel mapped a whole ELF file there, and read-only parts are read.
    unsafe { search(base, name) }.ok_or(missing)
}

unsafe fn read<T: Copy>(at: usize) -> T {
    // SAFETY: the caller names memory of the vDSO.
    unsafe { std::ptr::with_exposed_provenance::<T>(at).read_unaligned() }
}

unsafe fn search(base: usize, name: &str) -> Option<usize> {
    // SAFETY: offsets of the ELF-64 header and program headers, inside the first page.
    let (headers, count) =
        unsafe { (base + read::<u64>(base + 32) as usize, read::<u16>(base + 56)) };
    let (mut load, mut dynamic) = (None, None);
    for header in (0..count as usize).map(|n| headers + n * 56) {
        // SAFETY: as above.
        let (kind, offset, address) =
            unsafe { (read::<u32>(header), read::<u64>(header + 8), read::<u64>(header + 16)) };
        match kind {
            PT_LOAD if load.is_none() => load = Some(offset.wrapping_sub(address) as usize),
            PT_DYNAMIC => dynamic = Some(base + offset as usize),
            _ => {}
        }
    }
    let slide = base.wrapping_add(load?);
    let table = |tag: u64| {
        let mut at = dynamic?;
        loop {
            // SAFETY: the dynamic section ends in DT_NULL.
            let (own, value) = unsafe { (read::<u64>(at), read::<u64>(at + 8)) };
            match own {
                DT_NULL => return None,
                _ if own == tag => return Some(slide.wrapping_add(value as usize)),
                _ => at += 16,
            }
        }
    };
    let (symbols, strings) = (table(DT_SYMTAB)?, table(DT_STRTAB)?);
    let count = match table(DT_HASH) {
        // SAFETY: nchain is the number of symbols.
        Some(hash) => unsafe { read::<u32>(hash + 4) as usize },
        // SAFETY: the table as its format says.
        None => unsafe { gnu_count(table(DT_GNU_HASH)?) },
    };
    (0..count).map(|n| symbols + n * SYMBOL).find_map(|symbol| {
        // SAFETY: within the symbol table; names end in a zero byte.
        unsafe {
            let text = std::ptr::with_exposed_provenance(strings + read::<u32>(symbol) as usize);
            let defined = read::<u16>(symbol + 6) != 0;
            (defined && CStr::from_ptr(text).to_bytes() == name.as_bytes())
                .then(|| slide.wrapping_add(read::<u64>(symbol + 8) as usize))
        }
    })
}

/// One more than the highest symbol in a GNU hash table: buckets name the first symbol of a chain,
/// and a chain ends in a word with its lowest bit set.
unsafe fn gnu_count(hash: usize) -> usize {
    // SAFETY: header words nbuckets, symoffset, bloom_size; then 8-byte bloom words, buckets, chains.
    unsafe {
        let (buckets, first) = (read::<u32>(hash) as usize, read::<u32>(hash + 4) as usize);
        let bucket = hash + 16 + read::<u32>(hash + 8) as usize * 8;
        let chain = bucket + buckets * 4;
        let highest = (0..buckets).map(|n| read::<u32>(bucket + n * 4) as usize).max().unwrap_or(0);
        if highest < first {
            return first;
        }
        let mut at = highest;
        while read::<u32>(chain + (at - first) * 4) & 1 == 0 {
            at += 1;
        }
        at + 1
    }
}
