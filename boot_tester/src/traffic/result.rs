//! A run's counts, joined with the machine's shape and the guest's mappings.

use std::collections::BTreeMap;
use std::path::Path;

use traffic::estimate::{self, Time};
use traffic::raw::{self, Code, Raw};
use traffic::recorder::{Heat, heat};
use traffic::sums::{Sums, Who, all, node};

use super::advice::{self, Advice};
use super::mappings::Space;
use super::shared::{self, SharedLine};
use super::symbols::{Function, Line, Symbols};
use super::wish::Wish;
use crate::error::{Fail, Result};
use crate::topology::Topology;

/// Everything that is known of a run.
pub struct Run {
    pub program: String,
    pub topology: Topology,
    pub wish: Wish,
    pub raw: Raw,
    pub space: Space,
    /// By the CPU's node.
    pub nodes: Vec<Sums>,
    pub tasks: Vec<Task>,
    pub mappings: Vec<MappingHeat>,
    /// Most accesses first.
    pub functions: Vec<(Function, Heat)>,
    /// Most accesses first: of code whose source is known.
    pub lines: Vec<(Line, Heat)>,
    pub shared: Vec<SharedLine>,
    pub advice: Vec<Advice>,
}

/// A task that did something.
pub struct Task {
    pub tid: u32,
    pub pid: u32,
    pub name: String,
    /// By the CPU's node.
    pub nodes: Vec<Sums>,
    pub time: Time,
}

/// What was done to a mapping; `start` 0 gathers what is in none.
pub struct MappingHeat {
    pub start: u64,
    pub name: String,
    pub policy: String,
    pub pages: u64,
    pub heat: Heat,
}

impl Run {
    pub fn node_of(&self, cpu: usize) -> usize {
        self.topology.nodes.iter().position(|node| node.cpus.contains(&cpu)).unwrap_or(0)
    }

    /// All time, and what of it is remoteness.
    pub fn time(&self) -> Time {
        let mut time = Time::default();
        self.tasks.iter().for_each(|task| time.add(task.time));
        time
    }
}

/// Accesses of a node's sums: `who`'s, to memory of `to`.
pub fn accesses(sums: &Sums, who: Who, to: usize) -> u64 {
    sums.get(who, to, node::READS) + sums.get(who, to, node::WRITES)
}

/// Lines that came from `to`'s memory.
pub fn lines(sums: &Sums, who: Who, to: usize) -> u64 {
    sums.get(who, to, node::LINES_READ) + sums.get(who, to, node::LINES_WRITE)
}

/// Where accesses ended: counts, in the order of [`END_NAMES`].
pub fn ends(sums: &Sums, who: Who, from: usize) -> [u64; 9] {
    let mut out = [0; 9];
    for (slot, field) in [(0, all::L1), (1, all::L2), (2, all::L3)] {
        out[slot] = sums.get_all(who, field);
    }
    for to in 0..sums.nodes() {
        let near = usize::from(to != from);
        out[3 + 2 * near] += sums.get(who, to, node::CACHE_CLEAN);
        out[4 + 2 * near] += sums.get(who, to, node::CACHE_MODIFIED);
        out[7 + near] += lines(sums, who, to);
    }
    out
}

pub const END_NAMES: [&str; 9] = [
    "L1",
    "L2",
    "L3 of the node",
    "another CPU's cache, clean",
    "another CPU's cache, modified",
    "another node's cache, clean",
    "another node's cache, modified",
    "own node's memory",
    "another node's memory",
];

/// What a run is joined from.
pub struct Parts<'a> {
    pub program: &'a str,
    pub topology: &'a Topology,
    pub wish: &'a Wish,
    /// What the plugin wrote.
    pub raw: &'a str,
    /// What the guest handed back: numa_maps and numa_pages.
    pub files: &'a [Vec<u8>],
    /// A file that has the kernel's symbols.
    pub kernel: Option<&'a Path>,
}

