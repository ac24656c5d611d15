//! Huge pages of the pool: sizes per node, reservations, placement by policy, moving, files.
//!
//! Each test sets the pool up as it needs it and gives it back.

mod area;
mod files;
mod fork;
mod migrate;
mod place;
mod pool;
mod show;

use std::fs;

use crate::fault::{Fault, try_read};
use crate::harness::{Test, skip};
use crate::memory::{PAGE, RW, mmap, munmap};
use crate::numa::nodes;
use crate::sys::Result;

pub const GROUPS: &[&[Test]] = &[
    pool::TESTS,
    area::TESTS,
    place::TESTS,
    fork::TESTS,
    migrate::TESTS,
    show::TESTS,
    files::TESTS,
];

/// Bytes of a huge page, and its pages of 4 KiB.
pub const HUGE: usize = 2 << 20;
pub const PAGES: usize = HUGE / PAGE;
pub const KIB: u64 = HUGE as u64 / 1024;

pub const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
pub const SHARED: i32 = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;

const ALL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Reads a number.
#[track_caller]
pub fn number(path: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().parse().unwrap_or_else(|_| panic!("{path}: {text:?}"))
}

#[track_caller]
pub fn write(path: &str, value: u64) {
    fs::write(path, value.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
}

pub fn of_node(node: usize, name: &str) -> String {
    format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/{name}_hugepages")
}

pub fn of_all(name: &str) -> String {
    format!("{ALL}/{name}_hugepages")
}

/// Total, free, reserved and surplus pages of all nodes.
#[track_caller]
pub fn counts() -> [u64; 4] {
    ["nr", "free", "resv", "surplus"].map(|name| number(&of_all(name)))
}

/// The same of one node, without reservations, which have no node.
#[track_caller]
pub fn counts_on(node: usize) -> [u64; 3] {
    ["nr", "free", "surplus"].map(|name| number(&of_node(node, name)))
}

/// The pool while a test runs; empty again when it ends.
pub struct Pool;

impl Pool {
    /// A pool of so many pages on the first nodes with memory, in their order.
    #[track_caller]
    pub fn of(pages: &[u64]) -> Self {
        Self::empty();
        for (node, pages) in nodes().iter().zip(pages) {
            write(&of_node(*node, "nr"), *pages);
            if number(&of_node(*node, "nr")) < *pages {
                Self::empty();
                skip!("node {node} has no {pages} huge pages");
            }
        }
        Self
    }

    fn empty() {
        write(&of_all("nr_overcommit"), 0);
        write(&of_all("nr"), 0);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        Self::empty();
    }
}

#[track_caller]
pub fn map(pages: usize, flags: i32) -> usize {
    mmap(0, pages * HUGE, RW, flags, -1, 0).unwrap()
}

pub fn try_map(pages: usize, flags: i32) -> Result<usize> {
    mmap(0, pages * HUGE, RW, flags, -1, 0)
}

#[track_caller]
pub fn unmap(at: usize, pages: usize) {
    munmap(at, pages * PAGES).unwrap();
}

/// Writes 1 to the first byte of the first huge page, 2 to that of the second, and so on.
pub fn touch(at: usize, pages: usize) {
    for page in 0..pages {
        crate::memory::put(at + page * HUGE, page as u8 + 1);
    }
}

/// The node of each huge page, or minus an errno.
#[track_caller]
pub fn where_are(at: usize, pages: usize) -> Vec<i32> {
    let addresses: Vec<usize> = (0..pages).map(|page| at + page * HUGE).collect();
    crate::numa::move_pages(0, &addresses, None, 0).unwrap().1
}

/// Asserts that reading there ends in SIGBUS.
#[track_caller]
pub fn bus_error(at: usize) {
    let fault = try_read(at).expect_err("SIGBUS");
    let Fault { signal, code, .. } = fault;
    assert_eq!((signal, code), (libc::SIGBUS, crate::fault::BUS_ADRERR), "{fault:?}");
}
