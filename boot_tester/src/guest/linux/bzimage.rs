//! The ELF kernel inside a bzImage: it boots through the same PVH entry as Proxima, which saves the
//! seconds that a kernel under emulation takes to decompress itself.

use std::io::Write;
use std::process::{Command, Stdio};

/// The ELF kernel inside a bzImage (Linux/x86 boot protocol: setup_sects at 0x1f1, payload_offset
/// at 0x248, payload_length at 0x24c; the last four bytes of the payload are its unpacked size).
pub fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = (sectors + 1) * 512 + word(0x248)? as usize;
    let end = start.checked_add(word(0x24c)? as usize)?.checked_sub(4)?;
    let payload = image.get(start..end)?;
    let tool = match payload.get(..4)? {
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        [0xfd, b'7', b'z', b'X'] => "xz",
        [0x1f, 0x8b, ..] => "gzip",
        _ => return None,
    };
    let elf = filter(tool, payload)?;
    elf.starts_with(b"\x7fELF").then_some(elf)
}

fn filter(tool: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(tool)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().ok()?;
    let _ = feeder.join();
    Some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_bzimage_are_left_alone() {
        assert_eq!(unpack(b""), None);
        assert_eq!(unpack(&[0; 4096]), None);
        let mut image = vec![0; 4096];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&image), None);
    }
}