/// Joins what the plugin wrote with what the guest handed back.
pub fn join(parts: &Parts) -> Result<Run> {
    let (topology, wish) = (parts.topology, parts.wish);
    let mut raw = Raw::parse(parts.raw).ok_or_else(|| {
        Fail::broken("the plugin's counts are not whole: QEMU did not end by itself")
    })?;
    if let Some(problem) = raw.problems.first() {
        return Err(Fail::broken(format!("this QEMU's addresses are not understood: {problem}")));
    }
    if !raw.began {
        return Err(Fail::broken("the program was not begun: nothing is counted"));
    }
    scale(&mut raw);
    let text = |number: usize| {
        parts.files.get(number).map_or(String::new(), |bytes| String::from_utf8_lossy(bytes).into())
    };
    let space = Space::parse(&text(0), &text(1));
    let count = topology.nodes.len();
    let mut run = Run {
        program: parts.program.into(),
        topology: topology.clone(),
        wish: wish.clone(),
        nodes: vec![Sums::new(count); count],
        tasks: Vec::new(),
        mappings: Vec::new(),
        functions: Vec::new(),
        lines: Vec::new(),
        shared: Vec::new(),
        advice: Vec::new(),
        space,
        raw,
    };
    run.tasks = tasks(&run);
    for task in &run.tasks {
        for (to, from) in run.nodes.iter_mut().zip(&task.nodes) {
            to.add(from);
        }
    }
    run.mappings = mappings(&run);
    let mut symbols = Symbols::new(&run.space, &run.raw.objects, parts.kernel);
    let functions = by_code(&run, &mut |code| Some(symbols.function(code)));
    let lines = by_code(&run, &mut |code| symbols.line(code));
    let shared = shared::lines(&run, &mut symbols);
    (run.functions, run.lines, run.shared) = (functions, lines, shared);
    run.advice = advice::all(&run);
    Ok(run)
}

/// One block of time stands for all.
fn scale(raw: &mut Raw) {
    let factor = raw.sample;
    if factor <= 1 {
        return;
    }
    raw.sums.values_mut().for_each(|sums| sums.scale(factor));
    raw.write_backs.iter_mut().for_each(|count| *count *= factor);
    let pages = raw.pages.values_mut().flat_map(BTreeMap::values_mut);
    let codes = raw.codes.values_mut().flat_map(|(_, heats)| heats.values_mut());
    for heat in pages.chain(codes) {
        heat.iter_mut().for_each(|count| *count *= factor);
    }
}

fn tasks(run: &Run) -> Vec<Task> {
    let count = run.topology.nodes.len();
    let mut tasks: BTreeMap<usize, Task> = BTreeMap::new();
    for ((number, cpu), sums) in &run.raw.sums {
        let known = run.raw.tasks.get(*number);
        let task = tasks.entry(*number).or_insert_with(|| Task {
            tid: known.map_or(0, |task| task.tid),
            pid: known.map_or(0, |task| task.pid),
            name: known.map_or("all user code".into(), |task| task.name.clone()),
            nodes: vec![Sums::new(count); count],
            time: Time::default(),
        });
        let from = run.node_of(*cpu);
        task.nodes[from].add(sums);
        task.time.add(estimate::time(sums, from, &run.wish.latencies));
    }
    tasks.into_values().collect()
}

/// Sums of what instructions have in common, most accesses first.
fn by_code<K: Ord>(run: &Run, of: &mut dyn FnMut(&Code) -> Option<K>) -> Vec<(K, Heat)> {
    let mut heats: BTreeMap<K, Heat> = BTreeMap::new();
    for (code, by_node) in run.raw.codes.values() {
        let Some(key) = of(code) else { continue };
        let sum = heats.entry(key).or_default();
        by_node.values().for_each(|heat| raw::add(sum, heat));
    }
    let mut rows: Vec<_> = heats.into_iter().collect();
    rows.sort_by(|(a, x), (b, y)| (y[heat::ACCESSES], a).cmp(&(x[heat::ACCESSES], b)));
    rows
}

fn mappings(run: &Run) -> Vec<MappingHeat> {
    // Without the kernel's help there is one space for all, and the program is what runs in it.
    let root = run.raw.root_space.unwrap_or(0);
    let mut by_start: BTreeMap<u64, MappingHeat> = BTreeMap::new();
    for ((space, page), heats) in &run.raw.pages {
        let found = run.space.find(page << 12).filter(|_| *space == root);
        let mapping = by_start.entry(found.map_or(0, |m| m.start)).or_insert_with(|| MappingHeat {
            start: found.map_or(0, |m| m.start),
            name: found.map_or("(other processes, and what was gone at the end)".into(), |m| {
                m.name.clone()
            }),
            policy: found.map_or("-".into(), |m| m.policy.clone()),
            pages: 0,
            heat: Heat::default(),
        });
        mapping.pages += 1;
        heats.values().for_each(|heat| raw::add(&mut mapping.heat, heat));
    }
    by_start.into_values().collect()
}
