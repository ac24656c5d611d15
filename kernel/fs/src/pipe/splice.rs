//! Moving bytes between pipes and other files inside the kernel: splice(2), tee(2).
//!
//! Bytes leave a pipe only when the other side has taken them: nothing is lost when it takes fewer.
//! The pipe that is read stays locked meanwhile, as on Linux.

use super::{Buffer, Page, Pipe, PipeEnd, Ring, blank_page};
use crate::fasync::Band;
use crate::file::File;
use crate::oflag;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Release;
use frames::fallible::{Grow, TryVec, filled};
use hal::user::{KernelSink, KernelSource};
use sync::MutexGuard;

/// Bytes that are moved at once.
const CHUNK: usize = 16 * PAGE_SIZE;

/// The pipe behind a description, if it is one.
pub fn of(file: &File) -> Option<&Arc<Pipe>> {
    file.ops_as::<PipeEnd>().map(|end| &end.pipe)
}

impl Pipe {
    /// Waits until there are bytes; false at the end.
    fn await_bytes(&self, nonblocking: bool) -> Result<bool> {
        let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
        if ready().is_none() {
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            self.filled.wait_interruptible(None, ready)?;
        }
        Ok(!self.is_empty())
    }

    /// Waits until there is room; EPIPE without a reader.
    fn await_room(&self, nonblocking: bool) -> Result<()> {
        let ready = || (!self.is_full() || !self.has_readers()).then_some(());
        if ready().is_none() {
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            self.drained.wait_interruptible(None, ready)?;
        }
        if self.has_readers() { Ok(()) } else { Err(Errno::EPIPE) }
    }

    /// Takes `count` bytes out, which are there.
    fn skip(&self, ring: &mut Ring, mut count: usize) {
        while count > 0
            && let Some(buffer) = ring.buffers.front_mut()
        {
            let step = count.min(buffer.end - buffer.start);
            buffer.start += step;
            count -= step;
            if buffer.start == buffer.end {
                ring.spare = ring.buffers.pop_front().map(|buffer| buffer.page);
                self.used.store(ring.buffers.len(), Release);
            }
        }
    }

    /// There are bytes.
    fn tell_readers(&self) {
        self.filled.wake_one();
        self.fasync_readers.kill(Band::In);
    }

    /// There is room.
    fn tell_writers(&self) {
        self.drained.wake_one();
        self.fasync_writers.kill(Band::Out);
    }

    fn push(&self, ring: &mut Ring, page: Page, start: usize, end: usize, packet: bool) {
        ring.buffers.push_back(Buffer { page, start, end, packet });
        self.used.store(ring.buffers.len(), Release);
    }
}

/// Locks two pipes, always in the same order.
fn lock_both<'a>(a: &'a Pipe, b: &'a Pipe) -> (MutexGuard<'a, Ring>, MutexGuard<'a, Ring>) {
    if core::ptr::from_ref(a) < core::ptr::from_ref(b) {
        let first = a.ring.lock();
        (first, b.ring.lock())
    } else {
        let second = b.ring.lock();
        (a.ring.lock(), second)
    }
}

