//! `perf record`: samples of a program, or of everything, in a perf.data file.

use crate::data::{self, FileEvent, feature};
use crate::events::{Event, flag};
use crate::profile::Profile;
use crate::records::{Events, sample};
use crate::symbols::{KERNEL, Symbols};
use crate::sys::{self, End, Ring};
use crate::target::{self, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How to record.
#[derive(Clone, Debug)]
pub struct Options {
    pub events: Vec<Event>,
    /// Samples a second; or events a sample, when `period` is set.
    pub frequency: u64,
    pub period: Option<u64>,
    pub callchains: bool,
    /// Address and source of data, and the events' own words.
    pub data: bool,
    /// Pages of each CPU's buffer (a power of two).
    pub pages: usize,
    /// Recording stops after so many samples; 0 for no limit.
    pub max_samples: u64,
    /// Seconds, when no program says when it is over.
    pub seconds: Option<f64>,
}

/// What was recorded.
pub struct Recording {
    pub events: Vec<FileEvent>,
    pub data: Vec<u8>,
    /// How the program ended, if there was one.
    pub end: Option<End>,
}

struct Session {
    events: Vec<FileEvent>,
    fds: Vec<OwnedFd>,
    /// The descriptor of each ring's first event, by its place in `fds`.
    rings: Vec<(usize, Ring)>,
}

fn attr_of(event: &Event, options: &Options, first: bool, with_program: bool) -> sys::Attr {
    let mut attr = event.attr();
    attr.sample_type =
        sample::IP | sample::TID | sample::TIME | sample::CPU | sample::PERIOD | sample::IDENTIFIER;
    if options.callchains {
        attr.sample_type |= sample::CALLCHAIN;
    }
    if options.data || event.name.starts_with("numa/") {
        attr.sample_type |= sample::ADDR | sample::DATA_SRC;
    }
    if event.name.starts_with("numa/") {
        attr.sample_type |= sample::RAW;
    }
    attr.read_format = crate::records::format::ID;
    attr.flags |= flag::DISABLED | flag::INHERIT | flag::SAMPLE_ID_ALL | flag::EXCLUDE_GUEST;
    attr.sample_period = match options.period {
        Some(period) => period,
        None => {
            attr.flags |= flag::FREQ;
            options.frequency
        }
    };
    if with_program {
        attr.flags |= flag::ENABLE_ON_EXEC;
    }
    if first {
        attr.flags |= flag::MMAP | flag::MMAP2 | flag::COMM | flag::COMM_EXEC | flag::TASK;
    }
    attr
}

/// What an error of perf_event_open(2) means for a person.
pub fn explain(event: &str, error: &std::io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => {
            "this machine does not count it".to_string()
        }
        Some(libc::EACCES | libc::EPERM) => {
            "not allowed; /proc/sys/kernel/perf_event_paranoid says to whom".to_string()
        }
        Some(libc::EMFILE) => "too many open files; raise the limit (ulimit -n)".to_string(),
        Some(libc::ENOSYS) => "this kernel has no performance events".to_string(),
        Some(libc::EINVAL) => {
            "invalid (is the frequency above /proc/sys/kernel/perf_event_max_sample_rate?)"
                .to_string()
        }
        _ => error.to_string(),
    };
    format!("event '{event}': {why}")
}

impl Session {
    fn open(options: &Options, target: &Target) -> Result<Self, String> {
        let with_program = target.begins_with_exec();
        let mut session = Self { events: Vec::new(), fds: Vec::new(), rings: Vec::new() };
        for (at, event) in options.events.iter().enumerate() {
            let attr = attr_of(event, options, at == 0, with_program);
            session.events.push(FileEvent { name: event.name.clone(), attr, ids: Vec::new() });
        }
        for cpu in target::cpus() {
            let mut owner: Option<usize> = None;
            for pid in target.pids() {
                for at in 0..session.events.len() {
                    let event = &session.events[at];
                    let fd = sys::open(&event.attr, pid, cpu as i32, -1)
                        .map_err(|e| explain(&event.name, &e))?;
                    let id = sys::id(&fd).map_err(|e| format!("no id: {e}"))?;
                    session.events[at].ids.push(id);
                    match owner {
                        Some(owner) => {
                            use std::os::fd::AsRawFd;
                            let to = session.fds[owner].as_raw_fd();
                            sys::request(&fd, sys::SET_OUTPUT, to)
                                .map_err(|e| format!("no common buffer: {e}"))?;
                            session.fds.push(fd);
                        }
                        None => {
                            let ring = Ring::new(&fd, options.pages).map_err(|e| {
                                format!("no buffer of {} pages: {e} (try -m)", options.pages)
                            })?;
                            owner = Some(session.fds.len());
                            session.rings.push((session.fds.len(), ring));
                            session.fds.push(fd);
                        }
                    }
                }
            }
        }
        Ok(session)
    }

