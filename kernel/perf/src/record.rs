//! The records of the ring buffer, byte for byte as perf_event_open(2) has them.
//!
//! A record is a header, its body, and for all but samples the same identification at its end
//! ([`Ids`]). Sizes are known before a byte is written, so that a record is placed as a whole.

use crate::attr::{Attr, flag, sample};

/// Record types.
pub mod kind {
    pub const MMAP: u32 = 1;
    pub const LOST: u32 = 2;
    pub const COMM: u32 = 3;
    pub const EXIT: u32 = 4;
    pub const THROTTLE: u32 = 5;
    pub const UNTHROTTLE: u32 = 6;
    pub const FORK: u32 = 7;
    pub const READ: u32 = 8;
    pub const SAMPLE: u32 = 9;
    pub const MMAP2: u32 = 10;
    pub const SWITCH: u32 = 14;
    pub const SWITCH_CPU_WIDE: u32 = 15;
}

/// Bits of a header's `misc`.
pub mod misc {
    pub const KERNEL: u16 = 1;
    pub const USER: u16 = 2;
    pub const MMAP_DATA: u16 = 1 << 13;
    pub const COMM_EXEC: u16 = 1 << 13;
    pub const SWITCH_OUT: u16 = 1 << 13;
    pub const SWITCH_OUT_PREEMPT: u16 = 1 << 14;
}

/// Marks in a callchain: what follows was running in the kernel, or in the program.
pub const CONTEXT_KERNEL: u64 = (-128i64) as u64;
/// See [`CONTEXT_KERNEL`].
pub const CONTEXT_USER: u64 = (-512i64) as u64;

/// Bytes of a header.
pub const HEADER: u64 = 8;
/// The largest record (its size is 16 bits).
pub const MAX_SIZE: u64 = 0xfff8;

/// Where bytes go.
pub trait Out {
    fn put(&mut self, bytes: &[u8]);
    fn long(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    fn words(&mut self, low: u32, high: u32) {
        self.long(u64::from(high) << 32 | u64::from(low));
    }
    /// A header.
    fn header(&mut self, kind: u32, misc: u16, size: u64) {
        self.long(size << 48 | u64::from(misc) << 32 | u64::from(kind));
    }
}

impl<A: crate::ring::Area + ?Sized> Out for crate::ring::Slot<'_, A> {
    fn put(&mut self, bytes: &[u8]) {
        Self::put(self, bytes);
    }
}

impl Out for alloc::vec::Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Who, when and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub pid: u32,
    pub tid: u32,
    pub time: u64,
    /// The event's id; an inherited event's is that of the event it came from.
    pub id: u64,
    /// The id of this very event.
    pub stream_id: u64,
    pub cpu: u32,
}

impl Ids {
    /// Bytes at a record's end.
    pub fn size(attr: &Attr) -> u64 {
        if !attr.has(flag::SAMPLE_ID_ALL) {
            return 0;
        }
        let parts = sample::TID
            | sample::TIME
            | sample::ID
            | sample::STREAM_ID
            | sample::CPU
            | sample::IDENTIFIER;
        8 * u64::from((attr.sample_type & parts).count_ones())
    }

    /// Writes them.
    pub fn put(&self, attr: &Attr, out: &mut (impl Out + ?Sized)) {
        if !attr.has(flag::SAMPLE_ID_ALL) {
            return;
        }
        let has = |bit| attr.sample_type & bit != 0;
        if has(sample::TID) {
            out.words(self.pid, self.tid);
        }
        if has(sample::TIME) {
            out.long(self.time);
        }
        if has(sample::ID) {
            out.long(self.id);
        }
        if has(sample::STREAM_ID) {
            out.long(self.stream_id);
        }
        if has(sample::CPU) {
            out.words(self.cpu, 0);
        }
        if has(sample::IDENTIFIER) {
            out.long(self.id);
        }
    }
}

