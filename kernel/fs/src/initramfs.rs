//! Unpacking an initramfs: cpio archives (newc), plain or gzip-compressed, one after the other.
//!
//! Follows what Linux accepts (Documentation/driver-api/early-userspace/buffer-format): archives
//! may be concatenated, padded with zeroes, and compressed each by itself. What is malformed ends
//! the unpacking with Linux's words; what was unpacked before stays.

mod cpio;
mod gzip;

use crate::mount::Path;
use core::fmt;
use cpio::Unpacker;

/// Why unpacking failed. Displayed as Linux words it after "Initramfs unpacking failed: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// Neither cpio nor a known compression.
    InvalidMagic,
    /// A compression that is not supported.
    Compression(&'static str),
    /// The old portable format.
    WrongCpio,
    NoCpioMagic,
    /// Compressed data is damaged or ends early.
    Damaged,
    /// Bytes after the archive that are no archive.
    Junk,
    /// Padding that is not zero.
    BrokenPadding,
    /// A name without its NUL.
    BadName,
    /// Memory or the file system's limits are exhausted.
    Write,
    /// The archive ends in the middle.
    Truncated,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidMagic => f.write_str("invalid magic at start of compressed archive"),
            Self::Compression(name) => write!(f, "compression method {name} not configured"),
            Self::WrongCpio => f.write_str("incorrect cpio method used: use -H newc option"),
            Self::NoCpioMagic => f.write_str("no cpio magic"),
            Self::Damaged => f.write_str("decompressor failed"),
            Self::Junk => f.write_str("junk within compressed archive"),
            Self::BrokenPadding => f.write_str("broken padding"),
            Self::BadName => f.write_str("initramfs name without nulterm"),
            Self::Write => f.write_str("write error"),
            Self::Truncated => f.write_str("archive ends early"),
        }
    }
}

/// First bytes of compressions that Linux knows and this kernel does not.
const FOREIGN: [(&[u8], &str); 6] = [
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\xfd7zXZ", "xz"),
    (b"\x89LZO", "lzo"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
];

/// Unpacks `image` into the directory `root`.
pub fn unpack(root: &Path, image: &[u8]) -> Result<(), UnpackError> {
    crate::boot::as_kernel(root, |caller| {
        let mut at = 0;
        let mut unpacker = Unpacker::new(caller);
        while at < image.len() {
            let rest = &image[at..];
            if rest[0] == 0 {
                at += 1;
                continue;
            }
            if rest[0] == b'0' && at.is_multiple_of(4) {
                at += unpacker.archive(rest)?;
            } else if rest.starts_with(&[0x1f, 0x8b]) {
                unpacker.begin();
                at += gzip::inflate(rest, &mut |data| unpacker.stream(data))?;
                unpacker.stream_ended()?;
            } else {
                let known = FOREIGN.iter().find(|(magic, _)| rest.starts_with(magic));
                return Err(match known {
                    Some((_, name)) => UnpackError::Compression(name),
                    None if at == 0 => UnpackError::InvalidMagic,
                    None => UnpackError::Junk,
                });
            }
        }
        unpacker.finish()
    })
}
