//! The areas of an address space, with what is in them: maps, smaps, and their NUMA kin.

use super::Who;
use crate::proc::put;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::fmt::{self, Write};
use fs::pseudo::Text;
use numa::policy::Policy;
use vm::Mm;
use vm::show::{AreaPages, write_area};
use vm::vma::{Vma, VmaFlags};

fn done(result: fmt::Result) -> Result<()> {
    // Text cannot fail; an area that does is a bug in its formatting.
    result.map_err(|_| Errno::ENOMEM)
}

/// /proc/PID/maps.
pub fn maps(who: &Who, out: &mut Text) -> Result<()> {
    who.mm()?.map_or(Ok(()), |mm| done(mm.write_maps(out)))
}

/// /proc/PID/numa_maps.
pub fn numa_maps(who: &Who, out: &mut Text) -> Result<()> {
    let Some((mm, policy)) = with_policy(who)? else { return Ok(()) };
    done(mm.write_numa_maps(policy.as_ref(), out))
}

/// /proc/PID/numa_pages: where each page is and why.
pub fn numa_pages(who: &Who, out: &mut Text) -> Result<()> {
    let Some((mm, policy)) = with_policy(who)? else { return Ok(()) };
    done(mm.write_numa_pages(policy.as_ref(), out))
}

/// The address space and the policy of its task: of a zombie, what was kept. None without memory.
fn with_policy(who: &Who) -> Result<Option<(Arc<Mm>, Option<Policy>)>> {
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
}

impl Sums {
    fn of(vma: &Vma, p: &AreaPages) -> Self {
        // Shares are known per area: dirty and private pages take their part of the whole.
        let share = |n: u64| (p.proportional * n).checked_div(p.pages).unwrap_or(0);
        let is_private = vma.object().is_none();
        Self {
            pages: p.pages,
            anon: p.anon,
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
        }
    }

    fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.anon += other.anon;
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
    }

    /// The lines that smaps and smaps_rollup share. Pages of files are shared memory here.
    fn write(&self, rollup: bool, out: &mut dyn Write) -> fmt::Result {
        let mut line = |name: &str, bytes: u64| {
            // Names with their colon take 16 columns, numbers 8 to the right.
            let width = 24 - (name.len() + 1);
            writeln!(out, "{name}:{:>width$} kB", bytes / 1024)
        };
        line("Rss", self.pages * vm::PAGE)?;
        line("Pss", self.proportional)?;
        line("Pss_Dirty", self.proportional_dirty)?;
        if rollup {
            line("Pss_Anon", self.proportional_anon)?;
            line("Pss_File", 0)?;
            line("Pss_Shmem", self.proportional - self.proportional_anon.min(self.proportional))?;
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
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
        ] {
            line(name, pages * vm::PAGE)?;
        }
        line("Locked", self.locked)
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
        ("de", special),
        ("lf", f.contains(VmaFlags::LOCK_ON_FAULT)),
        ("ac", f.contains(VmaFlags::ACCOUNTED)),
        ("nr", f.contains(VmaFlags::NO_RESERVE)),
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

/// /proc/PID/smaps.
pub fn smaps(who: &Who, out: &mut Text) -> Result<()> {
    let Some(mm) = who.mm()? else { return Ok(()) };
    done(mm.for_each_area(|vma| {
        write_area(vma, out)?;
        writeln!(out, "Size:           {:>8} kB", vma.len() / 1024)?;
        writeln!(out, "KernelPageSize:        4 kB\nMMUPageSize:           4 kB")?;
        Sums::of(vma, &mm.count_pages(vma)).write(false, out)?;
        writeln!(out, "THPeligible:           0")?;
        flag_words(vma, out);
        Ok(())
    }))
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
    done(sums.write(true, out))
}