    fn drain(&mut self, out: &mut Vec<u8>) {
        for (_, ring) in &mut self.rings {
            ring.drain(out);
        }
    }

    fn wait(&self, timeout: i32) -> std::io::Result<bool> {
        let fds: Vec<&OwnedFd> = self.rings.iter().map(|(at, _)| &self.fds[*at]).collect();
        sys::poll(&fds, timeout)
    }

    fn all(&self, what: u64) -> Result<(), String> {
        self.fds.iter().try_for_each(|fd| sys::request(fd, what, 0)).map_err(|e| e.to_string())
    }
}

/// The samples in `data` beyond `from`; counts records only, not their contents.
fn count_samples(data: &[u8], from: &mut usize) -> u64 {
    let mut count = 0;
    while let Some(head) = data.get(*from..*from + 8) {
        let size = usize::from(u16::from_le_bytes([head[6], head[7]]));
        if size < 8 || *from + size > data.len() {
            break;
        }
        count += u64::from(head[0] == 9 && head[1..4] == [0, 0, 0]);
        *from += size;
    }
    count
}

/// The records of `data` without the samples beyond the first `most`: the kernel goes on taking them
/// until it is told.
fn first_samples(data: &[u8], most: u64) -> Vec<u8> {
    let (mut out, mut at, mut samples) = (Vec::with_capacity(data.len()), 0, 0);
    while at < data.len() {
        let begin = at;
        // One record at a time: what is not whole ends the data.
        let size = data.get(begin + 6..begin + 8).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        let Some(record) = data.get(begin..begin + usize::from(size.max(8))) else { break };
        at += record.len();
        samples += count_samples(record, &mut 0);
        if record[0] != 9 || samples <= most {
            out.extend_from_slice(record);
        }
    }
    out
}

/// Records.
pub fn record(options: &Options, mut target: Target) -> Result<Recording, String> {
    let mut session = Session::open(options, &target)?;
    let mut data = synthesized(&session.events[0], &target);
    let (mut seen, mut samples) = (data.len(), 0);
    let begin = Instant::now();
    sys::catch_interrupt();
    if !target.begins_with_exec() {
        session.all(sys::ENABLE)?;
    }
    if let Some(child) = target.child() {
        child.start()?;
    }
    let mut end = None;
    loop {
        let alive = session.wait(100).map_err(|e| format!("poll: {e}"))?;
        session.drain(&mut data);
        samples += count_samples(&data, &mut seen);
        let over = options.seconds.is_some_and(|s| begin.elapsed() >= Duration::from_secs_f64(s));
        let full = options.max_samples > 0 && samples >= options.max_samples;
        if full || over || sys::interrupted() {
            session.all(sys::DISABLE)?;
        }
        match target.child() {
            Some(child) => {
                // Without its events it runs to its end all the same.
                let block = !alive || full || over;
                end = child.wait(block).map_err(|e| format!("wait: {e}"))?;
                if end.is_some() {
                    break;
                }
            }
            None if full || over || sys::interrupted() || !alive => break,
            None => {}
        }
    }
    if !target.begins_with_exec() {
        session.all(sys::DISABLE)?;
    }
    session.drain(&mut data);
    if options.max_samples > 0 {
        data = first_samples(&data, options.max_samples);
    }
    Ok(Recording { events: session.events, data, end })
}

