//! On which node a huge page comes to lie: one decision for all of it.

use super::*;
use crate::child::on_cpu;
use crate::harness::{skip, tests};
use crate::memory::{madvise, munmap, put};
use crate::numa::{
    BIND, INTERLEAVE, PREFERRED, PREFERRED_MANY, WEIGHTED, at_least, cpu_nodes, mbind, meminfo,
    nearest, node_at, nodes, numa_maps_line, set_mempolicy,
};

pub const TESTS: &[Test] = tests![
    without_a_policy_it_lies_where_the_task_runs,
    on_a_node_without_memory_it_must_be_asked_for,
    a_policy_places_all_of_it,
    the_tasks_policy_places_it,
    interleaving_counts_in_huge_pages,
    weights_count_in_huge_pages,
    numa_maps_counts_its_pages,
    a_full_node_has_small_pages_rather_than_others_huge_ones,
    advice_has_huge_pages_elsewhere_rather_than_small_ones,
    preferred_many_goes_on_for_a_huge_page,
    interleaving_goes_on_for_a_huge_page,
    a_binding_without_the_local_node_takes_any_of_its_nodes,
];

/// The node of a huge page at a fresh address, after `prepare`; the test ends if it is none.
#[track_caller]
fn placed(prepare: impl FnOnce(usize)) -> usize {
    let at = map(1);
    prepare(at);
    put(at + 9 * PAGE, 1);
    if !came_whole(at) {
        skip!("no huge page was free");
    }
    let node = node_at(at) as usize;
    munmap(at, PAGES).unwrap();
    node
}

fn without_a_policy_it_lies_where_the_task_runs() {
    let _settings = Settings::always();
    let with_memory = nodes();
    for (cpu, node) in cpu_nodes().into_iter().filter(|(_, node)| with_memory.contains(node)) {
        assert_eq!(on_cpu(cpu, || placed(|_| ())), node, "on CPU {cpu}");
    }
}

fn on_a_node_without_memory_it_must_be_asked_for() {
    let _settings = Settings::always();
    let with_memory = nodes();
    let Some((cpu, node)) = cpu_nodes().into_iter().find(|(_, n)| !with_memory.contains(n)) else {
        skip!("every CPU's node has memory");
    };
    on_cpu(cpu, || {
        let at = map(1);
        put(at, 1);
        // Only the node itself is asked for a huge page, and it has none.
        assert!(!came_whole(at));
        let near = nearest(node, &with_memory);
        assert!(near.contains(&(node_at(at) as usize)));
        let advised = placed(|at| {
            madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
        });
        assert!(near.contains(&advised), "{advised}");
    });
}

fn a_policy_places_all_of_it() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    for &node in &nodes {
        for mode in [PREFERRED, BIND, PREFERRED_MANY, INTERLEAVE, WEIGHTED] {
            let found = placed(|at| {
                mbind(at, PAGES, mode, &[node], 0).unwrap();
            });
            assert_eq!(found, node, "mode {mode}");
        }
    }
}

fn the_tasks_policy_places_it() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    for &node in &nodes {
        for mode in [PREFERRED, BIND, PREFERRED_MANY, INTERLEAVE] {
            set_mempolicy(mode, &[node]).unwrap();
            assert_eq!(placed(|_| ()), node, "mode {mode}");
        }
    }
}

fn interleaving_counts_in_huge_pages() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let count = 2 * nodes.len();
    let at = map(count);
    mbind(at, count * PAGES, INTERLEAVE, &nodes, 0).unwrap();
    // In no order of theirs.
    for page in (0..count).rev() {
        put(at + page * HUGE + 3 * PAGE, 1);
    }
    if huge_kib(at) < count as u64 * KIB {
        skip!("too few huge pages are free");
    }
    let expected = |page: usize| nodes[(at / HUGE + page) % nodes.len()] as i32;
    let expected: Vec<i32> = (0..count).map(expected).collect();
    assert_eq!(where_are(at, count), expected);
    // Counted from where the area begins, each rounded down: here one page before a huge page.
    let at = map(count + 1);
    munmap(at, PAGES - 1).unwrap();
    let begin = at + HUGE - PAGE;
    mbind(begin, count * PAGES + 1, INTERLEAVE, &nodes, 0).unwrap();
    let first = begin + PAGE;
    touch(first, count);
    if huge_kib(begin) < count as u64 * KIB {
        skip!("too few huge pages are free");
    }
    let expected = |page: usize| nodes[(begin / HUGE + page) % nodes.len()] as i32;
    let expected: Vec<i32> = (0..count).map(expected).collect();
    assert_eq!(where_are(first, count), expected);
}

fn weights_count_in_huge_pages() {
    let _settings = Settings::always();
    let nodes = at_least(2);
    let path = |node| format!("/sys/kernel/mm/mempolicy/weighted_interleave/node{node}");
    fs::write(path(nodes[0]), "3").unwrap();
    let at = map(8);
    mbind(at, 8 * PAGES, WEIGHTED, &nodes[..2], 0).unwrap();
    touch(at, 8);
    let found = where_are(at, 8);
    let huge = huge_kib(at);
    fs::write(path(nodes[0]), "0").unwrap();
    if huge < 8 * KIB {
        skip!("too few huge pages are free");
    }
    let expected = |page: usize| nodes[usize::from((at / HUGE + page) % 4 >= 3)] as i32;
    let expected: Vec<i32> = (0..8).map(expected).collect();
    assert_eq!(found, expected);
}

