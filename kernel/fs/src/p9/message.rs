//! Messages of 9P2000.L: numbers are little endian, a text is its length (16 bits) and its bytes.
//! A message is its length (32 bits), its kind, a tag (16 bits) and the rest.

use super::LONGEST_REQUEST;
use crate::stat::DevId;
use abi::{Errno, Result};
use alloc::vec::Vec;
use frames::fallible::TryVec;

/// Kinds of requests; a reply's is one more.
pub const LOPEN: u8 = 12;
pub const READLINK: u8 = 22;
pub const GETATTR: u8 = 24;
pub const READDIR: u8 = 40;
pub const VERSION: u8 = 100;
pub const ATTACH: u8 = 104;
pub const WALK: u8 = 110;
pub const READ: u8 = 116;
pub const CLUNK: u8 = 120;
/// The reply that is an errno.
const LERROR: u8 = 7;
/// The tag of the one request that is under way; of a VERSION it must be this.
const TAG: u16 = 0xffff;
const HEADER: usize = 7;

/// A request that is being written.
pub struct Request(Vec<u8>);

impl Request {
    /// ENOMEM.
    pub fn new(kind: u8) -> Result<Self> {
        let mut bytes = Vec::with_room(LONGEST_REQUEST)?;
        bytes.extend_from_slice(&[0, 0, 0, 0, kind]);
        bytes.extend_from_slice(&TAG.to_le_bytes());
        Ok(Self(bytes))
    }

    /// ENAMETOOLONG for what no request holds.
    fn put(mut self, bytes: &[u8]) -> Result<Self> {
        if self.0.len() + bytes.len() > LONGEST_REQUEST {
            return Err(Errno::ENAMETOOLONG);
        }
        self.0.extend_from_slice(bytes);
        Ok(self)
    }
    pub fn u16(self, value: u16) -> Result<Self> {
        self.put(&value.to_le_bytes())
    }
    pub fn u32(self, value: u32) -> Result<Self> {
        self.put(&value.to_le_bytes())
    }
    pub fn u64(self, value: u64) -> Result<Self> {
        self.put(&value.to_le_bytes())
    }
    pub fn text(self, text: &[u8]) -> Result<Self> {
        let len = u16::try_from(text.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        self.u16(len)?.put(text)
    }

    /// The kind that its reply has.
    pub fn reply_kind(&self) -> u8 {
        self.0[4] + 1
    }

    /// Its bytes.
    pub fn finish(&mut self) -> &[u8] {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        &self.0
    }
}

/// A reply that is being read; EIO for one that breaks off.
#[derive(Clone, Copy)]
pub struct Reply<'a>(&'a [u8]);

impl<'a> Reply<'a> {
    /// What follows the header of a reply of this kind. The errno of the server; EIO for nonsense.
    pub fn parse(bytes: &'a [u8], kind: u8) -> Result<Self> {
        let len = bytes.get(..4).map(|len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
        let len = len.ok_or(Errno::EIO)? as usize;
        let body = bytes.get(HEADER..len).ok_or(Errno::EIO)?;
        match bytes[4] {
            LERROR => {
                let code = Self(body).u32()?;
                let code = u16::try_from(code).ok().filter(|code| (1..4096).contains(code));
                Err(code.map_or(Errno::EIO, Errno::from_code))
            }
            found if found == kind => Ok(Self(body)),
            _ => Err(Errno::EIO),
        }
    }

    /// Entries inside a reply.
    pub fn inner(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len).ok_or(Errno::EIO)?;
        self.0 = rest;
        Ok(first)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Errno::EIO)
    }
    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn text(&mut self) -> Result<&'a [u8]> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }
    /// What tells a file from all others: its number.
    pub fn qid(&mut self) -> Result<u64> {
        let _kind = self.u8()?;
        let _version = self.u32()?;
        self.u64()
    }
}

/// What a GETATTR says. Times in ns since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub rdev: DevId,
    pub size: u64,
    /// Blocks of 512 bytes that it takes.
    pub blocks: u64,
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
}

impl Attributes {
    pub fn read(reply: &mut Reply<'_>) -> Result<Self> {
        let _valid = reply.u64()?;
        let ino = reply.qid()?;
        let (mode, uid, gid) = (reply.u32()?, reply.u32()?, reply.u32()?);
        let (nlink, rdev, size) = (reply.u64()?, reply.u64()?, reply.u64()?);
        let (_block_size, blocks) = (reply.u64()?, reply.u64()?);
        let mut time = || -> Result<i64> {
            let (seconds, ns) = (reply.u64()? as i64, reply.u64()? as i64);
            Ok(seconds.saturating_mul(1_000_000_000).saturating_add(ns))
        };
        Ok(Self {
            ino,
            mode,
            uid,
            gid,
            nlink: u32::try_from(nlink).unwrap_or(u32::MAX),
            rdev: DevId::decode(rdev),
            size: size.min(i64::MAX as u64),
            blocks: blocks.min(i64::MAX as u64),
            atime: time()?,
            mtime: time()?,
            ctime: time()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_length_kind_tag_and_fields() {
        let mut request = Request::new(WALK).unwrap().u32(1).unwrap().text(b"ab").unwrap();
        assert_eq!(request.finish(), [15, 0, 0, 0, 110, 0xff, 0xff, 1, 0, 0, 0, 2, 0, b'a', b'b']);
        assert_eq!(request.reply_kind(), 111);
        let long = [b'x'; LONGEST_REQUEST];
        assert!(matches!(request.text(&long), Err(Errno::ENAMETOOLONG)));
    }

    #[test]
    fn a_reply_that_breaks_off_or_is_another_is_eio() {
        let whole = [9u8, 0, 0, 0, 111, 0xff, 0xff, 5, 0];
        assert_eq!(Reply::parse(&whole, 111).unwrap().u16(), Ok(5));
        for cut in 0..whole.len() {
            assert!(matches!(Reply::parse(&whole[..cut], 111), Err(Errno::EIO)), "{cut}");
        }
        assert!(matches!(Reply::parse(&whole, 13), Err(Errno::EIO)));
        assert_eq!(Reply::parse(&whole, 111).unwrap().u32(), Err(Errno::EIO));
        let short = [3u8, 0, 0, 0, 111, 0xff, 0xff];
        assert!(matches!(Reply::parse(&short, 111), Err(Errno::EIO)));
    }

    #[test]
    fn an_errno_is_the_servers_and_nonsense_eio() {
        let error = |code: u8| [11u8, 0, 0, 0, 7, 0xff, 0xff, code, 0, 0, 0];
        assert!(matches!(Reply::parse(&error(13), 111), Err(Errno::EACCES)));
        assert!(matches!(Reply::parse(&error(0), 111), Err(Errno::EIO)));
    }
}
