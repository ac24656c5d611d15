//! /proc/meminfo, and the sums that it and the nodes' own files are made of.
//!
//! There is no page cache apart from files in memory, no swap and nothing to reclaim: what Linux
//! counts as shmem is all of `Cached`, and every slab is unreclaimable.

use super::put;
use crate::task::table;
use abi::Result;
use core::sync::atomic::Ordering;
use frames::Kind;
use fs::pseudo::Text;
use numa::{MAX_NODES, NodeId};
use vm::commit;
use vm::vma::VmaFlags;

/// Frames of a node, or of all, by use.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub managed: u64,
    pub free: u64,
    /// Kept from programs.
    pub reserve: u64,
    pub anon: u64,
    /// Of those, in transparent huge pages that are whole.
    pub anon_huge: u64,
    /// Files in memory, and other shared memory.
    pub shared: u64,
    /// Of those, in huge pages.
    pub shared_huge: u64,
    /// Of those, mapped as such.
    pub shared_mapped: u64,
    /// Of those, mapped by somebody.
    pub mapped: u64,
    pub slab: u64,
    pub stacks: u64,
    pub page_tables: u64,
    /// In locked areas.
    pub locked: u64,
}

impl Totals {
    fn of(node: NodeId, locked: u64) -> Self {
        let stats = frames::stats(node);
        let used = |kind: Kind| stats.used[kind as usize];
        Self {
            managed: stats.managed,
            free: stats.free,
            reserve: stats.reserve,
            anon: used(Kind::Anon) + used(Kind::AnonHuge),
            anon_huge: used(Kind::AnonHuge),
            shared: used(Kind::Shared) + used(Kind::SharedHuge),
            shared_huge: used(Kind::SharedHuge) * frames::compound::FRAMES,
            shared_mapped: vm::transparent::shared::mapped(node) * frames::compound::FRAMES,
            mapped: stats.mapped,
            slab: used(Kind::Slab),
            stacks: used(Kind::Stack),
            page_tables: used(Kind::PageTable),
            locked,
        }
    }

    fn add(&mut self, other: &Self) {
        self.managed += other.managed;
        self.free += other.free;
        self.reserve += other.reserve;
        self.anon += other.anon;
        self.anon_huge += other.anon_huge;
        self.shared += other.shared;
        self.shared_huge += other.shared_huge;
        self.shared_mapped += other.shared_mapped;
        self.mapped += other.mapped;
        self.slab += other.slab;
        self.stacks += other.stacks;
        self.page_tables += other.page_tables;
        self.locked += other.locked;
    }

    /// The sums over all nodes.
    pub fn all() -> Self {
        let locked = locked_pages();
        let mut sum = Self::default();
        for node in crate::machine().memory_nodes().iter() {
            sum.add(&Self::of(node, locked[node.index()]));
        }
        sum
    }
}

/// A node's sums.
pub fn node_totals(node: NodeId) -> Totals {
    Totals::of(node, locked_pages()[node.index()])
}

/// Frames of all nodes that the allocator has.
pub fn managed_frames() -> u64 {
    crate::machine().memory_nodes().iter().map(|node| frames::stats(node).managed).sum()
}

/// Present pages of locked areas, by node. A page that two processes lock counts twice.
fn locked_pages() -> [u64; MAX_NODES] {
    let mut nodes = [0; MAX_NODES];
    for process in table::processes() {
        let Some(mm) = process.mm.lock().clone() else { continue };
        if mm.locked.load(Ordering::Relaxed) <= 0 {
            continue;
        }
        // The closure cannot fail.
        let _ = mm.for_each_area(|vma| {
            if vma.flags.contains(VmaFlags::LOCKED) {
                let pages = mm.count_pages(vma);
                nodes.iter_mut().zip(pages.nodes).for_each(|(sum, n)| *sum += n);
            }
            Ok(())
        });
    }
    nodes
}

/// /proc/meminfo.
pub fn meminfo(out: &mut Text) -> Result<()> {
    let t = Totals::all();
    for (name, frames) in [
        ("MemTotal", t.managed),
        ("MemFree", t.free),
        ("MemAvailable", t.free.saturating_sub(t.reserve)),
        ("Buffers", 0),
        ("Cached", t.shared),
        ("SwapCached", 0),
        ("Active", t.anon + t.shared - t.locked.min(t.anon + t.shared)),
        ("Inactive", 0),
        ("Active(anon)", t.anon + t.shared - t.locked.min(t.anon + t.shared)),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", t.locked),
        ("Mlocked", t.locked),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Zswap", 0),
        ("Zswapped", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", t.anon),
        ("Mapped", t.mapped),
        ("Shmem", t.shared),
        ("KReclaimable", 0),
        ("Slab", t.slab),
        ("SReclaimable", 0),
        ("SUnreclaim", t.slab),
        ("KernelStack", t.stacks),
        ("PageTables", t.page_tables),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", commit::limit()),
        ("Committed_AS", commit::promised()),
        // The area of kernel stacks, which is all that is mapped beside the direct map: 32 TiB.
        ("VmallocTotal", (1 << 45) / vm::PAGE),
        ("VmallocUsed", t.stacks),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("HardwareCorrupted", 0),
        ("AnonHugePages", t.anon_huge),
        ("ShmemHugePages", t.shared_huge),
        ("ShmemPmdMapped", t.shared_mapped),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("Unaccepted", 0),
    ] {
        // Numbers end in column 24, or right behind a longer name.
        let width = 24 - (name.len() + 1).max(16);
        put!(out, "{:<16}{:>width$} kB\n", Named(name), frames * (vm::PAGE / 1024));
    }
    let huge = frames::hugetlb::counts();
    for (name, pages) in [
        ("HugePages_Total", huge.total),
        ("HugePages_Free", huge.free),
        ("HugePages_Rsvd", huge.reserved),
        ("HugePages_Surp", huge.surplus),
    ] {
        put!(out, "{:<16}{pages:>8}\n", Named(name));
    }
    let size = crate::hugetlb::KIB;
    put!(out, "Hugepagesize:   {size:>8} kB\nHugetlb:        {:>8} kB\n", huge.total * size);
    Ok(())
}

/// A name with its colon, padded as one word.
struct Named(&'static str);

impl core::fmt::Display for Named {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:", self.0)?;
        let width = f.width().unwrap_or(0);
        (self.0.len() + 1..width).try_for_each(|_| f.write_str(" "))
    }
}
