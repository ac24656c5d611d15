//! What Linux counts per zone and node: zoneinfo, buddyinfo, and the items of vmstat.
//!
//! A node's memory is one zone here, shown as `Normal`: nothing of it is set apart for devices
//! that reach only low addresses.

use super::memory::{Totals, node_totals};
use super::put;
use abi::Result;
use alloc::vec;
use alloc::vec::Vec;
use frames::node::{Event, Stats};
use fs::pseudo::Text;
use numa::NodeId;

/// A name and its count.
pub type Item = (&'static str, u64);

/// Items of a zone, in Linux's order.
fn zone_items(t: &Totals, stats: &Stats) -> Vec<Item> {
    vec![
        ("nr_free_pages", t.free),
        ("nr_zone_inactive_anon", 0),
        ("nr_zone_active_anon", (t.anon + t.shared).saturating_sub(t.locked)),
        ("nr_zone_inactive_file", 0),
        ("nr_zone_active_file", 0),
        ("nr_zone_unevictable", t.locked),
        ("nr_zone_write_pending", 0),
        ("nr_mlock", t.locked),
        ("nr_bounce", 0),
        ("nr_zspages", 0),
        ("nr_free_cma", 0),
        ("nr_unaccepted", 0),
        ("numa_hit", stats.events[Event::Hit as usize]),
        ("numa_miss", stats.events[Event::Miss as usize]),
        ("numa_foreign", stats.events[Event::Foreign as usize]),
        ("numa_interleave", stats.events[Event::InterleaveHit as usize]),
        ("numa_local", stats.events[Event::Local as usize]),
        ("numa_other", stats.events[Event::Other as usize]),
    ]
}

/// Items of a node, in Linux's order. KernelStack is in KiB there.
fn per_node_items(t: &Totals) -> Vec<Item> {
    vec![
        ("nr_inactive_anon", 0),
        ("nr_active_anon", (t.anon + t.shared).saturating_sub(t.locked)),
        ("nr_inactive_file", 0),
        ("nr_active_file", 0),
        ("nr_unevictable", t.locked),
        ("nr_slab_reclaimable", 0),
        ("nr_slab_unreclaimable", t.slab),
        ("nr_isolated_anon", 0),
        ("nr_isolated_file", 0),
        ("nr_anon_pages", t.anon),
        ("nr_mapped", t.mapped),
        ("nr_file_pages", t.shared),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("nr_writeback_temp", 0),
        ("nr_shmem", t.shared),
        ("nr_shmem_hugepages", t.shared_huge / frames::compound::FRAMES),
        ("nr_shmem_pmdmapped", t.shared_mapped / frames::compound::FRAMES),
        ("nr_file_hugepages", 0),
        ("nr_file_pmdmapped", 0),
        ("nr_anon_transparent_hugepages", t.anon_huge / frames::compound::FRAMES),
        ("nr_kernel_stack", t.stacks * (vm::PAGE / 1024)),
        ("nr_page_table_pages", t.page_tables),
        ("nr_sec_page_table_pages", 0),
        ("nr_iommu_pages", 0),
        ("nr_swapcached", 0),
        ("pgpromote_success", 0),
        ("pgpromote_candidate", 0),
        ("pgdemote_kswapd", 0),
        ("pgdemote_direct", 0),
        ("pgdemote_khugepaged", 0),
    ]
}

/// What nodeN/vmstat shows.
pub fn node_items(node: NodeId) -> Vec<Item> {
    let totals = node_totals(node);
    let mut items = zone_items(&totals, &frames::stats(node));
    items.extend(per_node_items(&totals));
    items
}

/// The same over all nodes: the first part of /proc/vmstat.
pub fn global_items() -> Vec<Item> {
    let mut sum = Stats::default();
    for node in crate::machine().memory_nodes().iter() {
        let stats = frames::stats(node);
        sum.events.iter_mut().zip(stats.events).for_each(|(sum, n)| *sum += n);
    }
    let totals = Totals::all();
    let mut items = zone_items(&totals, &sum);
    items.extend(per_node_items(&totals));
    items
}

/// /proc/buddyinfo: free blocks of each order.
pub fn buddyinfo(out: &mut Text) -> Result<()> {
    for node in crate::machine().memory_nodes().iter() {
        put!(out, "Node {node}, zone {:>8} ", "Normal");
        for blocks in frames::stats(node).blocks {
            put!(out, "{blocks:>6} ");
        }
        out.bytes(b"\n");
    }
    Ok(())
}

/// /proc/pagetypeinfo: free blocks and pageblocks of each mobility.
pub fn pagetypeinfo(out: &mut Text) -> Result<()> {
    use frames::buddy::{Mobility, PAGEBLOCK, PAGEBLOCK_ORDER};
    // Linux's types; of what is reclaimed, or kept for interrupts, there is none.
    const TYPES: [(&str, Option<Mobility>); 5] = [
        ("Unmovable", Some(Mobility::Unmovable)),
        ("Movable", Some(Mobility::Movable)),
        ("Reclaimable", None),
        ("HighAtomic", None),
        ("Isolate", Some(Mobility::Isolated)),
    ];
    put!(out, "Page block order: {PAGEBLOCK_ORDER}\nPages per block:  {PAGEBLOCK}\n\n");
    put!(out, "{:<43} ", "Free pages count per migrate type at order");
    (0..=frames::MAX_ORDER).for_each(|order| put!(out, "{order:>6} "));
    out.bytes(b"\n");
    let nodes = crate::machine().memory_nodes();
    let all = || nodes.iter().filter_map(|node| Some((node, frames::node(node)?.mobilities())));
    for (node, found) in all() {
        for (name, mobility) in TYPES {
            put!(out, "Node {node:>4}, zone {:>8}, type {name:>12} ", "Normal");
            let none = [0; frames::MAX_ORDER as usize + 1];
            for blocks in mobility.map_or(none, |mobility| found.blocks[mobility as usize]) {
                put!(out, "{blocks:>6} ");
            }
            out.bytes(b"\n");
        }
    }
    put!(out, "\n{:<23}", "Number of blocks type ");
    TYPES.iter().for_each(|(name, _)| put!(out, "{name:>12} "));
    out.bytes(b"\n");
    for (node, found) in all() {
        put!(out, "Node {node}, zone {:>8} ", "Normal");
        for (_, mobility) in TYPES {
            let blocks = mobility.map_or(0, |mobility| found.pageblocks[mobility as usize]);
            put!(out, "{blocks:>12} ");
        }
        out.bytes(b"\n");
    }
    Ok(())
}

/// /proc/zoneinfo.
pub fn zoneinfo(out: &mut Text) -> Result<()> {
    for node in crate::machine().memory_nodes().iter() {
        let (stats, totals) = (frames::stats(node), node_totals(node));
        put!(out, "Node {node}, zone {:>8}\n  per-node stats\n", "Normal");
        for (name, value) in per_node_items(&totals) {
            put!(out, "      {name:<12} {value}\n");
        }
        put!(out, "  pages free     {}\n        boost    0\n", stats.free);
        // One watermark: below it only the kernel itself gets frames.
        for name in ["min", "low", "high", "promo"] {
            put!(out, "        {name:<8} {}\n", stats.reserve);
        }
        put!(out, "        spanned  {}\n", stats.span.1 - stats.span.0);
        put!(out, "        present  {}\n        managed  {}\n", stats.present, stats.managed);
        put!(out, "        cma      0\n        protection: (0, 0, 0, 0, 0)\n");
        for (name, value) in zone_items(&totals, &stats) {
            put!(out, "      {name:<12} {value}\n");
        }
        out.bytes(b"  pagesets\n");
        for (cpu, count, high, batch) in frames::node::caches(node) {
            put!(out, "    cpu: {cpu}\n              count: {count}\n");
            put!(out, "              high:  {high}\n              batch: {batch}\n");
        }
        put!(out, "  node_unreclaimable:  0\n  start_pfn:           {}\n", stats.span.0);
    }
    Ok(())
}
