//! Keeps the masks of the CPUs that idle and of those on which tasks wait (Linux: `idle_cpus_mask`, the
//! root domain's `overload` and `rto_mask`).
//!
//! A CPU that falls idle says so and then looks for work; a CPU on which a task waits, that another
//! may take, says so and then looks for one that idles, and again when what kept the task from
//! being taken is over (its stack was in use, its mask was narrower). Each says before it looks, so
//! one of the two sees the other: checked under loom, no task is left waiting beside an idle CPU.

use core::sync::atomic::Ordering;
#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;
use numa::{AtomicCpuMask, CpuId};

/// A set of CPUs that all of them change at once.
pub trait Flags {
    /// Adds or removes a CPU.
    fn put(&self, cpu: CpuId, on: bool);
    /// Whether it is a member.
    fn has(&self, cpu: CpuId) -> bool;
    /// Whether there is no member.
    fn is_empty(&self) -> bool;
}

impl Flags for AtomicCpuMask {
    #[inline]
    fn put(&self, cpu: CpuId, on: bool) {
        if on {
            self.set(cpu, Ordering::Relaxed);
        } else {
            self.clear(cpu, Ordering::Relaxed);
        }
    }
    #[inline]
    fn has(&self, cpu: CpuId) -> bool {
        self.test(cpu, Ordering::Relaxed)
    }
    #[inline]
    fn is_empty(&self) -> bool {
        self.load(Ordering::Relaxed).is_empty()
    }
}

/// The masks of the CPUs that idle, and of those that are overloaded: more tasks than the running one.
#[derive(Debug)]
pub struct IdleMasks<F> {
    idle: F,
    overloaded: F,
}

impl<F: Flags> IdleMasks<F> {
    /// Of two empty sets.
    pub const fn new(idle: F, overloaded: F) -> Self {
        Self { idle, overloaded }
    }

    /// The CPUs that idle.
    #[inline]
    pub const fn idle(&self) -> &F {
        &self.idle
    }

    /// The CPUs on which tasks wait.
    #[inline]
    pub const fn overloaded(&self) -> &F {
        &self.overloaded
    }

    /// Sets both bits of `cpu`. Under its queue's lock. Writes only what changed: every CPU reads this.
    #[inline]
    pub fn update(&self, cpu: CpuId, idle: bool, overloaded: bool) {
        if self.idle.has(cpu) != idle {
            self.idle.put(cpu, idle);
        }
        if self.overloaded.has(cpu) != overloaded {
            self.overloaded.put(cpu, overloaded);
        }
    }

    /// Tells whether tasks wait anywhere: asked by a CPU that has just set its idle bit.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.overloaded.is_empty()
    }

    /// The CPUs that idle, as they are seen after a task has begun to wait, or may be taken.
    #[inline]
    pub fn idle_now(&self) -> &F {
        fence(Ordering::SeqCst);
        &self.idle
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::run_state::RunState;
    use loom::sync::atomic::{AtomicBool, AtomicU64};
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    struct Word(AtomicU64);

    impl Flags for Word {
        fn put(&self, cpu: CpuId, on: bool) {
            if on {
                self.0.fetch_or(1 << cpu.index(), Ordering::Relaxed);
            } else {
                self.0.fetch_and(!(1 << cpu.index()), Ordering::Relaxed);
            }
        }
        fn has(&self, cpu: CpuId) -> bool {
            self.0.load(Ordering::Relaxed) >> cpu.index() & 1 != 0
        }
        fn is_empty(&self) -> bool {
            self.0.load(Ordering::Relaxed) == 0
        }
    }

    const BUSY: CpuId = CpuId::new(0);
    const IDLER: CpuId = CpuId::new(1);

    /// A task on the busy CPU's queue, and a CPU that falls idle.
    struct World {
        idle_masks: IdleMasks<Word>,
        /// Whether the task waits there.
        queue: Mutex<bool>,
        task: RunState,
        /// The idler was told to look.
        told: AtomicBool,
    }

    fn world() -> Arc<World> {
        let empty = || Word(AtomicU64::new(0));
        Arc::new(World {
            idle_masks: IdleMasks::new(empty(), empty()),
            queue: Mutex::new(false),
            task: RunState::new(BUSY),
            told: AtomicBool::new(false),
        })
    }

    impl World {
        fn begins_to_wait(&self) {
            let mut waits = self.queue.lock().expect("no panic");
            *waits = true;
            self.idle_masks.update(BUSY, false, true);
        }
        fn offers(&self) {
            if !self.idle_masks.idle_now().is_empty() {
                self.told.store(true, Ordering::Relaxed);
            }
        }
        /// The idler's last look before it halts; true when it got the task.
        fn falls_idle(&self) -> bool {
            self.idle_masks.update(IDLER, true, false);
            self.idle_masks.is_overloaded() && {
                let mut waits = self.queue.lock().expect("no panic");
                self.task.is_off_cpu() && core::mem::take(&mut *waits)
            }
        }
    }

    #[test]
    fn a_task_that_came_to_a_busy_cpu_is_seen_by_one_that_falls_idle() {
        loom::model(|| {
            let world = world();
            let other = world.clone();
            let idler = thread::spawn(move || other.falls_idle());
            world.begins_to_wait();
            world.offers();
            let got = idler.join().expect("the idler");
            assert!(got || world.told.load(Ordering::Relaxed), "it waits beside an idle CPU");
        });
    }

    #[test]
    fn a_task_that_could_not_be_taken_yet_is_offered_when_it_can() {
        loom::model(|| {
            let world = world();
            world.task.set_on_cpu();
            let other = world.clone();
            let idler = thread::spawn(move || other.falls_idle());
            // Preempted: it waits, but its stack is in use for some more steps.
            world.begins_to_wait();
            world.task.clear_on_cpu();
            world.offers();
            let got = idler.join().expect("the idler");
            assert!(got || world.told.load(Ordering::Relaxed), "it waits beside an idle CPU");
        });
    }
}
