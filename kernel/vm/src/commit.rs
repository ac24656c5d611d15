//! Overcommit: how much memory is promised to programs, and whether more may be.
//!
//! Promised is what a program could come to fill: private writable areas, shared anonymous memory
//! and segments by their size, files in memory page by page. What overcommit_memory, its ratio and
//! the reserves mean is Linux's (overcommit-accounting.rst, sysctl/vm.rst).
//!
//! The sum is spread over the CPUs: each counts what it promises and takes back, and hands its count
//! over only when that has grown large, so that no line is shared by what maps and unmaps.

use crate::{PAGE, env};
use abi::{Errno, Result};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64};
use numa::MAX_CPUS;
use sync::Once;

/// KiB of a page.
const KIB: u64 = PAGE / 1024;
/// Pages that a CPU counts for itself (128 MiB).
const BATCH: i64 = 1 << 15;

/// vm.overcommit_memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mode {
    /// 0: refuses only what is larger than the machine.
    Guess = 0,
    /// 1: refuses nothing.
    Always = 1,
    /// 2: promises no more than [`limit`].
    Never = 2,
}

/// The settings, as sysctl(8) shows them.
pub static MODE: AtomicU32 = AtomicU32::new(Mode::Guess as u32);
/// Percent of the machine's memory.
pub static RATIO: AtomicI32 = AtomicI32::new(50);
/// KiB; where it is not 0 it counts instead of the ratio.
pub static KBYTES: AtomicU64 = AtomicU64::new(0);
/// KiB that only who has CAP_SYS_ADMIN may be promised.
pub static ADMIN_RESERVE: AtomicU64 = AtomicU64::new(0);
/// KiB that are kept from a process that has large areas already.
pub static USER_RESERVE: AtomicU64 = AtomicU64::new(0);

/// The mode in force.
#[inline]
pub fn mode() -> Mode {
    match MODE.load(Relaxed) {
        0 => Mode::Guess,
        1 => Mode::Always,
        _ => Mode::Never,
    }
}

/// Sets the reserves to what suits the memory that is free, once, at boot: a 32nd of it, at most
/// 8 MiB for who administers and 128 MiB for who uses.
pub fn init() {
    let nodes = env::machine().memory_nodes();
    let free: u64 = nodes.iter().map(|node| frames::stats(node).free).sum();
    ADMIN_RESERVE.store((free * KIB / 32).min(8 << 10), Relaxed);
    USER_RESERVE.store((free * KIB / 32).min(128 << 10), Relaxed);
}

/// Pages of the whole machine that can be given out.
pub fn machine_pages() -> u64 {
    static FRAMES: Once<u64> = Once::new();
    *FRAMES.get_or_init(|| {
        let nodes = env::machine().memory_nodes();
        nodes.iter().map(|node| frames::stats(node).managed).sum()
    })
}

/// Pages that mode 2 promises at most, reserves included (CommitLimit).
pub fn limit() -> u64 {
    match KBYTES.load(Relaxed) {
        // Any ratio may be written: what wraps does as it does on Linux.
        0 => {
            // What the pool of huge pages has is promised there.
            let huge = frames::hugetlb::counts().total * frames::hugetlb::FRAMES;
            let pages = machine_pages().saturating_sub(huge);
            pages.wrapping_mul(RATIO.load(Relaxed) as u64) / 100
        }
        kib => kib / KIB,
    }
}

/// A CPU's part of the sum, on a line of its own.
#[repr(align(64))]
struct PerCpu(AtomicI64);

static CPUS: [PerCpu; MAX_CPUS] = [const { PerCpu(AtomicI64::new(0)) }; MAX_CPUS];
/// What the CPUs have handed over.
static REST: AtomicI64 = AtomicI64::new(0);

#[cfg(target_os = "none")]
#[inline(always)]
fn this_cpu() -> usize {
    hal::percpu::cpu().index()
}
#[cfg(not(target_os = "none"))]
fn this_cpu() -> usize {
    0
}

#[inline]
fn add(pages: i64) {
    // Wherever the task goes meanwhile: any CPU's count will do.
    let here = &CPUS[this_cpu()].0;
    let count = here.fetch_add(pages, Relaxed) + pages;
    if count.abs() > BATCH {
        hand_over(here, count);
    }
}

/// Moves `count` pages to the common sum. Who sums up meanwhile counts too many, never too few.
#[cold]
fn hand_over(here: &AtomicI64, count: i64) {
    if count > 0 {
        REST.fetch_add(count, Relaxed);
        here.fetch_sub(count, Release);
    } else {
        here.fetch_sub(count, Relaxed);
        REST.fetch_add(count, Release);
    }
}

/// Pages that are promised (Committed_AS).
pub fn promised() -> u64 {
    let part = |cpu: &PerCpu| cpu.0.load(Acquire);
    (CPUS.iter().take(env::machine().cpu_ids()).map(part).sum::<i64>() + REST.load(Acquire)).max(0)
        as u64
}

/// Whether all that is promised by now is less than `allowed` pages. The CPUs are asked only where
/// it could matter.
fn below(allowed: i64) -> bool {
    let most = BATCH * env::machine().cpu_ids() as i64;
    REST.load(Relaxed) + most < allowed || (promised() as i64) < allowed
}

/// Whether what is promised leaves the running task what it must leave to others; `mapped`: pages
/// of its address space.
fn within_limit(mapped: u64) -> bool {
    let admin = if env::may_administer() { 0 } else { ADMIN_RESERVE.load(Relaxed) / KIB };
    let user = (mapped / 32).min(USER_RESERVE.load(Relaxed) / KIB);
    below((limit() as i64).saturating_sub_unsigned(admin).saturating_sub_unsigned(user))
}

/// Pages that are promised until this is dropped, or for good if it is kept.
#[must_use]
#[derive(Debug)]
pub struct Promise(u64);

impl Promise {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// The promise stands: whoever has it gives it back by [`give_back`].
    #[inline]
    pub fn keep(self) {
        core::mem::forget(self);
    }

    /// `pages` more that are about to be given back elsewhere: they are not asked for.
    pub fn take_over(&mut self, pages: u64) {
        add(pages as i64);
        self.0 += pages;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        give_back(self.0);
    }
}

/// Promises `pages` to an address space that has `mapped` pages in areas; ENOMEM when the mode does
/// not allow it.
#[inline]
pub fn promise(mapped: u64, pages: u64) -> Result<Promise> {
    if pages == 0 {
        return Ok(Promise::NONE);
    }
    match mode() {
        Mode::Guess if pages > machine_pages() => return Err(Errno::ENOMEM),
        Mode::Guess | Mode::Always => add(pages as i64),
        Mode::Never => {
            // Counted first: of two who ask for the last page at once, not both get it.
            add(pages as i64);
            if !within_limit(mapped) {
                give_back(pages);
                return Err(Errno::ENOMEM);
            }
        }
    }
    Ok(Promise(pages))
}

/// As [`promise`], to the running task's address space.
pub fn promise_to_task(pages: u64) -> Result<Promise> {
    let mapped = if mode() == Mode::Never { env::mapped_pages() } else { 0 };
    promise(mapped, pages)
}

/// `pages` are promised no more.
#[inline]
pub fn give_back(pages: u64) {
    if pages > 0 {
        add(-(pages as i64));
    }
}
