//! Calls between CPUs: each posts what it wants run in a slot of its own and rings at the others.
//!
//! A CPU has one call on at a time; any number of CPUs call each other at once. Who waits for the
//! end of its call goes on serving others, so two that call each other both get there. Nothing is
//! queued or allocated: a call is a bit, by the caller's number, at each CPU that is to run it.
//! Checked under loom: each CPU asked runs each call once, and all have when the caller goes on.

use crate::cell::PostedCell;
#[cfg(not(loom))]
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One CPU's call slot (Linux: `call_single_data`): the job that it has posted, and who rang here.
/// For `64 * WORDS` CPUs.
pub struct CallSlot<J, const WORDS: usize> {
    job: PostedCell<Option<J>>,
    /// CPUs that have not run the job yet.
    left: AtomicUsize,
    /// CPUs that want theirs run here.
    callers: [AtomicU64; WORDS],
}

impl<J: Copy, const WORDS: usize> Default for CallSlot<J, WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<J: Copy, const WORDS: usize> CallSlot<J, WORDS> {
    /// Nothing posted, nobody rang.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            job: PostedCell::new(None),
            left: AtomicUsize::new(0),
            callers: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// Nothing posted, nobody rang.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            job: PostedCell::new(None),
            left: AtomicUsize::new(0),
            callers: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Posts a job for `count` CPUs. By this slot's CPU, whose last call has ended.
    pub fn post(&self, job: J, count: usize) {
        assert!(self.is_done(), "a CPU has one call on at a time");
        self.job.set(Some(job));
        self.left.store(count, Ordering::Relaxed);
    }

    /// Rings here for CPU `caller`, after it has posted.
    pub fn ring(&self, caller: usize) {
        self.callers[caller / 64].fetch_or(1 << (caller % 64), Ordering::Release);
    }

    /// One of the CPUs that the job posted here was for has run it.
    pub fn done_by_one(&self) {
        // Release: what the job did is there for the caller.
        self.left.fetch_sub(1, Ordering::Release);
    }

    /// Whether all have run the job.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Runs, with `run`, the jobs of all who rang here; `slot` finds theirs. By this slot's CPU.
    pub fn serve<'a>(&self, slot: impl Fn(usize) -> &'a Self, mut run: impl FnMut(J))
    where
        J: 'a,
    {
        for (word, callers) in self.callers.iter().enumerate() {
            if callers.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut rang = callers.swap(0, Ordering::Acquire);
            while rang != 0 {
                let caller = slot(word * 64 + rang.trailing_zeros() as usize);
                rang &= rang - 1;
                if let Some(job) = caller.job.get() {
                    run(job);
                }
                caller.done_by_one();
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use core::array::from_fn;
    use hal::requests::Requests;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    const CALL: u64 = 1;
    const OTHER: u64 = 2;

    /// CPUs with slots, pending words, an interrupt line each, and a mark for each job.
    struct Machine<const CPUS: usize> {
        slots: [CallSlot<usize, 1>; CPUS],
        pending: [Requests; CPUS],
        line: [AtomicBool; CPUS],
        ran: [[AtomicUsize; CPUS]; CPUS],
    }

    impl<const CPUS: usize> Machine<CPUS> {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                slots: from_fn(|_| CallSlot::new()),
                pending: from_fn(|_| Requests::new()),
                line: from_fn(|_| AtomicBool::new(false)),
                ran: from_fn(|_| from_fn(|_| AtomicUsize::new(0))),
            })
        }
        fn interrupt(&self, cpu: usize, what: u64) {
            if self.pending[cpu].ask(what) {
                self.line[cpu].swap(true, Ordering::AcqRel);
            }
        }
        /// What a CPU does when its interrupt line is up.
        fn look(&self, me: usize) {
            if self.line[me].load(Ordering::Acquire)
                && self.line[me].swap(false, Ordering::AcqRel)
                && self.pending[me].take() & 1 << CALL != 0
            {
                self.slots[me].serve(
                    |cpu| &self.slots[cpu],
                    |job| {
                        self.ran[job][me].fetch_add(1, Ordering::Relaxed);
                    },
                );
            }
        }
        fn ask(&self, me: usize, targets: &[usize]) {
            self.slots[me].post(me, targets.len());
            for &target in targets {
                self.slots[target].ring(me);
                self.interrupt(target, CALL);
            }
        }
        fn call(&self, me: usize, targets: &[usize]) {
            self.ask(me, targets);
            while !self.slots[me].is_done() {
                self.look(me);
                thread::yield_now();
            }
            for &target in targets {
                assert_eq!(self.ran[me][target].load(Ordering::Relaxed), 1);
            }
        }
    }

    #[test]
    fn two_that_call_each_other_both_get_there() {
        loom::model(|| {
            let machine = Machine::<2>::new();
            let other = machine.clone();
            let both = |machine: &Machine<2>, me: usize| {
                machine.call(me, &[1 - me]);
                // The other may still wait for this one.
                while machine.ran[1 - me][me].load(Ordering::Relaxed) == 0 {
                    machine.look(me);
                    thread::yield_now();
                }
            };
            let cpu = thread::spawn(move || both(&other, 1));
            both(&machine, 0);
            cpu.join().expect("the other CPU");
        });
    }

    #[test]
    fn a_second_call_meets_no_trace_of_the_first() {
        loom::model(|| {
            let machine = Machine::<2>::new();
            let other = machine.clone();
            let cpu = thread::spawn(move || {
                while other.ran[0][1].load(Ordering::Relaxed) < 2 {
                    other.look(1);
                    thread::yield_now();
                }
            });
            machine.call(0, &[1]);
            machine.ask(0, &[1]);
            while !machine.slots[0].is_done() {
                thread::yield_now();
            }
            assert_eq!(machine.ran[0][1].load(Ordering::Relaxed), 2);
            cpu.join().expect("the other CPU");
        });
    }

    #[test]
    fn several_callers_of_one_cpu_are_all_served() {
        loom::model(|| {
            let machine = Machine::<3>::new();
            // They do not wait: of several that spin loom lets some wait for ever.
            let callers = [1, 2].map(|me| {
                let machine = machine.clone();
                thread::spawn(move || machine.ask(me, &[0]))
            });
            // Another request in the same word brings no interrupt of its own.
            machine.interrupt(0, OTHER);
            while [1, 2].iter().any(|job| machine.ran[*job][0].load(Ordering::Relaxed) == 0) {
                machine.look(0);
                thread::yield_now();
            }
            for caller in callers {
                caller.join().expect("a caller");
            }
            for caller in [1, 2] {
                assert!(machine.slots[caller].is_done());
                assert_eq!(machine.ran[caller][0].load(Ordering::Relaxed), 1);
            }
        });
    }
}
