//! Events of the processor's own counters: where there is a unit, or with `pmu=model` (docs/perf.md)
//! a model of one. Nothing here knows what the unit counts, only that it counts alike.

mod cost;
mod count;
mod groups;
mod sample;

use super::*;
use crate::harness::skip;

pub const GROUPS: &[&[Test]] = &[count::TESTS, groups::TESTS, sample::TESTS, cost::TESTS];

pub const HARDWARE: u32 = 0;
pub const HW_CACHE: u32 = 3;
pub const RAW: u32 = 4;
pub const CYCLES: u64 = 0;
pub const INSTRUCTIONS: u64 = 1;
/// One that any general counter counts, and no other.
pub const BRANCHES: u64 = 4;

const UNIT: &str = "/sys/bus/event_source/devices/cpu";

/// An event of the hardware.
pub fn hardware(config: u64) -> Attr {
    if !std::path::Path::new(UNIT).exists() {
        skip!("there is no performance monitoring unit (TCG emulates none; Proxima has a model)");
    }
    Attr::of(HARDWARE, config)
}

/// General counters: as many events as a group can have of what only they count.
pub fn counters() -> usize {
    let leader = hardware(BRANCHES).flags(DISABLED).open();
    let mut members = Vec::new();
    while let Ok(fd) = hardware(BRANCHES).try_open(0, -1, leader.0, 0) {
        members.push(Event(fd as i32));
        assert!(members.len() < 64, "a group has no end");
    }
    members.len() + 1
}

/// The words of an event with its times: count, enabled, running.
pub fn timed(event: &Event) -> (u64, u64, u64) {
    let words = event.words();
    (words[0], words[1], words[2])
}

/// A count that was taken part of the time, for all of it.
pub fn scaled((count, enabled, running): (u64, u64, u64)) -> f64 {
    count as f64 * enabled as f64 / running as f64
}

/// Both are at most `percent` apart.
#[track_caller]
pub fn near(a: f64, b: f64, percent: f64) {
    assert!((a - b).abs() <= a.max(b) * percent / 100.0, "{a} and {b}");
}
