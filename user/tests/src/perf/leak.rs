//! Opened and closed, over and over: nothing stays behind.

use super::*;
use crate::child::run;
use crate::harness::{long, skip, tests};
use crate::memory::*;

pub const TESTS: &[Test] = tests![events_that_are_closed_leave_nothing];

/// Free memory of the machine, KiB.
fn free() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|l| l.starts_with("MemFree:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
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
        put(map_alone(1), 1);
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
    let turns = if long() { 500_000 } else { 2_000 };
    (0..turns / 10).for_each(round);
    run(|| {});
    let before = free();
    for turn in 0..turns {
        round(turn);
        if turn % 500 == 2 {
            // One that is inherited by a child which outlives it.
            let event = Attr::software(FAULTS).flags(INHERIT).open();
            run(|| drop(event));
        }
    }
    let lost = before - free();
    // 4000 events of 1 KiB would be 4 MiB.
    assert!(lost < 2048, "{lost} KiB less after {turns} turns");
}
