//! Sealing the kernel: the ELF file that QEMU loads, without debug information, and with the
//! kernel's own symbol table in the segment that its linker script keeps free for it.
//!
//! The table (all little-endian): magic `PXKSYMS\0`, u64 total length, u32 count, u32 length of
//! names, then count times {u32 address - 0xffff_ffff_8000_0000, u32 offset into the names} in
//! ascending order of addresses, then the demangled names, each ended by a NUL. It lets a panic
//! name the functions of its backtrace without any help from outside.

use std::collections::BTreeMap;

use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use rustc_demangle::demangle;

pub const MAGIC: [u8; 8] = *b"PXKSYMS\0";
/// The kernel half's base: code-model=kernel links into the top 2 GiB.
pub const BASE: u64 = 0xffff_ffff_8000_0000;
const SECTION: &str = ".ksyms";
const PAGE: u64 = 4096;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// The bootable file made of a linked kernel. One without the section stays as it is.
pub fn seal(data: &[u8]) -> Result<Vec<u8>, String> {
    let file = ElfFile64::<LittleEndian>::parse(data).map_err(|e| e.to_string())?;
    let Some(section) = file.section_by_name(SECTION) else { return Ok(data.to_vec()) };
    let table = table(&symbols(&file));
    let address = section.address();
    let header = file.elf_header();
    let segments = header.program_headers(LittleEndian, data).map_err(|e| e.to_string())?;
    let index = segments
        .iter()
        .position(|s| s.p_type(LittleEndian) == elf::PT_LOAD && s.p_vaddr(LittleEndian) == address)
        .ok_or("no segment of its own for .ksyms")?;
    let loads = || segments.iter().filter(|s| s.p_type(LittleEndian) == elf::PT_LOAD);
    if loads().any(|s| s.p_vaddr(LittleEndian) > address) {
        return Err("the segment of .ksyms is not the last: there is no room to grow".into());
    }
    // Everything up to the end of the other segments' bytes is kept; sections are not.
    let end = segments
        .iter()
        .enumerate()
        .filter(|(own, s)| *own != index && s.p_filesz(LittleEndian) > 0)
        .map(|(_, s)| s.p_offset(LittleEndian) + s.p_filesz(LittleEndian))
        .max()
        .unwrap_or(HEADER as u64)
        .max(HEADER as u64 + (segments.len() * PROGRAM_HEADER) as u64);
    let mut out = data.get(..end as usize).ok_or("a segment lies outside the file")?.to_vec();
    let offset = end.next_multiple_of(PAGE) + address % PAGE;
    out.resize(offset as usize, 0);
    out.extend_from_slice(&table);
    patch(&mut out, index, offset, table.len() as u64)?;
    Ok(out)
}

/// Points program header `index` at the table, and drops the section headers.
fn patch(out: &mut [u8], index: usize, offset: u64, size: u64) -> Result<(), String> {
    let mut put = |at: usize, bytes: &[u8]| -> Result<(), String> {
        let place = out.get_mut(at..at + bytes.len()).ok_or("the ELF header is cut short")?;
        place.copy_from_slice(bytes);
        Ok(())
    };
    // e_shoff, then e_shnum and e_shstrndx.
    put(40, &[0; 8])?;
    put(60, &[0; 4])?;
    // The linker puts program headers behind the file header; seal() has checked that they parse.
    let at = HEADER + index * PROGRAM_HEADER;
    put(at + 8, &offset.to_le_bytes())?;
    put(at + 32, &size.to_le_bytes())?;
    put(at + 40, &size.to_le_bytes())
}

/// Functions of the kernel's half, by address; of several names the first in the alphabet.
fn symbols(file: &ElfFile64<LittleEndian>) -> BTreeMap<u32, String> {
    let mut list: BTreeMap<u32, String> = BTreeMap::new();
    for symbol in file.symbols().filter(ObjectSymbol::is_definition) {
        let in_code = symbol
            .section_index()
            .and_then(|index| file.section_by_index(index).ok())
            .is_some_and(|section| section.kind() == SectionKind::Text);
        // Entry points written in assembly carry no type.
        let function = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
        let Ok(name) = symbol.name() else { continue };
        let Some(address) = symbol.address().checked_sub(BASE) else { continue };
        let Ok(address) = u32::try_from(address) else { continue };
        if !in_code || !function || name.is_empty() || name.starts_with(['.', '$']) {
            continue;
        }
        let name = format!("{:#}", demangle(name));
        match list.get(&address) {
            Some(other) if *other <= name => {}
            _ => drop(list.insert(address, name)),
        }
    }
    list
}

