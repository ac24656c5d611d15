//! The areas of an address space, with what is in them: maps, smaps, and their NUMA kin.

use super::Who;
use crate::proc::put;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use fs::pseudo::{Records, Text};
use numa::policy::Policy;
use vm::Mm;
use vm::show::{AreaPages, write_area};
use vm::vma::{Vma, VmaFlags};

fn done(result: fmt::Result) -> Result<()> {
    // Text cannot fail; an area that does is a bug in its formatting.
    result.map_err(|_| Errno::ENOMEM)
}

/// A file with a text for each area.
pub struct OfAreas {
    find: fn(&Who) -> Result<Found>,
    show: fn(&Mm, &Vma, Option<&Policy>, &mut Text) -> fmt::Result,
}

/// An address space with its task's policy, or nothing to be told of.
type Found = Option<(Arc<Mm>, Option<Policy>)>;

/// /proc/PID/maps.
pub const MAPS: OfAreas =
    OfAreas { find: without_policy, show: |_, vma, _, out| write_area(vma, out) };

/// /proc/PID/numa_maps.
pub const NUMA_MAPS: OfAreas = OfAreas {
    find: with_policy,
    show: |mm, vma, policy, out| mm.write_numa_area(vma, policy, out),
};

/// /proc/PID/numa_pages: where each page is and why.
pub const NUMA_PAGES: OfAreas = OfAreas {
    find: with_policy,
    show: |mm, vma, policy, out| mm.write_area_pages(vma, policy, out),
};

/// /proc/PID/smaps.
pub const SMAPS: OfAreas =
    OfAreas { find: without_policy, show: |mm, vma, _, out| smaps_of(mm, vma, out) };

/// The areas as they are told while the file is read: who reads the first page of it waits for no
/// more, and none of it is kept. What changes meanwhile is seen or not, as on Linux.
pub struct Areas {
    pub who: Who,
    pub of: &'static OfAreas,
    /// Where to go on; None at the end.
    pub next: Option<u64>,
}

impl Records for Areas {
    fn next(&mut self, out: &mut Text) -> Result<bool> {
        let Some(from) = self.next else { return Ok(false) };
        let Some((mm, policy)) = (self.of.find)(&self.who)? else { return Ok(false) };
        let mut outcome = Ok(());
        self.next = mm.some_areas(from, |vma| {
            let before = out.as_bytes().len();
            outcome = (self.of.show)(&mm, vma, policy.as_ref(), out);
            outcome.is_err() || out.as_bytes().len() > before
        });
        done(outcome)?;
        Ok(self.next.is_some())
    }
}

fn without_policy(who: &Who) -> Result<Found> {
    Ok(who.mm()?.map(|mm| (mm, None)))
}

/// The address space and the policy of its task: of a zombie, what was kept. None without memory.
fn with_policy(who: &Who) -> Result<Found> {
    if let Some(mm) = who.mm()? {
        let policy = who.task()?.numa.lock().policy;
        return Ok(Some((mm, policy)));
    }
    let process = who.find()?;
    let kept = process.kept.lock();
    Ok(kept.as_ref().map(|kept| (kept.mm.clone(), kept.policy)))
}

/// Sums over areas, in pages; what is proportional, in bytes.
#[derive(Default)]
struct Sums {
    pages: u64,
    anon: u64,
    anon_huge: u64,
    shared_mapped: u64,
    referenced: u64,
    lazy_free: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    proportional: u64,
    proportional_dirty: u64,
    proportional_anon: u64,
    locked: u64,
    /// Huge pages of the pool, in bytes; they are in no other sum.
    shared_huge: u64,
    private_huge: u64,
}

