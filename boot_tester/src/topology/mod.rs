//! A machine's NUMA shape: nodes with CPUs and memory, and the distances between them.
//!
//! A [`Topology`] that exists is valid: [`Topology::check`] has accepted it. Reading files is
//! [`file`]'s, QEMU's words for it are [`qemu`]'s, tables for people [`show`]'s.

pub mod file;
pub mod qemu;
pub mod show;
pub mod svg;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::size;
use crate::traffic::CacheFile;

/// ACPI 6.5, 5.2.17: 10 is local by definition, 255 means unreachable.
pub const LOCAL: u32 = 10;
const REMOTE: u32 = 20;
const UNREACHABLE: u32 = 255;

/// What the kernels and QEMU's machine take: 256 CPUs need an x2APIC id above 255.
pub const MAX_CPUS: usize = 255;
/// What Proxima takes: a mask of nodes is a word. (QEMU takes 128.)
pub const MAX_NODES: usize = 64;
const MAX_MEMORY: u64 = 1 << 40;
/// Less does not hold a kernel and a program.
const MIN_MEMORY: u64 = 32 << 20;
/// Linux's memory blocks and QEMU's alignment of memory backends allow no finer grain.
const MEMORY_GRAIN: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// CPU numbers, ascending.
    pub cpus: Vec<usize>,
    /// Bytes.
    pub memory: u64,
}

/// How CPU numbers fold into packages: `sockets * dies * cores * threads` = CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuShape {
    pub sockets: usize,
    pub dies: usize,
    pub cores: usize,
    pub threads: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    pub name: String,
    pub description: String,
    pub nodes: Vec<Node>,
    /// `distances[from][to]`; need not be symmetric.
    pub distances: Vec<Vec<u32>>,
    pub shape: CpuShape,
    /// Caches and latencies for counting traffic, where the file names them.
    #[serde(skip)]
    pub model: CacheFile,
}

impl Topology {
    /// `nodes` nodes that share CPUs and memory as evenly as numbers allow; the first ones get
    /// what remains.
    pub fn even(nodes: usize, cpus: usize, memory: u64) -> Result<Self, String> {
        if nodes == 0 || cpus == 0 {
            return Err("a machine needs at least one node and one CPU".into());
        }
        if nodes > MAX_NODES {
            return Err(format!("{nodes} nodes are more than the {MAX_NODES} a machine may have"));
        }
        let grains = memory / MEMORY_GRAIN;
        let mut next_cpu = 0;
        let list: Vec<Node> = (0..nodes)
            .map(|index| {
                let count = share(cpus, nodes, index);
                let first = next_cpu;
                next_cpu += count;
                let memory = share(grains as usize, nodes, index) as u64 * MEMORY_GRAIN;
                Node { cpus: (first..next_cpu).collect(), memory }
            })
            .collect();
        let topology = Self {
            name: format!("{nodes} nodes, {cpus} CPUs"),
            description: String::new(),
            distances: default_distances(nodes),
            shape: CpuShape::guess(&list),
            nodes: list,
            model: CacheFile::default(),
        };
        topology.check()?;
        Ok(topology)
    }

    pub fn cpus(&self) -> usize {
        self.nodes.iter().map(|node| node.cpus.len()).sum()
    }

    pub fn memory(&self) -> u64 {
        self.nodes.iter().map(|node| node.memory).sum()
    }

    /// The same nodes with `total` bytes in the old proportion.
    pub fn with_memory(mut self, total: u64) -> Result<Self, String> {
        let old = u128::from(self.memory());
        let grains = u128::from(total / MEMORY_GRAIN);
        let mut given = 0;
        let first = self.nodes.iter().position(|node| node.memory > 0);
        for node in &mut self.nodes {
            let share = (u128::from(node.memory) * grains).checked_div(old).unwrap_or(0) as u64;
            node.memory = share * MEMORY_GRAIN;
            given += node.memory;
        }
        if let Some(first) = first.and_then(|first| self.nodes.get_mut(first)) {
            first.memory += grains as u64 * MEMORY_GRAIN - given;
        }
        self.check()?;
        Ok(self)
    }

    /// The same nodes with `total` CPUs spread over those that have any.
    pub fn with_cpus(mut self, total: usize) -> Result<Self, String> {
        let holders = self.nodes.iter().filter(|node| !node.cpus.is_empty()).count();
        if total < holders {
            return Err(format!("{total} CPUs cannot fill the {holders} nodes that have CPUs"));
        }
        let mut next = 0;
        for (index, node) in self.nodes.iter_mut().filter(|n| !n.cpus.is_empty()).enumerate() {
            let first = next;
            next += share(total, holders, index);
            node.cpus = (first..next).collect();
        }
        self.shape = CpuShape::guess(&self.nodes);
        self.check()?;
        Ok(self)
    }

