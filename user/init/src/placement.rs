//! Where a program's pages lay at its end, as a table: a line per mapping with its policy and its
//! pages on each node, then why pages lie elsewhere than their policy wants.
//!
//! Made of /proc/PID/numa_maps, which every NUMA kernel has, and of /proc/PID/numa_pages, which
//! only Proxima has. Text in, text out.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Reasons shown; the rest is summed up.
const MOST_REASONS: usize = 24;

/// A line of numa_maps.
struct Mapping<'a> {
    start: u64,
    policy: &'a str,
    name: String,
    /// Pages of files are where whoever read the file first put them: no policy of ours is asked.
    of_file: bool,
    nodes: BTreeMap<usize, u64>,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let start = u64::from_str_radix(words.next()?, 16).ok()?;
        let policy = words.next()?;
        let mut mapping = Self {
            start,
            policy,
            name: "anonymous".into(),
            of_file: false,
            nodes: BTreeMap::new(),
        };
        // "prefer (many):0-1" and "weighted interleave:0-1" are two words.
        let two = ["prefer", "weighted"].contains(&policy);
        if two {
            let second = words.next()?;
            let begin = line.find(policy)?;
            let end = line[begin..].find(second)? + begin + second.len();
            mapping.policy = &line[begin..end];
        }
        for word in words {
            if let Some(file) = word.strip_prefix("file=") {
                mapping.name = file.replace("\\040", " ");
                let memory = ["/dev/zero", "/SYSV", "/memfd:", "/dev/shm/", "/anon_hugepage"];
                mapping.of_file = !memory.iter().any(|begin| file.starts_with(begin));
            } else if ["heap", "stack"].contains(&word) {
                mapping.name = format!("[{word}]");
            } else if let Some((node, count)) =
                word.strip_prefix('N').and_then(|rest| rest.split_once('='))
                && let (Ok(node), Ok(count)) = (node.parse(), count.parse())
            {
                mapping.nodes.insert(node, count);
            } else if let Some(size) = word.strip_prefix("kernelpagesize_kB=")
                && let Ok(size) = size.parse::<u64>()
            {
                // Counts are in pages of the mapping's own size.
                mapping.nodes.values_mut().for_each(|count| *count *= size / 4);
            }
        }
        Some(mapping)
    }
}

/// The nodes that a policy names; `None` for one that names none (default, local).
fn nodes_of(policy: &str) -> Option<Vec<usize>> {
    let (_, list) = policy.rsplit_once(':')?;
    let mut nodes = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        nodes.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(nodes)
}

/// A run of pages, from numa_pages.
struct Run<'a> {
    start: u64,
    pages: u64,
    node: usize,
    policy: &'a str,
    reason: &'a str,
    from: Option<&'a str>,
}

impl<'a> Run<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (start, end) =
            (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let (node, rest) = rest.strip_prefix("node=")?.split_once(' ')?;
        let (policy, rest) = rest.strip_prefix("policy=")?.split_once(" reason=")?;
        let mut words = rest.split_whitespace();
        let reason = words.next()?;
        Some(Self {
            start,
            pages: (end - start) / 4096,
            node: node.parse().ok()?,
            policy,
            reason,
            from: words.find_map(|word| word.strip_prefix("from=")),
        })
    }

    /// Why the pages are not where their policy wants them; None when they are.
    fn fault(&self) -> Option<String> {
        let wanted = nodes_of(self.policy);
        let at_home = wanted.as_ref().is_none_or(|nodes| nodes.contains(&self.node));
        let from = self.from.map(|node| format!(" from node {node}")).unwrap_or_default();
        match self.reason {
            "fallback" if !at_home || wanted.is_none() => {
                Some(format!("fallback{from}, which was full"))
            }
            _ if at_home => None,
            moved if moved.starts_with("moved-by-") => {
                Some(format!("{}{from}", moved.replace('-', " ")))
            }
            "collapsed" => Some("in a huge page, where most of its pages were".into()),
            placed => Some(format!("placed as {placed} before this policy was set")),
        }
    }
}

