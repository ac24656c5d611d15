//! A recording as a person thinks of it: samples with the names of programs and functions.

use crate::data::{self, File};
use crate::records::{self, Body, Map, Record, Sample};
use crate::symbols::{Place, Symbols};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

/// A sample with names.
#[derive(Clone, Debug)]
pub struct Named {
    pub sample: Sample,
    pub comm: Rc<str>,
    /// Who was running, and who called whom, from the inside out.
    pub stack: Vec<Place>,
    /// The addresses of `stack`.
    pub addresses: Vec<u64>,
}

/// A recording.
pub struct Profile {
    pub events: Vec<String>,
    pub samples: Vec<Named>,
    pub lost: u64,
    pub throttled: u64,
}

/// The areas of a process by start: end, file offset, name.
type Areas = BTreeMap<u64, (u64, u64, Rc<str>)>;

#[derive(Default)]
struct World {
    areas: HashMap<i32, Areas>,
    names: HashMap<i32, Rc<str>>,
    places: HashMap<(i32, u64), Place>,
}

impl World {
    fn map(&mut self, map: &Map) {
        let areas = self.areas.entry(map.pid).or_default();
        let end = map.start.saturating_add(map.len);
        // What a new mapping covers is gone.
        let covered: Vec<u64> = areas
            .range(..end)
            .filter(|(_, area)| area.0 > map.start)
            .map(|(&start, _)| start)
            .collect();
        for start in covered {
            let Some((old_end, offset, name)) = areas.remove(&start) else { continue };
            if start < map.start {
                areas.insert(start, (map.start, offset, name.clone()));
            }
            if old_end > end {
                areas.insert(end, (old_end, offset + (end - start), name));
            }
        }
        areas.insert(map.start, (end, map.offset, map.name.as_str().into()));
        self.places.clear();
    }

    fn fork(&mut self, pid: i32, ppid: i32, tid: i32) {
        if pid != ppid {
            let areas = self.areas.get(&ppid).cloned().unwrap_or_default();
            self.areas.insert(pid, areas);
            self.places.clear();
        }
        if let Some(name) = self.names.get(&ppid).cloned() {
            self.names.entry(tid).or_insert(name);
        }
    }

    fn name(&self, tid: i32, pid: i32) -> Rc<str> {
        let known = self.names.get(&tid).or_else(|| self.names.get(&pid)).cloned();
        known.unwrap_or_else(|| if tid == 0 { "idle".into() } else { format!(":{tid}").into() })
    }

    fn place(&mut self, symbols: &mut Symbols, pid: i32, ip: u64, kernel: bool) -> Place {
        if kernel {
            let find = || nameless_together(symbols.in_kernel(ip));
            return self.places.entry((-1, ip)).or_insert_with(find).clone();
        }
        if let Some(place) = self.places.get(&(pid, ip)) {
            return place.clone();
        }
        let area = self
            .areas
            .get(&pid)
            .and_then(|areas| areas.range(..=ip).next_back())
            .filter(|(_, area)| ip < area.0);
        let place = match area {
            Some((start, (_, offset, name))) => {
                nameless_together(symbols.at_offset(name, ip - start + offset, ip))
            }
            None => Place { function: UNKNOWN.into(), object: UNKNOWN.into(), kernel },
        };
        self.places.insert((pid, ip), place.clone());
        place
    }
}

/// Code without a name.
pub const UNKNOWN: &str = "[unknown]";

/// Of an object without symbols every address would be a function of its own: a long list that says
/// nothing. The addresses themselves stay with the samples.
fn nameless_together(place: Place) -> Place {
    if place.function.starts_with("0x") {
        return Place { function: UNKNOWN.into(), ..place };
    }
    place
}

/// The stack of a sample: addresses with what they are in, from the inside out.
fn addresses(sample: &Sample) -> Vec<(u64, bool)> {
    if sample.chain.is_empty() {
        return vec![(sample.ip, sample.kernel)];
    }
    let mut kernel = sample.kernel;
    let mut first = true;
    let mut out = Vec::new();
    for &entry in &sample.chain {
        if entry >= records::FIRST_MARK {
            kernel = records::mark(entry).unwrap_or(kernel);
            first = true;
            continue;
        }
        // A return address belongs to the call before it.
        out.push((if first { entry } else { entry.saturating_sub(1) }, kernel));
        first = false;
    }
    if out.is_empty() {
        out.push((sample.ip, sample.kernel));
    }
    out
}

