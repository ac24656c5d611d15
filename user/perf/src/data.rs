//! perf.data: the file that Linux's perf writes and reads.
//!
//! Written: the header, the ids and attributes of the events, the records as the kernel wrote them,
//! and feature sections (who, where, build ids, events, NUMA nodes). One feature is this tool's own
//! ([`SYMBOLS`]): the names of the functions that samples hit, so that a file can be read where
//! the programs are not. Linux's perf passes over it.

use crate::bytes::{Reader, put_string};
use crate::records::{Events, Record};
use crate::sys::{ATTR_SIZE, Attr};
use std::collections::BTreeMap;
use std::path::Path;

const MAGIC: &[u8; 8] = b"PERFILE2";
const HEADER: usize = 104;

/// Feature numbers.
pub mod feature {
    pub const BUILD_ID: usize = 2;
    pub const HOSTNAME: usize = 3;
    pub const OSRELEASE: usize = 4;
    pub const VERSION: usize = 5;
    pub const ARCH: usize = 6;
    pub const NRCPUS: usize = 7;
    pub const CPUDESC: usize = 8;
    pub const TOTAL_MEM: usize = 10;
    pub const CMDLINE: usize = 11;
    pub const EVENT_DESC: usize = 12;
    pub const NUMA_TOPOLOGY: usize = 14;
}
/// This tool's own: lines of object, address, size and name.
pub const SYMBOLS: usize = 224;

/// An event as the file keeps it.
pub struct FileEvent {
    pub name: String,
    pub attr: Attr,
    pub ids: Vec<u64>,
}

/// The bytes of a file: `data` are the records, `features` the contents of sections by number.
pub fn write(events: &[FileEvent], data: &[u8], features: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    let mut ids = Vec::new();
    for event in events {
        ids.push((out.len() as u64, event.ids.len() as u64 * 8));
        event.ids.iter().for_each(|id| out.extend(id.to_le_bytes()));
    }
    let attrs_at = out.len();
    for (event, (at, size)) in events.iter().zip(ids) {
        out.extend(event.attr.bytes());
        out.extend(at.to_le_bytes());
        out.extend(size.to_le_bytes());
    }
    let data_at = out.len();
    out.extend(data);
    let table_at = out.len();
    out.resize(table_at + features.len() * 16, 0);
    let mut bits = [0u64; 4];
    for (i, (number, content)) in features.iter().enumerate() {
        bits[number / 64] |= 1 << (number % 64);
        let section = [out.len() as u64, content.len() as u64];
        put_words(&mut out[table_at + i * 16..], &section);
        out.extend(content);
    }
    let header = [
        u64::from_le_bytes(*MAGIC),
        HEADER as u64,
        ATTR_SIZE as u64 + 16,
        attrs_at as u64,
        (data_at - attrs_at) as u64,
        data_at as u64,
        data.len() as u64,
        0,
        0,
        bits[0],
        bits[1],
        bits[2],
        bits[3],
    ];
    put_words(&mut out, &header);
    out
}

fn put_words(out: &mut [u8], words: &[u64]) {
    for (to, word) in out.chunks_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// The EVENT_DESC section.
pub fn event_desc(events: &[FileEvent]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((events.len() as u32).to_le_bytes());
    out.extend((ATTR_SIZE as u32).to_le_bytes());
    for event in events {
        out.extend(event.attr.bytes());
        out.extend((event.ids.len() as u32).to_le_bytes());
        put_string(&mut out, &event.name);
        event.ids.iter().for_each(|id| out.extend(id.to_le_bytes()));
    }
    out
}

/// One entry of the BUILD_ID section.
pub fn build_id(out: &mut Vec<u8>, kernel: bool, id: &[u8], name: &str) {
    /// The size of the id stands behind it.
    const SIZED: u16 = 1 << 15;
    let len = (name.len() + 1).next_multiple_of(64);
    out.extend(0u32.to_le_bytes());
    out.extend((SIZED | if kernel { 1 } else { 2 }).to_le_bytes());
    out.extend(((36 + len) as u16).to_le_bytes());
    out.extend((-1i32).to_le_bytes());
    let mut padded = [0; 24];
    let size = id.len().min(20);
    padded[..size].copy_from_slice(&id[..size]);
    padded[20] = size as u8;
    out.extend(padded);
    out.extend(name.as_bytes());
    out.resize(out.len() + len - name.len(), 0);
}

/// What a file holds.
pub struct File {
    pub events: Events,
    /// In the order of their times.
    pub records: Vec<Record>,
    pub features: BTreeMap<usize, Vec<u8>>,
}

fn section(bytes: &[u8], at: u64, size: u64) -> Option<&[u8]> {
    bytes.get(at as usize..)?.get(..size as usize)
}

/// Reads a file.
pub fn read(path: &Path) -> Result<File, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// Takes a file's bytes apart.
pub fn parse(bytes: &[u8]) -> Result<File, &'static str> {
    if !bytes.starts_with(MAGIC) {
        return Err("not a perf.data file");
    }
    header(bytes).ok_or("the file is cut off")
}

