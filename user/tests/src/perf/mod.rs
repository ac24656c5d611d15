//! perf_event_open(2): what is refused, what is counted, what is sampled, what the buffer holds.

mod count;
mod leak;
mod numa;
mod open;
pub mod pmu;
mod records;
mod ring;
pub mod sample;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::Test;
use crate::sys::{self, Result, sys};

pub const GROUPS: &[&[Test]] = &[
    open::TESTS,
    count::TESTS,
    sample::TESTS,
    records::TESTS,
    ring::TESTS,
    numa::TESTS,
    leak::TESTS,
];

/// `struct perf_event_attr`, 136 bytes as words.
#[derive(Clone, Copy)]
pub struct Attr(pub [u64; 17]);

pub const SOFTWARE: u32 = 1;
pub const CPU_CLOCK: u64 = 0;
pub const TASK_CLOCK: u64 = 1;
pub const FAULTS: u64 = 2;
pub const SWITCHES: u64 = 3;
pub const MIGRATIONS: u64 = 4;
pub const MINOR: u64 = 5;
pub const MAJOR: u64 = 6;
pub const DUMMY: u64 = 9;

pub const DISABLED: u64 = 1;
pub const INHERIT: u64 = 1 << 1;
pub const PINNED: u64 = 1 << 2;
pub const EXCLUDE_USER: u64 = 1 << 4;
pub const EXCLUDE_KERNEL: u64 = 1 << 5;
pub const MMAP: u64 = 1 << 8;
pub const COMM: u64 = 1 << 9;
pub const FREQ: u64 = 1 << 10;
pub const INHERIT_STAT: u64 = 1 << 11;
pub const ENABLE_ON_EXEC: u64 = 1 << 12;
pub const TASK: u64 = 1 << 13;
pub const WATERMARK: u64 = 1 << 14;
pub const SAMPLE_ID_ALL: u64 = 1 << 18;
pub const MMAP2: u64 = 1 << 23;
pub const COMM_EXEC: u64 = 1 << 24;
pub const CONTEXT_SWITCH: u64 = 1 << 26;
pub const WRITE_BACKWARD: u64 = 1 << 27;

/// Kinds of records.
pub const THROTTLE: u32 = 5;
pub const UNTHROTTLE: u32 = 6;

pub const S_IP: u64 = 1;
pub const S_TID: u64 = 1 << 1;
pub const S_TIME: u64 = 1 << 2;
pub const S_ADDR: u64 = 1 << 3;
pub const S_CALLCHAIN: u64 = 1 << 5;
pub const S_CPU: u64 = 1 << 7;
pub const S_REGS_USER: u64 = 1 << 12;
pub const S_STACK_USER: u64 = 1 << 13;

pub const F_ENABLED: u64 = 1;
pub const F_RUNNING: u64 = 2;
pub const F_ID: u64 = 4;
pub const F_GROUP: u64 = 8;

impl Attr {
    /// Counts a software event, user and kernel.
    pub fn software(config: u64) -> Self {
        Self::of(SOFTWARE, config)
    }

    pub fn of(kind: u32, config: u64) -> Self {
        let mut words = [0; 17];
        words[0] = u64::from(kind) | 136 << 32;
        words[1] = config;
        Self(words)
    }

    pub fn flags(mut self, flags: u64) -> Self {
        self.0[5] |= flags;
        self
    }

    /// A sample every `period` events, with these parts.
    pub fn sample(mut self, period: u64, parts: u64) -> Self {
        self.0[2] = period;
        self.0[3] = parts;
        self
    }

    pub fn read_format(mut self, bits: u64) -> Self {
        self.0[4] = bits;
        self
    }

    /// Events, or bytes with WATERMARK, between wake-ups.
    pub fn wakeup(mut self, n: u32) -> Self {
        self.0[6] = u64::from(n);
        self
    }

    pub fn size(mut self, size: u32) -> Self {
        self.0[0] = self.0[0] & 0xffff_ffff | u64::from(size) << 32;
        self
    }

    /// The size field, as the kernel may have changed it.
    pub fn told_size(&self) -> u32 {
        (self.0[0] >> 32) as u32
    }

    /// perf_event_open(2).
    pub fn try_open(&mut self, pid: i32, cpu: i32, group: i32, flags: usize) -> Result<usize> {
        let at = self.0.as_mut_ptr();
        sys!(libc::SYS_perf_event_open, at, pid, cpu, group, flags)
    }

    /// An event of this thread, on any CPU.
    #[track_caller]
    pub fn open(mut self) -> Event {
        Event(self.try_open(0, -1, -1, 0).unwrap() as i32)
    }

    /// The same in a group.
    #[track_caller]
    pub fn open_in(mut self, leader: &Event) -> Event {
        Event(self.try_open(0, -1, leader.0, 0).unwrap() as i32)
    }
}

