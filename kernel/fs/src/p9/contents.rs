//! A file's contents: pieces that were fetched, which stay, and the way to those that were not.

use super::session::Session;
use super::{FETCHED, LONGEST_REPLY, OPENED, P9};
use crate::object::MemObject;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{self, Relaxed};
use core::sync::atomic::{AtomicBool, AtomicU64};
use frames::fallible::TryVec;
use hal::user::{KernelSource, Sink};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages of a piece: what one reply holds.
const PIECE_PAGES: u64 = LONGEST_REPLY as u64 / PAGE - 1;
const PIECE: u64 = PIECE_PAGES * PAGE;
/// Pieces that one session fetches at most: then others have their turn.
const TURN: u64 = 16;

/// A regular file's contents.
pub struct Contents {
    pub object: Arc<MemObject>,
    /// A bit for each piece that is there, as a whole.
    here: Box<[AtomicU64]>,
    /// The server opened it once: it may be read.
    opened: AtomicBool,
    /// Pages that are counted as kept.
    kept: AtomicU64,
}

impl Drop for Contents {
    fn drop(&mut self) {
        P9::keep_less(self.kept.load(Relaxed));
    }
}

impl Contents {
    /// Of a file of `size` bytes. EFBIG for what has more than 2^32 pieces, ENOMEM.
    pub fn new(size: u64) -> Result<Self> {
        let words = u32::try_from(size.div_ceil(PIECE)).map_err(|_| Errno::EFBIG)?.div_ceil(64);
        let here = alloc::vec::Vec::gather((0..words).map(|_| AtomicU64::new(0)))?;
        let object = MemObject::of_cache()?;
        object.set_len(size)?;
        let (opened, kept) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { object, here: here.into_boxed_slice(), opened, kept })
    }

    fn has(&self, piece: u64) -> bool {
        let word = self.here.get((piece / 64) as usize);
        word.is_none_or(|word| word.load(Ordering::Acquire) & (1 << (piece % 64)) != 0)
    }

    /// Asks the server to open the file, once: EACCES, ENOENT if it is gone, and what else it says.
    /// The first piece comes along.
    pub fn open(&self, fs: &P9, path: &[u8]) -> Result<()> {
        if self.opened.load(Relaxed) {
            return Ok(());
        }
        let session = fs.client.session()?;
        session.walk(path)?;
        session.open()?;
        if !self.opened.swap(true, Relaxed) {
            OPENED.fetch_add(1, Relaxed);
        }
        match self.fetch(fs, &session, 0) {
            // There is no room to keep it: that is for its readers to hear.
            Err(Errno::ENOMEM) => Ok(()),
            other => other,
        }
    }

    /// Fetches all that is missing. ENOMEM when it cannot be kept, EINTR for who is killed.
    pub fn fetch_all(&self, fs: &P9, path: &[u8]) -> Result<()> {
        let pieces = self.object.len().div_ceil(PIECE);
        let mut next = 0;
        loop {
            while next < pieces && self.has(next) {
                next += 1;
            }
            if next == pieces {
                return Ok(());
            }
            let session = fs.client.session()?;
            session.walk(path)?;
            session.open()?;
            for piece in next..pieces.min(next + TURN) {
                self.fetch(fs, &session, piece)?;
            }
        }
    }

    /// Fetches a piece, if it is not there. The session's file is this one, open.
    fn fetch(&self, fs: &P9, session: &Session<'_>, piece: u64) -> Result<()> {
        let size = self.object.len();
        let start = piece * PIECE;
        if self.has(piece) || start >= size {
            return Ok(());
        }
        let end = size.min(start + PIECE);
        let pages = (end - start).div_ceil(PAGE);
        if !fs.keep(pages) {
            return Err(Errno::ENOMEM);
        }
        // What came before a failure is counted for good: it is there.
        self.kept.fetch_add(pages, Relaxed);
        let mut at = start;
        while at < end {
            let object = &self.object;
            let got = session.read(at, (end - at) as usize, &mut |bytes| match object.write_at(
                at,
                &mut KernelSource(bytes),
                bytes.len(),
            ) {
                Ok(put) if put == bytes.len() => Ok(()),
                Ok(_) | Err(Errno::ENOSPC) => Err(Errno::ENOMEM),
                Err(error) => Err(error),
            })?;
            FETCHED.fetch_add(got as u64, Relaxed);
            if got == 0 {
                // It has become shorter.
                self.object.set_len(at)?;
                break;
            }
            at += got as u64;
        }
        if let Some(word) = self.here.get((piece / 64) as usize) {
            word.fetch_or(1 << (piece % 64), Ordering::Release);
        }
        Ok(())
    }

    /// Reads at `at`, as far as the piece goes that lies there.
    pub fn read(&self, fs: &P9, path: &[u8], dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let size = self.object.len();
        if at >= size || dst.room() == 0 {
            return Ok(0);
        }
        let piece = at / PIECE;
        let rest = (PIECE - at % PIECE) as usize;
        if !self.has(piece) {
            let session = fs.client.session()?;
            session.walk(path)?;
            session.open()?;
            match self.fetch(fs, &session, piece) {
                Ok(()) => {}
                Err(Errno::ENOMEM) => return self.pass_on(&session, dst, at),
                Err(error) => return Err(error),
            }
        }
        self.object.read_at(at, dst, rest)
    }

    /// Reads what cannot be kept.
    fn pass_on(&self, session: &Session<'_>, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let want = dst.room().min(PIECE as usize);
        let mut put = 0;
        session.read(at, want, &mut |bytes| {
            put = dst.put(bytes)?;
            Ok(())
        })?;
        Ok(put)
    }
}
