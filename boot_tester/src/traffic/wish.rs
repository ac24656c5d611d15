//! What is wanted of a count, and how QEMU is told.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Deserialize;
use traffic::estimate::Latencies;
use traffic::geometry::{self, Caches, Geometry};

use crate::error::{Fail, Result};
use crate::guest::machine::{Clock, QEMU, qemu};
use crate::paths;
use crate::size;
use crate::topology::Topology;

/// The command line's part.
#[derive(Args, Clone, Debug, Default)]
#[command(group = clap::ArgGroup::new("counting").args(["traffic", "report"]).multiple(true))]
pub struct Options {
    /// Count every memory access by CPU's and memory's node, and where in the caches it ends
    ///
    /// HOW is caches (the default), count (no caches: faster) or sample:N (one of N blocks of time);
    /// with ,user the kernel's accesses stay out of the caches.
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "caches",
        value_parser = How::parse,
        conflicts_with_all = ["interactive", "placement", "gdb"]
    )]
    pub traffic: Option<How>,
    /// With --traffic: the caches, by name (server, desktop, small), none, or a TOML file
    #[arg(long, value_name = "NAME|FILE", requires = "counting")]
    pub caches: Option<String>,
    /// With --traffic: write all that was counted as JSON (docs/traffic.schema.json)
    #[arg(long, value_name = "FILE", requires = "counting", value_parser = paths::output())]
    pub json: Option<PathBuf>,
    /// Count, and make one HTML page of everything
    ///
    /// With --perf or --flame the program runs a second time for the flame graph in it.
    #[arg(
        long,
        value_name = "FILE.html",
        value_parser = paths::output(),
        conflicts_with_all = ["interactive", "placement", "gdb"]
    )]
    pub report: Option<PathBuf>,
    /// With --traffic: run again with the best advice that numactl can express, and compare
    #[arg(long, value_name = "apply", requires = "counting", require_equals = true)]
    pub advice: Option<Apply>,
}

impl Options {
    /// How to count; a page alone asks for the usual.
    pub fn how(&self) -> Option<How> {
        let usual = How { caches: true, sample: 1, user_only: false };
        self.traffic.or(self.report.as_ref().map(|_| usual))
    }
}

/// What to do with advice.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    Apply,
}

/// How to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    pub caches: bool,
    pub sample: u64,
    pub user_only: bool,
}

impl How {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut how = Self { caches: true, sample: 1, user_only: false };
        for word in text.split(',') {
            match (word, word.strip_prefix("sample:").map(str::parse)) {
                ("caches", _) => {}
                ("count", _) => how.caches = false,
                ("user", _) => how.user_only = true,
                (_, Some(Ok(n @ 1..=1_000_000))) => how.sample = n,
                _ => return Err("write caches, count or sample:N, and ,user if wanted".into()),
            }
        }
        Ok(how)
    }
}

/// A count that can be made.
#[derive(Clone, Debug)]
pub struct Wish {
    pub how: How,
    pub caches: Option<Caches>,
    /// What the caches are called.
    pub caches_name: String,
    pub latencies: Latencies,
}

/// `[caches]` and `[latency]`, in a topology's file or in one of their own.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CacheFile {
    #[serde(default)]
    pub caches: Option<Levels>,
    #[serde(default)]
    pub latency: Option<LatencyFile>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    pub l1: Option<Level>,
    pub l2: Option<Level>,
    pub l3: Option<Level>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Level {
    pub size: String,
    pub ways: u32,
}

/// In ns; what is not named has its default.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LatencyFile {
    pub l1: Option<f64>,
    pub l2: Option<f64>,
    pub l3: Option<f64>,
    /// Another CPU's cache on the same node.
    pub cache: Option<f64>,
    /// Local memory: remote memory in the proportion of the distances.
    pub local: Option<f64>,
    /// Or all of it, `[CPU's node][memory's node]`.
    pub memory: Option<Vec<Vec<f64>>>,
}

