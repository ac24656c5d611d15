//! The kernel's records, taken apart by the attributes of their events.

use crate::bytes::Reader;
use crate::sys::Attr;
use std::collections::HashMap;

/// Bits of `sample_type`.
pub mod sample {
    pub const IP: u64 = 1;
    pub const TID: u64 = 1 << 1;
    pub const TIME: u64 = 1 << 2;
    pub const ADDR: u64 = 1 << 3;
    pub const READ: u64 = 1 << 4;
    pub const CALLCHAIN: u64 = 1 << 5;
    pub const ID: u64 = 1 << 6;
    pub const CPU: u64 = 1 << 7;
    pub const PERIOD: u64 = 1 << 8;
    pub const STREAM_ID: u64 = 1 << 9;
    pub const RAW: u64 = 1 << 10;
    pub const DATA_SRC: u64 = 1 << 15;
    pub const IDENTIFIER: u64 = 1 << 16;
    /// Parts between RAW and DATA_SRC whose size cannot be known here.
    pub const OPAQUE: u64 = 1 << 11 | 1 << 12 | 1 << 13;
    pub const WEIGHT: u64 = 1 << 14 | 1 << 24;
}

/// Bits of `read_format`.
pub mod format {
    pub const ENABLED: u64 = 1;
    pub const RUNNING: u64 = 2;
    pub const ID: u64 = 4;
    pub const GROUP: u64 = 8;
    pub const LOST: u64 = 16;
}

/// A sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Which event, by its place in the file.
    pub event: usize,
    /// It was taken in the kernel.
    pub kernel: bool,
    pub ip: u64,
    pub pid: i32,
    pub tid: i32,
    pub time: u64,
    pub addr: u64,
    pub cpu: u32,
    pub period: u64,
    pub chain: Vec<u64>,
    pub raw: Vec<u8>,
    pub data_src: u64,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    pub pid: i32,
    pub kernel: bool,
    pub start: u64,
    pub len: u64,
    pub offset: u64,
    pub name: String,
}

/// A record that means something here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Sample(Sample),
    Map(Map),
    Comm { pid: i32, tid: i32, name: String, exec: bool },
    Fork { pid: i32, ppid: i32, tid: i32 },
    Exit { pid: i32, tid: i32 },
    Lost(u64),
    Throttled,
}

/// A record with its time (0 when it has none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub time: u64,
    pub body: Body,
}

/// The events of a file: attributes, and which ids are whose.
#[derive(Clone, Debug, Default)]
pub struct Events {
    pub attrs: Vec<Attr>,
    pub names: Vec<String>,
    pub ids: HashMap<u64, usize>,
}

/// The first address that is a mark in a callchain.
pub const FIRST_MARK: u64 = -4095i64 as u64;
const MARK_KERNEL: u64 = -128i64 as u64;
const MARK_USER: u64 = -512i64 as u64;

/// What a callchain says runs from here on: Some(true) for the kernel.
pub fn mark(entry: u64) -> Option<bool> {
    match entry {
        MARK_KERNEL => Some(true),
        MARK_USER => Some(false),
        _ => None,
    }
}

impl Events {
    fn event_of(&self, body: &[u8]) -> usize {
        let Some(first) = self.attrs.first() else { return 0 };
        if self.attrs.len() == 1 {
            return 0;
        }
        let has = |bit: u64| first.sample_type & bit != 0;
        let at = if has(sample::IDENTIFIER) {
            0
        } else if has(sample::ID) {
            let before = sample::IP | sample::TID | sample::TIME | sample::ADDR;
            (first.sample_type & before).count_ones() as usize
        } else {
            return 0;
        };
        let id = body.get(at * 8..).and_then(|b| Reader::new(b).u64());
        id.and_then(|id| self.ids.get(&id)).copied().unwrap_or(0)
    }

    /// When a record that is no sample was written: it stands at its end.
    fn trailing_time(&self, body: &[u8]) -> u64 {
        /// sample_id_all.
        const ALL: u64 = 1 << 18;
        let Some(attr) = self.attrs.first().filter(|a| a.flags & ALL != 0) else { return 0 };
        if attr.sample_type & sample::TIME == 0 {
            return 0;
        }
        let after =
            sample::TIME | sample::ID | sample::STREAM_ID | sample::CPU | sample::IDENTIFIER;
        let back = 8 * (attr.sample_type & after).count_ones() as usize;
        body.len().checked_sub(back).and_then(|at| Reader::new(&body[at..]).u64()).unwrap_or(0)
    }

