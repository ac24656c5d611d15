//! The machine's nodes as sysfs tells them, the NUMA system calls, and where pages are.

use std::fs;

use crate::harness::skip;
use crate::memory::PAGE;
use crate::sys::{Result, sys};

pub const DEFAULT: i32 = 0;
pub const PREFERRED: i32 = 1;
pub const BIND: i32 = 2;
pub const INTERLEAVE: i32 = 3;
pub const LOCAL: i32 = 4;
pub const PREFERRED_MANY: i32 = 5;
pub const WEIGHTED: i32 = 6;
pub const STATIC: i32 = 1 << 15;
pub const RELATIVE: i32 = 1 << 14;
pub const BALANCING: i32 = 1 << 13;

pub const F_NODE: i32 = 1;
pub const F_ADDR: i32 = 2;
pub const F_MEMS_ALLOWED: i32 = 4;

pub const STRICT: i32 = 1;
pub const MOVE: i32 = 2;
pub const MOVE_ALL: i32 = 4;

pub const SYS_HOME_NODE: i64 = 450;

/// One more than the bits that are passed, as these calls count.
pub const MAXNODE: usize = 1024 + 1;
pub type Mask = [u64; 16];

pub fn mask(nodes: &[usize]) -> Mask {
    let mut mask = [0; 16];
    for node in nodes {
        mask[node / 64] |= 1 << (node % 64);
    }
    mask
}

pub fn unmask(mask: &[u64]) -> Vec<usize> {
    (0..mask.len() * 64).filter(|node| mask[node / 64] >> (node % 64) & 1 == 1).collect()
}

/// Reads a list such as `0-2,5`.
pub fn list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter(|range| !range.is_empty());
    let number = |word: &str| word.trim().parse::<usize>().expect("a number in a list");
    ranges
        .flat_map(|range| match range.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(range)..=number(range),
        })
        .collect()
}

