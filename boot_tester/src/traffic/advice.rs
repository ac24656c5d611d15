//! What would make the remote lines local, and how that is said: for each mapping as a call, for the
//! whole program as numactl's arguments. Without modelled caches accesses stand for lines.

use std::collections::BTreeMap;

use traffic::advice::{self, HotPage, Placement};
use traffic::recorder::heat;
use traffic::sums::Who;

use super::mappings::Mapping;
use super::result::{Run, Task, accesses, lines};
use super::table::{share, task_counts};
use crate::topology::show::cpu_list;

/// Advice that saves less of all remote lines is none.
const LEAST: f64 = 0.01;
/// Mappings that get advice.
const MOST: usize = 5;
/// A task that makes less of all accesses needs no CPU of its own.
const BUSY: f64 = 0.05;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// About what.
    pub what: String,
    /// What to do, as a call or a sentence.
    pub how: String,
    /// numactl's arguments, for what holds for the whole program.
    pub command: Option<Vec<String>>,
    /// Of these lines, so many are remote, and so many would be.
    pub lines: u64,
    pub remote: u64,
    pub then: u64,
}

impl Advice {
    pub fn saving(&self) -> u64 {
        self.remote.saturating_sub(self.then)
    }
}

/// The heat that advice is about.
fn field(run: &Run) -> (usize, usize) {
    match run.wish.caches {
        Some(_) => (heat::LINES, heat::REMOTE_LINES),
        None => (heat::ACCESSES, heat::REMOTE),
    }
}

/// Pages by mapping: None for what was in none at the end, or belongs to other processes.
fn by_mapping(run: &Run) -> Vec<(Option<&Mapping>, Vec<HotPage>)> {
    let (of, remote) = field(run);
    let root = run.raw.root_space.unwrap_or(0);
    let mut all: BTreeMap<Option<u64>, (Option<&Mapping>, Vec<HotPage>)> = BTreeMap::new();
    for ((space, page), heats) in &run.raw.pages {
        let mapping = run.space.find(page << 12).filter(|_| *space == root);
        let hot = HotPage {
            number: *page,
            lines: heats.iter().map(|(node, heat)| (*node, heat[of])).collect(),
            remote: heats.values().map(|heat| heat[remote]).sum(),
            written: heats.values().any(|heat| heat[heat::WRITES] > 0),
        };
        all.entry(mapping.map(|m| m.start)).or_insert((mapping, Vec::new())).1.push(hot);
    }
    all.into_values().collect()
}

fn memory_nodes(run: &Run) -> Vec<usize> {
    let nodes = run.topology.nodes.iter().enumerate();
    nodes.filter(|(_, node)| node.memory > 0).map(|(index, _)| index).collect()
}

/// All advice, the largest saving first.
pub fn all(run: &Run) -> Vec<Advice> {
    let maps = by_mapping(run);
    let remote: u64 = maps.iter().map(|(_, pages)| advice::measured(pages)).sum();
    let worth = |advice: &Advice| advice.saving() as f64 > LEAST * remote as f64;
    let mut list: Vec<Advice> =
        maps.iter().filter_map(|(mapping, pages)| of_mapping(run, (*mapping)?, pages)).collect();
    list.retain(worth);
    list.sort_by_key(|advice| std::cmp::Reverse(advice.saving()));
    list.truncate(MOST);
    let mut whole: Vec<Advice> = of_program(run, &maps);
    whole.extend(of_tasks(run));
    whole.retain(worth);
    whole.sort_by_key(|advice| std::cmp::Reverse(advice.saving()));
    list.extend(whole);
    list
}

/// Expected beside measured: the share of remote lines in a second run.
pub fn verdict(advice: &Advice, second: &Run) -> String {
    let maps = by_mapping(second);
    let total: u64 = maps.iter().map(|(_, pages)| advice::total(pages)).sum();
    let remote: u64 = maps.iter().map(|(_, pages)| advice::measured(pages)).sum();
    format!(
        "advice applied: remote {} before, {} expected, {} measured",
        share(advice.remote, advice.lines),
        share(advice.then, advice.lines),
        share(remote, total)
    )
}

/// The best of what numactl can do.
pub fn best_command(list: &[Advice]) -> Option<&Advice> {
    list.iter().filter(|a| a.command.is_some()).max_by_key(|advice| advice.saving())
}

fn of_mapping(run: &Run, mapping: &Mapping, pages: &[HotPage]) -> Option<Advice> {
    // Where a file's pages lie is its readers' affair.
    if mapping.file.is_some() {
        return None;
    }
    let nodes = memory_nodes(run);
    let best = advice::placements(pages, &nodes).into_iter().next()?;
    let (first, last) = (pages.first()?.number, pages.last()?.number);
    let call = |first: u64, end: u64, mode: &str, nodes: &[usize]| {
        let (at, bytes) = (first << 12, (end - first) << 12);
        format!("mbind({at:#x}, {bytes:#x}, {mode}, {{{}}})", cpu_list(nodes))
    };
    let touch = "initialise each part in the thread that uses it (first touch)";
    let how = match &best.placement {
        Placement::FirstTouch => touch.into(),
        Placement::Bind(node) => call(first, last + 1, "MPOL_BIND", &[*node]),
        Placement::Interleave(nodes) => call(first, last + 1, "MPOL_INTERLEAVE", nodes),
        Placement::Ranges(ranges) => {
            let calls: Vec<String> =
                ranges.iter().map(|(a, b, node)| call(*a, *b, "MPOL_BIND", &[*node])).collect();
            format!("{touch}, or {}", calls.join("; "))
        }
        Placement::Replicate => "keep a copy on each node: nobody writes it".into(),
    };
    Some(Advice {
        what: format!("{} at {:#x}", mapping.name, mapping.start),
        how,
        command: None,
        lines: advice::total(pages),
        remote: advice::measured(pages),
        then: best.remote,
    })
}

