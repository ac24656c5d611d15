//! Load averages: how many tasks wanted a CPU, over the last 1, 5 and 15 minutes.
//!
//! Every five seconds the number of running and ready tasks goes into three exponential averages,
//! as fixed-point numbers with 11 bits of fraction.

use super::put;
use crate::sched::timers;
use crate::task::table;
use abi::Result;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use fs::pseudo::Text;
use sync::{Notify, Once};

const FRACTION: u32 = 11;
/// One, as a fixed-point number.
pub const ONE: u64 = 1 << FRACTION;
/// Nanoseconds between samples.
const PERIOD: u64 = 5_000_000_000;
/// e to the power of -5 s / 1, 5, 15 min.
const DECAY: [u64; 3] = [1884, 2014, 2037];

static AVERAGES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

struct Sampler;
static SAMPLER: Once<Arc<Sampler>> = Once::new();

impl Notify for Sampler {
    fn notify(&self) {
        // The kernel's worker, where this runs, does not count itself.
        let own = usize::from(!hal::percpu::in_interrupt());
        let now = crate::sched::running().saturating_sub(own) as u64 * ONE;
        for (average, decay) in AVERAGES.iter().zip(DECAY) {
            let old = average.load(Ordering::Relaxed);
            // Rounded towards the present value, so that it is reached.
            let round = if now >= old { ONE - 1 } else { 0 };
            let new = (old * decay + now * (ONE - decay) + round) / ONE;
            average.store(new, Ordering::Relaxed);
        }
        arm();
    }
}

fn arm() {
    if let Some(sampler) = SAMPLER.get() {
        timers::arm_deferred(hal::time::now() + PERIOD, sampler.clone());
    }
}

/// Begins to sample.
pub fn start() {
    SAMPLER.get_or_init(|| Arc::new(Sampler));
    arm();
}

/// The averages over 1, 5 and 15 minutes; [`ONE`] is one task.
pub fn averages() -> [u64; 3] {
    [0, 1, 2].map(|i: usize| AVERAGES[i].load(Ordering::Relaxed))
}

/// /proc/loadavg.
pub fn show(out: &mut Text) -> Result<()> {
    for average in averages() {
        // Two digits, rounded.
        let rounded = average + ONE / 200;
        put!(out, "{}.{:02} ", rounded / ONE, rounded % ONE * 100 / ONE);
    }
    let running = crate::sched::running();
    put!(out, "{running}/{} {}\n", table::task_count(), table::last_tid());
    Ok(())
}