impl Levels {
    pub fn caches(&self) -> std::result::Result<Caches, String> {
        let one = |name: &str, level: &Option<Level>| match level {
            None => Ok(Geometry::NONE),
            Some(level) => size::parse(&level.size)
                .and_then(|bytes| Geometry::new(bytes, level.ways))
                .map_err(|why| format!("{name}: {why}")),
        };
        Ok(Caches { l1: one("l1", &self.l1)?, l2: one("l2", &self.l2)?, l3: one("l3", &self.l3)? })
    }
}

impl LatencyFile {
    /// The latencies of a machine with `distances`.
    pub fn latencies(&self, distances: &[Vec<u32>]) -> std::result::Result<Latencies, String> {
        let mut all = Latencies::of_distances(distances, self.local);
        let named = [
            (&mut all.l1, self.l1),
            (&mut all.l2, self.l2),
            (&mut all.l3, self.l3),
            (&mut all.cache, self.cache),
        ];
        for (to, from) in named {
            *to = from.unwrap_or(*to);
        }
        if let Some(memory) = &self.memory {
            let nodes = distances.len();
            if memory.len() != nodes || memory.iter().any(|row| row.len() != nodes) {
                return Err(format!("latency: memory needs {nodes} rows of {nodes} numbers"));
            }
            all.memory.clone_from(memory);
        }
        let each = [all.l1, all.l2, all.l3, all.cache];
        let numbers = each.iter().chain(all.memory.iter().flatten());
        if numbers.into_iter().any(|ns| !(0.0..=1e6).contains(ns)) {
            return Err("latency: 0 to 1000000 ns".into());
        }
        Ok(all)
    }
}

impl Wish {
    /// What the options ask for on `topology`; None when they do not.
    pub fn of(options: &Options, topology: &Topology) -> Result<Option<Self>> {
        let Some(how) = options.how() else { return Ok(None) };
        plugins_work()?;
        let usage = |why: String| Fail::usage(why);
        let mut file = topology.model.clone();
        let mut name = match (&options.caches, &file.caches) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => topology.name.clone(),
            (None, None) => geometry::DEFAULT.into(),
        };
        let caches = if !how.caches || name == "none" {
            name = "none".into();
            None
        } else if let Some(caches) = geometry::named(&name).filter(|_| options.caches.is_some()) {
            Some(caches)
        } else if options.caches.is_some() {
            let own = read(Path::new(&name))?;
            file.latency = own.latency.or(file.latency);
            let levels = own.caches.ok_or_else(|| usage(format!("{name}: no [caches]")))?;
            Some(levels.caches().map_err(|why| usage(format!("{name}: {why}")))?)
        } else if let Some(levels) = &file.caches {
            Some(levels.caches().map_err(|why| usage(format!("topology {name}: {why}")))?)
        } else {
            geometry::named(&name)
        };
        let latencies = match &file.latency {
            Some(latency) => latency.latencies(&topology.distances).map_err(usage)?,
            None => Latencies::of_distances(&topology.distances, None),
        };
        Ok(Some(Self { how, caches, caches_name: name, latencies }))
    }

    /// A count with these caches.
    pub fn with(how: How, caches: Option<Caches>, name: &str, topology: &Topology) -> Self {
        let latencies = Latencies::of_distances(&topology.distances, None);
        Self { how, caches, caches_name: name.into(), latencies }
    }

    /// QEMU's -plugin argument: `library` counts, and writes to `out`.
    pub fn argument(
        &self,
        library: &Path,
        topology: &Topology,
        clock: Clock,
        out: &Path,
    ) -> String {
        let plus = |numbers: &mut dyn Iterator<Item = u64>| {
            numbers.map(|number| number.to_string()).collect::<Vec<_>>().join("+")
        };
        let mut node_of = vec![0; topology.cpus()];
        for (index, node) in topology.nodes.iter().enumerate() {
            node.cpus.iter().for_each(|&cpu| node_of[cpu] = index as u64);
        }
        let rows = topology.distances.iter();
        let rows: Vec<String> =
            rows.map(|row| plus(&mut row.iter().map(|&d| u64::from(d)))).collect();
        // A comma in a path is written twice.
        let path = |path: &Path| path.display().to_string().replace(',', ",,");
        let mut text = format!(
            "{},out={},memory={},cpus={},distances={}",
            path(library),
            path(out),
            plus(&mut topology.nodes.iter().map(|node| node.memory)),
            plus(&mut node_of.iter().copied()),
            rows.join("/")
        );
        if let Some(caches) = &self.caches {
            text += &format!(",caches={}", caches.text());
        }
        if self.how.sample > 1 {
            text += &format!(",sample={}", self.how.sample);
        }
        if self.how.user_only {
            text += ",user=only";
        }
        if clock == Clock::Instructions {
            text += ",turns=1";
        }
        text
    }
}

