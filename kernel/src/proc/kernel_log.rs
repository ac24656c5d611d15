//! /proc/kmsg: the kernel's messages, each once, for one reader at a time.

use crate::console;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use fs::inode::{Inode, InodeBase, OpenArgs};
use fs::pseudo::{Dir, PseudoFs};
use fs::{Cap, File, FileOps, PollMask, PollTable};
use hal::user::Sink;
use sync::{SpinLock, WaitQueue};

/// A message may be logged anywhere, also where nobody can be woken: who waits for one looks again
/// after this many nanoseconds.
const LOOK_AGAIN: u64 = 200_000_000;

struct Messages {
    base: InodeBase,
}

/// Enters the file.
pub fn add(fs: &Arc<PseudoFs>, dir: &Dir) {
    let base = fs.base(abi::raw::general::S_IFREG | 0o400);
    dir.add("kmsg", Arc::new(Messages { base }));
}

impl Inode for Messages {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        if !args.creds.has(Cap::SysAdmin) {
            return Err(Errno::EPERM);
        }
        Ok(Arc::new(Reader))
    }
}

/// Bytes of the log that were read by somebody.
static READ: SpinLock<u64> = SpinLock::new(0);

struct Reader;

impl FileOps for Reader {
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        dst.put(&read_messages(dst.room(), !file.nonblocking())?)
    }

    fn poll(&self, _file: &File, interest: PollMask, _table: Option<&mut PollTable>) -> PollMask {
        let news = console::log_end() > *READ.lock();
        if news { PollMask::READABLE & interest } else { PollMask::empty() }
    }
}

/// The next messages that nobody has read, at most `room` bytes; with none, EAGAIN or a wait.
pub fn read_messages(room: usize, may_wait: bool) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while text.is_empty() && room > 0 {
        let at = {
            let mut read = READ.lock();
            *read = console::read_log(*read, room, &mut text);
            *read
        };
        if text.is_empty() {
            if !may_wait {
                return Err(Errno::EAGAIN);
            }
            wait_beyond(at)?;
        }
    }
    Ok(text)
}

/// Bytes of messages that nobody has read.
pub fn unread_messages() -> u64 {
    console::log_end() - (*READ.lock()).max(console::log_start())
}

/// Sleeps until there may be messages beyond `at`. ERESTARTSYS when a signal comes.
pub fn wait_beyond(at: u64) -> Result<()> {
    static NOBODY_WAKES: WaitQueue = WaitQueue::new();
    let until = hal::time::now() + LOOK_AGAIN;
    let news = || (console::log_end() > at).then_some(());
    match NOBODY_WAKES.wait_interruptible(Some(until), news) {
        Err(sync::WaitError::Interrupted) => Err(Errno::ERESTARTSYS),
        _ => Ok(()),
    }
}
