//! /proc/vmstat: events since boot.

use super::put;
use super::zones::global_items;
use crate::interrupts;
use abi::Result;
use core::sync::atomic::Ordering;
use fs::pseudo::Text;
use vm::transparent::{self, khugepaged, shared};

/// Linux's names; events that cannot happen here (swapping, reclaim) are
/// left out.
pub fn vmstat(out: &mut Text) -> Result<()> {
    for (name, value) in global_items() {
        put!(out, "{name} {value}\n");
    }
    let (mut allocated, mut freed) = (0, 0);
    for node in crate::machine().memory_nodes().iter() {
        let stats = frames::stats(node);
        allocated += stats.allocated;
        freed += stats.freed;
    }
    let faults: u64 = crate::machine()
        .cpus()
        .iter()
        .map(|cpu| interrupts::counts(cpu).faults.load(Ordering::Relaxed))
        .sum();
    let get = |c: &core::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    for (name, value) in [
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgalloc_normal", allocated),
        ("pgfree", freed),
        ("pgfault", faults),
        ("pgmajfault", 0),
        ("numa_pte_updates", 0),
        ("numa_huge_pte_updates", 0),
        ("numa_hint_faults", 0),
        ("numa_hint_faults_local", 0),
        ("numa_pages_migrated", 0),
        ("htlb_buddy_alloc_success", get(&frames::hugetlb::ALLOCATED)),
        ("htlb_buddy_alloc_fail", get(&frames::hugetlb::REFUSED)),
        ("pgmigrate_success", get(&vm::migrate::MOVED)),
        ("pgmigrate_fail", get(&vm::migrate::FAILED)),
        ("thp_migration_success", get(&transparent::MOVED)),
        ("thp_migration_fail", get(&transparent::STAYED)),
        ("thp_migration_split", get(&transparent::SPLIT_TO_MOVE)),
        ("compact_migrate_scanned", get(&vm::compact::SCANNED)),
        ("compact_free_scanned", get(&vm::compact::FILLED)),
        ("compact_isolated", get(&vm::compact::ISOLATED)),
        ("compact_stall", get(&vm::compact::STALLED)),
        ("compact_fail", get(&vm::compact::FAILED)),
        ("compact_success", get(&vm::compact::SUCCEEDED)),
        ("thp_fault_alloc", get(&transparent::ALLOCATED)),
        ("thp_fault_fallback", get(&transparent::FELL_BACK)),
        ("thp_collapse_alloc", get(&khugepaged::COLLAPSED)),
        ("thp_collapse_alloc_failed", get(&khugepaged::NO_BLOCK)),
        ("thp_file_alloc", get(&shared::ALLOCATED)),
        ("thp_file_fallback", get(&shared::FELL_BACK)),
        ("thp_file_mapped", get(&shared::MAPPED)),
        ("thp_split_page", get(&frames::compound::BROKEN)),
        ("thp_split_pmd", get(&transparent::SPLIT)),
        ("thp_scan_exceed_none_pte", get(&khugepaged::TOO_EMPTY)),
        ("thp_scan_exceed_swap_pte", 0),
        ("thp_scan_exceed_share_pte", get(&khugepaged::TOO_SHARED)),
        ("thp_zero_page_alloc", get(&transparent::ZERO_PAGES)),
        ("thp_zero_page_alloc_failed", get(&transparent::ZERO_PAGES_REFUSED)),
    ] {
        put!(out, "{name} {value}\n");
    }
    Ok(())
}