/// An open event; closed when dropped.
pub struct Event(pub i32);

pub const ENABLE: usize = 0x2400;
pub const DISABLE: usize = 0x2401;
pub const REFRESH: usize = 0x2402;
pub const RESET: usize = 0x2403;
pub const PERIOD: usize = 0x4008_2404;
pub const SET_OUTPUT: usize = 0x2405;
pub const ID: usize = 0x8008_2407;
pub const PAUSE_OUTPUT: usize = 0x4004_2409;
pub const MODIFY_ATTRIBUTES: usize = 0x4008_240b;

impl Event {
    pub fn ioctl(&self, request: usize, arg: usize) -> Result<usize> {
        sys!(libc::SYS_ioctl, self.0, request, arg)
    }

    /// The words of read(2).
    #[track_caller]
    pub fn words(&self) -> Vec<u64> {
        let mut bytes = [0u8; 512];
        let n = sys::read(self.0, &mut bytes).unwrap();
        bytes[..n].chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect()
    }

    /// The count. Nothing is allocated: the heap goes round through its slots, and one on a page
    /// that was not used before would be a fault of the measurement.
    #[track_caller]
    pub fn count(&self) -> u64 {
        let mut bytes = [0u8; 512];
        assert!(sys::read(self.0, &mut bytes).unwrap() >= 8);
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    }

    #[track_caller]
    pub fn id(&self) -> u64 {
        let mut id = 0u64;
        self.ioctl(ID, &raw mut id as usize).unwrap();
        id
    }

    /// What `body` adds to the count.
    #[track_caller]
    pub fn during(&self, body: impl FnOnce()) -> u64 {
        let before = self.count();
        body();
        self.count() - before
    }

    /// poll(2): what is ready now.
    pub fn ready(&self, timeout: i32) -> i16 {
        let mut fd = libc::pollfd { fd: self.0, events: libc::POLLIN, revents: 0 };
        let _ = sys!(libc::SYS_poll, &raw mut fd, 1, timeout);
        fd.revents
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// A mapped buffer.
pub struct Ring {
    pub at: usize,
    pub data: usize,
}

/// A record of a buffer.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: u32,
    pub misc: u16,
    pub words: Vec<u64>,
}

impl Record {
    /// The text that begins at word `at`.
    pub fn text(&self, at: usize) -> String {
        let bytes: Vec<u8> = self.words[at..].iter().flat_map(|w| w.to_le_bytes()).collect();
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

impl Ring {
    #[track_caller]
    pub fn new(event: &Event, pages: usize) -> Self {
        Self::with(event, pages, libc::PROT_READ | libc::PROT_WRITE).unwrap()
    }

    pub fn with(event: &Event, pages: usize, prot: i32) -> Result<Self> {
        let len = (pages + 1) * 4096;
        let at = crate::memory::mmap(0, len, prot, libc::MAP_SHARED, event.0, 0)?;
        Ok(Self { at, data: pages * 4096 })
    }

    fn word(&self, offset: usize) -> &'static AtomicU64 {
        crate::memory::word64(self.at + offset)
    }

    pub fn head(&self) -> u64 {
        self.word(1024).load(Ordering::Acquire)
    }

    pub fn set_tail(&self, tail: u64) {
        self.word(1032).store(tail, Ordering::Release);
    }

    pub fn data_word(&self, at: u64) -> u64 {
        let offset = (at % self.data as u64) as usize;
        self.word(4096 + offset).load(Ordering::Relaxed)
    }

    /// Takes the records that are there.
    pub fn take(&self) -> Vec<Record> {
        let head = self.head();
        let mut at = self.word(1032).load(Ordering::Relaxed);
        let mut records = Vec::new();
        while at < head {
            let header = self.data_word(at);
            let size = header >> 48;
            assert!(size >= 8 && size.is_multiple_of(8), "a record of {size} bytes at {at}");
            let words = (8..size).step_by(8).map(|o| self.data_word(at + o)).collect();
            let misc = (header >> 32) as u16;
            records.push(Record { kind: header as u32, misc, words });
            at += size;
        }
        self.set_tail(at);
        records
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = crate::memory::munmap(self.at, self.data / 4096 + 1);
    }
}

/// Samples are taken as fast as they come: the limit of a second is lifted.
pub fn unthrottle() {
    std::fs::write("/proc/sys/kernel/perf_event_max_sample_rate", "100000000").unwrap();
}

/// Works in user mode for about `nanos` nanoseconds of this thread's time.
pub fn burn(nanos: u64) {
    let end = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) + nanos;
    while sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) < end {
        for i in 0..2000u64 {
            std::hint::black_box(i);
        }
    }
}
