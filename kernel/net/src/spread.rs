//! Counters that every CPU counts in a cache line of its own.

use core::sync::atomic::{AtomicI64, Ordering::Relaxed};
use numa::MAX_CPUS;

#[repr(align(64))]
struct Own(AtomicI64);

/// A counter.
pub struct Spread([Own; MAX_CPUS]);

fn this_cpu() -> usize {
    #[cfg(target_os = "none")]
    return hal::percpu::cpu().index();
    #[cfg(not(target_os = "none"))]
    return 0;
}

impl Spread {
    /// A counter at zero.
    #[allow(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self([const { Own(AtomicI64::new(0)) }; MAX_CPUS])
    }

    /// Adds `change`.
    #[inline]
    pub fn add(&self, change: i64) {
        self.0[this_cpu()].0.fetch_add(change, Relaxed);
    }

    /// Adds `change`, and hands over to `rest` what has come to `batch` or more.
    #[inline]
    pub fn add_within(&self, change: i64, batch: i64, rest: &AtomicI64) {
        // Wherever the task goes meanwhile: any CPU's count will do.
        let own = &self.0[this_cpu()].0;
        let now = own.fetch_add(change, Relaxed) + change;
        if now.abs() >= batch {
            own.fetch_sub(now, Relaxed);
            rest.fetch_add(now, Relaxed);
        }
    }

    /// The sum.
    pub fn sum(&self) -> i64 {
        self.0.iter().map(|own| own.0.load(Relaxed)).sum()
    }
}
