//! What the plugin hands to the host tool: a text file, a fact a line, words between spaces.
//!
//! It is between the two of one build and no format for others. Counts are as counted, not scaled
//! by sampling.

use crate::contended::{CODES, Side};
use crate::recorder::{Cpu, Heat, Recorder, Span, heat, heat_of};
use crate::registry::Task;
use crate::sums::Sums;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The first line.
const HEAD: &str = "proxima-traffic 2";

/// A CPU's part in a line that CPUs take from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub space: u32,
    pub address: u64,
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub codes: Vec<(u32, u64)>,
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// At an offset in a file, wherever that is mapped: the number of its path.
    File { object: u32, offset: u64 },
    /// The kernel's, or a program's in no file that is known of.
    Address { space: u32, address: u64 },
}

/// Everything of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    pub nodes: usize,
    /// The kernel told which task ran.
    pub told: bool,
    pub began: bool,
    pub ended: bool,
    pub sample: u64,
    pub problems: Vec<String>,
    pub root_space: Option<u32>,
    pub tasks: Vec<Task>,
    /// By task and CPU.
    pub sums: BTreeMap<(usize, usize), Sums>,
    /// Dirty lines to memory, `[from][to]` in one row after the other.
    pub write_backs: Vec<u64>,
    /// By space and page: by node of the CPU.
    pub pages: BTreeMap<(u32, u64), BTreeMap<usize, Heat>>,
    pub codes: BTreeMap<u32, (Code, BTreeMap<usize, Heat>)>,
    /// Paths of files with code.
    pub objects: Vec<String>,
    /// By CPU.
    pub spans: BTreeMap<usize, Vec<Span>>,
    /// By line and CPU.
    pub lines: BTreeMap<u64, BTreeMap<usize, Part>>,
    pub lines_lost: u64,
}

/// Adds up what the CPUs counted.
pub fn collect(recorder: &Recorder, cpus: &[&Cpu], codes: &[(u32, Code)]) -> Raw {
    let pages = pages(recorder, cpus).collect();
    Raw { pages, ..without_pages(recorder, cpus, codes) }
}

/// Writes what the CPUs counted, a page after the other: there may be more than fit in memory twice.
pub fn write(
    recorder: &Recorder,
    cpus: &[&Cpu],
    codes: &[(u32, Code)],
    out: &mut dyn Write,
) -> io::Result<()> {
    without_pages(recorder, cpus, codes).write_with(out, pages(recorder, cpus))
}

/// The pages that somebody used, in no order.
fn pages<'a>(recorder: &'a Recorder, cpus: &'a [&Cpu]) -> impl Iterator<Item = PageHeats> + 'a {
    let heats = move |place: usize| by_node(cpus.iter().map(|cpu| (cpu.node, cpu.pages[place])));
    let used = recorder.pages.all().map(move |(place, page)| (page, heats(place)));
    used.filter(|(_, heats)| !heats.is_empty())
        .map(|(page, heats)| ((page.space, page.number), heats))
}

type PageHeats = ((u32, u64), BTreeMap<usize, Heat>);

fn without_pages(recorder: &Recorder, cpus: &[&Cpu], codes: &[(u32, Code)]) -> Raw {
    let nodes = recorder.wish.memory.len();
    let (began, ended) = recorder.progress();
    let mut raw = Raw {
        nodes,
        told: recorder.is_told(),
        began,
        ended,
        sample: recorder.wish.sample.max(1),
        problems: recorder.problems(),
        write_backs: vec![0; nodes * nodes],
        ..Raw::default()
    };
    {
        let registry = recorder.registry();
        raw.root_space = registry.root_space;
        raw.tasks = registry.tasks().to_vec();
        raw.objects = registry.objects().to_vec();
    }
    for cpu in cpus {
        for (task, sums) in cpu.sums.iter().enumerate() {
            if let Some(sums) = sums.as_ref().filter(|sums| !sums.is_empty()) {
                raw.sums.insert((task, cpu.number), sums.clone());
            }
        }
        for (to, from) in raw.write_backs.iter_mut().zip(&cpu.write_backs) {
            *to += from;
        }
        if !cpu.spans.is_empty() {
            raw.spans.insert(cpu.number, cpu.spans.clone());
        }
        for (line, side) in cpu.contended.all() {
            raw.lines.entry(line).or_default().insert(cpu.number, part(side));
        }
        raw.lines_lost += cpu.contended.lost;
    }
    for &(number, code) in codes {
        let heats = |cpu: &&Cpu| (cpu.node, heat_of(&cpu.codes[number as usize]));
        let heats = by_node(cpus.iter().map(heats));
        if !heats.is_empty() {
            raw.codes.insert(number, (code, heats));
        }
    }
    raw
}

fn part(side: &Side) -> Part {
    Part {
        space: side.space,
        address: side.address,
        reads: side.reads,
        writes: side.writes,
        read_bytes: side.read_bytes,
        written_bytes: side.written_bytes,
        codes: side.codes.iter().copied().filter(|code| code.1 != 0).collect(),
    }
}

fn by_node(heats: impl Iterator<Item = (usize, Heat)>) -> BTreeMap<usize, Heat> {
    let mut sums = BTreeMap::new();
    for (node, heat) in heats.filter(|(_, heat)| heat.iter().any(|&count| count != 0)) {
        let sum: &mut Heat = sums.entry(node).or_default();
        add(sum, &heat);
    }
    sums
}

/// Adds one heat to another.
pub fn add(to: &mut Heat, from: &Heat) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