/// The table for `program`; `pages` is numa_pages, where the kernel has it.
pub fn table(program: &str, maps: &str, pages: Option<&str>) -> Vec<String> {
    let mappings: Vec<Mapping> = maps.lines().filter_map(Mapping::parse).collect();
    let shown: Vec<&Mapping> = mappings.iter().filter(|m| !m.nodes.is_empty()).collect();
    let mut totals: BTreeMap<usize, u64> = BTreeMap::new();
    for (node, count) in shown.iter().flat_map(|mapping| &mapping.nodes) {
        *totals.entry(*node).or_default() += count;
    }
    let faults = pages.map(|text| faults(text, &mappings));
    let misplaced = |mapping: &Mapping| -> Option<u64> {
        if mapping.of_file {
            return None;
        }
        if let Some(faults) = &faults {
            let here = faults.iter().filter(|((start, ..), _)| *start == mapping.start);
            return Some(here.map(|(_, pages)| pages).sum());
        }
        let wanted = nodes_of(mapping.policy)?;
        Some(mapping.nodes.iter().filter(|(n, _)| !wanted.contains(n)).map(|(_, c)| c).sum())
    };
    let policies = shown.iter().map(|m| m.policy.len()).max().unwrap_or(0).max(6);
    let names = shown.iter().map(|m| m.name.len().min(32)).max().unwrap_or(0).max(7);
    let row =
        |address: &str, name: &str, policy: &str, counts: &BTreeMap<usize, u64>, bad: &str| {
            let mut line = format!("{address:<14}{name:<names$}  {policy:<policies$}");
            for node in totals.keys() {
                let count = counts.get(node).map_or("-".to_string(), u64::to_string);
                let _ = write!(line, " {count:>8}");
            }
            format!("{line} {bad:>10}")
        };
    let mut out = vec![format!("placement of {program} at its end, in pages of 4 KiB:")];
    let mut head = format!("{:<14}{:<names$}  {:<policies$}", "ADDRESS", "MAPPING", "POLICY");
    for node in totals.keys() {
        let _ = write!(head, " {:>8}", format!("node {node}"));
    }
    out.push(format!("{head} {:>10}", "misplaced"));
    let mut all_misplaced = 0;
    for mapping in &shown {
        let bad = misplaced(mapping);
        all_misplaced += bad.unwrap_or(0);
        let bad = bad.map_or("-".to_string(), |count| count.to_string());
        let address = format!("{:012x}", mapping.start);
        out.push(row(&address, &tail(&mapping.name, 32), mapping.policy, &mapping.nodes, &bad));
    }
    out.push(row("all", "", "", &totals, &all_misplaced.to_string()));
    match faults {
        Some(faults) => out.extend(explain(&faults)),
        None => out.push("(why a page is where it is, only Proxima knows)".into()),
    }
    out
}

/// Misplaced pages by the mapping's start, node, policy and cause.
type Faults = BTreeMap<(u64, usize, String, String), u64>;

fn faults(pages: &str, mappings: &[Mapping]) -> Faults {
    let mut faults = Faults::new();
    for run in pages.lines().filter_map(Run::parse) {
        let Some(mapping) = mappings.iter().rev().find(|mapping| mapping.start <= run.start) else {
            continue;
        };
        if let Some(cause) = run.fault().filter(|_| !mapping.of_file) {
            let key = (mapping.start, run.node, run.policy.to_string(), cause);
            *faults.entry(key).or_default() += run.pages;
        }
    }
    faults
}

