//! /proc/sys/vm.

use super::Setting::{self, Fixed, Read, Write};
use super::number;
use crate::proc::put;
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use fs::pseudo::Text;
use vm::commit;

/// The settings. Memory is never swapped.
pub const SETTINGS: &[(&str, Setting)] = &[
    ("vm/admin_reserve_kbytes", Write(0o644, admin_reserve, set_admin_reserve)),
    ("vm/compact_memory", Write(0o200, not_readable, compact_memory)),
    ("vm/compact_unevictable_allowed", Fixed("1")),
    ("vm/compaction_proactiveness", Fixed("0")),
    ("vm/drop_caches", Write(0o200, not_readable, drop_caches)),
    ("vm/hugetlb_shm_group", Write(0o644, huge_group, set_huge_group)),
    ("vm/legacy_va_layout", Fixed("0")),
    ("vm/max_map_count", Read(max_map_count)),
    ("vm/min_free_kbytes", Read(min_free)),
    ("vm/mmap_min_addr", Read(mmap_min_addr)),
    ("vm/nr_hugepages", Write(0o644, huge_pages, set_huge_pages)),
    ("vm/nr_hugepages_mempolicy", Write(0o644, huge_pages, set_huge_pages_by_policy)),
    ("vm/nr_overcommit_hugepages", Write(0o644, huge_overcommit, set_huge_overcommit)),
    ("vm/numa_stat", Fixed("1")),
    ("vm/numa_zonelist_order", Fixed("Node")),
    ("vm/oom_dump_tasks", Fixed("0")),
    ("vm/oom_kill_allocating_task", Fixed("0")),
    ("vm/overcommit_kbytes", Write(0o644, overcommit_kbytes, set_overcommit_kbytes)),
    ("vm/overcommit_memory", Write(0o644, overcommit_memory, set_overcommit_memory)),
    ("vm/overcommit_ratio", Write(0o644, overcommit_ratio, set_overcommit_ratio)),
    ("vm/page-cluster", Fixed("0")),
    ("vm/panic_on_oom", Fixed("0")),
    ("vm/stat_interval", Fixed("1")),
    ("vm/swappiness", Fixed("0")),
    ("vm/user_reserve_kbytes", Write(0o644, user_reserve, set_user_reserve)),
    ("vm/zone_reclaim_mode", Fixed("0")),
];

fn huge_pages(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", frames::hugetlb::size());
    Ok(())
}

fn set_huge_pages(data: &[u8]) -> Result<()> {
    crate::hugetlb::set_size(number(data, 0..=i64::MAX)? as u64, None, false);
    Ok(())
}

fn set_huge_pages_by_policy(data: &[u8]) -> Result<()> {
    crate::hugetlb::set_size(number(data, 0..=i64::MAX)? as u64, None, true);
    Ok(())
}

fn huge_overcommit(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", frames::hugetlb::overcommit());
    Ok(())
}

fn set_huge_overcommit(data: &[u8]) -> Result<()> {
    frames::hugetlb::set_overcommit(number(data, 0..=i64::MAX)? as u64);
    Ok(())
}

fn huge_group(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", vm::hugetlb::SHM_GROUP.load(Relaxed) as i32);
    Ok(())
}

fn set_huge_group(data: &[u8]) -> Result<()> {
    let group = number(data, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
    vm::hugetlb::SHM_GROUP.store(group as u32, Relaxed);
    Ok(())
}

fn overcommit_memory(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", commit::MODE.load(Relaxed));
    Ok(())
}

fn set_overcommit_memory(data: &[u8]) -> Result<()> {
    commit::MODE.store(number(data, 0..=2)? as u32, Relaxed);
    Ok(())
}

fn overcommit_ratio(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", commit::RATIO.load(Relaxed));
    Ok(())
}

/// The ratio or the number of KiB counts, whichever was written last.
fn set_overcommit_ratio(data: &[u8]) -> Result<()> {
    let ratio = number(data, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
    commit::RATIO.store(ratio as i32, Relaxed);
    commit::KBYTES.store(0, Relaxed);
    Ok(())
}

fn overcommit_kbytes(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", commit::KBYTES.load(Relaxed));
    Ok(())
}

fn set_overcommit_kbytes(data: &[u8]) -> Result<()> {
    commit::KBYTES.store(number(data, 0..=i64::MAX)? as u64, Relaxed);
    commit::RATIO.store(0, Relaxed);
    Ok(())
}

fn admin_reserve(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", commit::ADMIN_RESERVE.load(Relaxed));
    Ok(())
}

fn set_admin_reserve(data: &[u8]) -> Result<()> {
    commit::ADMIN_RESERVE.store(number(data, 0..=i64::MAX)? as u64, Relaxed);
    Ok(())
}

fn user_reserve(out: &mut Text) -> Result<()> {
    put!(out, "{}\n", commit::USER_RESERVE.load(Relaxed));
    Ok(())
}

fn set_user_reserve(data: &[u8]) -> Result<()> {
    commit::USER_RESERVE.store(number(data, 0..=i64::MAX)? as u64, Relaxed);
    Ok(())
}

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

fn compact_memory(data: &[u8]) -> Result<()> {
    number(data, 1..=1)?;
    crate::machine().memory_nodes().iter().for_each(vm::compact::compact_all);
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
