//! signalfd(2): the reader's pending signals as a descriptor.

use crate::file::{File, FileOps, Seek};
use crate::poll::{PollMask, PollTable};
use crate::{anon, oflag};
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::fallible::arc;
use hal::user::Sink;
use sync::{Once, WaitQueue};

/// `struct signalfd_siginfo`.
pub const INFO_SIZE: usize = 128;

/// The running task's signals.
pub trait SignalHooks: Sync {
    /// Takes a pending signal out of `mask` (bit N-1 for signal N), as `struct signalfd_siginfo`.
    fn take(&self, mask: u64) -> Option<[u8; INFO_SIZE]>;
    /// True when a signal of `mask` is pending for the running task or its process.
    fn pending(&self, mask: u64) -> bool;
    /// Woken when a signal becomes pending for the running task's process.
    fn queue(&self) -> Arc<WaitQueue>;
}

static HOOKS: Once<&'static dyn SignalHooks> = Once::new();

/// Registers the kernel's signals, once.
pub fn register(hooks: &'static dyn SignalHooks) {
    HOOKS.get_or_init(|| hooks);
}

/// SIGKILL and SIGSTOP cannot be taken.
const UNTAKEABLE: u64 = 1 << 8 | 1 << 18;

/// A signal descriptor's operations.
pub struct SignalFd {
    mask: AtomicU64,
}

fn hooks() -> Result<&'static dyn SignalHooks> {
    HOOKS.get().copied().ok_or(Errno::ENOSYS)
}

impl SignalFd {
    /// A new descriptor for `mask`. `flags`: O_NONBLOCK (and O_CLOEXEC); EINVAL for others.
    pub fn open(mask: u64, flags: u32) -> Result<Arc<File>> {
        if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        hooks()?;
        let ops = Self { mask: AtomicU64::new(mask & !UNTAKEABLE) };
        let flags = oflag::O_RDWR | (flags & oflag::O_NONBLOCK);
        anon::file(arc(ops)?, "[signalfd]", flags)
    }

    /// signalfd(2) on an existing descriptor: another mask.
    pub fn set_mask(&self, mask: u64) -> Result<()> {
        self.mask.store(mask & !UNTAKEABLE, Relaxed);
        hooks()?.queue().wake_all();
        Ok(())
    }
}

impl FileOps for SignalFd {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }

    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        if dst.room() < INFO_SIZE {
            return Err(Errno::EINVAL);
        }
        let hooks = hooks()?;
        let mask = self.mask.load(Relaxed);
        let mut done = 0;
        while dst.room() >= INFO_SIZE {
            let info = match hooks.take(mask) {
                Some(info) => info,
                None if done > 0 => break,
                None if file.nonblocking() => return Err(Errno::EAGAIN),
                None => hooks.queue().wait_interruptible(None, || hooks.take(mask))?,
            };
            match dst.put_all(&info) {
                Ok(()) => done += INFO_SIZE,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        let Ok(hooks) = hooks() else { return PollMask::ERR };
        if let Some(table) = table {
            table.watch(&hooks.queue());
        }
        if hooks.pending(self.mask.load(Relaxed)) {
            PollMask::IN & interest
        } else {
            PollMask::empty()
        }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn fdinfo(&self, out: &mut String) {
        use core::fmt::Write;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "sigmask:\t{:016x}", self.mask.load(Relaxed));
    }
}
