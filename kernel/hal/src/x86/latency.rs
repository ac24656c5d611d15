//! How long preemption and interrupts were off, in kernels built with the feature `latency`: the
//! longest time of each place. In others nothing of this is compiled, and locks cost nothing more.
//!
//! A time begins where the outermost guard is made and ends where it goes; both places are kept.
//! Only atomics are touched here: the callers are the guards themselves.

use super::cpu::rdtsc;
use super::percpu;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use numa::MAX_CPUS;

/// What was off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    Preemption = 0,
    Interrupts = 1,
}

/// The longest time of one place.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// Instruction where it began, and where the longest one ended.
    pub from: u64,
    pub to: u64,
    pub cycles: u64,
    /// How often the place was passed.
    pub times: u64,
}

struct Running {
    since: AtomicU64,
    from: AtomicU64,
}

struct Place {
    from: AtomicU64,
    to: AtomicU64,
    longest: AtomicU64,
    times: AtomicU64,
}

const PLACES: usize = 1024;
static RUNNING: [[Running; MAX_CPUS]; 2] =
    [const { [const { Running { since: AtomicU64::new(0), from: AtomicU64::new(0) } }; MAX_CPUS] };
        2];
static TABLE: [[Place; PLACES]; 2] = [const {
    [const {
        Place {
            from: AtomicU64::new(0),
            to: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            times: AtomicU64::new(0),
        }
    }; PLACES]
}; 2];
static RECORDING: AtomicBool = AtomicBool::new(false);

/// Begins to record, or begins anew: what booting took is of no interest.
pub fn start() {
    RECORDING.store(false, Relaxed);
    for place in TABLE.iter().flatten() {
        place.longest.store(0, Relaxed);
        place.times.store(0, Relaxed);
    }
    RECORDING.store(true, Relaxed);
}

/// The instruction after this.
#[inline(always)]
pub(crate) fn here() -> u64 {
    let at;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("lea {}, [rip]", out(reg) at, options(nomem, nostack, preserves_flags))
    };
    at
}

/// It is off on this CPU from now on.
#[inline(never)]
pub(crate) fn begin(what: Off, at: u64) {
    if RECORDING.load(Relaxed) {
        let running = &RUNNING[what as usize][percpu::cpu().index()];
        running.from.store(at, Relaxed);
        running.since.store(rdtsc(), Relaxed);
    }
}

/// It is about to be on again on this CPU.
#[inline(never)]
pub(crate) fn end(what: Off, at: u64) {
    if !RECORDING.load(Relaxed) {
        return;
    }
    let running = &RUNNING[what as usize][percpu::cpu().index()];
    let since = running.since.swap(0, Relaxed);
    if since == 0 {
        return;
    }
    let cycles = rdtsc().saturating_sub(since);
    let from = running.from.load(Relaxed);
    let table = &TABLE[what as usize];
    let first = (from as usize).wrapping_mul(0x9e37_79b9) >> 7;
    for i in 0..PLACES {
        let place = &table[(first + i) % PLACES];
        let own = match place.from.compare_exchange(0, from, Relaxed, Relaxed) {
            Ok(_) => from,
            Err(own) => own,
        };
        if own == from {
            place.times.fetch_add(1, Relaxed);
            if place.longest.fetch_max(cycles, Relaxed) < cycles {
                place.to.store(at, Relaxed);
            }
            return;
        }
    }
}

/// The places that were passed since [`start`].
pub fn longest(what: Off) -> impl Iterator<Item = Longest> {
    TABLE[what as usize].iter().filter_map(|place| {
        let get = |c: &AtomicU64| c.load(Relaxed);
        let times = get(&place.times);
        (times > 0).then(|| Longest {
            from: get(&place.from),
            to: get(&place.to),
            cycles: get(&place.longest),
            times,
        })
    })
}
