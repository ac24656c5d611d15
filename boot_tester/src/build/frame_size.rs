//! The kernel's stack: no function of it may take more than [`LIMIT`] bytes at once, as Linux's
//! build has it with `-Wframe-larger-than`.
//!
//! Sizes are read from the machine code: what a function's first instructions take off `rsp`.
//! Callers' frames add up: what was really used is told by `/proc/proxima/stacks`.

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};
use rustc_demangle::demangle;

/// Bytes of a frame. The kernel that checks itself is hardly optimized: it may have twice as many.
pub const LIMIT: u64 = 2048;

/// Functions that run while the kernel starts, on a stack of their own size. A name that ends in
/// `::` stands for all below it.
const AT_BOOT: [&str; 11] = [
    "frames::boot::",
    "frames::node::init",
    "hal::firmware::",
    "hal::x86::boot::",
    "hal::x86::cpu_area::prepare",
    "kernel::boot::",
    "kernel::main",
    "kernel::rootfs::remember",
    // Unpacks the initial file system.
    "miniz_oxide::inflate::",
    "numa::machine::",
    // Tables of the whole machine, offered once, by the functions above.
    "sync::once::Once<T>::offer",
];

/// Bytes that a function takes off the stack pointer, from its first instructions' bytes: `sub rsp,
/// imm32`, and `lea r11, [rsp - disp32]` where large frames are touched page by page (4096 bytes of
/// each page are then in the loop's own `sub`).
fn frame(code: &[u8]) -> u64 {
    const PROLOGUE: usize = 96;
    let number = |at: &[u8]| at.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
    let code = &code[..code.len().min(PROLOGUE)];
    let mut bytes: i64 = 0;
    for (at, window) in code.windows(4).enumerate() {
        match window {
            [0x48, 0x81, 0xec, _] => bytes += i64::from(number(&code[at + 3..])),
            [0x4c, 0x8d, 0x9c, 0x24] => bytes += -i64::from(number(&code[at + 4..])) - 4096,
            _ => {}
        }
    }
    bytes.max(0) as u64
}

fn at_boot(name: &str) -> bool {
    AT_BOOT.iter().any(
        |known| {
            if known.ends_with("::") { name.starts_with(known) } else { name == *known }
        },
    )
}

/// The functions of a linked kernel whose frames have more than `limit` bytes: bytes and names.
pub fn too_large(data: &[u8], limit: u64) -> Result<Vec<(u64, String)>, String> {
    let file = ElfFile64::<LittleEndian>::parse(data).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        let Some(section) = section.filter(|s| s.kind() == SectionKind::Text) else { continue };
        let Ok(Some(code)) = section.data_range(symbol.address(), symbol.size()) else { continue };
        let bytes = frame(code);
        if bytes > limit {
            let name = format!("{:#}", demangle(symbol.name().unwrap_or_default()));
            if !at_boot(&name) {
                found.push((bytes, name));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_the_first_instructions_take() {
        assert_eq!(frame(&[0x55, 0x48, 0x89, 0xe5, 0xc3]), 0);
        // push rbp; sub rsp, 0x908
        assert_eq!(frame(&[0x55, 0x48, 0x81, 0xec, 8, 9, 0, 0]), 0x908);
        // sub rsp, 0x1000; mov qword ptr [rsp], 0; sub rsp, 0x20
        let probed = [
            0x48, 0x81, 0xec, 0, 0x10, 0, 0, 0x48, 0xc7, 4, 0x24, 0, 0, 0, 0, 0x48, 0x81, 0xec,
            0x20, 0, 0, 0,
        ];
        assert_eq!(frame(&probed), 0x1020);
        // lea r11, [rsp - 0x7000]; sub rsp, 0x1000; ...; sub rsp, 0x600
        let looped = [
            0x4c, 0x8d, 0x9c, 0x24, 0, 0x90, 0xff, 0xff, 0x48, 0x81, 0xec, 0, 0x10, 0, 0, 0x75,
            0xe9, 0x48, 0x81, 0xec, 0, 6, 0, 0,
        ];
        assert_eq!(frame(&looped), 0x7600);
        // Cut short.
        assert_eq!(frame(&[0x48, 0x81, 0xec, 0x10]), 0);
    }

    #[test]
    fn what_runs_at_boot_may() {
        assert!(at_boot("kernel::main"));
        assert!(at_boot("hal::firmware::describe"));
        assert!(!at_boot("kernel::main_loop"));
        assert!(!at_boot("kernel::clone::clone"));
    }
}
