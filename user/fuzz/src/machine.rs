//! The machine that sequences are made for: its nodes, their CPUs, which of them have memory.
//!
//! Written `CPUS/MEMORY` for each node with `;` between: CPUs as a list such as `0-1`, memory in
//! MiB, either may be empty: `0-1/512;2-3/;/256`.

use std::fs;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub cpus: Vec<u64>,
    /// MiB.
    pub memory: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub nodes: Vec<Node>,
}

impl Machine {
    pub fn parse(text: &str) -> Option<Self> {
        let node = |part: &str| {
            let (cpus, memory) = part.split_once('/')?;
            let memory = if memory.is_empty() { 0 } else { memory.parse().ok()? };
            Some(Node { cpus: list(cpus)?, memory })
        };
        Some(Self { nodes: text.split(';').map(node).collect::<Option<_>>()? })
    }

    /// The machine this runs on has these nodes: the same CPUs, and memory where it is said to be.
    pub fn is_here(&self) -> bool {
        let sysfs = |path: &str| {
            let text = fs::read_to_string(format!("/sys/devices/system/node/{path}")).ok()?;
            list(text.trim())
        };
        let memory = sysfs("has_memory").unwrap_or_default();
        let online = sysfs("online").unwrap_or_default();
        online.len() == self.nodes.len()
            && (0..).zip(&self.nodes).all(|(number, node)| {
                sysfs(&format!("node{number}/cpulist")).is_some_and(|cpus| cpus == node.cpus)
                    && memory.contains(&number) == (node.memory > 0)
            })
    }

    pub fn cpus(&self) -> u64 {
        self.nodes.iter().map(|node| node.cpus.len() as u64).sum()
    }

    pub fn memory_nodes(&self) -> Vec<u64> {
        (0..).zip(&self.nodes).filter(|(_, node)| node.memory > 0).map(|(n, _)| n).collect()
    }

    /// MiB of the smallest node that has memory.
    pub fn least_memory(&self) -> u64 {
        self.nodes.iter().map(|n| n.memory).filter(|m| *m > 0).min().unwrap_or(0)
    }
}

/// Reads a list such as `0-2,5`.
fn list(text: &str) -> Option<Vec<u64>> {
    let mut all = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse::<u64>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read() {
        let machine = Machine::parse("0-1/512;2,3/;/256").unwrap();
        assert_eq!(machine.cpus(), 4);
        assert_eq!(machine.memory_nodes(), [0, 2]);
        assert_eq!(machine.least_memory(), 256);
        assert!(Machine::parse("0-1").is_none());
    }
}
