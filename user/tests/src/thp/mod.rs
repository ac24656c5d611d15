//! Transparent huge pages: where a fault makes them, on which node, how they are split and moved.
//!
//! Other suites switch them off for themselves; here each test switches them on again.

mod collapse;
mod khugepaged;
mod moving;
mod place;
mod shared;
mod split;
mod touch;

use std::fs;

use libc::c_int;

use crate::harness::Test;
use crate::memory::{PAGE, PRIVATE, RW, mmap};
use crate::sys::sys;

pub const GROUPS: &[&[Test]] = &[
    touch::TESTS,
    place::TESTS,
    split::TESTS,
    moving::TESTS,
    collapse::TESTS,
    khugepaged::TESTS,
    shared::TESTS,
];

/// Bytes of a huge page, and its pages of 4 KiB.
pub const HUGE: usize = 2 << 20;
pub const PAGES: usize = HUGE / PAGE;
pub const KIB: u64 = HUGE as u64 / 1024;

pub const DIR: &str = "/sys/kernel/mm/transparent_hugepage";

/// The machine's settings while a test runs; what they were when it ends.
pub struct Settings([(&'static str, String); 2]);

impl Settings {
    /// `enabled` and `defrag` as given, and huge pages allowed to this process.
    #[track_caller]
    pub fn new(enabled: &str, defrag: &str) -> Self {
        let before = ["enabled", "defrag"].map(|name| (name, chosen(name)));
        quiet();
        set("enabled", enabled);
        set("defrag", defrag);
        disable(false);
        near_memory();
        Self(before)
    }

    #[track_caller]
    pub fn always() -> Self {
        Self::new("always", "madvise")
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        self.0.iter().for_each(|(name, value)| set(name, value));
    }
}

/// Has khugepaged sleep: what is split is to stay so.
fn quiet() {
    const LONG: &str = "4294967295\n";
    if setting("khugepaged/scan_sleep_millisecs") != LONG {
        set("khugepaged/scan_sleep_millisecs", LONG);
    }
}

/// Keeps this process on CPUs that have memory near, if there are any: without advice a huge page
/// comes from nowhere else.
fn near_memory() {
    let nodes = crate::numa::nodes();
    let mut mask = [0u64; 16];
    for (cpu, _) in crate::numa::cpu_nodes().iter().filter(|(_, node)| nodes.contains(node)) {
        mask[cpu / 64] |= 1 << (cpu % 64);
    }
    let _ = crate::child::set_affinity(0, &mask);
}

/// PR_SET_THP_DISABLE.
pub fn disable(on: bool) {
    sys!(libc::SYS_prctl, libc::PR_SET_THP_DISABLE, c_int::from(on), 0, 0, 0).unwrap();
}

#[track_caller]
pub fn setting(name: &str) -> String {
    let path = format!("{DIR}/{name}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The choice in brackets.
#[track_caller]
pub fn chosen(name: &str) -> String {
    let text = setting(name);
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    word.unwrap_or_else(|| panic!("{name}: {text:?}")).to_string()
}

#[track_caller]
pub fn set(name: &str, value: &str) {
    fs::write(format!("{DIR}/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// An area of so many huge pages, with unusable memory on either side.
#[track_caller]
pub fn map(pages: usize) -> usize {
    // Room for an aligned beginning, and for what is unusable.
    let len = (pages + 2) * HUGE;
    let start = mmap(0, len, libc::PROT_NONE, PRIVATE, -1, 0).unwrap();
    let at = (start + PAGE).next_multiple_of(HUGE);
    mmap(at, pages * HUGE, RW, PRIVATE | libc::MAP_FIXED, -1, 0).unwrap()
}

/// Lines of smaps for the area around an address, in KiB.
#[track_caller]
pub fn smaps<const N: usize>(at: usize, keys: [&str; N]) -> [u64; N] {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = text.lines().skip_while(|line| !begins_area(line, at)).skip(1);
    let mut found = [None; N];
    for line in lines.by_ref().take_while(|line| !is_head(line)) {
        for (key, value) in keys.iter().zip(&mut found) {
            if let Some(rest) = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')) {
                *value = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            }
        }
    }
    let mut keys = keys.iter();
    found.map(|value| {
        let key = keys.next();
        value.unwrap_or_else(|| panic!("{key:?} of {at:#x}"))
    })
}

fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

fn is_head(line: &str) -> bool {
    range(line).is_some()
}

fn begins_area(line: &str, at: usize) -> bool {
    range(line).is_some_and(|(start, end)| start <= at && at < end)
}

/// Memory in huge pages in the area around an address, in KiB.
#[track_caller]
pub fn huge_kib(at: usize) -> u64 {
    smaps(at, ["AnonHugePages"])[0]
}

/// Writes to the first page of each of so many huge pages.
pub fn touch(at: usize, pages: usize) {
    for page in 0..pages {
        crate::memory::put(at + page * HUGE, page as u8 + 1);
    }
}

/// The node of each of so many huge pages, asked by their first page, or minus an errno.
#[track_caller]
pub fn where_are(at: usize, pages: usize) -> Vec<i32> {
    let addresses: Vec<usize> = (0..pages).map(|page| at + page * HUGE).collect();
    crate::numa::move_pages(0, &addresses, None, 0).unwrap().1
}

/// Whether a touch of the first page of a huge page has brought in a huge page.
#[track_caller]
pub fn came_whole(at: usize) -> bool {
    crate::numa::node_at(at + PAGE) >= 0
}