/// Records that the kernel does not write: where its own code is, and what was mapped before.
fn synthesized(first: &FileEvent, target: &Target) -> Vec<u8> {
    let mut out = Vec::new();
    kernel_map(&mut out);
    let pids: Vec<i32> = match target {
        Target::Program(_) => Vec::new(),
        Target::Threads(threads) => threads.clone(),
        Target::Everything(_) => {
            let dir = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            dir.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
        }
    };
    let trailer = 8 * 4;
    for pid in pids {
        let process = process_of(pid);
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        put_record(&mut out, 3, 0, &[ids(process, pid)], name.trim().as_bytes(), trailer);
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.lines() {
            if let Some((words, name)) = map_words(process, pid, line) {
                put_record(&mut out, 10, 2, &words, name.as_bytes(), trailer);
            }
        }
    }
    debug_assert!(first.attr.flags & flag::SAMPLE_ID_ALL != 0);
    out
}

fn ids(pid: i32, tid: i32) -> u64 {
    u64::from(pid as u32) | u64::from(tid as u32) << 32
}

/// The process of a thread.
fn process_of(tid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Tgid:"));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or(tid)
}

/// A record: its words, a name, and zeroes where TID, TIME, CPU and ID stand at its end.
fn put_record(out: &mut Vec<u8>, kind: u32, misc: u16, words: &[u64], name: &[u8], trailer: usize) {
    let name_len = (name.len() + 8) & !7;
    let size = 8 + words.len() * 8 + name_len + trailer;
    out.extend(kind.to_le_bytes());
    out.extend(misc.to_le_bytes());
    out.extend((size as u16).to_le_bytes());
    words.iter().for_each(|w| out.extend(w.to_le_bytes()));
    out.extend(name);
    out.resize(out.len() + name_len - name.len() + trailer, 0);
}

/// The words of a MMAP2 record from a line of /proc/PID/maps; executable areas only.
fn map_words(pid: i32, tid: i32, line: &str) -> Option<([u64; 8], String)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end, offset) = (hex(start)?, hex(end)?, hex(fields.next()?)?);
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let name = fields.next().unwrap_or("//anon").to_string();
    if !rights.contains('x') {
        return None;
    }
    let dev = hex(major)? | hex(minor)? << 32;
    let prot_flags = 5 | 2 << 32;
    Some(([ids(pid, tid), start, end - start, offset, dev, inode, 0, prot_flags], name))
}

/// Where the kernel's code begins and ends; zeroes when it does not say.
fn kernel_range() -> (u64, u64) {
    use std::io::{BufRead, BufReader};
    let mut range = (0u64, 0u64);
    let Ok(file) = std::fs::File::open("/proc/kallsyms") else { return range };
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        let mut words = line.split(' ');
        let address = words.next().and_then(|a| u64::from_str_radix(a, 16).ok()).unwrap_or(0);
        match words.nth(1) {
            Some("_text") => range.0 = address,
            Some("_etext") => range.1 = address,
            _ => {}
        }
        if range.0 != 0 && range.1 != 0 {
            break;
        }
    }
    range
}

fn kernel_map(out: &mut Vec<u8>) {
    let range = kernel_range();
    if range.1 > range.0 {
        let words = [ids(-1, 0), range.0, range.1 - range.0, range.0];
        put_record(out, 1, 1, &words, b"[kernel.kallsyms]_text", 32);
    }
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    crate::bytes::put_string(&mut out, text);
    out
}

impl Recording {
    /// Its records with names.
    pub fn profile(&self, symbols: &mut Symbols) -> Profile {
        let mut events = Events::default();
        for event in &self.events {
            events.ids.extend(event.ids.iter().map(|id| (*id, events.attrs.len())));
            events.attrs.push(event.attr);
            events.names.push(event.name.clone());
        }
        let records = data::records(&events, &self.data);
        Profile::new(events.names.clone(), &records, symbols)
    }