fn read(path: &Path) -> Result<CacheFile> {
    let name = path.display();
    let known: Vec<&str> = geometry::NAMES.iter().map(|(name, _)| *name).collect();
    let text = paths::text(path, paths::DESCRIPTION).map_err(|error| {
        Fail::usage(format!("--caches {name}: {error} (names are none, {})", known.join(", ")))
    })?;
    toml::from_str(&text).map_err(|error| {
        Fail::usage(format!("--caches {name}: {}", error.message().replace('\n', " ")))
    })
}

/// Says whether the QEMU in PATH was built with plugins.
pub fn has_plugins() -> bool {
    let output = Command::new(QEMU).arg("-help").output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.starts_with("-plugin"))
    })
}

/// Refuses a QEMU that was built without plugins.
fn plugins_work() -> Result<()> {
    qemu()?;
    if has_plugins() {
        return Ok(());
    }
    Err(Fail::usage(format!(
        "--traffic: this {QEMU} is built without TCG plugins: install a distribution's \
         (Debian: package qemu-system-x86), or configure with --enable-plugins"
    )))
}

/// Where the plugin writes, in a run's own directory.
pub fn raw_file(work: &Path) -> PathBuf {
    work.join("traffic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_counting_are_words_with_commas() {
        let how = |text| How::parse(text).ok();
        assert_eq!(how("caches"), Some(How { caches: true, sample: 1, user_only: false }));
        assert_eq!(how("count,user"), Some(How { caches: false, sample: 1, user_only: true }));
        assert_eq!(how("sample:8"), Some(How { caches: true, sample: 8, user_only: false }));
        for wrong in ["", "sample:0", "sample:", "sample:x", "all"] {
            assert_eq!(how(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_plugin_is_told_the_whole_machine() {
        let topology = Topology::even(2, 4, 1 << 30).unwrap();
        let how = How { caches: true, sample: 3, user_only: true };
        let wish = Wish::with(how, geometry::named("small"), "small", &topology);
        assert_eq!(
            wish.argument(Path::new("/p,q.so"), &topology, Clock::Instructions, Path::new("/o")),
            "/p,,q.so,out=/o,memory=536870912+536870912,cpus=0+0+1+1,distances=10+20/20+10,\
             caches=64:4/256:8/1024:16,sample=3,user=only,turns=1"
        );
    }

    #[test]
    fn caches_and_latencies_come_from_toml() {
        let text = "[caches]\nl1 = { size = \"32K\", ways = 8 }\n[latency]\nlocal = 80\nl3 = 20";
        let file: CacheFile = toml::from_str(text).unwrap();
        let caches = file.caches.unwrap().caches().unwrap();
        assert_eq!((caches.l1.bytes(), caches.l2), (32 << 10, Geometry::NONE));
        let latencies = file.latency.unwrap().latencies(&[vec![10, 20], vec![20, 10]]).unwrap();
        assert_eq!((latencies.l3, latencies.memory[0][1]), (20.0, 160.0));
        let bad: CacheFile = toml::from_str("[latency]\nmemory = [[1]]").unwrap();
        assert!(bad.latency.unwrap().latencies(&[vec![10, 20], vec![20, 10]]).is_err());
    }
}