fn numa_maps_counts_its_pages() {
    let _settings = Settings::always();
    let nodes = at_least(1);
    let at = map(2);
    mbind(at, 2 * PAGES, BIND, &nodes[..1], 0).unwrap();
    put(at, 1);
    if !came_whole(at) {
        skip!("no huge page was free");
    }
    let node = nodes[0];
    let line = numa_maps_line(at).unwrap();
    let counts = format!("anon={PAGES} dirty={PAGES}");
    assert!(line.contains(&format!("bind:{node} {counts}")), "{line}");
    assert!(line.ends_with(&format!("N{node}={PAGES} kernelpagesize_kB=4")), "{line}");
}

/// A node with more free memory is not filled, in KiB.
const TOO_LARGE: u64 = 3 << 20;

/// Takes memory that leaves a node without a free huge page, though not without free memory, until
/// the process ends.
#[track_caller]
pub fn fill_node(node: usize) {
    let free = meminfo(node, "MemFree");
    // Every other page of some memory is free, of which no huge page comes.
    // It is an eighth of all, which Linux does not keep back.
    let size = (free / KIB) as usize / 4;
    let holes = map(size);
    mbind(holes, size * PAGES, BIND, &[node], 0).unwrap();
    madvise(holes, size * PAGES, libc::MADV_NOHUGEPAGE).unwrap();
    crate::memory::touch(holes, size * PAGES);
    for page in (0..size * PAGES).step_by(2) {
        madvise(holes + page * PAGE, 1, libc::MADV_DONTNEED).unwrap();
    }
    let count = (free / KIB) as usize + 8;
    let at = map(count);
    mbind(at, count * PAGES, BIND, &[node], 0).unwrap();
    for page in 0..count {
        put(at + page * HUGE, 1);
        if !came_whole(at + page * HUGE) {
            return;
        }
    }
    panic!("node {node} does not come to an end");
}

/// What a touch brings in after `prepare` while the first node with CPUs and memory has no huge page
/// left, on one of its CPUs: the node, and whether it is a huge page. Before it the full node.
#[track_caller]
fn when_full(defrag: &str, prepare: impl Fn(usize, usize)) -> (usize, usize, bool) {
    let _settings = Settings::new("always", defrag);
    at_least(2);
    let with_memory = nodes();
    let home = cpu_nodes().into_iter().find(|(_, node)| with_memory.contains(node));
    let Some((cpu, node)) = home else { skip!("no CPU has memory near") };
    if meminfo(node, "MemFree") > TOO_LARGE {
        skip!("node {node} is too large to fill");
    }
    // In a child, with which the memory goes.
    let answer = crate::child::ask(|| {
        crate::child::pin(cpu);
        fill_node(node);
        let at = map(1);
        prepare(at, node);
        put(at, 1);
        node_at(at) as u32 * 2 + u32::from(came_whole(at))
    });
    (node, answer as usize / 2, answer % 2 == 1)
}

fn a_full_node_has_small_pages_rather_than_others_huge_ones() {
    let (node, found, whole) = when_full("madvise", |_, _| ());
    assert_eq!((found, whole), (node, false));
    let (node, found, whole) = when_full("madvise", |at, node| {
        mbind(at, PAGES, PREFERRED, &[node], 0).unwrap();
    });
    assert_eq!((found, whole), (node, false));
    let (node, found, whole) = when_full("madvise", |at, _| {
        mbind(at, PAGES, BIND, &nodes(), 0).unwrap();
    });
    assert_eq!((found, whole), (node, false));
    // Nothing is waited for, so advice is no reason to go elsewhere.
    let (node, found, whole) = when_full("never", |at, _| {
        madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
    });
    assert_eq!((found, whole), (node, false));
}

fn advice_has_huge_pages_elsewhere_rather_than_small_ones() {
    for defrag in ["madvise", "defer+madvise"] {
        let (node, found, whole) = when_full(defrag, |at, _| {
            madvise(at, PAGES, libc::MADV_HUGEPAGE).unwrap();
        });
        // Linux may make room by moving small pages.
        assert!(whole, "on node {found}, {node} being full");
    }
}

fn preferred_many_goes_on_for_a_huge_page() {
    let (node, found, whole) = when_full("madvise", |at, node| {
        mbind(at, PAGES, PREFERRED_MANY, &[node], 0).unwrap();
    });
    assert!(whole && found != node, "{found} {whole}");
}

fn interleaving_goes_on_for_a_huge_page() {
    let (node, found, whole) = when_full("madvise", |at, node| {
        mbind(at, PAGES, INTERLEAVE, &[node], 0).unwrap();
    });
    assert!(whole && found != node, "{found} {whole}");
}

fn a_binding_without_the_local_node_takes_any_of_its_nodes() {
    let _settings = Settings::always();
    let all = at_least(3);
    let (cpu, local) = cpu_nodes()[0];
    crate::child::pin(cpu);
    let others: Vec<usize> = all.iter().copied().filter(|node| *node != local).collect();
    let near = nearest(local, &others);
    if meminfo(near[0], "MemFree") > TOO_LARGE {
        skip!("node {} is too large to fill", near[0]);
    }
    fill_node(near[0]);
    let at = map(1);
    mbind(at, PAGES, BIND, &others, 0).unwrap();
    put(at, 1);
    assert!(came_whole(at));
    let found = node_at(at) as usize;
    assert!(others.contains(&found) && found != near[0], "{found}");
}
