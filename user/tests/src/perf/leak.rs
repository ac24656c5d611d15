//! Opened and closed, over and over: nothing stays behind.

use std::collections::BTreeMap;

use super::*;
use crate::child::run;
use crate::harness::{long, skip, tests};
use crate::memory::*;

pub const TESTS: &[Test] = tests![events_that_are_closed_leave_nothing];

/// Frames by what they are used for, over all nodes.
fn used() -> BTreeMap<String, i64> {
    let text = std::fs::read_to_string("/proc/proxima/frames").unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut sums = BTreeMap::new();
    for pair in words.chunks(2) {
        *sums.entry(pair[0].to_string()).or_default() += pair[1].parse::<i64>().unwrap();
    }
    sums
}

/// Descriptors of this process.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn round(turn: usize) {
    let attr = match turn % 4 {
        0 => Attr::software(FAULTS),
        1 => Attr::software(CPU_CLOCK).sample(1_000_000, S_IP | S_CALLCHAIN),
        2 => Attr::software(TASK_CLOCK).flags(INHERIT),
        _ => Attr::software(DUMMY).flags(COMM | MMAP | TASK),
    };
    let event = attr.open();
    let member = Attr::software(SWITCHES).flags(attr.0[5] & INHERIT).open_in(&event);
    if turn % 16 == 1 {
        let ring = Ring::new(&event, 4);
        let page = map(1);
        put(page, 1);
        munmap(page, 1).unwrap();
        assert!(ring.head() < 1 << 20);
    }
    drop(event);
    drop(member);
}

fn events_that_are_closed_leave_nothing() {
    if !std::path::Path::new("/proc/proxima").exists() {
        skip!(
            "Linux rewrites its own code for such events, which QEMU's emulation does not survive"
        );
    }
    // Two events a turn.
    let turns = if long() { 500_000 } else { 2_000 };
    (0..turns / 10).for_each(round);
    run(|| {});
    let (before, files) = (used(), open_files());
    for turn in 0..turns {
        round(turn);
        if turn % 500 == 2 {
            // One that is inherited by a child which outlives it.
            let event = Attr::software(FAULTS).flags(INHERIT).open();
            run(|| drop(event));
        }
    }
    let after = used();
    assert_eq!(open_files(), files);
    // An event is more than half a KiB: 4000 of them would be 500 frames.
    for name in ["kernel", "slab", "pagetable", "stack", "shared"] {
        assert!(
            after[name] - before[name] < 64,
            "{name}: {before:?}, {after:?} after {turns} turns"
        );
    }
}
