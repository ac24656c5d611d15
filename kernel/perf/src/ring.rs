//! The writer of a ring buffer that user space maps: records behind one another, and what found no
//! room.
//!
//! The head is where the writer is, the tail where the reader has come to; both only grow (a
//! backward buffer's head only falls), and what is between them is the reader's. A buffer that is
//! mapped read-only has no tail: it is overwritten. A record goes in as a whole or not at all; what
//! did not is counted, and said in a LOST record before the next that fits.
//!
//! The writer is one at a time (the caller's lock); the reader is another process, anywhere.

/// The memory of a buffer.
pub trait Area {
    /// Bytes of the data; a power of two.
    fn size(&self) -> u64;
    /// Stores `bytes` at `offset` (inside the data, not wrapping).
    fn store(&self, offset: u64, bytes: &[u8]);
    /// How far the reader has come; ordered before the stores that follow.
    fn tail(&self) -> u64;
    /// Gives the reader all up to `head`: ordered after the stores before it.
    fn publish(&self, head: u64);
}

/// How the buffer is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// No reader holds the writer up.
    pub overwrite: bool,
    /// From the end to the start.
    pub backward: bool,
}

/// What came of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in; true when readers are to be woken.
    Written { wake: bool },
    /// No room: counted.
    Lost,
}

/// The writer's own state.
#[derive(Debug)]
pub struct Writer {
    mode: Mode,
    head: u64,
    /// Bytes between wake-ups.
    watermark: u64,
    /// The head at which the last wake-up by watermark was.
    woken: u64,
    lost: u64,
    paused: bool,
    /// Samples since the last wake-up by their number.
    samples: u32,
}

/// Where a record's bytes go.
pub struct Slot<'a, A: Area + ?Sized> {
    area: &'a A,
    at: u64,
    left: u64,
}

impl<A: Area + ?Sized> Slot<'_, A> {
    /// The next bytes of the record; what is beyond its announced size is dropped.
    pub fn put(&mut self, bytes: &[u8]) {
        let size = self.area.size();
        let mut bytes = &bytes[..bytes.len().min(self.left as usize)];
        self.left -= bytes.len() as u64;
        while !bytes.is_empty() {
            let offset = self.at & (size - 1);
            let step = bytes.len().min((size - offset) as usize);
            self.area.store(offset, &bytes[..step]);
            self.at = self.at.wrapping_add(step as u64);
            bytes = &bytes[step..];
        }
    }
}

impl Writer {
    /// For an area of `size` bytes. `watermark`: bytes between wake-ups; 0 for half the buffer.
    pub fn new(size: u64, watermark: u64, mode: Mode) -> Self {
        let watermark = if watermark == 0 { size / 2 } else { watermark.min(size) };
        Self { mode, head: 0, watermark, woken: 0, lost: 0, paused: false, samples: 0 }
    }

    /// True when nothing is ever lost, only overwritten.
    pub fn overwrites(&self) -> bool {
        self.mode.overwrite
    }

    /// Stops or goes on: a paused buffer takes nothing and counts nothing.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Records that were lost and not yet said.
    pub fn unsaid(&self) -> u64 {
        self.lost
    }

    /// The head.
    pub fn head(&self) -> u64 {
        self.head
    }

    fn room(&self, area: &(impl Area + ?Sized)) -> u64 {
        if self.mode.overwrite {
            return area.size();
        }
        let tail = area.tail();
        // A reader that wrote nonsense into the tail gets no record before it is right again.
        let used = if self.mode.backward {
            tail.wrapping_sub(self.head)
        } else {
            self.head.wrapping_sub(tail)
        };
        // One byte stays free, as Linux leaves it.
        (area.size() - 1).saturating_sub(used)
    }

    /// Writes a record of `size` bytes (a multiple of 8) through `fill`. If records were lost since
    /// the last, a record that says so (its size, and how to write it with their number) goes first.
    pub fn write<A: Area + ?Sized>(
        &mut self,
        area: &A,
        size: u64,
        lost_size: u64,
        lost_record: impl FnOnce(u64, &mut Slot<'_, A>),
        fill: impl FnOnce(&mut Slot<'_, A>),
    ) -> Outcome {
        if self.paused {
            return Outcome::Lost;
        }
        let say = self.lost > 0;
        let all = size + if say { lost_size } else { 0 };
        if size > area.size() || all > self.room(area) {
            self.lost += 1;
            return Outcome::Lost;
        }
        let start = if self.mode.backward { self.head.wrapping_sub(all) } else { self.head };
        let mut slot = Slot { area, at: start, left: 0 };
        if say {
            slot.left = lost_size;
            lost_record(core::mem::take(&mut self.lost), &mut slot);
            slot.at = start.wrapping_add(lost_size);
        }
        slot.left = size;
        fill(&mut slot);
        self.head = if self.mode.backward { start } else { start.wrapping_add(all) };
        area.publish(self.head);
        let passed = self.head.wrapping_sub(self.woken);
        let passed = if self.mode.backward { passed.wrapping_neg() } else { passed };
        let wake = passed > self.watermark;
        if wake {
            let step =
                if self.mode.backward { self.watermark.wrapping_neg() } else { self.watermark };
            self.woken = self.woken.wrapping_add(step);
        }
        Outcome::Written { wake }
    }

    /// A sample was written: true when `every` (not 0) of them are together and readers are woken.
    pub fn count_sample(&mut self, every: u32) -> bool {
        if every == 0 {
            return false;
        }
        self.samples += 1;
        let wake = self.samples >= every;
        if wake {
            self.samples -= every;
        }
        wake
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