/// The parts of a sample that are small, as far as its `sample_type` asks for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample<'a> {
    pub ids: Ids,
    pub ip: u64,
    pub addr: u64,
    pub period: u64,
    /// What read(2) would give, in words.
    pub read: &'a [u64],
    pub callchain: &'a [u64],
    /// With its own length in its first four bytes; a multiple of 8 together.
    pub raw: &'a [u8],
    /// The ABI word (2 for 64 bits, 0 for a task without user registers), then the registers.
    pub regs_user: (u64, &'a [u64]),
    /// Bytes of user stack that the record has room for, and those there are.
    pub stack: (u64, u64),
    pub weight: u64,
    pub data_src: u64,
    pub regs_intr: (u64, &'a [u64]),
    pub phys_addr: u64,
    pub data_page_size: u64,
    pub code_page_size: u64,
}

impl Sample<'_> {
    /// Bytes of the whole record.
    pub fn size(&self, attr: &Attr) -> u64 {
        let has = |bit| attr.sample_type & bit != 0;
        let fixed = sample::IDENTIFIER
            | sample::IP
            | sample::TID
            | sample::TIME
            | sample::ADDR
            | sample::ID
            | sample::STREAM_ID
            | sample::CPU
            | sample::PERIOD
            | sample::WEIGHT
            | sample::WEIGHT_STRUCT
            | sample::DATA_SRC
            | sample::TRANSACTION
            | sample::PHYS_ADDR
            | sample::DATA_PAGE_SIZE
            | sample::CODE_PAGE_SIZE
            | sample::CGROUP;
        let mut size = HEADER + 8 * u64::from((attr.sample_type & fixed).count_ones());
        let words = |n: usize| 8 * n as u64;
        if has(sample::READ) {
            size += words(self.read.len());
        }
        if has(sample::CALLCHAIN) {
            size += words(1 + self.callchain.len());
        }
        if has(sample::RAW) {
            size += self.raw_bytes().len() as u64;
        }
        if has(sample::BRANCH_STACK) {
            size += 8;
        }
        if has(sample::REGS_USER) {
            size += words(1 + self.regs_user.1.len());
        }
        if has(sample::STACK_USER) {
            size += 8 + if self.stack.0 > 0 { self.stack.0 + 8 } else { 0 };
        }
        if has(sample::REGS_INTR) {
            size += words(1 + self.regs_intr.1.len());
        }
        if has(sample::AUX) {
            size += 8;
        }
        size
    }

    fn raw_bytes(&self) -> &[u8] {
        // No raw data is said as four bytes of zeroes.
        if self.raw.is_empty() { &[4, 0, 0, 0, 0, 0, 0, 0] } else { self.raw }
    }

    /// Writes it; `stack` puts `stack.0` bytes.
    pub fn put<O: Out + ?Sized>(
        &self,
        attr: &Attr,
        misc: u16,
        out: &mut O,
        stack: impl FnOnce(&mut O),
    ) {
        let has = |bit| attr.sample_type & bit != 0;
        out.header(kind::SAMPLE, misc, self.size(attr));
        let ids = &self.ids;
        if has(sample::IDENTIFIER) {
            out.long(ids.id);
        }
        if has(sample::IP) {
            out.long(self.ip);
        }
        if has(sample::TID) {
            out.words(ids.pid, ids.tid);
        }
        if has(sample::TIME) {
            out.long(ids.time);
        }
        if has(sample::ADDR) {
            out.long(self.addr);
        }
        if has(sample::ID) {
            out.long(ids.id);
        }
        if has(sample::STREAM_ID) {
            out.long(ids.stream_id);
        }
        if has(sample::CPU) {
            out.words(ids.cpu, 0);
        }
        if has(sample::PERIOD) {
            out.long(self.period);
        }
        if has(sample::READ) {
            self.read.iter().for_each(|&word| out.long(word));
        }
        if has(sample::CALLCHAIN) {
            out.long(self.callchain.len() as u64);
            self.callchain.iter().for_each(|&word| out.long(word));
        }
        if has(sample::RAW) {
            out.put(self.raw_bytes());
        }
        if has(sample::BRANCH_STACK) {
            out.long(0);
        }
        if has(sample::REGS_USER) {
            out.long(self.regs_user.0);
            self.regs_user.1.iter().for_each(|&word| out.long(word));
        }
        if has(sample::STACK_USER) {
            let (room, there) = self.stack;
            out.long(room);
            if room > 0 {
                stack(out);
                out.long(there);
            }
        }
        if has(sample::WEIGHT) || has(sample::WEIGHT_STRUCT) {
            out.long(self.weight);
        }
        if has(sample::DATA_SRC) {
            out.long(self.data_src);
        }
        if has(sample::TRANSACTION) {
            out.long(0);
        }
        if has(sample::REGS_INTR) {
            out.long(self.regs_intr.0);
            self.regs_intr.1.iter().for_each(|&word| out.long(word));
        }
        if has(sample::PHYS_ADDR) {
            out.long(self.phys_addr);
        }
        if has(sample::CGROUP) {
            out.long(0);
        }
        if has(sample::DATA_PAGE_SIZE) {
            out.long(self.data_page_size);
        }
        if has(sample::CODE_PAGE_SIZE) {
            out.long(self.code_page_size);
        }
        if has(sample::AUX) {
            out.long(0);
        }
    }
}

