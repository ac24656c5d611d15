//! /sys/bus/event_source/devices: who counts performance events, and what they are called.

use super::fixed;
use crate::perf::hw;
use crate::perf::numa::{EVENTS, TYPE};
use crate::proc::put;
use alloc::format;
use fs::pseudo::Dir;

/// /sys/kernel/notes: the build id, in the form of an ELF note.
pub fn notes(kernel: &Dir) {
    kernel.text("notes", |out| {
        for word in [4u32, 20, 3] {
            out.bytes(&word.to_le_bytes());
        }
        out.bytes(b"GNU\0");
        out.bytes(&hal::symbols::build_id());
        Ok(())
    });
}

/// Enters the sources and the links to them.
pub fn fill(root: &Dir) {
    let sources = root.dir("bus").dir("event_source").dir("devices");
    let source = |name: &str, kind: u32| {
        let dir = root.dir("devices").dir(name);
        super::line(&dir, "type", move |out| put!(out, "{kind}"));
        fixed(&dir, "perf_event_mux_interval_ms", "4");
        dir.text("uevent", |_| Ok(()));
        dir.link("subsystem", "../../bus/event_source");
        sources.link(name, &format!("../../../devices/{name}"));
        dir
    };
    source("software", ::perf::attr::kind::SOFTWARE);
    if let Some(unit) = hw::unit() {
        let cpu = source("cpu", ::perf::attr::kind::RAW);
        let vendor = unit.pmu.vendor();
        for (name, bits) in ::perf::pmu::formats(vendor) {
            fixed(&cpu.dir("format"), name, bits);
        }
        for (name, event, mask) in ::perf::pmu::named(vendor) {
            let text = format!("event={event:#04x},umask={mask:#04x}");
            super::line(&cpu.dir("events"), name, move |out| put!(out, "{text}"));
        }
        let what = if unit.model { "software model" } else { "hardware" };
        fixed(&cpu.dir("caps"), "pmu_name", what);
        fixed(&cpu, "rdpmc", "0");
    }
    let numa = source("numa", TYPE);
    fixed(&numa.dir("format"), "event", "config:0-7");
    let events = numa.dir("events");
    for (number, name) in EVENTS.iter().enumerate() {
        super::line(&events, name, move |out| put!(out, "event={number:#04x}"));
    }
}