    /// One record from its header's type and misc, and its body; None for those of no interest.
    pub fn parse(&self, kind: u32, misc: u16, body: &[u8]) -> Option<Record> {
        let mut r = Reader::new(body);
        let kernel = misc & 7 == 1;
        let parsed = match kind {
            1 | 10 => {
                let (pid, _tid) = (r.u32()? as i32, r.u32()?);
                let (start, len, offset) = (r.u64()?, r.u64()?, r.u64()?);
                if kind == 10 {
                    r.take(32)?;
                }
                Body::Map(Map { pid, kernel, start, len, offset, name: r.text() })
            }
            2 => {
                r.u64()?;
                Body::Lost(r.u64()?)
            }
            3 => {
                let (pid, tid) = (r.u32()? as i32, r.u32()? as i32);
                Body::Comm { pid, tid, name: r.text(), exec: misc & 1 << 13 != 0 }
            }
            4 | 7 => {
                let (pid, ppid, tid) = (r.u32()? as i32, r.u32()? as i32, r.u32()? as i32);
                if kind == 7 { Body::Fork { pid, ppid, tid } } else { Body::Exit { pid, tid } }
            }
            5 => Body::Throttled,
            9 => {
                let sample = self.sample(kernel, body)?;
                return Some(Record { time: sample.time, body: Body::Sample(sample) });
            }
            _ => return None,
        };
        Some(Record { time: self.trailing_time(body), body: parsed })
    }

    fn sample(&self, kernel: bool, body: &[u8]) -> Option<Sample> {
        let event = self.event_of(body);
        let attr = self.attrs.get(event)?;
        let has = |bit: u64| attr.sample_type & bit != 0;
        let mut r = Reader::new(body);
        let mut s = Sample { event, kernel, period: attr.sample_period, ..Sample::default() };
        if has(sample::IDENTIFIER) {
            r.u64()?;
        }
        if has(sample::IP) {
            s.ip = r.u64()?;
        }
        if has(sample::TID) {
            s.pid = r.u32()? as i32;
            s.tid = r.u32()? as i32;
        }
        if has(sample::TIME) {
            s.time = r.u64()?;
        }
        if has(sample::ADDR) {
            s.addr = r.u64()?;
        }
        if has(sample::ID) {
            r.u64()?;
        }
        if has(sample::STREAM_ID) {
            r.u64()?;
        }
        if has(sample::CPU) {
            s.cpu = r.u32()?;
            r.u32()?;
        }
        if has(sample::PERIOD) {
            s.period = r.u64()?;
        }
        if has(sample::READ) {
            skip_read(&mut r, attr.read_format)?;
        }
        if has(sample::CALLCHAIN) {
            let n = r.u64()?;
            for _ in 0..n {
                s.chain.push(r.u64()?);
            }
        }
        if has(sample::RAW) {
            let size = r.u32()?;
            s.raw = r.take(size as usize)?.to_vec();
        }
        if has(sample::OPAQUE) {
            return Some(s);
        }
        if has(sample::WEIGHT) {
            r.u64()?;
        }
        if has(sample::DATA_SRC) {
            s.data_src = r.u64()?;
        }
        Some(s)
    }
}

fn skip_read(r: &mut Reader<'_>, form: u64) -> Option<()> {
    let has = |bit: u64| u64::from(form & bit != 0);
    let times = has(format::ENABLED) + has(format::RUNNING);
    let each = 1 + has(format::ID) + has(format::LOST);
    let words = if form & format::GROUP != 0 { times + each * r.u64()? } else { times + each };
    r.take(words as usize * 8).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[u64]) -> Vec<u8> {
        list.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn events(sample_type: u64) -> Events {
        let attr = Attr { sample_type, flags: 1 << 18, ..Attr::default() };
        Events { attrs: vec![attr, attr], names: vec![], ids: [(7, 0), (8, 1)].into() }
    }

    #[test]
    fn a_sample_is_read_by_its_type() {
        let kinds = sample::IDENTIFIER
            | sample::IP
            | sample::TID
            | sample::TIME
            | sample::PERIOD
            | sample::CALLCHAIN;
        let body = words(&[8, 0x1000, 3 << 32 | 2, 99, 5, 2, MARK_USER, 0x1000]);
        let got = events(kinds).parse(9, 2, &body).expect("whole");
        let Body::Sample(s) = got.body else { panic!("a sample") };
        assert_eq!(
            (s.event, s.kernel, s.ip, s.pid, s.tid, s.time, s.period),
            (1, false, 0x1000, 2, 3, 99, 5)
        );
        assert_eq!(s.chain, [MARK_USER, 0x1000]);
    }

    #[test]
    fn cut_records_are_none() {
        let kinds = sample::IDENTIFIER | sample::IP | sample::CALLCHAIN;
        let body = words(&[8, 0x1000, 1000, 1]);
        assert_eq!(events(kinds).parse(9, 2, &body), None);
    }

    #[test]
    fn side_records_have_their_time_at_the_end() {
        let kinds = sample::IDENTIFIER | sample::TID | sample::TIME;
        let mut body = words(&[5 << 32 | 5]);
        body.extend(b"name\0\0\0\0");
        body.extend(words(&[5 << 32 | 5, 1234, 7]));
        let got = events(kinds).parse(3, 1 << 13, &body).expect("whole");
        assert_eq!(got.time, 1234);
        assert_eq!(got.body, Body::Comm { pid: 5, tid: 5, name: "name".into(), exec: true });
    }
}
