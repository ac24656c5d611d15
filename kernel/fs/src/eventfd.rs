//! eventfd(2): a 64-bit counter as a descriptor.

use crate::file::{File, FileOps, Seek};
use crate::poll::{PollMask, PollTable};
use crate::{anon, oflag};
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use frames::fallible::arc;
use hal::user::{Sink, Source};
use sync::WaitQueue;

/// EFD_SEMAPHORE; the other flags are open(2)'s.
pub const EFD_SEMAPHORE: u32 = 1;

/// A counter; `u64::MAX - 1` is the most it holds.
pub struct EventFd {
    count: AtomicU64,
    semaphore: bool,
    id: u32,
    changed: Arc<WaitQueue>,
}

impl EventFd {
    /// A new descriptor. `flags`: EFD_SEMAPHORE, O_NONBLOCK, O_CLOEXEC (the latter is the
    /// table's business); EINVAL for others.
    pub fn open(initial: u32, flags: u32) -> Result<Arc<File>> {
        if flags & !(EFD_SEMAPHORE | oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let event = Self {
            count: AtomicU64::new(initial as u64),
            semaphore: flags & EFD_SEMAPHORE != 0,
            id: NEXT.fetch_add(1, Relaxed),
            changed: arc(WaitQueue::new())?,
        };
        let flags = oflag::O_RDWR | (flags & oflag::O_NONBLOCK);
        anon::file(arc(event)?, "[eventfd]", flags)
    }

    fn take(&self) -> Option<u64> {
        let next = |count| match count {
            0 => None,
            _ if self.semaphore => Some(count - 1),
            _ => Some(0),
        };
        let before = self.count.fetch_update(AcqRel, Acquire, next).ok()?;
        Some(if self.semaphore { 1 } else { before })
    }

    fn add(&self, value: u64) -> Option<()> {
        let next = |count: u64| count.checked_add(value).filter(|&sum| sum < u64::MAX);
        self.count.fetch_update(AcqRel, Acquire, next).ok().map(|_| ())
    }
}

impl FileOps for EventFd {
    fn writes_ranges(&self) -> bool {
        true
    }

    fn seekable(&self) -> Seek {
        Seek::Stream
    }

    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        if dst.room() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = match self.take() {
            Some(value) => value,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => self.changed.wait_interruptible(None, || self.take())?,
        };
        self.changed.wake_one();
        dst.put_all(&value.to_le_bytes())?;
        Ok(8)
    }

    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        // As on Linux 6.12 more are refused, too.
        if src.left() != 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        if src.get(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_le_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.add(value) {
            Some(()) => {}
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => self.changed.wait_interruptible(None, || self.add(value))?,
        }
        self.changed.wake_one();
        Ok(8)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            table.watch(&self.changed);
        }
        let mut ready = PollMask::empty();
        match self.count.load(Acquire) {
            0 => {}
            u64::MAX => ready |= PollMask::ERR,
            _ => ready |= PollMask::IN,
        }
        if self.count.load(Acquire) < u64::MAX - 1 {
            ready |= PollMask::OUT;
        }
        ready & (interest | PollMask::ALWAYS)
    }

    fn pollable(&self) -> bool {
        true
    }

    fn fdinfo(&self, out: &mut String) {
        use core::fmt::Write;
        let count = self.count.load(Relaxed);
        // Writing to a String cannot fail.
        let _ = write!(out, "eventfd-count: {count:16x}\neventfd-id: {}\n", self.id);
        let _ = writeln!(out, "eventfd-semaphore: {}", u32::from(self.semaphore));
    }
}