fn table(symbols: &BTreeMap<u32, String>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut entries = Vec::new();
    for (address, name) in symbols {
        entries.extend(address.to_le_bytes());
        entries.extend((names.len() as u32).to_le_bytes());
        names.extend(name.bytes());
        names.push(0);
    }
    let total = MAGIC.len() + 8 + 4 + 4 + entries.len() + names.len();
    let mut out = Vec::with_capacity(total);
    out.extend(MAGIC);
    out.extend((total as u64).to_le_bytes());
    out.extend((symbols.len() as u32).to_le_bytes());
    out.extend((names.len() as u32).to_le_bytes());
    out.extend(entries);
    out.extend(names);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_lengths_are_true() {
        let symbols = BTreeMap::from([(0x2000, "b::c".to_string()), (0x1000, "a".to_string())]);
        let bytes = table(&symbols);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes[..8], MAGIC);
        assert_eq!(u64::from_le_bytes(bytes[8..16].try_into().unwrap()), bytes.len() as u64);
        assert_eq!((word(16), word(20)), (2, 7));
        assert_eq!((word(24), word(28), word(32), word(36)), (0x1000, 0, 0x2000, 2));
        assert_eq!(&bytes[40..], b"a\0b::c\0");
    }

    #[test]
    fn a_kernel_without_the_section_is_left_as_it_is() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(seal(&own).unwrap() == own);
        assert!(seal(b"no ELF").is_err());
    }

    /// A linked kernel as small as one can be: made here, because the real one needs another target.
    fn linked() -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().ok()?;
        let at = |name: &str| dir.path().join(name);
        std::fs::write(
            at("k.s"),
            ".globl start\n.text\n.type start,@function\nstart: ret\n.globl _ZN1a1bE\n\
             .type _ZN1a1bE,@function\n_ZN1a1bE: ret\n\
             .section .ksyms,\"a\"\n.ascii \"PXKSYMS\\0\"\n.quad 0\n",
        )
        .ok()?;
        std::fs::write(
            at("k.ld"),
            "ENTRY(start)\nSECTIONS { . = 0xffffffff80100000; .text : { *(.text) }\n\
             . = ALIGN(4096); .bss : { *(.bss) }\n. = ALIGN(4096); .ksyms : { *(.ksyms) } }\n",
        )
        .ok()?;
        let run = |program: &str, args: &[&str]| {
            let mut command = std::process::Command::new(program);
            command.args(args).current_dir(dir.path());
            command.status().is_ok_and(|status| status.success())
        };
        let done = run("as", &["k.s", "-o", "k.o"])
            && run("ld", &["-T", "k.ld", "-z", "separate-code", "k.o", "-o", "k"]);
        done.then(|| std::fs::read(at("k")).ok()).flatten()
    }

    #[test]
    fn a_sealed_kernel_carries_its_functions_in_the_last_segment() {
        let Some(kernel) = linked() else {
            // No assembler on this machine: the guest's backtrace tests cover the same.
            return;
        };
        let sealed = seal(&kernel).unwrap();
        let header = elf::FileHeader64::<LittleEndian>::parse(&*sealed).unwrap();
        assert_eq!(header.e_shnum(LittleEndian), 0);
        let segments = header.program_headers(LittleEndian, &*sealed).unwrap();
        let loads = segments.iter().filter(|s| s.p_type(LittleEndian) == elf::PT_LOAD);
        let last = loads.max_by_key(|s| s.p_vaddr(LittleEndian)).unwrap();
        let bytes = last.data(LittleEndian, &*sealed).unwrap();
        assert_eq!(bytes[..8], MAGIC);
        assert_eq!(u64::from_le_bytes(bytes[8..16].try_into().unwrap()), bytes.len() as u64);
        assert_eq!(last.p_offset(LittleEndian) % PAGE, last.p_vaddr(LittleEndian) % PAGE);
        assert_eq!(last.p_memsz(LittleEndian), bytes.len() as u64);
        assert!(bytes.ends_with(b"start\0a::b\0"), "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(header.e_entry(LittleEndian), 0xffff_ffff_8010_0000);
    }
}