impl Profile {
    /// From the records of a recording.
    pub fn new(events: Vec<String>, records: &[Record], symbols: &mut Symbols) -> Self {
        let mut world = World::default();
        let mut profile = Self { events, samples: Vec::new(), lost: 0, throttled: 0 };
        for record in records {
            match &record.body {
                Body::Map(map) if !map.kernel => world.map(map),
                Body::Comm { pid, tid, name, exec } => {
                    if *exec {
                        world.areas.remove(pid);
                        world.places.clear();
                    }
                    world.names.insert(*tid, name.as_str().into());
                }
                Body::Fork { pid, ppid, tid } => world.fork(*pid, *ppid, *tid),
                Body::Lost(count) => profile.lost += count,
                Body::Throttled => profile.throttled += 1,
                Body::Sample(sample) => {
                    let stack = addresses(sample)
                        .into_iter()
                        .map(|(ip, kernel)| (ip, world.place(symbols, sample.pid, ip, kernel)));
                    let (addresses, stack) = stack.unzip();
                    let comm = world.name(sample.tid, sample.pid);
                    profile.samples.push(Named { sample: sample.clone(), comm, stack, addresses });
                }
                Body::Map(_) | Body::Exit { .. } => {}
            }
        }
        profile
    }

    /// From a file that was read.
    pub fn of_file(file: &File, symbols: &mut Symbols) -> Self {
        Self::new(file.events.names.clone(), &file.records, symbols)
    }

    /// From a file, with the names that it brings along.
    pub fn load(path: &Path) -> Result<Self, String> {
        let file = data::read(path)?;
        let given = file.features.get(&data::SYMBOLS).map(|text| String::from_utf8_lossy(text));
        Ok(Self::of_file(&file, &mut Symbols::with(&given.unwrap_or_default())))
    }

    /// The sum of the periods of an event's samples.
    pub fn total(&self, event: usize) -> u64 {
        self.of_event(event).map(|s| s.sample.period).sum()
    }

    /// The samples of one event.
    pub fn of_event(&self, event: usize) -> impl Iterator<Item = &Named> {
        self.samples.iter().filter(move |s| s.sample.event == event)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn map(pid: i32, start: u64, name: &str) -> Record {
        let map = Map { pid, kernel: false, start, len: 0x1000, offset: 0, name: name.into() };
        Record { time: 0, body: Body::Map(map) }
    }

    fn sample(pid: i32, period: u64, chain: &[u64]) -> Record {
        let mut marked = vec![-512i64 as u64];
        marked.extend(chain);
        let sample =
            Sample { pid, tid: pid, ip: chain[0], period, chain: marked, ..Sample::default() };
        Record { time: 0, body: Body::Sample(sample) }
    }

    /// main calls hot (3 of 4 periods) and cold; a child runs hot only.
    pub fn example() -> Profile {
        let comm = |pid, name: &str| Record {
            time: 0,
            body: Body::Comm { pid, tid: pid, name: name.into(), exec: true },
        };
        let records = [
            comm(1, "parent"),
            map(1, 0x10000, "/bin/p"),
            sample(1, 3, &[0x10010, 0x10101]),
            sample(1, 1, &[0x10020, 0x10101]),
            Record { time: 0, body: Body::Fork { pid: 2, ppid: 1, tid: 2 } },
            sample(2, 4, &[0x10018]),
            Record { time: 0, body: Body::Lost(5) },
        ];
        let mut symbols =
            Symbols::with("/bin/p\t10\t20\thot\n/bin/p\t20\t30\tcold\n/bin/p\t100\t200\tmain\n");
        Profile::new(vec!["cpu-clock".into()], &records, &mut symbols)
    }

    #[test]
    fn samples_get_their_names() {
        let p = example();
        let stacks: Vec<Vec<&str>> =
            p.samples.iter().map(|s| s.stack.iter().map(|f| &*f.function).collect()).collect();
        assert_eq!(stacks, [vec!["hot", "main"], vec!["cold", "main"], vec!["hot"]]);
        assert_eq!(&*p.samples[2].comm, "parent");
        assert_eq!((p.total(0), p.lost), (8, 5));
    }

    #[test]
    fn new_mappings_cover_old_ones() {
        let records = [
            map(1, 0x10000, "/a"),
            map(1, 0x10800, "/b"),
            sample(1, 1, &[0x10900]),
            sample(1, 1, &[0x10100]),
        ];
        let p = Profile::new(vec![String::new()], &records, &mut Symbols::default());
        assert_eq!(&*p.samples[0].stack[0].object, "/b");
        assert_eq!(&*p.samples[1].stack[0].object, "/a");
    }
}
