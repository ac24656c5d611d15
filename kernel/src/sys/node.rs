//! /sys/devices/system/node: which nodes there are, and of each its CPUs, distances and memory.

use super::lazy::Lazy;
use super::{fixed, line};
use crate::machine;
use crate::proc::guard::Guarded;
use crate::proc::{node_items, node_totals, put};
use crate::rootfs::access as speed;
use abi::Errno;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use frames::node::Event;
use fs::pseudo::{Dir, PseudoFs, Text, TextFile};
use numa::{Access, NodeId};

/// The directory.
pub fn fill(fs: &Arc<PseudoFs>, dir: &Dir) {
    line(dir, "possible", |out| put!(out, "{}", machine().nodes()));
    line(dir, "online", |out| put!(out, "{}", machine().nodes()));
    line(dir, "has_cpu", |out| put!(out, "{}", machine().cpu_nodes()));
    line(dir, "has_memory", |out| put!(out, "{}", machine().memory_nodes()));
    line(dir, "has_normal_memory", |out| put!(out, "{}", machine().memory_nodes()));
    fixed(dir, "has_generic_initiator", "");
    for node in machine().nodes().iter() {
        dir.add(&format!("node{node}"), Lazy::dir(fs, move |fs, dir| fill_node(fs, dir, node)));
    }
}

fn fill_node(fs: &Arc<PseudoFs>, dir: &Dir, node: NodeId) {
    line(dir, "cpumap", move |out| {
        put!(out, "{}", machine().cpus_of(node).hex(machine().cpu_ids()));
    });
    line(dir, "cpulist", move |out| put!(out, "{}", machine().cpus_of(node)));
    line(dir, "distance", move |out| {
        for (i, other) in machine().nodes().iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            put!(out, "{gap}{}", machine().distance(node, other));
        }
    });
    dir.text("meminfo", move |out| {
        meminfo(out, node);
        Ok(())
    });
    dir.text("numastat", move |out| {
        let events = frames::stats(node).events;
        for (name, event) in [
            ("numa_hit", Event::Hit),
            ("numa_miss", Event::Miss),
            ("numa_foreign", Event::Foreign),
            ("interleave_hit", Event::InterleaveHit),
            ("local_node", Event::Local),
            ("other_node", Event::Other),
        ] {
            put!(out, "{name} {}\n", events[event as usize]);
        }
        Ok(())
    });
    dir.text("vmstat", move |out| {
        for (name, value) in node_items(node) {
            put!(out, "{name} {value}\n");
        }
        Ok(())
    });
    if machine().memory_nodes().contains(node) {
        crate::hugetlb::fill_node(&dir.dir("hugepages").dir("hugepages-2048kB"), node);
    }
    let compact = TextFile::new(
        fs,
        0o200,
        Box::new(|_| Err(Errno::EACCES)),
        Some(Box::new(move |_| {
            vm::compact::compact_all(node);
            Ok(())
        })),
    );
    dir.add("compact", Guarded::write_only(compact));
    access(fs, dir, node);
    for cpu in machine().cpus_of(node).iter() {
        dir.link(&format!("cpu{cpu}"), &format!("../../cpu/cpu{cpu}"));
    }
}

/// The memory that is nearest to a node's CPUs, and the CPUs that are nearest to its memory, with what
/// holds between them (Linux's numaperf.rst). The classes differ in what may be an initiator: here
/// there are only CPUs.
fn access(fs: &Arc<PseudoFs>, dir: &Dir, node: NodeId) {
    let is_target =
        move |memory: &NodeId| speed(*memory).is_some_and(|access| access.initiator == node);
    if speed(node).is_none() && !machine().nodes().iter().any(|m| is_target(&m)) {
        return;
    }
    let link = |dir: &Dir, node| dir.link(&format!("node{node}"), &format!("../../../node{node}"));
    let targets =
        move |dir: &Dir| machine().nodes().iter().filter(is_target).for_each(|m| link(dir, m));
    let initiators = move |dir: &Dir| {
        let Some(Access { initiator, latency, bandwidth }) = speed(node) else { return };
        link(dir, initiator);
        for (name, value) in [
            ("read_bandwidth", bandwidth[0]),
            ("read_latency", latency[0]),
            ("write_bandwidth", bandwidth[1]),
            ("write_latency", latency[1]),
        ] {
            line(dir, name, move |out| put!(out, "{value}"));
        }
    };
    for class in ["access0", "access1"] {
        let fill = move |fs: &Arc<PseudoFs>, dir: &Dir| {
            dir.add("initiators", Lazy::dir(fs, move |_, dir| initiators(dir)));
            dir.add("targets", Lazy::dir(fs, move |_, dir| targets(dir)));
        };
        dir.add(class, Lazy::dir(fs, fill));
    }
}

/// As /proc/meminfo, for one node: what is not used for is free.
fn meminfo(out: &mut Text, node: NodeId) {
    let t = node_totals(node);
    let active = (t.anon + t.shared).saturating_sub(t.locked);
    for (name, frames) in [
        ("MemTotal", t.managed),
        ("MemFree", t.free),
        ("MemUsed", t.managed.saturating_sub(t.free)),
        ("SwapCached", 0),
        ("Active", active),
        ("Inactive", 0),
        ("Active(anon)", active),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", t.locked),
        ("Mlocked", t.locked),
        ("Dirty", 0),
        ("Writeback", 0),
        ("FilePages", t.shared),
        ("Mapped", t.mapped),
        ("AnonPages", t.anon),
        ("Shmem", t.shared),
        ("KernelStack", t.stacks),
        ("PageTables", t.page_tables),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("KReclaimable", 0),
        ("Slab", t.slab),
        ("SReclaimable", 0),
        ("SUnreclaim", t.slab),
        ("AnonHugePages", t.anon_huge),
        ("ShmemHugePages", t.shared_huge),
        ("ShmemPmdMapped", t.shared_mapped),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("Unaccepted", 0),
    ] {
        let name = format!("{name}:");
        put!(out, "Node {node} {name:<15} {:>8} kB\n", frames * (vm::PAGE / 1024));
    }
    let huge = frames::hugetlb::on(node);
    for (name, pages) in [
        ("HugePages_Total:", huge.total),
        ("HugePages_Free:", huge.free),
        ("HugePages_Surp:", huge.surplus),
    ] {
        put!(out, "Node {node} {name:<16} {pages:>5}\n");
    }
}
