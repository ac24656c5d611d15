//! What is measured: a program that is started, processes that run, or everything.

use crate::sys::{self, Child};
use std::path::Path;

/// Who.
pub enum Target {
    /// A program, held before its exec until events are open.
    Program(Child),
    /// Threads that run already.
    Threads(Vec<i32>),
    /// All CPUs, until a program ends, until interrupted, or for so many seconds.
    Everything(Option<Child>),
}

impl Target {
    /// From the command line: a program, process ids, or everything.
    pub fn new(program: &[String], pids: &[i32], all: bool) -> Result<Self, String> {
        if !program.is_empty() && !pids.is_empty() {
            return Err("either a program or processes (-p), not both".into());
        }
        if all && !pids.is_empty() {
            return Err("either processes (-p) or everything (-a), not both".into());
        }
        if all && program.is_empty() {
            return Ok(Self::Everything(None));
        }
        if !pids.is_empty() {
            let mut threads = Vec::new();
            for pid in pids {
                let dir = std::fs::read_dir(format!("/proc/{pid}/task"))
                    .map_err(|_| format!("there is no process {pid}"))?;
                let ids = dir.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
                threads.extend(ids);
            }
            return Ok(Self::Threads(threads));
        }
        if program.is_empty() {
            return Err("name a program, or processes (-p), or everything (-a)".into());
        }
        let child = sys::spawn(program).map_err(|e| format!("{}: {e}", program[0]))?;
        Ok(if all { Self::Everything(Some(child)) } else { Self::Program(child) })
    }

    /// The program whose end is the end.
    pub fn child(&mut self) -> Option<&mut Child> {
        match self {
            Self::Program(child) | Self::Everything(Some(child)) => Some(child),
            _ => None,
        }
    }

    /// True when its events begin with the program's exec by themselves.
    pub fn begins_with_exec(&self) -> bool {
        matches!(self, Self::Program(_))
    }

    /// True when the threads that were to be measured have all ended.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Threads(threads) => {
                !threads.iter().any(|tid| Path::new(&format!("/proc/{tid}")).exists())
            }
            _ => false,
        }
    }

    /// The pids to open events for; -1 for everything.
    pub fn pids(&self) -> Vec<i32> {
        match self {
            Self::Program(child) => vec![child.pid],
            Self::Threads(threads) => threads.clone(),
            Self::Everything(_) => vec![-1],
        }
    }
}

/// The numbers of a list such as `0-3,8`.
pub fn parse_list(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.trim().parse::<u32>().ok()?..=high.trim().parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// The CPUs that are on.
pub fn cpus() -> Vec<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let list = parse_list(&text);
    if list.is_empty() { vec![0] } else { list }
}

/// The nodes, each with its CPUs.
pub fn nodes() -> Vec<(u32, Vec<u32>)> {
    let base = Path::new("/sys/devices/system/node");
    let online = std::fs::read_to_string(base.join("online")).unwrap_or_default();
    parse_list(&online)
        .into_iter()
        .map(|node| {
            let text = std::fs::read_to_string(base.join(format!("node{node}/cpulist")));
            (node, parse_list(&text.unwrap_or_default()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbers() {
        assert_eq!(parse_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert!(parse_list("\n").is_empty());
    }

    #[test]
    fn contradictions_are_told() {
        let program = ["true".to_string()];
        assert!(Target::new(&program, &[1], false).is_err_and(|e| e.contains("not both")));
        assert!(Target::new(&[], &[1], true).is_err_and(|e| e.contains("not both")));
        assert!(Target::new(&[], &[], false).is_err_and(|e| e.contains("-a")));
        assert!(matches!(Target::new(&[], &[], true), Ok(Target::Everything(None))));
    }

    #[test]
    fn a_thread_that_ended_is_gone() {
        assert!(Target::Threads(vec![i32::MAX]).is_gone());
        assert!(!Target::Threads(vec![i32::MAX, std::process::id() as i32]).is_gone());
    }
}
