//! Lines that CPUs take from each other, with the code and the data on both sides.

use std::collections::BTreeMap;

use traffic::contended::is_true;

use super::result::Run;
use super::symbols::{Function, Symbols};

/// Lines that are kept, those that move most first.
const MOST: usize = 200;

pub struct SharedLine {
    /// In the address space of whoever touched it.
    pub address: u64,
    pub mapping: String,
    /// Some bytes are written by one CPU and touched by another; else the line is shared falsely.
    pub truly: bool,
    /// How often a CPU had to take it.
    pub moves: u64,
    pub sides: Vec<Side>,
}

pub struct Side {
    pub cpu: usize,
    pub reads: u64,
    pub writes: u64,
    /// A bit for each byte.
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub functions: Vec<(Function, u64)>,
}

/// The lines of a run that two CPUs or more have taken.
pub fn lines(run: &Run, symbols: &mut Symbols) -> Vec<SharedLine> {
    let mut lines: Vec<SharedLine> = Vec::new();
    for parts in run.raw.lines.values().filter(|parts| parts.len() > 1) {
        let masks = parts.iter().map(|(cpu, part)| (*cpu, (part.read_bytes, part.written_bytes)));
        let Some(first) = parts.values().next() else { continue };
        let sides = parts.iter().map(|(&cpu, part)| {
            let mut functions: BTreeMap<Function, u64> = BTreeMap::new();
            for (code, count) in &part.codes {
                if let Some((code, _)) = run.raw.codes.get(code) {
                    *functions.entry(symbols.function(code)).or_default() += count;
                }
            }
            let mut functions: Vec<_> = functions.into_iter().collect();
            functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            Side {
                cpu,
                reads: part.reads,
                writes: part.writes,
                read_bytes: part.read_bytes,
                written_bytes: part.written_bytes,
                functions,
            }
        });
        let sides: Vec<Side> = sides.collect();
        lines.push(SharedLine {
            address: first.address,
            mapping: run.space.find(first.address).map_or("-".into(), |m| m.name.clone()),
            truly: is_true(&masks.collect()),
            moves: sides.iter().map(|side| side.reads + side.writes).sum(),
            sides,
        });
    }
    lines.sort_by_key(|line| (std::cmp::Reverse(line.moves), line.address));
    lines.truncate(MOST);
    lines
}
