//! Topologies as tables for people: `topo list` and `topo show`.

use std::fmt::Write;

use super::qemu::ranges;
use super::{Topology, file};
use crate::size;

/// One line for each shipped topology.
pub fn list() -> String {
    let mut text = String::new();
    for (name, _) in file::SHIPPED {
        if let Some(Ok(topology)) = file::builtin(name) {
            let _ = writeln!(text, "{name:<14} {}", topology.description);
        }
    }
    text
}

/// Nodes and distances, laid out as `numactl --hardware` does.
pub fn table(topology: &Topology) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}: {}", topology.name, topology.description);
    let _ = writeln!(
        text,
        "{} nodes, {} CPUs, {} of memory\n\nnode  cpus      memory",
        topology.nodes.len(),
        topology.cpus(),
        size::show(topology.memory())
    );
    for (index, node) in topology.nodes.iter().enumerate() {
        let cpus = if node.cpus.is_empty() { "-".into() } else { cpu_list(&node.cpus) };
        let memory = if node.memory == 0 { "-".into() } else { size::show(node.memory) };
        let _ = writeln!(text, "{index:>4}  {cpus:<8}  {memory:>6}");
    }
    let _ = write!(text, "\nfrom");
    for to in 0..topology.nodes.len() {
        let _ = write!(text, " {to:>3}");
    }
    text.push('\n');
    for (from, row) in topology.distances.iter().enumerate() {
        let _ = write!(text, "{from:>4}");
        for distance in row {
            let _ = write!(text, " {distance:>3}");
        }
        text.push('\n');
    }
    text
}

/// `0-3,8`, as sysfs writes lists.
pub fn cpu_list(cpus: &[usize]) -> String {
    let part = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges(cpus).iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_topology_is_listed_on_a_line() {
        assert_eq!(list().lines().count(), file::SHIPPED.len());
    }

    #[test]
    fn the_table_shows_nodes_without_cpus_and_every_distance() {
        let text = table(&file::builtin("cxl").unwrap().unwrap());
        assert!(text.contains("   2  -           512M"), "{text}");
        assert!(text.contains("   1  21  10  28"), "{text}");
    }
}
