//! The memory of a PCI device, as each kernel lets a program have it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::mm::{MapFlags, ProtFlags, mmap};

/// The memory; accesses beyond its end are the caller's mistake, and panic or fail.
pub enum Memory {
    /// Mapped for good: its address and length.
    Mapped(usize, usize),
    /// /dev/mem, where it begins there, and its length.
    File(File, u64, usize),
}

impl Memory {
    /// By mapping the file of the device's register, else by /dev/mem.
    pub fn open(register: &Path, start: u64, len: u64) -> Option<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).ok();
        let len = len as usize;
        if let Some(file) = open(register) {
            let (null, rights) = (std::ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
            // SAFETY: a new mapping of its own, of device memory that no Rust object is in.
            let at = unsafe { mmap(null, len, rights, MapFlags::SHARED, &file, 0) };
            return at.ok().map(|at| Self::Mapped(at as usize, len));
        }
        let file = open(Path::new("/dev/mem"))?;
        file.read_exact_at(&mut [0; 8], start).ok()?;
        Some(Self::File(file, start, len))
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        match *self {
            Self::Mapped(_, len) | Self::File(_, _, len) => len as u64,
        }
    }

    /// Fills `bytes` from `offset` on.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Mapped(at, len) => {
                assert!(offset as usize + bytes.len() <= *len, "within the memory");
                let from = (at + offset as usize) as *const u8;
                // SAFETY: within the mapping (asserted), which stays; bytes that others may write.
                unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
                Ok(())
            }
            Self::File(file, start, _) => file.read_exact_at(bytes, start + offset),
        }
    }

    /// Puts `bytes` at `offset`.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Mapped(at, len) => {
                assert!(offset as usize + bytes.len() <= *len, "within the memory");
                let to = (at + offset as usize) as *mut u8;
                // SAFETY: as in `read`.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
                Ok(())
            }
            Self::File(file, start, _) => file.write_all_at(bytes, start + offset),
        }
    }
}