fn header(bytes: &[u8]) -> Option<File> {
    let mut r = Reader::new(bytes.get(16..)?);
    let attr_size = r.u64()? as usize;
    let (attrs_at, attrs_size) = (r.u64()?, r.u64()?);
    let (data_at, data_size) = (r.u64()?, r.u64()?);
    r.take(16)?;
    let bits = [r.u64()?, r.u64()?, r.u64()?, r.u64()?];
    let mut events = Events::default();
    let attrs = section(bytes, attrs_at, attrs_size)?;
    for entry in attrs.chunks_exact(attr_size.max(32)) {
        let (attr, ids) = entry.split_at(attr_size - 16);
        let mut r = Reader::new(ids);
        let mut ids = Reader::new(section(bytes, r.u64()?, r.u64()?)?);
        while let Some(id) = ids.u64() {
            events.ids.insert(id, events.attrs.len());
        }
        events.attrs.push(Attr::from_bytes(attr));
        events.names.push(format!("event {}", events.names.len()));
    }
    let mut features = BTreeMap::new();
    let mut table = Reader::new(bytes.get((data_at + data_size) as usize..)?);
    for number in (0..256).filter(|n| bits[n / 64] & 1 << (n % 64) != 0) {
        let content = section(bytes, table.u64()?, table.u64()?)?;
        features.insert(number, content.to_vec());
    }
    if let Some(desc) = features.get(&feature::EVENT_DESC) {
        read_names(desc, &mut events.names);
    }
    let records = records(&events, section(bytes, data_at, data_size)?);
    Some(File { events, records, features })
}

fn read_names(desc: &[u8], names: &mut [String]) -> Option<()> {
    let mut r = Reader::new(desc);
    let count = r.u32()?;
    let attr_size = r.u32()?;
    for at in 0..count as usize {
        r.take(attr_size as usize)?;
        let ids = r.u32()?;
        let len = r.u32()?;
        let text = Reader::new(r.take(len as usize)?).text();
        r.take(ids as usize * 8)?;
        *names.get_mut(at)? = text;
    }
    Some(())
}

/// The records in `data`, in the order of their times.
pub fn records(events: &Events, data: &[u8]) -> Vec<Record> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(head) = data.get(at..at + 8) {
        let mut r = Reader::new(head);
        let (Some(kind), Some(misc), Some(size)) = (r.u32(), r.u16(), r.u16()) else { break };
        let Some(body) = data.get(at + 8..at + usize::from(size)) else { break };
        out.extend(events.parse(kind, misc, body));
        at += usize::from(size);
    }
    // What was there before has no time and stays first.
    out.sort_by_key(|record| record.time);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Body, sample};

    fn sample_record(id: u64, ip: u64, time: u64) -> Vec<u8> {
        let words = [32u64 << 48 | 2 << 32 | 9, id, ip, time];
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let sample_type = sample::IDENTIFIER | sample::IP | sample::TIME;
        let attr = |config| Attr { config, sample_type, ..Attr::default() };
        let events = [
            FileEvent { name: "one".into(), attr: attr(1), ids: vec![11, 12] },
            FileEvent { name: "two".into(), attr: attr(2), ids: vec![21] },
        ];
        let mut data = sample_record(21, 0x2000, 9);
        data.extend(sample_record(12, 0x1000, 8));
        let mut features = BTreeMap::new();
        features.insert(feature::EVENT_DESC, event_desc(&events));
        features.insert(SYMBOLS, b"lines".to_vec());
        let file = parse(&write(&events, &data, &features)).expect("whole");
        assert_eq!(file.events.names, ["one", "two"]);
        assert_eq!(file.events.attrs[1].config, 2);
        assert_eq!(file.features[&SYMBOLS], b"lines");
        let got: Vec<_> = file
            .records
            .iter()
            .map(|r| match &r.body {
                Body::Sample(s) => (s.event, s.ip),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, [(0, 0x1000), (1, 0x2000)]);
    }

    #[test]
    fn cut_files_are_refused() {
        let whole = write(&[], &[1; 64], &BTreeMap::from([(2, vec![0; 10])]));
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).is_err(), "{len} of {}", whole.len());
        }
    }
}
