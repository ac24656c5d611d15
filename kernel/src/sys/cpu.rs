//! /sys/devices/system/cpu: which CPUs there are, and of each its place, its caches and its node.

use super::lazy::Lazy;
use super::topology::{self, Cache};
use super::{fixed, line, vulnerabilities};
use crate::machine;
use crate::proc::put;
use abi::Errno;
use alloc::format;
use alloc::sync::Arc;
use fs::pseudo::{Dir, PseudoFs, Text};
use numa::{CpuId, CpuMask, MAX_CPUS};

fn online() -> CpuMask {
    crate::boot::cpus::online()
}

/// The directory.
pub fn fill(fs: &Arc<PseudoFs>, dir: &Dir) {
    for name in ["possible", "present", "enabled"] {
        line(dir, name, |out| put!(out, "{}", machine().cpus()));
    }
    line(dir, "online", |out| put!(out, "{}", online()));
    line(dir, "offline", |out| put!(out, "{}", machine().cpus().difference(online())));
    line(dir, "kernel_max", |out| put!(out, "{}", MAX_CPUS - 1));
    fixed(dir, "isolated", "");
    fixed(dir, "nohz_full", "");
    vulnerabilities::fill(dir);
    let smt = dir.dir("smt");
    line(&smt, "active", |out| put!(out, "{}", u32::from(topology::has_threads())));
    fixed(&smt, "control", "notsupported");
    for cpu in machine().cpus().iter() {
        dir.add(&format!("cpu{cpu}"), Lazy::dir(fs, move |fs, dir| fill_cpu(fs, dir, cpu)));
    }
}

fn fill_cpu(fs: &Arc<PseudoFs>, dir: &Dir, cpu: CpuId) {
    // CPUs cannot be taken off; the one that booted has no switch on Linux either.
    if cpu.index() != 0 {
        let show = move |out: &mut Text| {
            put!(out, "{}\n", u32::from(online().contains(cpu)));
            Ok(())
        };
        dir.attribute("online", 0o644, show, move |data| match data.trim_ascii() {
            b"1" if online().contains(cpu) => Ok(()),
            b"0" | b"1" => Err(Errno::EBUSY),
            _ => Err(Errno::EINVAL),
        });
    }
    dir.add("topology", Lazy::dir(fs, move |_, dir| fill_topology(dir, cpu)));
    if online().contains(cpu) && !topology::caches().is_empty() {
        dir.add("cache", Lazy::dir(fs, move |_, dir| fill_caches(dir, cpu)));
    }
    let node = machine().node_of(cpu);
    dir.link(&format!("node{node}"), &format!("../../node/node{node}"));
    dir.link("subsystem", "../../../../bus/cpu");
}

/// A mask as NAME and as list NAME_list.
fn masks(
    dir: &Dir,
    name: &str,
    list: &str,
    mask: impl Fn() -> CpuMask + Clone + Send + Sync + 'static,
) {
    let again = mask.clone();
    line(dir, name, move |out| put!(out, "{}", mask().hex(machine().cpu_ids())));
    line(dir, list, move |out| put!(out, "{}", again()));
}

fn fill_topology(dir: &Dir, cpu: CpuId) {
    line(dir, "physical_package_id", move |out| put!(out, "{}", topology::of(cpu).package));
    line(dir, "die_id", move |out| put!(out, "{}", topology::of(cpu).die));
    line(dir, "core_id", move |out| put!(out, "{}", topology::of(cpu).core));
    // No number of its own: clusters are told by the cache that they share.
    fixed(dir, "cluster_id", "65535");
    for name in ["thread_siblings", "core_cpus"] {
        masks(dir, name, &format!("{name}_list"), move || topology::core_cpus(cpu));
    }
    for name in ["core_siblings", "package_cpus"] {
        masks(dir, name, &format!("{name}_list"), move || topology::package_cpus(cpu));
    }
    masks(dir, "die_cpus", "die_cpus_list", move || topology::die_cpus(cpu));
    masks(dir, "cluster_cpus", "cluster_cpus_list", move || topology::cluster_cpus(cpu));
}

fn fill_caches(dir: &Dir, cpu: CpuId) {
    for (index, cache) in topology::caches().iter().enumerate() {
        fill_cache(&dir.dir(&format!("index{index}")), cpu, cache);
    }
}

fn fill_cache(dir: &Dir, cpu: CpuId, cache: &'static Cache) {
    line(dir, "id", move |out| put!(out, "{}", cache.id(cpu)));
    line(dir, "level", move |out| put!(out, "{}", cache.level));
    line(dir, "type", move |out| put!(out, "{}", cache.kind.name()));
    line(dir, "size", move |out| put!(out, "{}K", cache.bytes() / 1024));
    line(dir, "coherency_line_size", move |out| put!(out, "{}", cache.line));
    line(dir, "ways_of_associativity", move |out| put!(out, "{}", cache.ways));
    line(dir, "number_of_sets", move |out| put!(out, "{}", cache.sets));
    line(dir, "physical_line_partition", move |out| put!(out, "{}", cache.partitions));
    masks(dir, "shared_cpu_map", "shared_cpu_list", move || cache.shared_by(cpu));
}