/// Copies up to `len` bytes from `from` to `to`, and with `take` removes them; how many. EINVAL
/// for one and the same pipe.
fn between(from: &Pipe, to: &Pipe, len: usize, nonblocking: bool, take: bool) -> Result<usize> {
    if core::ptr::eq(from, to) {
        return Err(Errno::EINVAL);
    }
    loop {
        if !from.await_bytes(nonblocking)? {
            return Ok(0);
        }
        to.await_room(nonblocking)?;
        let (mut source, mut target) = lock_both(from, to);
        let mut done = 0;
        for buffer in &source.buffers {
            if done == len || target.buffers.len() >= target.slots {
                break;
            }
            let step = (len - done).min(buffer.end - buffer.start);
            let mut page = match target.page() {
                Ok(page) => page,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            page[..step].copy_from_slice(&buffer.page[buffer.start..buffer.start + step]);
            to.push(&mut target, page, 0, step, buffer.packet);
            done += step;
        }
        if take {
            from.skip(&mut source, done);
        }
        drop((source, target));
        if done > 0 {
            to.tell_readers();
            if take {
                from.tell_writers();
            }
            return Ok(done);
        }
        // Somebody else was faster.
    }
}

/// tee(2): EINVAL unless both are pipes.
pub fn tee(from: &File, to: &File, len: usize, nonblocking: bool) -> Result<usize> {
    match (of(from), of(to)) {
        (Some(a), Some(b)) => {
            let nonblocking = nonblocking || from.nonblocking() || to.nonblocking();
            between(a, b, len, nonblocking, false)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// splice(2) with its positions (None: the file's own); they are moved by what is returned.
pub fn splice(
    from: &File,
    from_at: Option<&mut i64>,
    to: &File,
    to_at: Option<&mut i64>,
    len: usize,
    nonblocking: bool,
) -> Result<usize> {
    match (of(from), of(to)) {
        (Some(_), Some(_)) if from_at.is_some() || to_at.is_some() => Err(Errno::ESPIPE),
        (Some(a), Some(b)) => {
            let nonblocking = nonblocking || from.nonblocking() || to.nonblocking();
            between(a, b, len, nonblocking, true)
        }
        (Some(_), None) if from_at.is_some() => Err(Errno::ESPIPE),
        (Some(_), None) if to.flags() & oflag::O_APPEND != 0 => Err(Errno::EINVAL),
        (Some(pipe), None) => {
            let nonblocking = nonblocking || from.nonblocking();
            out_of_pipe(pipe, to, to_at, len, nonblocking)
        }
        (None, Some(_)) if to_at.is_some() => Err(Errno::ESPIPE),
        (None, Some(pipe)) => {
            let nonblocking = nonblocking || to.nonblocking();
            into_pipe(from, from_at, pipe, len, nonblocking)
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

fn out_of_pipe(
    pipe: &Pipe,
    to: &File,
    mut at: Option<&mut i64>,
    len: usize,
    nonblocking: bool,
) -> Result<usize> {
    let mut done = 0;
    while done < len {
        // Only the first bytes are waited for.
        if !pipe.await_bytes(nonblocking || done > 0).or_else(|e| end_of(done, e))? {
            break;
        }
        let mut ring = pipe.ring.lock();
        let there: usize = ring.buffers.iter().map(|buffer| buffer.end - buffer.start).sum();
        let mut bytes = match Vec::with_room(there.min(len - done).min(CHUNK)) {
            Ok(bytes) => bytes,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        };
        for buffer in &ring.buffers {
            let room = (len - done).min(CHUNK) - bytes.len();
            let step = room.min(buffer.end - buffer.start);
            bytes.extend_from_slice(&buffer.page[buffer.start..buffer.start + step]);
        }
        let mut source = KernelSource(&bytes);
        let wrote = match at.as_deref_mut() {
            None => to.write(&mut source),
            Some(at) => to.write_at(&mut source, *at).inspect(|&n| *at += n as i64),
        };
        let wrote = wrote.or_else(|e| if done > 0 { Ok(0) } else { Err(e) })?;
        pipe.skip(&mut ring, wrote);
        drop(ring);
        pipe.tell_writers();
        done += wrote;
        if wrote < bytes.len() {
            break;
        }
    }
    Ok(done)
}

/// An error after the first bytes ends the transfer without one.
fn end_of(done: usize, error: Errno) -> Result<bool> {
    if done > 0 { Ok(false) } else { Err(error) }
}

fn into_pipe(
    from: &File,
    at: Option<&mut i64>,
    pipe: &Pipe,
    len: usize,
    nonblocking: bool,
) -> Result<usize> {
    pipe.await_room(nonblocking)?;
    let free = {
        let ring = pipe.ring.lock();
        ring.slots.saturating_sub(ring.buffers.len()).max(1) * PAGE_SIZE
    };
    let mut bytes = filled(0, len.min(free))?;
    // Made before, so that nothing that was read is lost for want of a page.
    let mut pages = Vec::with_room(bytes.len().div_ceil(PAGE_SIZE))?;
    for _ in 0..bytes.len().div_ceil(PAGE_SIZE) {
        pages.try_push(blank_page()?)?;
    }
    pipe.ring.lock().buffers.room_for(pages.len())?;
    let mut sink = KernelSink::new(&mut bytes);
    let got = match at {
        None => from.read(&mut sink)?,
        Some(at) => from.read_at(&mut sink, *at).inspect(|&n| *at += n as i64)?,
    };
    if !pipe.has_readers() {
        return Err(Errno::EPIPE);
    }
    // What was read must not be lost: should others have filled the pipe meanwhile, it holds more
    // than its size for once.
    let mut ring = pipe.ring.lock();
    for (chunk, mut page) in bytes[..got].chunks(PAGE_SIZE).zip(pages) {
        page[..chunk.len()].copy_from_slice(chunk);
        pipe.push(&mut ring, page, 0, chunk.len(), false);
    }
    drop(ring);
    pipe.tell_readers();
    Ok(got)
}
