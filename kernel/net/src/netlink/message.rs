//! The coding of netlink messages (netlink(7), rtnetlink(7)): headers, attributes, alignment.

use abi::Result;
use alloc::vec::Vec;
use frames::fallible::TryVec;

/// Bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// Types of messages that are not a family's own.
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
/// The first type of rtnetlink.
pub const RTM_BASE: u16 = 16;

/// Flags of a request and of an answer (`NLM_F_*`).
pub mod flag {
    pub const REQUEST: u16 = 1;
    pub const MULTI: u16 = 2;
    pub const ACK: u16 = 4;
    pub const DUMP: u16 = 0x300;
    /// Of an error: the request's own data is left out.
    pub const CAPPED: u16 = 0x100;
}

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub len: usize,
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub port: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// A word of a message.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Header {
    /// Reads the header of the first message; None when there is no whole one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER {
            return None;
        }
        let len = u32_at(bytes, 0) as usize;
        (HEADER..=bytes.len()).contains(&len).then(|| Self {
            len,
            kind: u16_at(bytes, 4),
            flags: u16_at(bytes, 6),
            seq: u32_at(bytes, 8),
            port: u32_at(bytes, 12),
        })
    }
}

/// The attributes of a message, type and value; a malformed one ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        if bytes.len() < 4 {
            return None;
        }
        let len = usize::from(u16_at(bytes, 0));
        if !(4..=bytes.len()).contains(&len) {
            return None;
        }
        let found = (u16_at(bytes, 2) & 0x3fff, &bytes[4..len]);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(found)
    })
}

/// Messages being made, one after the other.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Where the message under way begins.
    start: usize,
}

impl Writer {
    /// Begins a message with its family's own header. ENOMEM.
    pub fn begin(&mut self, kind: u16, flags: u16, to: &Header, own: &[u8]) -> Result<()> {
        self.start = self.bytes.len();
        let mut header = [0; HEADER];
        header[4..6].copy_from_slice(&kind.to_le_bytes());
        header[6..8].copy_from_slice(&flags.to_le_bytes());
        header[8..12].copy_from_slice(&to.seq.to_le_bytes());
        header[12..].copy_from_slice(&to.port.to_le_bytes());
        self.bytes.try_extend(&header)?;
        self.bytes.try_extend(own)?;
        self.pad()
    }

    fn pad(&mut self) -> Result<()> {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.try_push(0)?;
        }
        Ok(())
    }

    /// Adds an attribute. ENOMEM.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> Result<()> {
        let len = (4 + value.len()) as u16;
        self.bytes.try_extend(&len.to_le_bytes())?;
        self.bytes.try_extend(&kind.to_le_bytes())?;
        self.bytes.try_extend(value)?;
        self.pad()
    }

    /// Adds an attribute that is a word.
    pub fn word(&mut self, kind: u16, value: u32) -> Result<()> {
        self.attribute(kind, &value.to_le_bytes())
    }

    /// Ends the message: its length is known now.
    pub fn end(&mut self) {
        let len = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// The bytes so far.
    pub fn take(&mut self) -> Vec<u8> {
        self.start = 0;
        core::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(kind: u16, seq: u32, port: u32, values in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let to = Header { len: 0, kind: 0, flags: 0, seq, port };
            let mut writer = Writer::default();
            writer.begin(kind, 5, &to, &[9; 8]).unwrap();
            for (kind, value) in &values {
                writer.attribute(*kind, value).unwrap();
            }
            writer.end();
            let bytes = writer.take();
            let header = Header::read(&bytes).unwrap();
            prop_assert_eq!(header, Header { len: bytes.len(), kind, flags: 5, seq, port });
            let found: std::vec::Vec<_> = attributes(&bytes[HEADER + 8..]).collect();
            prop_assert_eq!(found.len(), values.len());
            for ((kind, value), (k, v)) in values.iter().zip(found) {
                prop_assert_eq!((*kind, &value[..]), (k, v));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::read(&bytes);
            prop_assert!(attributes(&bytes).count() <= 20);
        }
    }
}
