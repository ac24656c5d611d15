//! A look whether all CPUs' time-stamp counters are one: while the CPUs start, each reads its counter
//! under one lock for a moment. Who reads less than was read before has found a warp.

use super::cpu::rdtsc_ordered;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Looks of a CPU: some microseconds, in which all that start at once are at it together.
const LOOKS: u32 = 400;

static LOCKED: AtomicBool = AtomicBool::new(false);
/// The last that was read, under the lock.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The widest warp that was seen, in cycles.
static WIDEST: AtomicU64 = AtomicU64::new(0);

/// Looks once.
fn look() {
    while LOCKED.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let now = rdtsc_ordered();
    let last = LAST.load(Ordering::Relaxed);
    LAST.store(now, Ordering::Relaxed);
    LOCKED.store(false, Ordering::Release);
    if now < last {
        WIDEST.fetch_max(last - now, Ordering::Relaxed);
    }
}

/// A starting CPU's look.
pub fn look_for_a_moment() {
    (0..LOOKS).for_each(|_| look());
}

/// The look of the CPU that waits for the others, again and again.
pub fn look_while_waiting() {
    look();
}

/// The widest warp that was seen, in cycles; 0: there is none.
pub fn widest() -> u64 {
    WIDEST.load(Ordering::Relaxed)
}