    /// Sets the distances that `list` names, both ways unless the way back is named as well.
    pub fn with_distances(mut self, list: &[(usize, usize, u32)]) -> Result<Self, String> {
        let named: BTreeMap<_, _> = list.iter().map(|&(a, b, d)| ((a, b), d)).collect();
        for (&(from, to), &distance) in &named {
            for node in [from, to] {
                if node >= self.nodes.len() {
                    return Err(format!(
                        "--distance names node {node}, but the nodes are 0 to {}",
                        self.nodes.len() - 1
                    ));
                }
            }
            self.distances[from][to] = distance;
            if !named.contains_key(&(to, from)) {
                self.distances[to][from] = distance;
            }
        }
        self.check()?;
        Ok(self)
    }

    /// Everything that makes a machine impossible, as one sentence.
    pub fn check(&self) -> Result<(), String> {
        self.check_nodes()?;
        self.check_cpus()?;
        self.check_distances()
    }

    fn check_nodes(&self) -> Result<(), String> {
        let count = self.nodes.len();
        if count == 0 {
            return Err("the topology has no node".into());
        }
        if count > MAX_NODES {
            return Err(format!("{count} nodes are more than the {MAX_NODES} a machine may have"));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if node.cpus.is_empty() && node.memory == 0 {
                return Err(format!(
                    "node {index} has neither a CPU nor memory: more nodes than CPUs and memory"
                ));
            }
            if !node.memory.is_multiple_of(MEMORY_GRAIN) {
                return Err(format!(
                    "node {index}: {} bytes of memory are no whole number of MiB",
                    node.memory
                ));
            }
        }
        let memory = self.memory();
        if memory < MIN_MEMORY {
            return Err(format!(
                "{} of memory are too little: a guest needs {}",
                size::show(memory),
                size::show(MIN_MEMORY)
            ));
        }
        if memory > MAX_MEMORY {
            return Err(format!("{} of memory are more than 1T", size::show(memory)));
        }
        Ok(())
    }

    fn check_cpus(&self) -> Result<(), String> {
        let mut owner = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for &cpu in &node.cpus {
                if let Some(other) = owner.insert(cpu, index) {
                    return Err(format!("CPU {cpu} is on node {other} and on node {index}"));
                }
            }
        }
        let count = owner.len();
        if count == 0 {
            return Err("no node has a CPU".into());
        }
        if count > MAX_CPUS {
            return Err(format!("{count} CPUs are more than the {MAX_CPUS} a machine may have"));
        }
        if let Some(missing) = (0..count).find(|cpu| !owner.contains_key(cpu)) {
            return Err(format!("CPU {missing} is on no node: number CPUs from 0 without gaps"));
        }
        let shape = &self.shape;
        let folded = shape.sockets * shape.dies * shape.cores * shape.threads;
        if folded != count {
            return Err(format!(
                "[cpu] folds into {folded} CPUs (sockets x dies x cores x threads), \
                 but the nodes have {count}"
            ));
        }
        Ok(())
    }

    fn check_distances(&self) -> Result<(), String> {
        let count = self.nodes.len();
        if self.distances.len() != count || self.distances.iter().any(|row| row.len() != count) {
            return Err(format!("the distance matrix must have {count} rows of {count} numbers"));
        }
        for (from, row) in self.distances.iter().enumerate() {
            for (to, &distance) in row.iter().enumerate() {
                let pair = format!("distance from node {from} to node {to}");
                if distance < LOCAL {
                    return Err(format!("{pair} is {distance}: nothing is nearer than {LOCAL}"));
                }
                if from != to && distance == LOCAL {
                    return Err(format!(
                        "{pair} is {distance}: that is a node's distance from itself, and kernels \
                         drop a table that says so of two"
                    ));
                }
                if distance >= UNREACHABLE {
                    return Err(format!("{pair} is {distance}: the largest is 254"));
                }
                if from == to && distance != LOCAL {
                    return Err(format!("{pair} is {distance}: a node is at {LOCAL} from itself"));
                }
            }
        }
        Ok(())
    }
}

impl CpuShape {
    /// A socket for every node with CPUs where they are of one size, in the order of the numbers;
    /// else a socket for every CPU, which no cache can span.
    pub fn guess(nodes: &[Node]) -> Self {
        let groups: Vec<&[usize]> =
            nodes.iter().map(|n| n.cpus.as_slice()).filter(|c| !c.is_empty()).collect();
        let total: usize = groups.iter().map(|cpus| cpus.len()).sum();
        let cores = groups.first().map_or(1, |cpus| cpus.len());
        let aligned = |cpus: &[usize]| {
            cpus.len() == cores
                && cpus[0].is_multiple_of(cores)
                && cpus.last() == Some(&(cpus[0] + cores - 1))
        };
        if groups.iter().all(|cpus| aligned(cpus)) {
            Self { sockets: groups.len(), dies: 1, cores, threads: 1 }
        } else {
            Self { sockets: total, dies: 1, cores: 1, threads: 1 }
        }
    }
}

/// 10 at home, 20 elsewhere: what Linux assumes without a SLIT.
pub fn default_distances(nodes: usize) -> Vec<Vec<u32>> {
    let row = |from| (0..nodes).map(|to| if from == to { LOCAL } else { REMOTE }).collect();
    (0..nodes).map(row).collect()
}

fn share(total: usize, parts: usize, index: usize) -> usize {
    total / parts + usize::from(index < total % parts)
}

#[cfg(test)]
mod tests;
