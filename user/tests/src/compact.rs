//! Compaction: a node whose free memory lies in single pages has huge pages all the same, for the
//! pool, for faults and for who asks, and nobody's data is lost.

use std::fs;

use crate::harness::{Test, on_proxima, skip, tests};
use crate::hugetlb::{KIB, Pool, counts_on, of_node, write};
use crate::memory::{PAGE, PRIVATE, RW, get64, madvise, mmap, munmap, put64};
use crate::numa::{BIND, mbind, meminfo, node_at, nodes, vmstat};
use crate::thp::{self, HUGE, PAGES, Settings};

pub const TESTS: &[Test] = tests![
    compact_memory_makes_blocks_of_single_pages,
    a_nodes_file_compacts_that_node,
    shared_memory_and_a_childs_move_too,
    a_pool_grows_where_every_second_page_is_free,
    a_fault_that_waits_gets_a_huge_page_where_every_second_page_is_free,
    a_fault_that_does_not_wait_gets_a_small_page,
    madv_collapse_makes_room_for_itself,
    what_was_written_is_refused_or_not_as_on_linux,
    pagetypeinfo_counts_what_buddyinfo_counts,
];

/// MADV_COLLAPSE.
const COLLAPSE: i32 = 25;

/// Memory that stays free when a node is filled: what the kernel itself keeps, and some.
const SPARE_KIB: u64 = 64 << 10;

/// A node of which every second page is used, each with its own address in it.
struct Fragmented {
    node: usize,
    at: usize,
    pages: usize,
}

impl Fragmented {
    /// The last node that has memory.
    fn new() -> Self {
        Self::of(|bytes| mmap(0, bytes, RW, PRIVATE, -1, 0).unwrap())
    }

    fn of(map: impl Fn(usize) -> usize) -> Self {
        let node = *nodes().last().unwrap();
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        let pages = (meminfo(node, "MemFree") - SPARE_KIB) as usize * 1024 / PAGE;
        let at = map(pages * PAGE);
        madvise(at, pages, libc::MADV_NOHUGEPAGE).unwrap();
        mbind(at, pages, BIND, &[node], 0).unwrap();
        for page in (0..pages).map(|page| at + page * PAGE) {
            put64(page, page as u64);
        }
        let all = Self { node, at, pages };
        for page in (1..pages).step_by(2) {
            madvise(at + page * PAGE, 1, libc::MADV_DONTNEED).unwrap();
        }
        all
    }

    /// Huge pages that the free memory would make if it lay together.
    fn possible(&self) -> u64 {
        (meminfo(self.node, "MemFree") - SPARE_KIB) / KIB
    }

    /// Everything that was written is there, on the node.
    #[track_caller]
    fn check(&self) {
        for page in (0..self.pages).step_by(2).map(|page| self.at + page * PAGE) {
            assert_eq!(get64(page), page as u64);
        }
        assert_eq!(node_at(self.at), self.node as i32);
        assert_eq!(node_at(self.at + (self.pages & !1) * PAGE - 2 * PAGE), self.node as i32);
    }
}

impl Drop for Fragmented {
    fn drop(&mut self) {
        // The process ends with the test: a failure here has nobody to tell.
        let _ = munmap(self.at, self.pages);
    }
}

/// Asserts that there are as many as wanted. Linux's compaction gives up at times, and for a while then.
#[track_caller]
fn reached(got: u64, wanted: u64, of: u64) {
    if got < wanted && !on_proxima() {
        skip!("{got} of {of}: compaction gave up");
    }
    assert!(got >= wanted, "{got} of {of}");
}

/// Free blocks of the size of huge pages on a node.
fn blocks(node: usize) -> u64 {
    let text = fs::read_to_string("/proc/buddyinfo").unwrap();
    let begin = format!("Node {node}, ");
    let lines = text.lines().filter(|line| line.starts_with(&begin));
    let orders = lines.flat_map(|line| line.split_whitespace().skip(4).enumerate());
    orders
        .filter(|(order, _)| *order >= 9)
        .map(|(order, count)| count.parse::<u64>().unwrap() << (order - 9))
        .sum()
}

fn a_pool_grows_where_every_second_page_is_free() {
    let _pool = Pool::of(&[]);
    let memory = Fragmented::new();
    let (whole, possible) = (blocks(memory.node), memory.possible());
    assert!(whole < possible / 4, "{whole} of {possible} lie together");
    write(&of_node(memory.node, "nr"), possible * 3 / 4);
    let [got, free, surplus] = counts_on(memory.node);
    assert_eq!((free, surplus), (got, 0));
    memory.check();
    reached(got, possible / 2, possible);
}

/// Huge pages that came at the first touch of so many, on a node.
fn touched(node: usize, pages: usize, advice: Option<i32>) -> usize {
    let at = thp::map(pages);
    mbind(at, pages * PAGES, BIND, &[node], 0).unwrap();
    if let Some(advice) = advice {
        madvise(at, pages * PAGES, advice).unwrap();
    }
    thp::touch(at, pages);
    let came = (0..pages).filter(|page| thp::came_whole(at + page * HUGE)).count();
    munmap(at, pages * PAGES).unwrap();
    came
}

fn a_fault_that_waits_gets_a_huge_page_where_every_second_page_is_free() {
    let _settings = Settings::new("always", "madvise");
    let memory = Fragmented::new();
    let pages = blocks(memory.node) as usize + 32;
    let stalls = vmstat("compact_stall");
    let came = touched(memory.node, pages, Some(libc::MADV_HUGEPAGE));
    memory.check();
    assert!(vmstat("compact_stall") > stalls);
    reached(came as u64, pages as u64 * 3 / 4, pages as u64);
}