/// A record that is no sample.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    Comm {
        pid: u32,
        tid: u32,
        name: &'a [u8],
        exec: bool,
    },
    /// The end of a task, or its start: pid and tid with their parents', and when.
    Task {
        exit: bool,
        pid: u32,
        ppid: u32,
        tid: u32,
        ptid: u32,
        time: u64,
    },
    Map(Map<'a>),
    Lost {
        id: u64,
        count: u64,
    },
    Throttle {
        stopped: bool,
        time: u64,
        id: u64,
        stream_id: u64,
    },
    /// An inherited event's counts at its task's end.
    Read {
        pid: u32,
        tid: u32,
        values: &'a [u64],
    },
    /// `other`: in a buffer of a whole CPU, pid and tid of who comes or went.
    Switch {
        out: bool,
        preempted: bool,
        other: Option<(u32, u32)>,
    },
}

/// A new mapping.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    pub pid: u32,
    pub tid: u32,
    pub start: u64,
    pub len: u64,
    /// Offset in the file, bytes.
    pub offset: u64,
    pub name: &'a [u8],
    pub dev: (u32, u32),
    pub inode: u64,
    pub generation: u64,
    pub prot: u32,
    pub flags: u32,
    /// Not executable.
    pub data: bool,
}

/// A name's bytes with its NUL, rounded up to words.
fn name_size(name: &[u8]) -> u64 {
    (name.len() as u64 + 8) & !7
}

fn put_name(name: &[u8], out: &mut (impl Out + ?Sized)) {
    out.put(name);
    out.put(&[0; 8][..(name_size(name) as usize - name.len())]);
}

