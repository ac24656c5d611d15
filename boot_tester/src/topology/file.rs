//! Topology files: TOML, shipped ones by name and anybody's by path.
//!
//! ```toml
//! description = "two sockets and a far bank of memory"
//! [[node]]
//! cpus = 2              # a count, taken in order; or a list such as "0-1,4"
//! memory = "1G"
//! [[node]]
//! memory = "512M"       # no CPUs
//! [distances]
//! matrix = [[10, 24], [24, 10]]   # or: between = [{ from = 0, to = 1, distance = 24 }]
//! [cpu]                 # optional: how the CPU numbers fold into packages
//! sockets = 1
//! cores = 2
//! ```

use std::path::Path;

use serde::Deserialize;

use super::{CpuShape, Node, Topology, default_distances};
use crate::error::Fail;
use crate::paths;
use crate::size;
use crate::traffic::{CacheFile, LatencyFile, Levels};

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../topologies/", $name, ".toml")))),*]
    };
}

/// Name and text of every topology that the tool brings along.
pub const SHIPPED: &[(&str, &str)] = shipped![
    "one-node",
    "two-socket",
    "ring-4",
    "epyc-nps4-2s",
    "glueless-8",
    "cxl",
    "memoryless",
    "quad-16",
    "wide-64",
    "crowd-96",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    description: String,
    #[serde(default)]
    node: Vec<FileNode>,
    #[serde(default)]
    distances: FileDistances,
    cpu: Option<FileShape>,
    caches: Option<Levels>,
    latency: Option<LatencyFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    cpus: Option<Cpus>,
    memory: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cpus {
    Count(usize),
    List(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileDistances {
    matrix: Option<Vec<Vec<u32>>>,
    #[serde(default)]
    between: Vec<Between>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    from: usize,
    to: usize,
    distance: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileShape {
    #[serde(default = "one")]
    sockets: usize,
    #[serde(default = "one")]
    dies: usize,
    #[serde(default = "one")]
    cores: usize,
    #[serde(default = "one")]
    threads: usize,
}

fn one() -> usize {
    1
}

/// A shipped topology, or None when no such name is shipped.
pub fn builtin(name: &str) -> Option<Result<Topology, String>> {
    SHIPPED.iter().find(|(own, _)| *own == name).map(|(_, text)| parse(name, text))
}

/// `name` is a shipped topology's name or the path of a TOML file.
pub fn find(name: &str) -> Result<Topology, Fail> {
    if let Some(topology) = builtin(name) {
        return topology.map_err(|why| Fail::usage(format!("topology {name}: {why}")));
    }
    let path = Path::new(name);
    if !(name.contains('/') || name.ends_with(".toml")) {
        let names: Vec<_> = SHIPPED.iter().map(|(own, _)| *own).collect();
        return Err(Fail::usage(format!(
            "there is no topology {name:?}: give a .toml file or one of {}",
            names.join(", ")
        )));
    }
    let text = paths::text(path, paths::DESCRIPTION)
        .map_err(|error| Fail::usage(format!("topology {name}: {error}")))?;
    let stem = path.file_stem().map_or(name.into(), |stem| stem.to_string_lossy());
    parse(&stem, &text).map_err(|why| Fail::usage(format!("topology {name}: {why}")))
}

/// Reads and checks a topology file's text.
pub fn parse(name: &str, text: &str) -> Result<Topology, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    let mut next_cpu = 0;
    let nodes: Vec<Node> =
        file.node.iter().map(|node| read_node(node, &mut next_cpu)).collect::<Result<_, _>>()?;
    let shape = file.cpu.map_or_else(
        || CpuShape::guess(&nodes),
        |cpu| CpuShape {
            sockets: cpu.sockets,
            dies: cpu.dies,
            cores: cpu.cores,
            threads: cpu.threads,
        },
    );
    let topology = Topology {
        name: name.into(),
        description: file.description,
        distances: file.distances.matrix.unwrap_or_else(|| default_distances(nodes.len())),
        nodes,
        shape,
        model: CacheFile { caches: file.caches, latency: file.latency },
    };
    topology.check()?;
    let between: Vec<_> =
        file.distances.between.iter().map(|b| (b.from, b.to, b.distance)).collect();
    let topology =
        topology.with_distances(&between).map_err(|why| why.replace("--distance", "between"))?;
    if let Some(latency) = &topology.model.latency {
        latency.latencies(&topology.distances)?;
    }
    Ok(topology)
}

fn read_node(node: &FileNode, next_cpu: &mut usize) -> Result<Node, String> {
    let cpus = match &node.cpus {
        None => Vec::new(),
        Some(Cpus::Count(count)) => {
            let first = *next_cpu;
            *next_cpu = first.saturating_add((*count).min(super::MAX_CPUS + 1));
            (first..*next_cpu).collect()
        }
        Some(Cpus::List(text)) => parse_list(text)?,
    };
    let memory = node.memory.as_deref().map_or(Ok(0), size::parse)?;
    Ok(Node { cpus, memory })
}

/// `0-3,8` as numbers in ascending order.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("{text:?} is no CPU list: write 0-3,8");
    let mut list = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= 4096 {
            return Err(wrong());
        }
        list.extend(first..=last);
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_topology_is_valid_and_described() {
        for (name, text) in SHIPPED {
            let topology = parse(name, text).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(!topology.description.is_empty(), "{name}");
        }
    }

    #[test]
    fn shipped_shapes_are_what_their_names_say() {
        let get = |name| builtin(name).unwrap().unwrap();
        assert_eq!(get("wide-64").nodes.len(), 64);
        assert_eq!(get("epyc-nps4-2s").nodes.len(), 8);
        assert!(get("cxl").nodes.iter().any(|n| n.cpus.is_empty() && n.memory > 0));
        assert!(get("memoryless").nodes.iter().any(|n| !n.cpus.is_empty() && n.memory == 0));
        let ring = get("ring-4");
        assert!(ring.distances[0][2] > ring.distances[0][1]);
    }

    #[test]
    fn cpu_lists_may_leave_the_order_of_nodes() {
        let text = "[[node]]\ncpus = \"0,2\"\nmemory = \"1G\"\n[[node]]\ncpus = \"1,3\"\n";
        let topology = parse("t", text).unwrap();
        assert_eq!(topology.nodes[1].cpus, [1, 3]);
        assert_eq!(topology.shape.sockets, 4);
    }

    #[test]
    fn distances_may_be_named_pair_by_pair() {
        let text = "[[node]]\ncpus = 1\nmemory = \"1G\"\n[[node]]\ncpus = 1\n\
                    [distances]\nbetween = [{ from = 0, to = 1, distance = 33 }]\n";
        assert_eq!(parse("t", text).unwrap().distances, [[10, 33], [33, 10]]);
    }

    #[test]
    fn wrong_files_are_refused_with_the_line() {
        let error = parse("t", "description = \"x\"\n[[node]]\ncpu = 2\n").unwrap_err();
        assert!(error.starts_with("line 3:"), "{error}");
        assert!(parse("t", "").unwrap_err().contains("no node"));
        assert!(parse("t", "[[node]]\ncpus = 2\nmemory = \"lots\"\n").is_err());
        assert!(parse("t", "[[node]]\ncpus = \"3-1\"\n").is_err());
        assert!(parse("t", "[[node]]\ncpus = 2\nmemory=\"1G\"\n[cpu]\nsockets = 3\n").is_err());
        assert!(parse("t", "[[node]]\ncpus = 999999999\nmemory=\"1G\"\n").is_err());
    }

    #[test]
    fn what_is_no_file_of_a_topologys_length_is_refused() {
        for (path, why) in [
            ("/dev/zero", "longer than 1 MiB"),
            ("/", "a directory"),
            ("/proc/self/exe", "longer than 1 MiB"),
            ("/nonexistent.toml", "No such file"),
        ] {
            let fail = find(path).unwrap_err();
            assert_eq!(fail.code, crate::error::USAGE, "{path}");
            assert!(fail.message.contains(why), "{path}: {}", fail.message);
        }
    }
}
