//! Telling other CPUs that translations are gone.
//!
//! A flush is a number: every address space counts its flushes, and every CPU remembers up to
//! which one it has followed the address space that it has loaded. A request is an interrupt that
//! says "look"; several requests coalesce, because the CPU always catches up to the newest number.
//! Nothing is queued, so nothing can be dropped.
//!
//! [`shootdown`] returns when every CPU that could have used an old translation has acknowledged.
//! It does not guarantee that a CPU has not walked the tables again since: the caller has changed
//! the entries before.

use crate::{Mm, PAGE};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use hal::apic::Ipi;
use hal::{VirtAddr, cpu_area, paging, percpu};
use numa::{AtomicCpuMask, CpuId, MAX_CPUS};
use sync::IrqLock;

/// Above this many pages a CPU drops everything instead.
const PAGE_BY_PAGE: u64 = 32;

/// The flush numbers of an address space.
pub struct Flushes {
    /// CPUs that have it loaded, running or lazily.
    pub cpus: AtomicCpuMask,
    newest: AtomicU64,
    /// The newest number again, with its range.
    last: IrqLock<(u64, u64, u64)>,
}

impl Default for Flushes {
    fn default() -> Self {
        Self::new()
    }
}

impl Flushes {
    /// No flush yet, loaded nowhere.
    pub const fn new() -> Self {
        Self {
            cpus: AtomicCpuMask::new(),
            newest: AtomicU64::new(0),
            last: IrqLock::new((0, 0, 0)),
        }
    }
}

/// What one CPU has loaded.
#[repr(align(64))]
struct Loaded {
    /// Id of the address space, 0 for none (the kernel's own tables).
    mm: AtomicU64,
    /// The newest flush that it has followed.
    seen: AtomicU64,
    /// Loaded, but only kernel code runs: flushes are caught up with later.
    lazy: AtomicBool,
    keep: IrqLock<Option<Arc<Mm>>>,
}

static LOADED: [Loaded; MAX_CPUS] = [const {
    Loaded {
        mm: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        lazy: AtomicBool::new(false),
        keep: IrqLock::new(None),
    }
}; MAX_CPUS];

/// Rounds of flushing and interrupts sent for them, ever.
pub static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// See [`ROUNDS`].
pub static IPIS: AtomicU64 = AtomicU64::new(0);

#[inline]
fn here() -> (CpuId, &'static Loaded) {
    let cpu = percpu::cpu();
    (cpu, &LOADED[cpu.index()])
}

/// Makes `next` this CPU's address space. None: a task of the kernel runs, the present one stays
/// loaded lazily. Interrupts are off.
pub fn switch(next: Option<&Arc<Mm>>) {
    let (cpu, loaded) = here();
    let Some(next) = next else {
        loaded.lazy.store(true, Ordering::Release);
        return;
    };
    if loaded.mm.load(Ordering::Relaxed) == next.id() {
        if loaded.lazy.swap(false, Ordering::SeqCst) {
            // Order: not lazy any more, then look for flushes that skipped us meanwhile.
            fence(Ordering::SeqCst);
            catch_up(loaded, next);
        }
        return;
    }
    let mut keep = loaded.keep.lock();
    if let Some(old) = keep.take() {
        old.flushes().cpus.clear(cpu, Ordering::SeqCst);
    }
    next.flushes().cpus.set(cpu, Ordering::SeqCst);
    loaded.lazy.store(false, Ordering::Relaxed);
    loaded.mm.store(next.id(), Ordering::SeqCst);
    // Read before the tables are loaded: what is flushed later asks us again.
    let newest = next.flushes().newest.load(Ordering::SeqCst);
    // SAFETY of loading: the root lives as long as `keep` holds the address space.
    paging_load(next);
    loaded.seen.store(newest, Ordering::Release);
    *keep = Some(next.clone());
}

fn paging_load(mm: &Mm) {
    hal::user_tables::load(mm.root());
}

/// Leaves whatever is loaded for the kernel's own tables.
pub fn leave() {
    let _irq = hal::irq::IrqOff::new();
    let (cpu, loaded) = here();
    let old = loaded.keep.lock().take();
    if let Some(old) = &old {
        hal::user_tables::load(paging::kernel_root());
        loaded.mm.store(0, Ordering::Release);
        old.flushes().cpus.clear(cpu, Ordering::SeqCst);
    }
    drop(old);
}

/// Follows the newest flush of `mm`.
fn catch_up(loaded: &Loaded, mm: &Mm) {
    let (newest, start, end) = *mm.flushes().last.lock();
    let seen = loaded.seen.load(Ordering::Relaxed);
    if seen >= newest {
        return;
    }
    if seen + 1 == newest && (end - start) / PAGE <= PAGE_BY_PAGE {
        let mut at = start;
        while at < end {
            paging::flush_page(VirtAddr::new(at));
            at += PAGE;
        }
    } else {
        paging::flush_all();
    }
    // After the flush, so that whoever reads the number may rely on it.
    loaded.seen.store(newest, Ordering::Release);
}

/// Another CPU asks this one to look (interrupt context).
pub fn on_request() {
    let (_, loaded) = here();
    if loaded.lazy.load(Ordering::Relaxed) {
        leave();
        return;
    }
    if let Some(mm) = loaded.keep.lock().as_ref() {
        catch_up(loaded, mm);
    }
}

/// Waits until no CPU can use translations of `[start, end)` in `mm` that are not in its tables
/// any more. `tables`: page tables are to be freed too, so that lazy CPUs must let go as well.
///
/// Interrupts are on and no spinning lock with interrupts off is held.
pub fn shootdown(mm: &Mm, start: u64, end: u64, tables: bool) {
    let _stay = hal::preempt::PreemptGuard::new();
    let flushes = mm.flushes();
    let number = {
        let mut last = flushes.last.lock();
        *last = (last.0 + 1, start, end);
        flushes.newest.store(last.0, Ordering::SeqCst);
        last.0
    };
    fence(Ordering::SeqCst);
    let (me, loaded) = here();
    if loaded.mm.load(Ordering::Relaxed) == mm.id() {
        let _irq = hal::irq::IrqOff::new();
        catch_up(loaded, mm);
    }
    let mut others = flushes.cpus.load(Ordering::SeqCst);
    others.remove(me);
    if others.is_empty() {
        return;
    }
    debug_assert!(hal::irq::enabled());
    ROUNDS.fetch_add(1, Ordering::Relaxed);
    for cpu in others.iter() {
        let target = &LOADED[cpu.index()];
        if !tables && target.lazy.load(Ordering::SeqCst) {
            others.remove(cpu);
            continue;
        }
        if let Some(area) = cpu_area::of(cpu) {
            IPIS.fetch_add(1, Ordering::Relaxed);
            hal::apic::send_ipi(area, Ipi::Flush);
        }
    }
    for cpu in others.iter() {
        let target = &LOADED[cpu.index()];
        while target.mm.load(Ordering::Acquire) == mm.id()
            && target.seen.load(Ordering::Acquire) < number
        {
            core::hint::spin_loop();
        }
    }
}

/// Makes every CPU that still has `mm` loaded let go of it (its tables are about to be freed).
pub fn evict(mm: &Mm) {
    shootdown(mm, 0, u64::MAX, true);
}
