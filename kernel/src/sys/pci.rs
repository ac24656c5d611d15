//! /sys/bus/pci: the functions of the first bus.

use super::lazy::Lazy;
use super::{fixed, line};
use crate::machine;
use crate::pci::{self, Function, Region};
use crate::proc::put;
use alloc::format;
use alloc::sync::Arc;
use fs::pseudo::{Dir, PseudoFs};

/// Lines of the file `resource`: registers, the ROM, and those of virtual functions.
const RESOURCES: usize = 13;

/// Enters the bus.
pub fn fill(fs: &Arc<PseudoFs>, root: &Dir) {
    let bus = root.dir("devices").dir("pci0000:00");
    let devices = root.dir("bus").dir("pci").dir("devices");
    for function in pci::functions() {
        let at = function.address;
        let name = format!("0000:00:{:02x}.{}", at.device, at.function);
        bus.add(&name, Lazy::dir(fs, move |_, dir| fill_function(dir, function)));
        devices.link(&name, &format!("../../../devices/pci0000:00/{name}"));
    }
}

fn fill_function(dir: &Dir, function: &'static Function) {
    let at = function.address;
    let halves = |word: u8, low: &'static str, high: &'static str| {
        for (name, shift) in [(low, 0), (high, 16)] {
            line(dir, name, move |out| put!(out, "{:#06x}", pci::read(at, word) >> shift & 0xffff));
        }
    };
    halves(0x00, "vendor", "device");
    halves(0x2c, "subsystem_vendor", "subsystem_device");
    line(dir, "class", move |out| put!(out, "{:#08x}", pci::read(at, 8) >> 8));
    line(dir, "revision", move |out| put!(out, "{:#04x}", pci::read(at, 8) & 0xff));
    fixed(dir, "numa_node", "-1");
    line(dir, "local_cpulist", |out| put!(out, "{}", machine().cpus()));
    dir.text("config", move |out| {
        (0..64).for_each(|word| out.bytes(&pci::read(at, word * 4).to_le_bytes()));
        Ok(())
    });
    dir.text("resource", move |out| {
        for index in 0..RESOURCES {
            let (start, end, flags) =
                function.regions.get(index).copied().flatten().map_or((0, 0, 0), resource);
            put!(out, "{start:#018x} {end:#018x} {flags:#018x}\n");
        }
        Ok(())
    });
    dir.link("subsystem", "../../../bus/pci");
}

/// First and last address, and Linux's flags of a resource (include/linux/ioport.h).
fn resource(region: Region) -> (u64, u64, u64) {
    const PORTS: u64 = 0x100;
    const MEMORY: u64 = 0x200;
    const PREFETCH: u64 = 0x2000;
    const ALIGNED_BY_SIZE: u64 = 0x4_0000;
    const WIDE: u64 = 0x10_0000;
    let mut flags = u64::from(region.kind) | ALIGNED_BY_SIZE;
    flags |= if region.is_memory() { MEMORY } else { PORTS };
    if region.is_prefetchable() {
        flags |= PREFETCH;
    }
    if region.is_memory() && region.kind & 4 != 0 {
        flags |= WIDE;
    }
    (region.start, region.start + region.len - 1, flags)
}
