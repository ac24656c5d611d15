//! A kernel of a few instructions, to learn what the firmware takes: entered as Proxima and Linux
//! are, it prints the time-stamp counter in hexadecimal on the first serial port and resets.

/// Where it is loaded.
const BASE: u32 = 0x10_0000;
/// Offset of code in the file and from [`BASE`].
const CODE_AT: usize = 0x100;
/// Offset of the note.
const NOTE_AT: usize = 0xc0;

/// 32-bit code; the PVH entry leaves paging off, and a UART as reset transmits what it is given.
const CODE: &[u8] = &[
    0x0f, 0x31, // rdtsc
    0x89, 0xd3, // mov ebx, edx          the high half first
    0x89, 0xc7, // mov edi, eax
    0xbd, 0x02, 0x00, 0x00, 0x00, // mov ebp, 2
    // half (11):
    0xb9, 0x08, 0x00, 0x00, 0x00, // mov ecx, 8
    // digit (16):
    0xc1, 0xc3, 0x04, // rol ebx, 4
    0x88, 0xd8, // mov al, bl
    0x24, 0x0f, // and al, 15
    0x04, 0x30, // add al, '0'
    0x3c, 0x39, // cmp al, '9'
    0x76, 0x02, // jbe +2
    0x04, 0x27, // add al, 'a' - '9' - 1
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xee, // out dx, al
    0xe2, 0xea, // loop digit            38 - 22
    0x89, 0xfb, // mov ebx, edi
    0x4d, // dec ebp
    0x75, 0xe0, // jnz half              43 - 32
    0xb0, 0x0a, // mov al, newline
    0xee, // out dx, al
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al          the keyboard controller's reset line
    0xf4, // hlt
    0xeb, 0xfd, // jmp -3
];

/// The ELF-64 file: one segment, and a Xen note with the physical entry (type 18).
pub fn kernel() -> Vec<u8> {
    let size = (CODE_AT + CODE.len()) as u64;
    let mut file = Vec::new();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put(&2_u16.to_le_bytes()); // ET_EXEC
    put(&62_u16.to_le_bytes()); // EM_X86_64
    put(&1_u32.to_le_bytes());
    put(&u64::from(BASE + CODE_AT as u32).to_le_bytes()); // entry
    put(&64_u64.to_le_bytes()); // program headers
    put(&0_u64.to_le_bytes()); // section headers
    put(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        put(&half.to_le_bytes());
    }
    let base = u64::from(BASE);
    let mut header = |kind: u32, at: u64, size: u64, align: u64| {
        put(&kind.to_le_bytes());
        put(&7_u32.to_le_bytes());
        for word in [at, base + at, base + at, size, size, align] {
            put(&word.to_le_bytes());
        }
    };
    header(1, 0, size, 0x1000); // PT_LOAD
    header(4, NOTE_AT as u64, 20, 4); // PT_NOTE
    file.resize(NOTE_AT, 0);
    for word in [4_u32, 4, 18] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"Xen\0");
    file.extend((BASE + CODE_AT as u32).to_le_bytes());
    file.resize(CODE_AT, 0);
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_land_where_the_listing_says() {
        let at = |opcode: &[u8]| CODE.windows(opcode.len()).position(|own| own == opcode).unwrap();
        let target = |jump: usize| (jump + 2) as isize + isize::from(CODE[jump + 1] as i8);
        assert_eq!(target(at(&[0xe2, 0xea])), at(&[0xc1, 0xc3]) as isize);
        assert_eq!(target(at(&[0x75, 0xe0])), at(&[0xb9, 0x08]) as isize);
        assert_eq!(target(at(&[0x76, 0x02])), at(&[0x66, 0xba]) as isize);
        assert_eq!(target(at(&[0xeb, 0xfd])), at(&[0xf4]) as isize);
    }
}
