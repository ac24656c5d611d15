//! Buffers: pages that user space maps, with a control page first.

use super::event::Event;
use super::sideband;
use crate::task::Task;
use ::perf::attr::flag;
use ::perf::record::{Ids, Side};
use ::perf::ring::{Area, Mode, Outcome, Slot, Writer};
use abi::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use frames::Page;
use frames::fallible::{TryVec, arc};
use fs::PollMask;
use sync::{IrqLock, WaitQueue};
use vm::PAGE;
use vm::object::MemObject;

/// Offsets in the control page (`struct perf_event_mmap_page`).
mod field {
    pub const LOCK_INDEX: usize = 8;
    pub const OFFSET: usize = 16;
    pub const TIME_ENABLED: usize = 24;
    pub const TIME_RUNNING: usize = 32;
    pub const CAPABILITIES: usize = 40;
    /// pmc_width (16 bits), time_shift (16), time_mult (32).
    pub const SHIFT_MULT: usize = 48;
    pub const TIME_OFFSET: usize = 56;
    pub const TIME_ZERO: usize = 64;
    pub const SIZE: usize = 72;
    pub const HEAD: usize = 1024;
    pub const TAIL: usize = 1032;
    pub const DATA_OFFSET: usize = 1040;
    pub const DATA_SIZE: usize = 1048;
}

/// Bit 0 tells old programs what it told them (nothing); user_time and user_time_zero hold where the
/// clock goes by the TSC.
const CAPABILITIES: u64 = NO_TIME | 1 << 3 | 1 << 4;
const NO_TIME: u64 = 1 << 1;

/// The pages.
pub struct Pages {
    /// The control page, then the data.
    pages: Vec<Page>,
    pub object: Arc<MemObject>,
}

impl Pages {
    fn word(&self, offset: usize) -> &'static AtomicU64 {
        hal::phys::atomic_u64(self.pages[0].pfn(), offset)
    }

    fn set(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }
}

impl Area for Pages {
    fn size(&self) -> u64 {
        (self.pages.len() as u64 - 1) * PAGE
    }
    fn store(&self, offset: u64, bytes: &[u8]) {
        let (mut at, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let page = &self.pages[1 + (at / PAGE) as usize];
            let from = (at % PAGE) as usize;
            let step = bytes.len().min(PAGE as usize - from);
            page.bytes_mut()[from..from + step].copy_from_slice(&bytes[..step]);
            at += step as u64;
            bytes = &bytes[step..];
        }
    }
    fn tail(&self) -> u64 {
        self.word(field::TAIL).load(Ordering::Acquire)
    }
    fn publish(&self, head: u64) {
        self.word(field::HEAD).store(head, Ordering::Release);
    }
}

/// A buffer.
pub struct Buffer {
    pub pages: Pages,
    writer: IrqLock<Writer>,
    /// Readers were told of something that they have not polled for yet.
    ready: AtomicBool,
    pub waiters: Arc<WaitQueue>,
    /// Mappings of it.
    pub maps: AtomicU32,
    /// The event that it was made for: the control page is about that one.
    pub owner: AtomicU64,
}

impl Buffer {
    /// A buffer with `data` pages of data (0 or a power of two) for an event. ENOMEM.
    pub fn new(event: &Event, data: u64, writable: bool) -> Result<Arc<Self>> {
        let object = MemObject::of_kernel()?;
        object.set_len((data + 1) * PAGE)?;
        let pages = {
            let mut pages = Vec::with_room(data as usize + 1)?;
            for index in 0..=data {
                pages.push(object.get(index)?);
            }
            pages
        };
        let attr = &event.attr;
        let mode = Mode { overwrite: !writable, backward: attr.has(flag::WRITE_BACKWARD) };
        let watermark = if attr.has(flag::WATERMARK) { u64::from(attr.wakeup) } else { 0 };
        let pages = Pages { pages, object };
        let by_tsc = hal::time::parameters().by_tsc;
        pages.set(field::CAPABILITIES, if by_tsc { CAPABILITIES } else { NO_TIME });
        pages.set(field::SIZE, field::HEAD as u64);
        pages.set(field::DATA_OFFSET, PAGE);
        pages.set(field::DATA_SIZE, data * PAGE);
        arc(Self {
            writer: IrqLock::new(Writer::new(data * PAGE, watermark, mode)),
            pages,
            ready: AtomicBool::new(false),
            waiters: arc(WaitQueue::new())?,
            maps: AtomicU32::new(0),
            owner: AtomicU64::new(event.id),
        })
    }

    /// Pages of data.
    pub fn data_pages(&self) -> u64 {
        self.pages.size() / PAGE
    }

    /// Stops or goes on.
    pub fn pause(&self, paused: bool) {
        self.writer.lock().pause(paused);
    }

    /// Writes a record of `size` bytes on behalf of `event`.
    pub fn write(
        &self,
        event: &Event,
        task: &Task,
        size: u64,
        fill: impl FnOnce(&mut Slot<'_, Pages>),
    ) -> Outcome {
        if self.data_pages() == 0 {
            return Outcome::Lost;
        }
        let attr = &event.attr;
        let lost_size = ::perf::record::HEADER + 16 + Ids::size(attr);
        let mut writer = self.writer.lock();
        writer.write(
            &self.pages,
            size,
            lost_size,
            |count, slot| {
                let ids = sideband::ids(event, task);
                Side::Lost { id: event.id, count }.put(attr, &ids, slot);
            },
            fill,
        )
    }

    /// A sample went in: true when readers are to be woken every `every` samples.
    pub fn count_sample(&self, every: u32) -> bool {
        self.writer.lock().count_sample(every)
    }

    /// There is something to read.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// What poll(2) finds; asking takes it.
    pub fn take_ready(&self) -> PollMask {
        if self.ready.swap(false, Ordering::AcqRel) {
            PollMask::READABLE
        } else {
            PollMask::empty()
        }
    }

    /// Brings the control page up to date.
    pub fn update(&self, value: u64, enabled: u64, running: u64) {
        let now = hal::time::now();
        let hal::time::Parameters { base, mult, .. } = hal::time::parameters();
        // The clock's multiplier has more than 32 bits below 1 GHz.
        let (mut mult, mut shift) = (mult, u64::from(hal::time::SHIFT));
        while mult > u64::from(u32::MAX) {
            mult >>= 1;
            shift -= 1;
        }
        let zero = ((u128::from(base) * u128::from(mult)) >> shift) as u64;
        let zero = zero.wrapping_neg();
        let lock = self.pages.word(field::LOCK_INDEX);
        // The lower half is the sequence; the index (no counter to read directly) stays 0.
        let sequence = lock.load(Ordering::Relaxed) & u64::from(u32::MAX);
        let next = |by: u64| (sequence + by) & u64::from(u32::MAX);
        lock.store(next(1), Ordering::SeqCst);
        self.pages.set(field::OFFSET, value);
        self.pages.set(field::TIME_ENABLED, enabled);
        self.pages.set(field::TIME_RUNNING, running);
        self.pages.set(field::SHIFT_MULT, mult << 32 | shift << 16);
        self.pages.set(field::TIME_OFFSET, zero.wrapping_sub(now));
        self.pages.set(field::TIME_ZERO, zero);
        lock.store(next(2), Ordering::SeqCst);
    }
}
