//! The conversation with a server: which file is meant, and what is asked of it.
//!
//! One task speaks at a time, for as long as its [`Session`] lives. The server knows two files by
//! number: the share's root, and the one that the session is about. That number is given back when the
//! next session begins, so that one which broke off (its task was killed) leaves nothing behind.

use super::message::{self, Attributes, Reply, Request};
use super::{Channel, LONGEST_REPLY};
use abi::{Errno, Result};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use frames::fallible::boxed_slice;

/// The server's numbers of files.
const ROOT: u32 = 0;
const FILE: u32 = 1;
const NOBODY: u32 = u32::MAX;
const VERSION: &[u8] = b"9P2000.L";
/// Names that one request walks at most: the protocol allows 16, a request holds these.
const STEPS: usize = 8;
/// Before the bytes of a READ's or READDIR's reply.
const HEADER: usize = 11;

/// A mount's end of the conversation.
pub struct Client {
    channel: Box<dyn Channel>,
    /// The server may know [`FILE`].
    stale: AtomicBool,
}

/// What is done with a name of a directory: the name, its number, its kind (DT_*).
pub type TakeName<'a> = dyn FnMut(&[u8], u64, u8) -> Result<()> + 'a;

/// The right to speak, given back when it is dropped.
pub struct Session<'a>(&'a Client);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.channel.release();
    }
}

impl Client {
    pub fn new(channel: Box<dyn Channel>) -> Self {
        Self { channel, stale: AtomicBool::new(false) }
    }

    /// Begins the conversation; the attributes of the share's root. EPROTO for a server of another
    /// protocol.
    pub fn start(&self) -> Result<Attributes> {
        self.channel.claim()?;
        let session = Session(self);
        let hello = Request::new(message::VERSION)?.u32(LONGEST_REPLY as u32)?.text(VERSION)?;
        let mut known = false;
        session.call(hello, &mut |mut reply| {
            known = reply.u32()? >= LONGEST_REPLY as u32 && reply.text()? == VERSION;
            Ok(())
        })?;
        if !known {
            return Err(Errno::EPROTO);
        }
        let attach = Request::new(message::ATTACH)?.u32(ROOT)?.u32(NOBODY)?;
        session.call(attach.text(b"root")?.text(b"")?.u32(0)?, &mut |_| Ok(()))?;
        session.walk(b"")?;
        session.attributes()
    }

    /// Waits for the right to speak. EINTR for who is killed.
    pub fn session(&self) -> Result<Session<'_>> {
        self.channel.claim()?;
        let session = Session(self);
        if self.stale.load(Relaxed) {
            match session.call(Request::new(message::CLUNK)?.u32(FILE)?, &mut |_| Ok(())) {
                Err(Errno::EINTR) => return Err(Errno::EINTR),
                // It may not have come to be.
                _ => self.stale.store(false, Relaxed),
            }
        }
        Ok(session)
    }
}

impl Session<'_> {
    fn call(
        &self,
        mut request: Request,
        take: &mut dyn FnMut(Reply<'_>) -> Result<()>,
    ) -> Result<()> {
        let kind = request.reply_kind();
        self.0.channel.call(request.finish(), &mut |reply| take(Reply::parse(reply, kind)?))
    }

    /// Makes the file at `path` (components with slashes between, none is the root) the session's.
    pub fn walk(&self, path: &[u8]) -> Result<()> {
        let mut rest = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
        let mut from = ROOT;
        loop {
            let mut names = [&[] as &[u8]; STEPS];
            let mut count = 0;
            while count < STEPS
                && let Some(name) = rest.next()
            {
                names[count] = name;
                count += 1;
            }
            let mut request =
                Request::new(message::WALK)?.u32(from)?.u32(FILE)?.u16(count as u16)?;
            for name in &names[..count] {
                request = request.text(name)?;
            }
            self.0.stale.store(true, Relaxed);
            let mut walked = 0;
            self.call(request, &mut |mut reply| {
                walked = usize::from(reply.u16()?);
                Ok(())
            })?;
            if walked < count {
                return Err(Errno::ENOENT);
            }
            from = FILE;
            if rest.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// The attributes of the session's file.
    pub fn attributes(&self) -> Result<Attributes> {
        /// P9_GETATTR_BASIC.
        const BASIC: u64 = 0x7ff;
        let mut found = Attributes::default();
        let request = Request::new(message::GETATTR)?.u32(FILE)?.u64(BASIC)?;
        self.call(request, &mut |mut reply| {
            found = Attributes::read(&mut reply)?;
            Ok(())
        })?;
        Ok(found)
    }

    /// Where the session's file, a symbolic link, leads.
    pub fn link(&self) -> Result<Box<[u8]>> {
        let mut target = Box::default();
        self.call(Request::new(message::READLINK)?.u32(FILE)?, &mut |mut reply| {
            target = boxed_slice(reply.text()?)?;
            Ok(())
        })?;
        Ok(target)
    }

    /// Opens the session's file for reading.
    pub fn open(&self) -> Result<()> {
        /// O_LARGEFILE, as every Linux program of 64 bits opens files.
        const LARGE: u32 = 0o100_000;
        self.call(Request::new(message::LOPEN)?.u32(FILE)?.u32(LARGE)?, &mut |_| Ok(()))
    }

    /// Reads up to `len` bytes at `at` of the open file; how many there were, which `take` is given.
    pub fn read(
        &self,
        at: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        let len = len.min(LONGEST_REPLY - HEADER);
        let request = Request::new(message::READ)?.u32(FILE)?.u64(at)?.u32(len as u32)?;
        let mut got = 0;
        self.call(request, &mut |mut reply| {
            let count = reply.u32()? as usize;
            let bytes = reply.bytes(count)?;
            got = count.min(len);
            take(&bytes[..got])
        })?;
        Ok(got)
    }

    /// Gives each name of the open directory.
    pub fn list(&self, take: &mut TakeName<'_>) -> Result<()> {
        let mut at = 0;
        loop {
            let len = (LONGEST_REPLY - HEADER) as u32;
            let request = Request::new(message::READDIR)?.u32(FILE)?.u64(at)?.u32(len)?;
            let before = at;
            self.call(request, &mut |mut reply| {
                let len = reply.u32()? as usize;
                let bytes = reply.bytes(len)?;
                let mut entries = Reply::inner(bytes);
                while !entries.is_empty() {
                    let ino = entries.qid()?;
                    at = entries.u64()?;
                    let kind = entries.u8()?;
                    take(entries.text()?, ino, kind)?;
                }
                Ok(())
            })?;
            if at == before {
                return Ok(());
            }
        }
    }
}