fn sysfs(path: &str) -> String {
    let path = format!("/sys/devices/system/node/{path}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Nodes that are online, with or without memory.
pub fn online() -> Vec<usize> {
    list(&sysfs("online"))
}

/// Nodes with memory.
pub fn nodes() -> Vec<usize> {
    list(&sysfs("has_memory"))
}

/// A node with memory of which next to nothing is free (8 MiB): policies that name it end in an
/// OOM kill on any kernel.
pub fn cramped() -> Option<usize> {
    let list = list(&fs::read_to_string("/sys/devices/system/node/has_memory").ok()?);
    list.into_iter().find(|node| meminfo(*node, "MemFree") < 8192)
}

/// At least `count` nodes with memory, or the test is skipped.
pub fn at_least(count: usize) -> Vec<usize> {
    let nodes = nodes();
    if nodes.len() < count {
        skip!("needs {count} nodes with memory, this machine has {}", nodes.len());
    }
    nodes
}

pub fn cpus_of(node: usize) -> Vec<usize> {
    list(&sysfs(&format!("node{node}/cpulist")))
}

/// A CPU for each node that has one.
pub fn cpu_nodes() -> Vec<(usize, usize)> {
    online().into_iter().filter_map(|node| Some((*cpus_of(node).first()?, node))).collect()
}

pub fn node_of_cpu(cpu: usize) -> usize {
    let holds = |node: &usize| cpus_of(*node).contains(&cpu);
    online().into_iter().find(holds).expect("the CPU is on a node")
}

/// Distances from a node, by the place in the list of online nodes.
pub fn distances(node: usize) -> Vec<(usize, usize)> {
    let text = sysfs(&format!("node{node}/distance"));
    let values = text.split_whitespace().map(|word| word.parse().expect("a distance"));
    online().into_iter().zip(values).collect()
}

/// Among `of`, the nodes nearest to `from`: where a page may land that cannot be at home.
pub fn nearest(from: usize, of: &[usize]) -> Vec<usize> {
    let distances = distances(from);
    let at = |node: usize| distances.iter().find(|(own, _)| *own == node).map_or(255, |d| d.1);
    let least = of.iter().map(|node| at(*node)).min().unwrap_or(0);
    of.iter().copied().filter(|node| at(*node) == least).collect()
}

/// Where a page lands that is placed near this node: the node itself unless it has no memory.
pub fn home_of(node: usize) -> Vec<usize> {
    nearest(node, &nodes())
}

pub fn set_mempolicy(mode: i32, nodes: &[usize]) -> Result<usize> {
    let mask = mask(nodes);
    sys!(libc::SYS_set_mempolicy, mode, mask.as_ptr(), MAXNODE)
}

pub fn mbind(at: usize, pages: usize, mode: i32, nodes: &[usize], flags: i32) -> Result<usize> {
    let mask = mask(nodes);
    sys!(libc::SYS_mbind, at, pages * PAGE, mode, mask.as_ptr(), MAXNODE, flags)
}

/// Mode (or node) and mask.
pub fn get_mempolicy(flags: i32, at: usize) -> Result<(i32, Vec<usize>)> {
    let mut mode = -1i32;
    let mut mask: Mask = [u64::MAX; 16];
    let wanted = mask.as_mut_ptr();
    sys!(libc::SYS_get_mempolicy, &raw mut mode, wanted, MAXNODE, at, flags)?;
    Ok((mode, unmask(&mask)))
}

/// The task's policy.
#[track_caller]
pub fn policy() -> (i32, Vec<usize>) {
    get_mempolicy(0, 0).unwrap()
}

/// The policy that holds at an address.
#[track_caller]
pub fn policy_at(at: usize) -> (i32, Vec<usize>) {
    get_mempolicy(F_ADDR, at).unwrap()
}

/// The node of a page as get_mempolicy tells it (it brings the page in).
#[track_caller]
pub fn node_by_policy(at: usize) -> i32 {
    let mut node = -1i32;
    sys!(libc::SYS_get_mempolicy, &raw mut node, 0, 0, at, F_NODE | F_ADDR).unwrap();
    node
}

pub fn set_home_node(at: usize, pages: usize, node: usize, flags: usize) -> Result<usize> {
    sys!(SYS_HOME_NODE, at, pages * PAGE, node, flags)
}

/// move_pages(2): its result and the status of each page. No targets: a question.
pub fn move_pages(
    pid: i32,
    pages: &[usize],
    targets: Option<&[i32]>,
    flags: i32,
) -> Result<(usize, Vec<i32>)> {
    let mut status = vec![-9999i32; pages.len()];
    let to = targets.map_or(std::ptr::null(), <[i32]>::as_ptr);
    let (at, out) = (pages.as_ptr(), status.as_mut_ptr());
    let left = sys!(libc::SYS_move_pages, pid, pages.len(), at, to, out, flags)?;
    Ok((left, status))
}

pub fn addresses(at: usize, pages: usize) -> Vec<usize> {
    (0..pages).map(|page| at + page * PAGE).collect()
}

/// The node of each page, or minus an errno.
#[track_caller]
pub fn nodes_at(at: usize, pages: usize) -> Vec<i32> {
    move_pages(0, &addresses(at, pages), None, 0).unwrap().1
}

#[track_caller]
pub fn node_at(at: usize) -> i32 {
    nodes_at(at, 1)[0]
}

/// Asserts that every one of the pages is on this node.
#[track_caller]
pub fn all_on(at: usize, pages: usize, node: usize) {
    let found = nodes_at(at, pages);
    assert!(found.iter().all(|own| *own == node as i32), "not all on node {node}: {found:?}");
}

/// Moves pages to a node and asserts that they went.
#[track_caller]
pub fn send(at: usize, pages: usize, node: usize) {
    let targets = vec![node as i32; pages];
    let (left, status) = move_pages(0, &addresses(at, pages), Some(&targets), MOVE).unwrap();
    assert!(left == 0 && status.iter().all(|s| *s == node as i32), "{left} left, {status:?}");
    all_on(at, pages, node);
}

pub fn migrate_pages(pid: i32, from: &[usize], to: &[usize]) -> Result<usize> {
    let (from, to) = (mask(from), mask(to));
    sys!(libc::SYS_migrate_pages, pid, MAXNODE, from.as_ptr(), to.as_ptr())
}

/// The line of numa_maps for the mapping that begins at an address.
pub fn numa_maps_line(at: usize) -> Option<String> {
    let text = fs::read_to_string("/proc/self/numa_maps").expect("/proc/self/numa_maps");
    let begin = format!("{at:08x} ");
    text.lines().find(|line| line.starts_with(&begin)).map(String::from)
}

/// A counter of node*/numastat.
#[track_caller]
pub fn numastat(node: usize, key: &str) -> u64 {
    field(&sysfs(&format!("node{node}/numastat")), key)
}

/// A counter of /proc/vmstat.
#[track_caller]
pub fn vmstat(key: &str) -> u64 {
    field(&fs::read_to_string("/proc/vmstat").expect("/proc/vmstat"), key)
}

/// A line of a node's meminfo, in KiB.
#[track_caller]
pub fn meminfo(node: usize, key: &str) -> u64 {
    meminfo_of(node, [key])[0]
}

/// Several lines of a node's meminfo, all of one moment, in KiB.
#[track_caller]
pub fn meminfo_of<const N: usize>(node: usize, keys: [&str; N]) -> [u64; N] {
    let text = sysfs(&format!("node{node}/meminfo"));
    keys.map(|key| {
        let wanted = format!("{key}:");
        let mut words = text.split_whitespace().skip_while(|word| *word != wanted).skip(1);
        let value = words.next().and_then(|word| word.parse().ok());
        value.unwrap_or_else(|| panic!("no {key} in meminfo"))
    })
}

#[track_caller]
fn field(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().map(str::split_whitespace);
    lines
        .find_map(|mut words| (words.next() == Some(key)).then(|| words.next()))
        .flatten()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no counter {key}"))
}
