//! `struct linux_dirent64` records.

use crate::inode::Entry;
use abi::Errno;
use alloc::vec::Vec;
use frames::fallible::Grow;

/// Bytes of a record before its name: inode, offset, length, type.
const HEADER: usize = 8 + 8 + 2 + 1;
/// Records gathered per call at most, bytes: user buffers may be larger, kernel memory is not
/// theirs to size.
const BATCH_MAX: usize = 32 * 1024;

/// Records being gathered for one getdents64(2).
pub struct Batch {
    out: Vec<u8>,
    limit: usize,
    full: bool,
    /// There was no memory for a record.
    refused: bool,
}

impl Batch {
    /// For a user buffer of `room` bytes.
    pub fn new(room: usize) -> Self {
        let limit = room.min(BATCH_MAX);
        Self { out: Vec::new(), limit, full: false, refused: false }
    }

    /// Adds a record; false (and the batch is full) when it does not fit.
    pub fn push(&mut self, entry: &Entry<'_>) -> bool {
        let start = self.out.len();
        // The name is NUL-terminated, records are 8-byte aligned.
        let len = (HEADER + entry.name.len() + 1).next_multiple_of(8);
        if start + len > self.limit {
            self.full = true;
            return false;
        }
        let first = if start == 0 { self.limit.min(4096) } else { len };
        if self.out.room_for(first).is_err() {
            self.full = true;
            self.refused = true;
            return false;
        }
        self.out.extend_from_slice(&entry.ino.to_le_bytes());
        self.out.extend_from_slice(&entry.next.to_le_bytes());
        self.out.extend_from_slice(&(len as u16).to_le_bytes());
        self.out.push(entry.kind.d_type());
        self.out.extend_from_slice(entry.name);
        self.out.resize(start + len, 0);
        true
    }

    /// A record did not fit.
    pub fn is_full(&self) -> bool {
        self.full
    }
    /// Nothing fits that could be added: EINVAL, or ENOMEM.
    pub fn error(&self) -> Errno {
        if self.refused { Errno::ENOMEM } else { Errno::EINVAL }
    }
    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
    /// Of the first `written` bytes: those of whole records, and the position behind the last of
    /// them. None when there is no whole one.
    pub fn whole_records(&self, written: usize) -> Option<(usize, u64)> {
        let mut found = None;
        let mut at = 0;
        while let Some(header) = self.out.get(at..at + HEADER) {
            let end = at + usize::from(u16::from_le_bytes([header[16], header[17]]));
            if end > written {
                break;
            }
            let next = header[8..16].try_into().ok()?;
            found = Some((end, u64::from_le_bytes(next)));
            at = end;
        }
        found
    }
    /// The records.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }
}
