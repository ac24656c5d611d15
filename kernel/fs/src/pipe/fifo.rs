//! Opening FIFOs: each side waits for the other.

use super::{Pipe, PipeEnd};
use crate::file::FileOps;
use crate::inode::OpenArgs;
use crate::oflag;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering::Acquire;

/// Opens the FIFO that `args` names: the pipe hangs on its inode while anybody has it open.
pub fn open_fifo(args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
    let inode = args.place.inode();
    let pipe: Arc<dyn Any + Send + Sync> = inode.clone();
    let pipe = match pipe.downcast::<Pipe>() {
        Ok(pipe) => return reopen(&pipe, args.flags),
        Err(_) => {
            let attached = inode.base().attach_with(|| Ok(Pipe::new()?))?;
            attached.downcast::<Pipe>().map_err(|_| Errno::ENXIO)?
        }
    };
    open_pipe(pipe, args.flags)
}

/// One more opening of a nameless pipe, through /proc/PID/fd: waits for nobody.
pub(super) fn reopen(pipe: &Arc<Pipe>, flags: u32) -> Result<Arc<dyn FileOps>> {
    Ok(PipeEnd::new(pipe, flags & oflag::O_ACCMODE)?)
}

/// One more opening of the FIFO `pipe`: waits for the other side, or with O_NONBLOCK fails with ENXIO when
/// there is no reader for a writer.
fn open_pipe(pipe: Arc<Pipe>, flags: u32) -> Result<Arc<dyn FileOps>> {
    let access = flags & oflag::O_ACCMODE;
    if access == oflag::O_ACCMODE {
        // Both rights asked for and neither wanted: a FIFO has no such opening.
        return Err(Errno::EINVAL);
    }
    let nonblocking = flags & oflag::O_NONBLOCK != 0;
    if access == oflag::O_WRONLY && nonblocking && !pipe.has_readers() {
        return Err(Errno::ENXIO);
    }
    let (readers, writers) = (pipe.reader_opens.load(Acquire), pipe.writer_opens.load(Acquire));
    let end = PipeEnd::of_fifo(&pipe, access)?;
    pipe.filled.wake_all();
    pipe.drained.wake_all();
    if nonblocking {
        return Ok(end);
    }
    // A side that came and went meanwhile counts, hence the comparison of openings.
    let met = || match access {
        oflag::O_RDONLY => pipe.has_writers() || pipe.writer_opens.load(Acquire) != writers,
        oflag::O_WRONLY => pipe.has_readers() || pipe.reader_opens.load(Acquire) != readers,
        _ => true,
    };
    let queue = if access == oflag::O_RDONLY { &pipe.filled } else { &pipe.drained };
    queue.wait_interruptible(None, || met().then_some(()))?;
    Ok(end)
}
