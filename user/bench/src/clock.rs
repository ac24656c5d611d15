//! Taking samples by the time-stamp counter, and what is said of them.

use std::arch::asm;

use crate::sys::Result;

/// Cycles per operation, one entry a sample.
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn new(cycles: Vec<f64>) -> Self {
        Self(cycles)
    }

    /// Median, 99th percentile (nearest rank), count, extremes; a tenth of a cycle is kept because
    /// samples of short operations are means over many.
    pub fn summary(&mut self) -> String {
        self.0.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let at = (self.0.len() as f64 * share).ceil() as usize;
            self.0[at.clamp(1, self.0.len()) - 1]
        };
        format!(
            "median={:.1} p99={:.1} n={} min={:.1} max={:.1}",
            rank(0.5),
            rank(0.99),
            self.0.len(),
            rank(0.0),
            rank(1.0)
        )
    }
}

/// Started and stopped once in each round; what lies outside is set-up.
#[derive(Default)]
pub struct Clock {
    start: u64,
    taken: u64,
}

impl Clock {
    #[inline(always)]
    pub fn start(&mut self) {
        self.start = cycles();
    }

    #[inline(always)]
    pub fn stop(&mut self) {
        self.taken = cycles() - self.start;
    }
}

#[inline(always)]
pub fn cycles() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter. Not marked free of memory effects, so that nothing moves across it.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// `rounds` samples after a warm-up of a quarter as many; each is divided by `per`, the number of
/// operations or pages in a round.
pub fn samples(
    rounds: usize,
    per: usize,
    mut round: impl FnMut(&mut Clock) -> Result<()>,
) -> Result<Samples> {
    samples_by(rounds, |clock| round(clock).map(|()| per))
}

/// As [`samples`], for rounds that say themselves how many operations there were.
pub fn samples_by(
    rounds: usize,
    mut round: impl FnMut(&mut Clock) -> Result<usize>,
) -> Result<Samples> {
    let mut clock = Clock::default();
    clock.start();
    clock.stop();
    let own = clock.taken;
    // Filled, so that no page of it is touched for the first time while measuring.
    let mut taken = vec![1.0; rounds];
    for _ in 0..rounds / 4 + 2 {
        round(&mut clock)?;
    }
    for entry in &mut taken {
        let per = round(&mut clock)?;
        *entry = clock.taken.saturating_sub(own) as f64 / per.max(1) as f64;
    }
    Ok(Samples(taken))
}

/// Samples of an operation too short to be measured alone: `batch` of them a round.
#[inline(always)]
pub fn batched(
    rounds: usize,
    batch: usize,
    mut operation: impl FnMut() -> Result<()>,
) -> Result<Samples> {
    samples(rounds, batch, |clock| {
        clock.start();
        for _ in 0..batch {
            operation()?;
        }
        clock.stop();
        Ok(())
    })
}