fn a_fault_that_does_not_wait_gets_a_small_page() {
    let _settings = Settings::new("always", "never");
    let memory = Fragmented::new();
    let whole = blocks(memory.node) as usize;
    let stalls = vmstat("compact_stall");
    let came = touched(memory.node, whole + 32, Some(libc::MADV_HUGEPAGE));
    // Some more lie together when the memory for looking at them is free again.
    assert!(came <= whole + 16, "{came}, {whole} lay together");
    assert_eq!(vmstat("compact_stall"), stalls);
}

fn madv_collapse_makes_room_for_itself() {
    let _settings = Settings::new("madvise", "never");
    let memory = Fragmented::new();
    let pages = blocks(memory.node) as usize + 16;
    let at = thp::map(pages);
    mbind(at, pages * PAGES, BIND, &[memory.node], 0).unwrap();
    (0..pages).for_each(|page| put64(at + page * HUGE, page as u64));
    let collapsed =
        (0..pages).filter(|page| madvise(at + page * HUGE, PAGES, COLLAPSE).is_ok()).count();
    (0..pages).for_each(|page| assert_eq!(get64(at + page * HUGE), page as u64));
    memory.check();
    reached(collapsed as u64, pages as u64 * 3 / 4, pages as u64);
}

fn compact_memory_makes_blocks_of_single_pages() {
    let memory = Fragmented::new();
    let (before, possible) = (blocks(memory.node), memory.possible());
    assert!(before < possible / 4, "{before} of {possible} lie together");
    fs::write("/proc/sys/vm/compact_memory", "1").unwrap();
    memory.check();
    reached(blocks(memory.node), possible / 2, possible);
}

fn a_nodes_file_compacts_that_node() {
    let memory = Fragmented::new();
    let (before, possible) = (blocks(memory.node), memory.possible());
    let moved = vmstat("pgmigrate_success");
    for node in nodes().into_iter().filter(|node| *node != memory.node) {
        fs::write(format!("/sys/devices/system/node/node{node}/compact"), "1").unwrap();
    }
    assert!(blocks(memory.node) <= before + 2);
    fs::write(format!("/sys/devices/system/node/node{}/compact", memory.node), "x").unwrap();
    memory.check();
    assert!(vmstat("pgmigrate_success") > moved);
    reached(blocks(memory.node), possible / 2, possible);
}

fn shared_memory_and_a_childs_move_too() {
    let memory = Fragmented::new();
    // Shared with a child since a fork, and of an object that both map.
    let shared = crate::memory::map_shared(512);
    (0..512).for_each(|page| put64(shared + page * PAGE, page as u64));
    crate::child::run(|| {
        fs::write("/proc/sys/vm/compact_memory", "1").unwrap();
        memory.check();
        (0..512).for_each(|page| assert_eq!(get64(shared + page * PAGE), page as u64));
    });
    memory.check();
    let possible = memory.possible();
    reached(blocks(memory.node), possible / 2, possible);
}

fn what_was_written_is_refused_or_not_as_on_linux() {
    let path = "/proc/sys/vm/compact_memory";
    for text in ["0", "2", "x"] {
        let error = fs::write(path, text).expect_err(text);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{text}");
    }
    let error = fs::read(path).expect_err("it is only written");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    let path = format!("/sys/devices/system/node/node{}/compact", nodes()[0]);
    let error = fs::read(path).expect_err("it is only written");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}

fn pagetypeinfo_counts_what_buddyinfo_counts() {
    let text = fs::read_to_string("/proc/pagetypeinfo").unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Page block order: 9"));
    assert_eq!(lines.next(), Some("Pages per block:  512"));
    assert_eq!(lines.next(), Some(""));
    let head = lines.next().unwrap();
    let orders: Vec<usize> = head.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    assert!(head.starts_with("Free pages count per migrate type at order"));
    assert_eq!(orders, (0..=10).collect::<Vec<_>>());
    for node in nodes() {
        let number = format!("Node {node:>4}, zone ");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(&number)).collect();
        let of = |name: &str| {
            let row = rows.iter().filter(|row| row.contains(&format!(" {name} ")));
            let pages = row.flat_map(|row| row.split_whitespace().skip(6).enumerate());
            // Linux stops counting a list that is very long.
            let count = |count: &str| count.trim_start_matches('>').parse::<u64>().unwrap();
            pages.map(|(order, word)| count(word) << order).sum::<u64>()
        };
        let all: u64 = ["Unmovable", "Movable", "Reclaimable", "Isolate"].map(of).iter().sum();
        let free = meminfo(node, "MemFree") / 4;
        assert!(all <= free + 2048 && all + 65_536 >= free, "node {node}: {all} of {free}");
        assert!(of("Movable") > of("Unmovable"));
        let blocks = format!("Node {node}, zone ");
        let blocks: u64 = text
            .lines()
            .filter(|line| line.starts_with(&blocks))
            .flat_map(|line| line.split_whitespace().skip(4))
            .map(|word| word.parse::<u64>().unwrap())
            .sum();
        let all = meminfo(node, "MemTotal") / KIB;
        assert!(blocks >= all * 9 / 10 && blocks <= all * 2, "node {node}: {blocks} of {all}");
    }
}