fn explain(faults: &Faults) -> Vec<String> {
    let mut lines: Vec<String> = faults
        .iter()
        .take(MOST_REASONS)
        .map(|((start, node, policy, cause), pages)| {
            format!(
                "misplaced: {pages} pages of {start:012x} on node {node}, policy {policy}: {cause}"
            )
        })
        .collect();
    if faults.len() > MOST_REASONS {
        let rest: u64 = faults.values().skip(MOST_REASONS).sum();
        lines.push(format!("misplaced: {rest} more, for {} reasons", faults.len() - MOST_REASONS));
    }
    lines
}

/// The last `most` characters, which tell more of a path than the first.
fn tail(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_string();
    }
    let rest: String = text.chars().skip(count - most + 1).collect();
    format!("…{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000 default file=/bin/x mapped=3 N1=3 kernelpagesize_kB=4
7f0000000000 bind:1 anon=6 dirty=6 N0=2 N1=4 kernelpagesize_kB=4
7f0000100000 prefer (many):0-1 anon=1 dirty=1 N3=1 kernelpagesize_kB=4
7f0000200000 interleave=static:0,2-3 anon=2 dirty=2 N2=1 N3=1 kernelpagesize_kB=4
7ffff0000000 default stack anon=2 dirty=2 N0=2 kernelpagesize_kB=4
7ffff8000000 default
";
    const PAGES: &str = "\
00400000-00403000 node=1 policy=default reason=local
7f0000000000-7f0000001000 node=0 policy=bind:1 reason=moved-by-move_pages from=1
7f0000001000-7f0000002000 node=0 policy=bind:1 reason=local
7f0000002000-7f0000006000 node=1 policy=bind:1 reason=bind
7f0000100000-7f0000101000 node=3 policy=prefer (many):0-1 reason=fallback from=0
7ffff0000000-7ffff0002000 node=0 policy=default reason=local cow
";

    #[test]
    fn pages_are_counted_by_mapping_and_node() {
        let table = table("x", MAPS, Some(PAGES));
        assert_eq!(table.len(), 2 + 5 + 1 + 3);
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_string).collect() };
        assert_eq!(
            words(&table[1])[3..],
            ["node", "0", "node", "1", "node", "2", "node", "3", "misplaced"]
        );
        assert_eq!(
            words(&table[2]),
            ["000000400000", "/bin/x", "default", "-", "3", "-", "-", "-"]
        );
        assert_eq!(words(&table[3])[2..], ["bind:1", "2", "4", "-", "-", "2"]);
        assert_eq!(words(&table[7]), ["all", "4", "7", "1", "2", "3"]);
        let text = table.join("\n");
        assert!(text.contains(
            "1 pages of 7f0000000000 on node 0, policy bind:1: moved by move_pages from node 1"
        ));
        assert!(text.contains("placed as local before this policy was set"));
        assert!(text.contains("policy prefer (many):0-1: fallback from node 0, which was full"));
    }

    #[test]
    fn without_reasons_the_policy_alone_judges() {
        let table = table("x", MAPS, None);
        assert_eq!(table[3].split_whitespace().last(), Some("2"));
        assert_eq!(table[5].split_whitespace().last(), Some("0"));
        assert_eq!(table[6].split_whitespace().last(), Some("-"));
        assert!(table.last().unwrap().contains("only Proxima"));
    }

    #[test]
    fn huge_pages_count_as_the_small_ones_they_are_made_of() {
        let line = "7f0000400000 bind:1 file=/anon_hugepage\\040(deleted) huge anon=3 dirty=3 \
                    N0=1 N1=2 kernelpagesize_kB=2048";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.nodes, BTreeMap::from([(0, 512), (1, 1024)]));
        assert!(!mapping.of_file);
        assert_eq!(mapping.name, "/anon_hugepage (deleted)");
    }

    #[test]
    fn other_text_is_no_mapping() {
        assert!(Mapping::parse("").is_none());
        assert!(Mapping::parse("zz default").is_none());
        assert!(Run::parse("0-1000 node=x policy=y reason=z").is_none());
        assert_eq!(nodes_of("bind:0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(nodes_of("default"), None);
    }
}
