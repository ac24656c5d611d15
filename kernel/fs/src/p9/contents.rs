//! A file's contents: pieces that were fetched, which stay, and the way to those that were not.

use super::session::Session;
use super::{CONTENTS, FETCHED, LONGEST_REPLY, OPENED, P9};
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
    /// Bytes that are counted as kept.
    kept: AtomicU64,
}

impl Drop for Contents {
    fn drop(&mut self) {
        CONTENTS.take_back(self.kept.load(Relaxed));
    }
}

impl Contents {
    /// Of a file of `size` bytes. ENOMEM.
    pub fn new(size: u64) -> Result<Self> {
        /// About a terabyte, and half a megabyte of bits. Of what is larger nothing is kept.
        const MOST: u64 = 1 << 22;
        let pieces = size.div_ceil(PIECE);
        let words = if pieces > MOST { 0 } else { pieces.div_ceil(64) };
        let here = alloc::vec::Vec::gather((0..words).map(|_| AtomicU64::new(0)))?;
        let object = MemObject::of_cache()?;
        object.set_len(size)?;
        let (opened, kept) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Self { object, here: here.into_boxed_slice(), opened, kept })
    }

    /// Bytes that remembering the pieces takes.
    pub fn bits(&self) -> usize {
        size_of_val(&*self.here)
    }

    fn has(&self, piece: u64) -> bool {
        let word = self.here.get((piece / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (piece % 64)) != 0)
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
        match self.fetch(&session, 0) {
            // There is no room to keep it: that is for its readers to hear.
            Err(Errno::ENOMEM) => Ok(()),
            other => other,
        }
    }

    /// Fetches all that is missing. ENOMEM when it cannot be kept, EINTR for who is killed.
    pub fn fetch_all(&self, fs: &P9, path: &[u8]) -> Result<()> {
        let size = self.object.len();
        // What does not fit as a whole is not begun.
        CONTENTS.make_room(size.saturating_sub(self.kept.load(Relaxed)))?;
        let pieces = size.div_ceil(PIECE);
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
                self.fetch(&session, piece)?;
            }
        }
    }

    /// Fetches a piece, if it is not there. The session's file is this one, open. What fails midway
    /// leaves nothing: nobody maps a file that is not there as a whole.
    fn fetch(&self, session: &Session<'_>, piece: u64) -> Result<()> {
        let size = self.object.len();
        let start = piece * PIECE;
        if self.has(piece) || start >= size {
            return Ok(());
        }
        let Some(word) = self.here.get((piece / 64) as usize) else { return Err(Errno::ENOMEM) };
        let end = size.min(start + PIECE);
        let bytes = (end - start).next_multiple_of(PAGE);
        CONTENTS.add(bytes)?;
        if let Err(error) = self.fill(session, start, end) {
            // Whole pages, also behind the end.
            let _ = self.object.punch_hole(start, bytes);
            CONTENTS.take_back(bytes);
            return Err(error);
        }
        self.kept.fetch_add(bytes, Relaxed);
        word.fetch_or(1 << (piece % 64), Ordering::Release);
        Ok(())
    }

    /// Fetches the bytes from `start` to `end`.
    fn fill(&self, session: &Session<'_>, start: u64, end: u64) -> Result<()> {
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
            match self.fetch(&session, piece) {
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
            FETCHED.fetch_add(bytes.len() as u64, Relaxed);
            put = dst.put(bytes)?;
            Ok(())
        })?;
        Ok(put)
    }
}