/// What numactl can do for all that is no file's.
fn of_program(run: &Run, maps: &[(Option<&Mapping>, Vec<HotPage>)]) -> Vec<Advice> {
    let is_file = |mapping: &Option<&Mapping>| mapping.is_some_and(|m| m.file.is_some());
    let pages = |files: bool| -> Vec<HotPage> {
        let chosen = maps.iter().filter(|(mapping, _)| is_file(mapping) == files);
        chosen.flat_map(|(_, pages)| pages.iter().cloned()).collect()
    };
    let (files, rest) = (pages(true), pages(false));
    let (total, remote) = (
        advice::total(&files) + advice::total(&rest),
        advice::measured(&files) + advice::measured(&rest),
    );
    let fits = |node: usize| {
        let memory = run.topology.nodes.get(node).map_or(0, |node| node.memory);
        (rest.len() as u64) << 12 < memory / 10 * 8
    };
    let nodes = memory_nodes(run);
    let advice = |how: String, words: &[String], then: u64| Advice {
        what: "the whole program".into(),
        how,
        command: Some(words.to_vec()),
        lines: total,
        remote,
        then,
    };
    let mut list = Vec::new();
    for expected in advice::placements(&rest, &nodes) {
        let then = expected.remote + advice::measured(&files);
        let words = match expected.placement {
            Placement::Interleave(_) => vec!["--interleave=all".to_string()],
            Placement::Bind(node) if fits(node) => vec![format!("--membind={node}")],
            _ => continue,
        };
        list.push(advice(format!("numactl {}", words.join(" ")), &words, then));
    }
    list.truncate(2);
    // All threads on one node: their memory is there, too.
    let busy = busy_tasks(run);
    let nodes = run.topology.nodes.iter().enumerate();
    let able =
        nodes.filter(|(index, node)| node.memory > 0 && node.cpus.len() >= busy && fits(*index));
    let lies = |page: &HotPage| run.space.pages.get(&page.number).map(|lies| lies.node);
    let there = able.map(|(node, _)| {
        let far = files.iter().filter(|page| lies(page) != Some(node));
        (far.map(|page| page.lines.values().sum::<u64>()).sum::<u64>(), node)
    });
    if let Some((then, node)) = there.min() {
        let words = [format!("--cpunodebind={node}"), "--localalloc".to_string()];
        list.push(advice(format!("numactl {}", words.join(" ")), &words, then));
    }
    list
}

/// Tasks that need a CPU of their own.
fn busy_tasks(run: &Run) -> usize {
    run.tasks.iter().filter(|task| is_busy(run, task)).count()
}

fn is_busy(run: &Run, task: &Task) -> bool {
    let all: u64 = run.tasks.iter().map(|task| task_counts(task).0).sum();
    task_counts(task).0 as f64 >= BUSY * all as f64
}

/// Tasks that had better run where their memory is.
fn of_tasks(run: &Run) -> Vec<Advice> {
    let nodes = run.topology.nodes.iter().enumerate();
    let with_cpus: Vec<usize> = nodes.filter(|(_, n)| !n.cpus.is_empty()).map(|(i, _)| i).collect();
    // Where tasks have most of their accesses, and how many have it there: a node's CPUs are for so
    // many of them.
    let mut free: Vec<usize> = run.topology.nodes.iter().map(|node| node.cpus.len()).collect();
    let mut list = Vec::new();
    for task in run.tasks.iter().filter(|_| run.raw.told) {
        let weight = |from: usize| -> Vec<u64> {
            let sums = &task.nodes[from];
            (0..sums.nodes())
                .map(|to| match run.wish.caches {
                    Some(_) => lines(sums, Who::User, to),
                    None => accesses(sums, Who::User, to),
                })
                .collect()
        };
        let from = (0..task.nodes.len()).max_by_key(|&from| weight(from).iter().sum::<u64>());
        let Some(from) = from else { continue };
        let by_memory = weight(from);
        match advice::better_node(&by_memory, from, &with_cpus) {
            None => free[from] = free[from].saturating_sub(usize::from(is_busy(run, task))),
            Some((node, remote, then)) => list.push((
                node,
                Advice {
                    what: format!("task {} ({})", task.tid, task.name),
                    how: format!(
                        "run it on CPUs {} (node {node})",
                        cpu_list(&run.topology.nodes[node].cpus)
                    ),
                    command: None,
                    lines: by_memory.iter().sum(),
                    remote,
                    then,
                },
            )),
        }
    }
    list.sort_by_key(|(_, advice)| std::cmp::Reverse(advice.saving()));
    list.retain(|(node, _)| {
        let fits = free[*node] > 0;
        free[*node] = free[*node].saturating_sub(1);
        fits
    });
    list.truncate(MOST);
    list.into_iter().map(|(_, advice)| advice).collect()
}
