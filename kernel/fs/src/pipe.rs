//! Pipes and FIFOs.
//!
//! A pipe is a queue of page-sized buffers, as Linux's: a small write joins the last buffer when it
//! fits whole, so writes up to PIPE_BUF (4096) never mix. The queue is under a sleeping lock, which
//! is held while user memory is copied.

mod fifo;
pub mod splice;

pub use fifo::open_fifo;

use crate::env;
use crate::fasync::{Band, Fasync};
use crate::file::{File, FileOps, Place, Seek};
use crate::inode::{Inode, InodeBase, OpenArgs};
use crate::oflag;
use crate::poll::{PollMask, PollTable};
use abi::raw::general as g;
use abi::{Errno, PAGE_SIZE, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use frames::fallible::{Grow, arc, filled};
use hal::user::{Sink, Source};
use sync::{Mutex, WaitQueue};

/// Buffers of a new pipe: 16 pages = 64 KiB.
const DEFAULT_SLOTS: usize = 16;
/// Most bytes that an unprivileged user can set (Linux's default of fs.pipe-max-size): 1 MiB.
pub const PIPE_MAX_SIZE: usize = 1 << 20;

type Page = Box<[u8; PAGE_SIZE]>;

struct Buffer {
    page: Page,
    start: usize,
    end: usize,
    /// O_DIRECT: one read takes this buffer and no more, and drops what it does not take.
    packet: bool,
}

struct Ring {
    buffers: VecDeque<Buffer>,
    slots: usize,
    /// The page that was emptied last, for the next write.
    spare: Option<Page>,
}

/// A pipe.
pub struct Pipe {
    base: InodeBase,
    ring: Mutex<Ring>,
    /// Copies of the ring's state for lock-free looks: buffers in use, and how many there may be.
    used: AtomicUsize,
    slots: AtomicUsize,
    readers: AtomicU32,
    writers: AtomicU32,
    /// Openings so far; a FIFO's opener waits for the other side's to change.
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    /// Readers and writers that sleep: a wake-up that is passed on must not reach pollers, for
    /// whom it would be an event.
    sleeping_readers: AtomicU32,
    sleeping_writers: AtomicU32,
    /// Readers wait here.
    filled: Arc<WaitQueue>,
    /// Writers wait here.
    drained: Arc<WaitQueue>,
    /// Readers and writers that want signals.
    fasync_readers: Fasync,
    fasync_writers: Fasync,
}

/// A page of zeroes that never was on the stack. ENOMEM.
fn blank_page() -> Result<Page> {
    let page = filled(0u8, PAGE_SIZE)?.into_boxed_slice();
    page.try_into().map_err(|_| Errno::ENOMEM)
}

impl Ring {
    /// A page to fill, and a place to put it. ENOMEM.
    fn page(&mut self) -> Result<Page> {
        self.buffers.room_for(1)?;
        match self.spare.take() {
            Some(page) => Ok(page),
            None => blank_page(),
        }
    }
}

impl Pipe {
    fn new() -> Result<Arc<Self>> {
        arc(Self {
            base: InodeBase::anonymous(13, g::S_IFIFO | 0o600),
            ring: Mutex::new(Ring { buffers: VecDeque::new(), slots: DEFAULT_SLOTS, spare: None }),
            used: AtomicUsize::new(0),
            slots: AtomicUsize::new(DEFAULT_SLOTS),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            sleeping_readers: AtomicU32::new(0),
            sleeping_writers: AtomicU32::new(0),
            filled: arc(WaitQueue::new())?,
            drained: arc(WaitQueue::new())?,
            fasync_readers: Fasync::default(),
            fasync_writers: Fasync::default(),
        })
    }

    /// pipe2(2): reading and writing end. `flags`: O_NONBLOCK, O_DIRECT (O_CLOEXEC is the
    /// table's business); EINVAL for others.
    pub fn pair(flags: u32) -> Result<(Arc<File>, Arc<File>)> {
        if flags & !(oflag::O_NONBLOCK | oflag::O_DIRECT | oflag::O_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        let pipe = Self::new()?;
        let end = |access: u32| {
            let flags = access | (flags & (oflag::O_NONBLOCK | oflag::O_DIRECT));
            File::new(PipeEnd::new(&pipe, access)?, Place::Anonymous(pipe.clone()), flags)
        };
        Ok((end(oflag::O_RDONLY)?, end(oflag::O_WRONLY)?))
    }

    fn is_full(&self) -> bool {
        self.used.load(Acquire) >= self.slots.load(Relaxed)
    }
    fn is_empty(&self) -> bool {
        self.used.load(Acquire) == 0
    }
    fn has_readers(&self) -> bool {
        self.readers.load(Acquire) > 0
    }
    fn has_writers(&self) -> bool {
        self.writers.load(Acquire) > 0
    }

    /// Bytes in the pipe.
    fn len(&self) -> usize {
        self.ring.lock().buffers.iter().map(|buffer| buffer.end - buffer.start).sum()
    }

    /// Takes what is there; bytes.
    fn drain(&self, ring: &mut Ring, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        while let Some(buffer) = ring.buffers.front_mut() {
            let want = (buffer.end - buffer.start).min(dst.room());
            match dst.put(&buffer.page[buffer.start..buffer.start + want]) {
                Ok(n) => {
                    buffer.start += n;
                    done += n;
                    let packet = buffer.packet;
                    if buffer.start == buffer.end || packet {
                        ring.spare = ring.buffers.pop_front().map(|buffer| buffer.page);
                        self.used.store(ring.buffers.len(), Release);
                    }
                    if packet || n < want || dst.room() == 0 {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Puts in what fits; bytes.
    fn fill(&self, ring: &mut Ring, src: &mut dyn Source, packet: bool) -> Result<usize> {
        let mut done = 0;
        // What does not fill whole pages may join the last buffer, if all of it fits.
        let odd = src.left() % PAGE_SIZE;
        if odd > 0
            && !packet
            && let Some(last) = ring.buffers.back_mut()
            && !last.packet
            && last.end + odd <= PAGE_SIZE
        {
            let n = src.get(&mut last.page[last.end..last.end + odd])?;
            last.end += n;
            if n < odd {
                return Ok(n);
            }
            done += n;
        }
        while src.left() > 0 && ring.buffers.len() < ring.slots {
            let mut page = match ring.page() {
                Ok(page) => page,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            let want = src.left().min(PAGE_SIZE);
            let got = src.get(&mut page[..want]);
            match got {
                Ok(n) if n > 0 => {
                    ring.buffers.push_back(Buffer { page, start: 0, end: n, packet });
                    self.used.store(ring.buffers.len(), Release);
                    done += n;
                    if n < want {
                        break;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    ring.spare = Some(page);
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
            }
        }
        Ok(done)
    }

    fn read(&self, nonblocking: bool, dst: &mut dyn Sink) -> Result<usize> {
        if dst.room() == 0 {
            return Ok(0);
        }
        let outcome = self.take(nonblocking, dst);
        self.fasync_writers.kill(Band::Out);
        outcome
    }

    /// Waits for bytes and takes them.
    fn take(&self, nonblocking: bool, dst: &mut dyn Sink) -> Result<usize> {
        loop {
            let mut ring = self.ring.lock();
            let was_full = ring.buffers.len() >= ring.slots;
            if !ring.buffers.is_empty() {
                let n = self.drain(&mut ring, dst)?;
                let left = !ring.buffers.is_empty();
                let room = ring.buffers.len() < ring.slots;
                drop(ring);
                if was_full && room {
                    self.drained.wake_one();
                }
                if left && self.sleeping_readers.load(Relaxed) > 0 {
                    // One reader was woken for all that is here: pass it on.
                    self.filled.wake_one();
                }
                return Ok(n);
            }
            drop(ring);
            if !self.has_writers() {
                return Ok(0);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let ready = || (!self.is_empty() || !self.has_writers()).then_some(());
            self.sleeping_readers.fetch_add(1, Relaxed);
            let outcome = self.filled.wait_exclusive(None, ready);
            self.sleeping_readers.fetch_sub(1, Relaxed);
            outcome?;
        }
    }

    fn write(&self, file: &File, src: &mut dyn Source) -> Result<usize> {
        if src.left() == 0 {
            return Ok(0);
        }
        let outcome = self.put(file, src);
        self.fasync_readers.kill(Band::In);
        outcome
    }

    /// Puts in everything, waiting for room.
    fn put(&self, file: &File, src: &mut dyn Source) -> Result<usize> {
        let packet = file.flags() & oflag::O_DIRECT != 0;
        let mut done = 0;
        loop {
            if !self.has_readers() {
                if done > 0 {
                    env::env().broken_pipe();
                    return Ok(done);
                }
                return Err(Errno::EPIPE);
            }
            let mut ring = self.ring.lock();
            let filled = self.fill(&mut ring, src, packet);
            let room = ring.buffers.len() < ring.slots;
            drop(ring);
            match filled {
                Ok(0) => {}
                Ok(n) => {
                    done += n;
                    self.filled.wake_one();
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
            if src.left() == 0 || room {
                // All written; or a fault ended the copy while there was room.
                if room && self.sleeping_writers.load(Relaxed) > 0 {
                    self.drained.wake_one();
                }
                return Ok(done);
            }
            if file.nonblocking() {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            self.fasync_readers.kill(Band::In);
            let ready = || (!self.is_full() || !self.has_readers()).then_some(());
            self.sleeping_writers.fetch_add(1, Relaxed);
            let outcome = self.drained.wait_exclusive(None, ready);
            self.sleeping_writers.fetch_sub(1, Relaxed);
            if let Err(error) = outcome {
                return if done > 0 { Ok(done) } else { Err(error.into()) };
            }
        }
    }

    /// F_SETPIPE_SZ: the new capacity in bytes. EINVAL for 0 or too much, EPERM above
    /// [`PIPE_MAX_SIZE`] without `privileged`, EBUSY when more is in it.
    fn resize(&self, bytes: usize, privileged: bool) -> Result<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let slots = bytes.div_ceil(PAGE_SIZE).max(1).next_power_of_two();
        let mut ring = self.ring.lock();
        if slots > ring.slots && slots * PAGE_SIZE > PIPE_MAX_SIZE && !privileged {
            return Err(Errno::EPERM);
        }
        if ring.buffers.len() > slots {
            return Err(Errno::EBUSY);
        }
        ring.slots = slots;
        self.slots.store(slots, Relaxed);
        drop(ring);
        self.drained.wake_all();
        Ok(slots * PAGE_SIZE)
    }
}

impl Inode for Pipe {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn open(self: Arc<Self>, args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        fifo::reopen(&self, args.flags)
    }
    fn anonymous_name(&self) -> String {
        alloc::format!("pipe:[{}]", self.base.ino)
    }
}

/// One opening of a pipe.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// Writer openings when this was opened: a FIFO without a writer since is not hung up.
    writers_seen: u32,
}

impl PipeEnd {
    fn new(pipe: &Arc<Pipe>, access: u32) -> Result<Arc<Self>> {
        Self::with(pipe, access, u32::MAX)
    }

    /// An opening of a FIFO: a reader that comes first is not hung up.
    fn of_fifo(pipe: &Arc<Pipe>, access: u32) -> Result<Arc<Self>> {
        let first = access & oflag::O_ACCMODE == oflag::O_RDONLY && !pipe.has_writers();
        let seen = if first { pipe.writer_opens.load(Relaxed) } else { u32::MAX };
        Self::with(pipe, access, seen)
    }

    fn with(pipe: &Arc<Pipe>, access: u32, writers_seen: u32) -> Result<Arc<Self>> {
        let (reads, writes) = match access & oflag::O_ACCMODE {
            oflag::O_RDONLY => (true, false),
            oflag::O_WRONLY => (false, true),
            _ => (true, true),
        };
        if reads {
            pipe.readers.fetch_add(1, Release);
            pipe.reader_opens.fetch_add(1, Release);
        }
        if writes {
            pipe.writers.fetch_add(1, Release);
            pipe.writer_opens.fetch_add(1, Release);
        }
        // Refused, it is dropped, which takes the counts back.
        arc(Self { pipe: pipe.clone(), reads, writes, writers_seen })
    }

    /// F_GETPIPE_SZ, bytes.
    pub fn capacity(&self) -> usize {
        self.pipe.slots.load(Relaxed) * PAGE_SIZE
    }

    /// F_SETPIPE_SZ; `privileged`: with CAP_SYS_RESOURCE.
    pub fn set_capacity(&self, bytes: usize, privileged: bool) -> Result<usize> {
        self.pipe.resize(bytes, privileged)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        if self.reads {
            self.pipe.readers.fetch_sub(1, Release);
        }
        if self.writes {
            self.pipe.writers.fetch_sub(1, Release);
        }
        self.pipe.filled.wake_all();
        self.pipe.drained.wake_all();
        if self.pipe.has_readers() != self.pipe.has_writers() {
            self.pipe.fasync_readers.kill(Band::In);
            self.pipe.fasync_writers.kill(Band::Out);
        }
    }
}

impl FileOps for PipeEnd {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        self.pipe.read(file.nonblocking(), dst)
    }
    fn write(&self, file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        self.pipe.write(file, src)
    }
    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        let pipe = &self.pipe;
        if let Some(table) = table {
            if self.reads {
                table.watch(&pipe.filled);
            }
            if self.writes {
                table.watch(&pipe.drained);
            }
        }
        let mut ready = PollMask::empty();
        if self.reads {
            if !pipe.is_empty() {
                ready |= PollMask::READABLE;
            }
            let seen = pipe.writer_opens.load(Relaxed) != self.writers_seen;
            if !pipe.has_writers() && seen {
                ready |= PollMask::HUP;
            }
        }
        if self.writes {
            if !pipe.is_full() {
                ready |= PollMask::WRITABLE;
            }
            if !pipe.has_readers() {
                ready |= PollMask::ERR;
            }
        }
        ready & (interest | PollMask::ALWAYS)
    }
    fn pollable(&self) -> bool {
        true
    }
    fn fasync(&self) -> [Option<&Fasync>; 2] {
        let pipe = &self.pipe;
        [self.reads.then_some(&pipe.fasync_readers), self.writes.then_some(&pipe.fasync_writers)]
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        if cmd != abi::raw::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        hal::user::write(hal::VirtAddr::new(arg), &(self.pipe.len() as i32))?;
        Ok(0)
    }
}