impl Sums {
    fn of(vma: &Vma, p: &AreaPages) -> Self {
        if vma.is_huge() {
            return Self {
                shared_huge: (p.shared_clean + p.shared_dirty) * vma.page_size(),
                private_huge: (p.private_clean + p.private_dirty) * vma.page_size(),
                ..Self::default()
            };
        }
        // Shares are known per area: dirty and private pages take their part of the whole.
        let share = |n: u64| (p.proportional * n).checked_div(p.pages).unwrap_or(0);
        let is_private = vma.object().is_none();
        Self {
            pages: p.pages,
            anon: p.anon,
            anon_huge: p.huge,
            shared_mapped: p.shared_huge,
            referenced: p.referenced,
            lazy_free: p.lazy_free,
            shared_clean: p.shared_clean,
            shared_dirty: p.shared_dirty,
            private_clean: p.private_clean,
            private_dirty: p.private_dirty,
            proportional: p.proportional,
            proportional_dirty: share(p.shared_dirty + p.private_dirty),
            proportional_anon: if is_private { p.proportional } else { share(p.anon) },
            locked: if vma.flags.contains(VmaFlags::LOCKED) { p.proportional } else { 0 },
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.anon += other.anon;
        self.anon_huge += other.anon_huge;
        self.shared_mapped += other.shared_mapped;
        self.referenced += other.referenced;
        self.lazy_free += other.lazy_free;
        self.shared_clean += other.shared_clean;
        self.shared_dirty += other.shared_dirty;
        self.private_clean += other.private_clean;
        self.private_dirty += other.private_dirty;
        self.proportional += other.proportional;
        self.proportional_dirty += other.proportional_dirty;
        self.proportional_anon += other.proportional_anon;
        self.locked += other.locked;
        self.shared_huge += other.shared_huge;
        self.private_huge += other.private_huge;
    }

    /// The lines that smaps and smaps_rollup share. Pages of files are shared memory here.
    fn write(&self, rollup: bool, out: &mut Text) {
        let mut line = |name: &str, bytes: u64| {
            // Names with their colon take 16 columns, numbers 8 to the right.
            out.bytes(name.as_bytes());
            out.bytes(b":");
            out.right(bytes / 1024, 23 - name.len());
            out.bytes(b" kB\n");
        };
        line("Rss", self.pages * vm::PAGE);
        line("Pss", self.proportional);
        line("Pss_Dirty", self.proportional_dirty);
        if rollup {
            line("Pss_Anon", self.proportional_anon);
            line("Pss_File", 0);
            line("Pss_Shmem", self.proportional - self.proportional_anon.min(self.proportional));
        }
        for (name, pages) in [
            ("Shared_Clean", self.shared_clean),
            ("Shared_Dirty", self.shared_dirty),
            ("Private_Clean", self.private_clean),
            ("Private_Dirty", self.private_dirty),
            ("Referenced", self.referenced),
            ("Anonymous", self.anon),
            ("KSM", 0),
            ("LazyFree", self.lazy_free),
            ("AnonHugePages", self.anon_huge),
            ("ShmemPmdMapped", self.shared_mapped),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", self.shared_huge / vm::PAGE),
            ("Private_Hugetlb", self.private_huge / vm::PAGE),
            ("Swap", 0),
            ("SwapPss", 0),
        ] {
            line(name, pages * vm::PAGE);
        }
        line("Locked", self.locked);
    }
}

/// Linux's two-letter words for an area's properties, in its order.
fn flag_words(vma: &Vma, out: &mut Text) {
    let f = vma.flags;
    let private = !f.contains(VmaFlags::SHARED);
    let special = f.contains(VmaFlags::SPECIAL);
    let frames = f.contains(VmaFlags::PFN_MAP);
    let may_write = private && !frames || f.contains(VmaFlags::MAY_WRITE);
    out.bytes(b"VmFlags: ");
    for (word, on) in [
        ("rd", f.contains(VmaFlags::READ)),
        ("wr", f.contains(VmaFlags::WRITE)),
        ("ex", f.contains(VmaFlags::EXEC)),
        ("sh", f.contains(VmaFlags::SHARED)),
        ("mr", true),
        ("mw", may_write),
        ("me", !(frames && f.contains(VmaFlags::NEVER_EXEC))),
        ("ms", f.contains(VmaFlags::SHARED)),
        ("gd", f.contains(VmaFlags::GROWS_DOWN)),
        ("pf", frames),
        ("lo", f.contains(VmaFlags::LOCKED)),
        ("io", frames),
        ("sr", f.contains(VmaFlags::SEQUENTIAL)),
        ("rr", f.contains(VmaFlags::RANDOM)),
        ("dc", f.contains(VmaFlags::DONT_FORK)),
        ("de", special || vma.is_huge()),
        ("lf", f.contains(VmaFlags::LOCK_ON_FAULT)),
        ("ac", f.contains(VmaFlags::ACCOUNTED)),
        ("nr", f.contains(VmaFlags::NO_RESERVE)),
        ("ht", vma.is_huge()),
        ("wf", f.contains(VmaFlags::WIPE_ON_FORK)),
        ("dd", f.contains(VmaFlags::DONT_DUMP)),
        ("hg", f.contains(VmaFlags::HUGE)),
        ("nh", f.contains(VmaFlags::NO_HUGE)),
    ] {
        if on {
            put!(out, "{word} ");
        }
    }
    out.bytes(b"\n");
}

/// An area's lines of /proc/PID/smaps.
fn smaps_of(mm: &Mm, vma: &Vma, out: &mut Text) -> fmt::Result {
    write_area(vma, out)?;
    writeln!(out, "Size:           {:>8} kB", vma.len() / 1024)?;
    let size = vma.page_size() / 1024;
    writeln!(out, "KernelPageSize: {size:>8} kB\nMMUPageSize:    {size:>8} kB")?;
    Sums::of(vma, &mm.count_pages(vma)).write(false, out);
    let disabled = mm.no_huge_pages.load(Ordering::Relaxed);
    let eligible = u8::from(vm::transparent::is_eligible(vma, disabled));
    put!(out, "THPeligible:    {eligible:>8}\n");
    flag_words(vma, out);
    Ok(())
}

/// /proc/PID/smaps_rollup.
pub fn smaps_rollup(who: &Who, out: &mut Text) -> Result<()> {
    let Some(mm) = who.mm()? else { return Err(Errno::ESRCH) };
    let mut sums = Sums::default();
    let (mut first, mut last) = (None, 0);
    done(mm.for_each_area(|vma| {
        first.get_or_insert(vma.start);
        last = vma.end;
        sums.add(&Sums::of(vma, &mm.count_pages(vma)));
        Ok(())
    }))?;
    let mut line = alloc::string::String::new();
    done(write!(line, "{:08x}-{last:08x} ---p 00000000 00:00 0 ", first.unwrap_or(0)))?;
    put!(out, "{line:<73}[rollup]\n");
    sums.write(true, out);
    Ok(())
}