impl Side<'_> {
    /// Bytes of the whole record in a buffer of an event with `attr`.
    pub fn size(&self, attr: &Attr) -> u64 {
        let body = match self {
            Self::Comm { name, .. } => 8 + name_size(name),
            Self::Task { .. } => 24,
            Self::Map(map) => {
                let more = if attr.has(flag::MMAP2) { 32 } else { 0 };
                32 + more + name_size(map.name)
            }
            Self::Lost { .. } => 16,
            Self::Throttle { .. } => 24,
            Self::Read { values, .. } => 8 + 8 * values.len() as u64,
            Self::Switch { other, .. } => {
                if other.is_some() {
                    8
                } else {
                    0
                }
            }
        };
        HEADER + body + Ids::size(attr)
    }

    /// Writes it.
    pub fn put(&self, attr: &Attr, ids: &Ids, out: &mut (impl Out + ?Sized)) {
        let size = self.size(attr);
        match *self {
            Self::Comm { pid, tid, name, exec } => {
                // Who did not ask for the bit does not get it.
                let exec = exec && attr.has(flag::COMM_EXEC);
                out.header(kind::COMM, if exec { misc::COMM_EXEC } else { 0 }, size);
                out.words(pid, tid);
                put_name(name, out);
            }
            Self::Task { exit, pid, ppid, tid, ptid, time } => {
                out.header(if exit { kind::EXIT } else { kind::FORK }, 0, size);
                out.words(pid, ppid);
                out.words(tid, ptid);
                out.long(time);
            }
            Self::Map(map) => {
                let second = attr.has(flag::MMAP2);
                let data = if map.data { misc::MMAP_DATA } else { 0 };
                let kind = if second { kind::MMAP2 } else { kind::MMAP };
                out.header(kind, misc::USER | data, size);
                out.words(map.pid, map.tid);
                out.long(map.start);
                out.long(map.len);
                out.long(map.offset);
                if second {
                    out.words(map.dev.0, map.dev.1);
                    out.long(map.inode);
                    out.long(map.generation);
                    out.words(map.prot, map.flags);
                }
                put_name(map.name, out);
            }
            Self::Lost { id, count } => {
                out.header(kind::LOST, 0, size);
                out.long(id);
                out.long(count);
            }
            Self::Throttle { stopped, time, id, stream_id } => {
                let kind = if stopped { kind::THROTTLE } else { kind::UNTHROTTLE };
                out.header(kind, 0, size);
                out.long(time);
                out.long(id);
                out.long(stream_id);
            }
            Self::Read { pid, tid, values } => {
                out.header(kind::READ, 0, size);
                out.words(pid, tid);
                values.iter().for_each(|&v| out.long(v));
            }
            Self::Switch { out: leaves, preempted, other } => {
                let mut bits = 0;
                if leaves {
                    bits |= misc::SWITCH_OUT;
                    if preempted {
                        bits |= misc::SWITCH_OUT_PREEMPT;
                    }
                }
                let kind = if other.is_some() { kind::SWITCH_CPU_WIDE } else { kind::SWITCH };
                out.header(kind, bits, size);
                if let Some((pid, tid)) = other {
                    out.words(pid, tid);
                }
            }
        }
        ids.put(attr, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().expect("whole words"))).collect()
    }

    #[test]
    fn a_sample_has_its_parts_in_order() {
        let attr = Attr {
            sample_type: sample::IP
                | sample::TID
                | sample::TIME
                | sample::CPU
                | sample::PERIOD
                | sample::CALLCHAIN
                | sample::IDENTIFIER,
            ..Attr::default()
        };
        let s = Sample {
            ids: Ids { pid: 1, tid: 2, time: 3, id: 4, stream_id: 5, cpu: 6 },
            ip: 0x1000,
            period: 7,
            callchain: &[CONTEXT_USER, 0x1000, 0x2000],
            ..Sample::default()
        };
        let mut out = Vec::new();
        s.put(&attr, misc::USER, &mut out, |_| {});
        assert_eq!(
            words(&out),
            [
                88 << 48 | 2 << 32 | 9,
                4,
                0x1000,
                2 << 32 | 1,
                3,
                6,
                7,
                3,
                CONTEXT_USER,
                0x1000,
                0x2000
            ]
        );
        assert_eq!(out.len() as u64, s.size(&attr));
    }

    #[test]
    fn names_end_in_zeroes() {
        let attr = Attr { flags: flag::SAMPLE_ID_ALL, sample_type: sample::TID, ..Attr::default() };
        for len in 0..20 {
            let name = vec![b'x'; len];
            let side = Side::Comm { pid: 1, tid: 1, name: &name, exec: true };
            let mut out = Vec::new();
            side.put(&attr, &Ids::default(), &mut out);
            assert_eq!(out.len() as u64, side.size(&attr));
            assert_eq!(out[16 + len], 0);
        }
    }

    fn side() -> impl Strategy<Value = (u8, Vec<u8>, Vec<u64>, bool)> {
        (
            0u8..7,
            proptest::collection::vec(1u8..255, 0..60),
            proptest::collection::vec(any::<u64>(), 0..8),
            any::<bool>(),
        )
    }

    proptest! {
        #[test]
        fn sizes_are_what_is_written(
            sample_type in 0..sample::WEIGHT_STRUCT,
            flags: u64,
            chain in proptest::collection::vec(any::<u64>(), 0..40),
            regs in proptest::collection::vec(any::<u64>(), 0..17),
            stack in 0u64..64,
            (which, name, values, on) in side(),
        ) {
            let attr = Attr { sample_type, flags, ..Attr::default() };
            let s = Sample {
                callchain: &chain,
                read: &values,
                regs_user: (2, &regs),
                regs_intr: (2, &regs),
                stack: (stack * 8, stack),
                ..Sample::default()
            };
            let mut out = Vec::new();
            s.put(&attr, 0, &mut out, |o| o.put(&vec![0; stack as usize * 8]));
            prop_assert_eq!(out.len() as u64, s.size(&attr));
            prop_assert_eq!(u64::from(u16::from_le_bytes([out[6], out[7]])), s.size(&attr));
            let side = match which {
                0 => Side::Comm { pid: 1, tid: 2, name: &name, exec: on },
                1 => Side::Task { exit: on, pid: 1, ppid: 2, tid: 3, ptid: 4, time: 5 },
                2 => Side::Map(Map {
                    pid: 1, tid: 2, start: 3, len: 4, offset: 5, name: &name, dev: (0, 1), inode: 6,
                    generation: 0, prot: 5, flags: 2, data: on,
                }),
                3 => Side::Lost { id: 1, count: 2 },
                4 => Side::Throttle { stopped: on, time: 1, id: 2, stream_id: 3 },
                5 => Side::Read { pid: 1, tid: 2, values: &values },
                _ => Side::Switch { out: on, preempted: on, other: on.then_some((1, 2)) },
            };
            let mut out = Vec::new();
            side.put(&attr, &Ids::default(), &mut out);
            prop_assert_eq!(out.len() as u64, side.size(&attr));
            prop_assert_eq!(out.len() % 8, 0);
        }
    }
}