    /// The file's bytes, the recording with names, and the kernel's functions in it as lines of
    /// /proc/kallsyms.
    pub fn file(&self, command: &[String]) -> (Vec<u8>, Profile, String) {
        let mut symbols = Symbols::default();
        let profile = self.profile(&mut symbols);
        let mut features = BTreeMap::new();
        let stacks = profile.samples.iter().flat_map(|s| &s.stack);
        let objects: BTreeSet<&str> = stacks.map(|p| &*p.object).collect();
        let mut ids = Vec::new();
        for object in objects {
            if let Some(id) = symbols.build_id(object) {
                let kernel = object == KERNEL;
                let name = if kernel { "[kernel.kallsyms]" } else { object };
                data::build_id(&mut ids, kernel, &id, name);
            }
        }
        features.insert(feature::BUILD_ID, ids);
        features.insert(feature::HOSTNAME, string(&read_line("/proc/sys/kernel/hostname")));
        features.insert(feature::OSRELEASE, string(&read_line("/proc/sys/kernel/osrelease")));
        features.insert(feature::VERSION, string(concat!("proxima ", env!("CARGO_PKG_VERSION"))));
        features.insert(feature::ARCH, string("x86_64"));
        let cpus = target::cpus().len() as u32;
        features
            .insert(feature::NRCPUS, [cpus, cpus].iter().flat_map(|n| n.to_le_bytes()).collect());
        features.insert(feature::CPUDESC, string(&cpu_name()));
        let total = memory("/proc/meminfo", "MemTotal:").0;
        features.insert(feature::TOTAL_MEM, total.to_le_bytes().to_vec());
        let mut line = (command.len() as u32).to_le_bytes().to_vec();
        command.iter().for_each(|word| crate::bytes::put_string(&mut line, word));
        features.insert(feature::CMDLINE, line);
        features.insert(feature::EVENT_DESC, data::event_desc(&self.events));
        features.insert(feature::NUMA_TOPOLOGY, topology());
        features.insert(data::SYMBOLS, symbols.to_text().into_bytes());
        let kallsyms = symbols.kallsyms(kernel_range());
        (data::write(&self.events, &self.data, &features), profile, kallsyms)
    }
}

fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(": ")).map_or(String::new(), |(_, name)| name.to_string())
}

/// Total and free memory (KiB) that a meminfo file tells; `total` names the former's line.
fn memory(path: &str, total: &str) -> (u64, u64) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|l| l.contains(key))?;
        line.split_once(key)?.1.split_whitespace().next()?.parse().ok()
    };
    (value(total).unwrap_or(0), value(&total.replace("Total", "Free")).unwrap_or(0))
}

fn topology() -> Vec<u8> {
    let nodes = target::nodes();
    let mut out = (nodes.len() as u32).to_le_bytes().to_vec();
    for (node, _) in nodes {
        let dir = format!("/sys/devices/system/node/node{node}");
        let (total, free) = memory(&format!("{dir}/meminfo"), "MemTotal:");
        out.extend(node.to_le_bytes());
        out.extend(total.to_le_bytes());
        out.extend(free.to_le_bytes());
        crate::bytes::put_string(&mut out, &read_line(&format!("{dir}/cpulist")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_become_records() {
        let line = "55550000-55551000 r-xp 00002000 08:01 77                 /bin/true";
        let (words, name) = map_words(5, 6, line).expect("executable");
        assert_eq!(
            words,
            [6 << 32 | 5, 0x5555_0000, 0x1000, 0x2000, 1 << 32 | 8, 77, 0, 5 | 2 << 32]
        );
        assert_eq!(name, "/bin/true");
        assert_eq!(map_words(5, 6, &line.replace("r-xp", "r--p")), None);
        let mut out = Vec::new();
        put_record(&mut out, 10, 2, &words, name.as_bytes(), 32);
        assert_eq!(usize::from(u16::from_le_bytes([out[6], out[7]])), out.len());
        let mut from = 0;
        assert_eq!((count_samples(&out, &mut from), from), (0, out.len()));
    }

    #[test]
    fn samples_beyond_the_limit_are_left_out_and_nothing_else() {
        let mut data = Vec::new();
        for kind in [3, 9, 9, 3, 9, 10] {
            put_record(&mut data, kind, 0, &[7], b"x", 0);
        }
        let kinds = |data: &[u8]| -> Vec<u8> {
            let size = data.len() / data.chunks(24).count();
            data.chunks(size).map(|record| record[0]).collect()
        };
        assert_eq!(kinds(&first_samples(&data, 2)), [3, 9, 9, 3, 10]);
        assert_eq!(first_samples(&data, 3), data);
    }
}