impl Raw {
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_with(out, self.pages.iter().map(|(page, heats)| (*page, heats.clone())))
    }

    /// Writes everything, with `pages` for its own.
    fn write_with(
        &self,
        out: &mut dyn Write,
        pages: impl Iterator<Item = PageHeats>,
    ) -> io::Result<()> {
        writeln!(out, "{HEAD}")?;
        writeln!(out, "nodes {}", self.nodes)?;
        let flags = [self.told, self.began, self.ended].map(u8::from);
        writeln!(out, "run {} {} {} {}", flags[0], flags[1], flags[2], self.sample)?;
        for problem in &self.problems {
            writeln!(out, "problem {}", problem.replace('\n', " "))?;
        }
        if let Some(space) = self.root_space {
            writeln!(out, "root {space}")?;
        }
        for (number, task) in self.tasks.iter().enumerate() {
            let measured = u8::from(task.measured);
            let name = task.name.replace(['\n', '\r'], " ");
            writeln!(out, "task {number} {} {} {measured} {name}", task.tid, task.pid)?;
        }
        for ((task, cpu), sums) in &self.sums {
            writeln!(out, "sums {task} {cpu}{}", words(sums.counts()))?;
        }
        for object in &self.objects {
            writeln!(out, "object {}", object.replace(['\n', '\r'], " "))?;
        }
        writeln!(out, "backs{}", words(&self.write_backs))?;
        for ((space, page), heats) in pages {
            for (node, heat) in &heats {
                writeln!(out, "page {space} {page} {node}{}", words(heat))?;
            }
        }
        for (number, (code, heats)) in &self.codes {
            for (node, heat) in heats {
                let (kind, of, at) = match code {
                    Code::File { object, offset } => (1, object, offset),
                    Code::Address { space, address } => (0, space, address),
                };
                writeln!(out, "code {number} {kind} {of} {at} {node}{}", words(heat))?;
            }
        }
        for (cpu, spans) in &self.spans {
            for span in spans {
                let Span { task, begin, end, accesses, remote } = span;
                writeln!(out, "span {cpu} {task} {begin} {end} {accesses} {remote}")?;
            }
        }
        for (line, parts) in &self.lines {
            for (cpu, part) in parts {
                write!(out, "line {line} {cpu} {} {} ", part.space, part.address)?;
                write!(out, "{} {} ", part.reads, part.writes)?;
                write!(out, "{} {}", part.read_bytes, part.written_bytes)?;
                for (code, count) in &part.codes {
                    write!(out, " {code} {count}")?;
                }
                writeln!(out)?;
            }
        }
        writeln!(out, "lost {}\nend", self.lines_lost)
    }

    /// Reads what [`Self::write`] wrote; None for anything else, cut-off files too.
    pub fn parse(text: &str) -> Option<Self> {
        let mut raw = Self::default();
        let mut lines = text.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let mut whole = false;
        for line in lines {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "end" => whole = true,
                "object" => raw.objects.push(rest.into()),
                "problem" => raw.problems.push(rest.into()),
                "task" => {
                    let mut words = rest.splitn(5, ' ');
                    let mut number = || words.next()?.parse::<u32>().ok();
                    let (_, tid, pid, measured) = (number()?, number()?, number()?, number()?);
                    let name = words.next().unwrap_or("").to_string();
                    raw.tasks.push(Task { tid, pid, name, measured: measured != 0 });
                }
                _ => raw.take(key, &numbers(rest)?)?,
            }
        }
        whole.then_some(raw)
    }

    fn take(&mut self, key: &str, n: &[u64]) -> Option<()> {
        match (key, n) {
            ("nodes", &[nodes]) => self.nodes = nodes as usize,
            ("run", &[told, began, ended, sample]) => {
                (self.told, self.began, self.ended) = (told != 0, began != 0, ended != 0);
                self.sample = sample;
            }
            ("root", &[space]) => self.root_space = Some(space as u32),
            ("sums", [task, cpu, counts @ ..]) => {
                let sums = Sums::from_counts(self.nodes, counts)?;
                self.sums.insert((*task as usize, *cpu as usize), sums);
            }
            ("backs", counts) => self.write_backs = counts.to_vec(),
            ("page", [space, page, node, heat @ ..]) => {
                let heats = self.pages.entry((*space as u32, *page)).or_default();
                heats.insert(*node as usize, heat_from(heat)?);
            }
            ("code", [number, kind, of, at, node, heat @ ..]) => {
                let code = match kind {
                    0 => Code::Address { space: *of as u32, address: *at },
                    _ => Code::File { object: *of as u32, offset: *at },
                };
                let entry = self.codes.entry(*number as u32);
                let (_, heats) = entry.or_insert_with(|| (code, BTreeMap::new()));
                heats.insert(*node as usize, heat_from(heat)?);
            }
            ("span", &[cpu, task, begin, end, accesses, remote]) => {
                let span = Span { task: task as usize, begin, end, accesses, remote };
                self.spans.entry(cpu as usize).or_default().push(span);
            }
            ("line", [line, cpu, space, address, reads, writes, read, written, codes @ ..]) => {
                let pair = |pair: &[u64]| (pair[0] as u32, pair[1]);
                let part = Part {
                    space: *space as u32,
                    address: *address,
                    reads: *reads,
                    writes: *writes,
                    read_bytes: *read,
                    written_bytes: *written,
                    codes: codes.chunks_exact(2).take(CODES).map(pair).collect(),
                };
                self.lines.entry(*line).or_default().insert(*cpu as usize, part);
            }
            ("lost", &[lost]) => self.lines_lost = lost,
            _ => return None,
        }
        Some(())
    }
}

fn words(numbers: &[u64]) -> String {
    numbers.iter().map(|number| format!(" {number}")).collect()
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
}

fn heat_from(numbers: &[u64]) -> Option<Heat> {
    let heat: [u64; heat::FIELDS] = numbers.try_into().ok()?;
    Some(heat)
}
