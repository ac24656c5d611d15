//! The High Precision Event Timer's main counter (IA-PC HPET specification 1.0a, 2.3).

use crate::{PhysAddr, phys};
use core::sync::atomic::{AtomicU64, Ordering};

const CAPABILITIES: u64 = 0x00;
const CONFIGURATION: u64 = 0x10;
const COUNTER: u64 = 0xf0;
const ENABLE: u32 = 1;
const WIDE: u32 = 1 << 13;
/// The period is at most this, in femtoseconds.
const LONGEST_PERIOD: u32 = 0x05f5_e100;

/// Where its registers are; 0: there is none.
static BASE: AtomicU64 = AtomicU64::new(0);
/// Femtoseconds of a tick.
static PERIOD: AtomicU64 = AtomicU64::new(0);

fn register(offset: u64) -> *mut u32 {
    phys::ptr(PhysAddr::new(BASE.load(Ordering::Relaxed) + offset))
}

fn read(offset: u64) -> u32 {
    // SAFETY: the page of the registers is mapped uncached (`init`'s caller).
    unsafe { register(offset).read_volatile() }
}

/// Takes the timer at `base`, whose page is mapped, into use if its counter has 64 bits: one of 32 would
/// have to be looked at every few minutes by machines that rest.
pub fn init(base: u64) {
    BASE.store(base, Ordering::Relaxed);
    let period = read(CAPABILITIES + 4);
    if read(CAPABILITIES) & WIDE == 0 || period == 0 || period > LONGEST_PERIOD {
        BASE.store(0, Ordering::Relaxed);
        return;
    }
    PERIOD.store(u64::from(period), Ordering::Relaxed);
    // SAFETY: as `read`; lets the counter run, and no timer interrupt.
    unsafe { register(CONFIGURATION).write_volatile(ENABLE) };
}

/// It is there.
pub fn is_offered() -> bool {
    BASE.load(Ordering::Relaxed) != 0
}

/// Nanoseconds that it has counted. Its halves are read one after the other, as hosts emulate them.
pub fn now() -> u64 {
    let ticks = loop {
        let high = read(COUNTER + 4);
        let low = read(COUNTER);
        if read(COUNTER + 4) == high {
            break u64::from(high) << 32 | u64::from(low);
        }
    };
    (u128::from(ticks) * u128::from(PERIOD.load(Ordering::Relaxed)) / 1_000_000) as u64
}
