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

use crate::flush::{Clock, Follower};
use crate::{Mm, PAGE};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::apic::Ipi;
use hal::{VirtAddr, cpu_area, paging, percpu};
use numa::{AtomicCpuMask, CpuId, MAX_CPUS};
use sync::IrqLock;

/// Above this many pages a CPU drops everything instead.
const PAGE_BY_PAGE: u64 = 32;

/// The flushes of an address space.
pub struct Flushes {
    /// CPUs that have it loaded, running or lazily.
    pub cpus: AtomicCpuMask,
    clock: Clock,
    /// The newest flush's number and range.
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
        Self { cpus: AtomicCpuMask::new(), clock: Clock::new(), last: IrqLock::new((0, 0, 0)) }
    }
}

/// What one CPU has loaded; `keep` holds the address space while it is.
#[repr(align(64))]
struct Loaded {
    follower: Follower,
    keep: IrqLock<Option<Arc<Mm>>>,
}

static LOADED: [Loaded; MAX_CPUS] =
    [const { Loaded { follower: Follower::new(), keep: IrqLock::new(None) } }; MAX_CPUS];

/// Rounds of flushing that reached other CPUs, and interrupts sent for them, ever.
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
        loaded.follower.rest();
        return;
    };
    if loaded.follower.space() == next.id() {
        if loaded.follower.wake() {
            catch_up(loaded, next);
        }
        return;
    }
    let mut keep = loaded.keep.lock();
    if let Some(old) = keep.take() {
        old.flushes().cpus.clear(cpu, Ordering::SeqCst);
    }
    next.flushes().cpus.set(cpu, Ordering::SeqCst);
    loaded.follower.enter(next.id(), &next.flushes().clock, || hal::user_tables::load(next.root()));
    *keep = Some(next.clone());
}

/// Leaves whatever is loaded for the kernel's own tables.
pub fn leave() {
    let _irq = hal::irq::IrqOff::new();
    let (cpu, loaded) = here();
    let old = loaded.keep.lock().take();
    if let Some(old) = &old {
        loaded.follower.leave(|| hal::user_tables::load(paging::kernel_root()));
        old.flushes().cpus.clear(cpu, Ordering::SeqCst);
    }
    drop(old);
}

/// Follows the newest flush of `mm`.
fn catch_up(loaded: &Loaded, mm: &Mm) {
    let (newest, start, end) = *mm.flushes().last.lock();
    match loaded.follower.behind(newest) {
        0 => {}
        1 if (end - start) / PAGE <= PAGE_BY_PAGE => loaded.follower.follow(newest, || {
            let mut at = start;
            while at < end {
                paging::flush_page(VirtAddr::new(at));
                at += PAGE;
            }
        }),
        _ => loaded.follower.follow(newest, paging::flush_all),
    }
}

/// Another CPU asks this one to look (interrupt context).
pub fn on_request() {
    let (_, loaded) = here();
    if loaded.follower.is_lazy() {
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
        // Number and range change together.
        let mut last = flushes.last.lock();
        *last = (flushes.clock.advance(), start, end);
        last.0
    };
    let (me, loaded) = here();
    if loaded.follower.space() == mm.id() {
        let _irq = hal::irq::IrqOff::new();
        catch_up(loaded, mm);
    }
    let mut others = flushes.cpus.load(Ordering::SeqCst);
    others.remove(me);
    if others.is_empty() {
        return;
    }
    debug_assert!(hal::irq::enabled());
    for cpu in others.iter() {
        if !tables && LOADED[cpu.index()].follower.is_lazy() {
            others.remove(cpu);
        } else if let Some(area) = cpu_area::of(cpu) {
            IPIS.fetch_add(1, Ordering::Relaxed);
            hal::apic::send_ipi(area, Ipi::Flush);
        }
    }
    if others.is_empty() {
        return;
    }
    ROUNDS.fetch_add(1, Ordering::Relaxed);
    for cpu in others.iter() {
        while !LOADED[cpu.index()].follower.has_followed(mm.id(), number) {
            core::hint::spin_loop();
        }
    }
}

/// Makes every CPU that still has `mm` loaded let go of it (its tables are about to be freed).
pub fn evict(mm: &Mm) {
    shootdown(mm, 0, u64::MAX, true);
}
