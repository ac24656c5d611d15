//! /proc/sys/vm.

use super::Setting::{self, Fixed, Read, Write};
use super::number;
use crate::proc::put;
use abi::{Errno, Result};
use fs::pseudo::Text;

/// The settings. Memory is always promised and never swapped; there are no huge pages.
pub const SETTINGS: &[(&str, Setting)] = &[
    ("vm/drop_caches", Write(0o200, not_readable, drop_caches)),
    ("vm/legacy_va_layout", Fixed("0")),
    ("vm/max_map_count", Read(max_map_count)),
    ("vm/min_free_kbytes", Read(min_free)),
    ("vm/mmap_min_addr", Read(mmap_min_addr)),
    ("vm/nr_hugepages", Fixed("0")),
    ("vm/nr_hugepages_mempolicy", Fixed("0")),
    ("vm/nr_overcommit_hugepages", Fixed("0")),
    ("vm/numa_stat", Fixed("1")),
    ("vm/numa_zonelist_order", Fixed("Node")),
    ("vm/oom_dump_tasks", Fixed("0")),
    ("vm/oom_kill_allocating_task", Fixed("0")),
    ("vm/overcommit_kbytes", Fixed("0")),
    ("vm/overcommit_memory", Fixed("1")),
    ("vm/overcommit_ratio", Fixed("50")),
    ("vm/page-cluster", Fixed("0")),
    ("vm/panic_on_oom", Fixed("0")),
    ("vm/stat_interval", Fixed("1")),
    ("vm/swappiness", Fixed("0")),
    ("vm/zone_reclaim_mode", Fixed("0")),
];

fn not_readable(_: &mut Text) -> Result<()> {
    Err(Errno::EINVAL)
}

/// Gives back what the allocators keep at hand: free objects of the heap (2, 3) and the CPUs'
/// free frames. Files in memory are no cache.
fn drop_caches(data: &[u8]) -> Result<()> {
    number(data, 1..=4)?;
    frames::heap::HEAP.trim();
    for node in crate::machine().memory_nodes().iter() {
        if let Some(node) = frames::node(node) {
            node.drain();
        }
    }
    Ok(())
}

fn max_map_count(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", vm::map::MAX_AREAS);
    Ok(())
}

fn mmap_min_addr(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", vm::map::MIN_ADDR);
    Ok(())
}

fn min_free(out: &mut Text) -> Result<()> {
    let nodes = crate::machine().memory_nodes();
    let frames: u64 = nodes.iter().map(|node| frames::stats(node).reserve).sum();
    put!(out, "{}\n", frames * (vm::PAGE / 1024));
    Ok(())
}
