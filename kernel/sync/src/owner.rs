//! Who holds a sleeping lock alone: whoever wants it spins while the holder runs on a CPU, since it
//! will be done sooner than a sleeper could be woken (Linux: optimistic spinning).

use crate::contention::now;
use core::sync::atomic::{AtomicU64, Ordering};

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    No,
    /// By the [`Owner`].
    Alone,
    /// By readers, of whom nothing is known.
    Shared,
}

/// How long a writer spins while others read, in nanoseconds: as long as it takes to sleep and wake.
const READERS: u64 = 10_000;

/// The holder and its CPU, in one word; of a lock that is free or read, the last one.
pub(crate) struct Owner(AtomicU64);

impl Owner {
    /// Nobody.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The running task has taken the lock.
    #[inline(always)]
    pub(crate) fn set(&self) {
        self.0.store(arch::token(), Ordering::Relaxed);
    }

    /// Tries again until `attempt` gives a value, or it is better to sleep: the holder has left its
    /// CPU, readers take long, or another task is to run on this CPU.
    pub(crate) fn spin<R>(
        &self,
        held: impl Fn() -> Held,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let mut shared_until = None;
        loop {
            let wait = match held() {
                Held::No => {
                    let value = attempt();
                    // Free, but not for us.
                    if value.is_some() || held() == Held::No {
                        return value;
                    }
                    true
                }
                Held::Alone => arch::runs(self.0.load(Ordering::Relaxed)),
                Held::Shared => now() < *shared_until.get_or_insert_with(|| now() + READERS),
            };
            if !wait || arch::reschedules() {
                return None;
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(target_os = "none")]
mod arch {
    pub(super) use hal::percpu::{runs, token};

    pub(super) fn reschedules() -> bool {
        hal::percpu::preempt_state().1
    }
}

/// Threads of the host: nobody knows where they are.
#[cfg(not(target_os = "none"))]
mod arch {
    pub(super) fn token() -> u64 {
        1
    }
    pub(super) fn runs(_token: u64) -> bool {
        true
    }
    pub(super) fn reschedules() -> bool {
        std::thread_local! {
            static TURNS: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
        }
        // Every thousandth time.
        TURNS.with(|turns| turns.replace((turns.get() + 1) % 1000) == 0)
    }
}
