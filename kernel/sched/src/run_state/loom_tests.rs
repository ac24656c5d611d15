//! A task, two CPUs and their queues: every order of what they do.

use super::*;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

/// One CPU's queue, as far as the one task is concerned.
#[derive(Default)]
struct Queue {
    waits: bool,
    runs: bool,
}

/// The task and the machine around it.
struct World {
    run_state: RunState,
    slot: Mutex<Option<()>>,
    queues: [Mutex<Queue>; 2],
    /// Bit N: it may use CPU N.
    mask: Mutex<u8>,
    condition: AtomicBool,
    /// CPU 0 is asked to switch.
    asked: AtomicBool,
    /// Its stack is saved: whoever runs it must see that.
    saved: AtomicBool,
}

const ZERO: CpuId = CpuId::new(0);
const ONE: CpuId = CpuId::new(1);

impl World {
    fn new(last: CpuId) -> Arc<Self> {
        Arc::new(Self {
            run_state: RunState::new(last),
            slot: Mutex::new(None),
            queues: [Mutex::default(), Mutex::default()],
            mask: Mutex::new(0b11),
            condition: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            saved: AtomicBool::new(true),
        })
    }

    /// As [`World::new`], with the task running on CPU 0.
    fn running() -> Arc<Self> {
        let world = Self::new(ZERO);
        world.run_state.set_runnable();
        world.set_on_cpu();
        world.queue(ZERO).runs = true;
        world
    }

    /// As [`World::new`], with the task asleep after it ran on CPU `last`.
    fn asleep(last: CpuId) -> Arc<Self> {
        let world = Self::new(last);
        *world.lock_slot() = Some(());
        world
    }

    fn queue(&self, cpu: CpuId) -> MutexGuard<'_, Queue> {
        self.queues[cpu.index()].lock().expect("no panic")
    }

    fn lock_slot(&self) -> MutexGuard<'_, Option<()>> {
        self.slot.lock().expect("no panic")
    }

    fn may(&self, cpu: CpuId) -> bool {
        *self.mask.lock().expect("no panic") >> cpu.index() & 1 != 0
    }

    /// Where it may run, the first CPU if possible.
    fn choose(&self) -> CpuId {
        if self.may(ZERO) { ZERO } else { ONE }
    }

    fn enqueue(&self, first: CpuId) {
        let lock = |cpu| self.queue(cpu);
        let (_, mut queue) =
            self.run_state.lock_allowed_queue(first, lock, |cpu| self.may(cpu), || self.choose());
        assert!(!queue.waits && !queue.runs, "it is in a queue already");
        queue.waits = true;
    }

    fn wake(&self, first: impl Fn() -> CpuId) -> bool {
        let mut slot = self.lock_slot();
        match self.run_state.wake(&mut slot, |_| true, thread::yield_now) {
            Woken::No => return false,
            Woken::Awake => {}
            Woken::Asleep(()) => self.enqueue(first()),
        }
        true
    }

    /// CPU 0 switches away from the task, if it sleeps, may not stay, or another is `preferred`.
    fn switch(&self, preferred: bool) {
        let mut forced_out = false;
        {
            let mut slot = self.lock_slot();
            let mut queue = self.queue(ZERO);
            assert!(queue.runs);
            if !preferred && self.run_state.state() != State::Runnable {
                queue.runs = false;
                *slot = Some(());
            } else if !self.may(ZERO) {
                queue.runs = false;
                forced_out = true;
            } else if preferred {
                queue.runs = false;
                queue.waits = true;
            } else {
                return;
            }
        }
        self.leave_stack();
        if forced_out {
            self.enqueue(self.choose());
        }
    }

    fn leave_stack(&self) {
        self.saved.store(true, Ordering::Relaxed);
        self.run_state.clear_on_cpu();
    }

    /// A CPU begins to run it.
    fn set_on_cpu(&self) {
        self.run_state.set_on_cpu();
        assert!(self.saved.load(Ordering::Relaxed), "it runs on a stack that is in use");
        self.saved.store(false, Ordering::Relaxed);
    }

    /// CPU 1 runs what waits in its queue; true when there was the task.
    fn run_on_one(&self) -> bool {
        let mut queue = self.queue(ONE);
        if !core::mem::take(&mut queue.waits) {
            return false;
        }
        queue.runs = true;
        self.set_on_cpu();
        true
    }

    /// Narrows the mask to CPU 1, and returns when the task has left CPU 0.
    fn bind_to_one(&self) {
        *self.mask.lock().expect("no panic") = 0b10;
        loop {
            let take = |at, off: &dyn Fn() -> bool| {
                let mut queue = self.queue(at);
                (off() && core::mem::take(&mut queue.waits)).then_some(())
            };
            let asleep = || self.lock_slot().is_some();
            match self.run_state.evict(|cpu| cpu == ONE, take, asleep) {
                Evicted::There(_) | Evicted::Asleep => break,
                Evicted::Taken(()) => {
                    self.enqueue(self.choose());
                    break;
                }
                Evicted::NotYet(at) => {
                    assert_eq!(at, ZERO);
                    self.asked.store(true, Ordering::Release);
                    thread::yield_now();
                }
            }
        }
        let there = self.queue(ZERO);
        assert!(!there.waits && !there.runs, "it is where it may not be");
    }
}

#[test]
fn a_wakeup_is_not_lost_however_late_the_sleeper_is() {
    loom::model(|| {
        let world = World::running();
        let other = world.clone();
        let waker = thread::spawn(move || {
            other.condition.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            other.wake(|| ONE);
            other.run_on_one()
        });
        world.run_state.set_state(State::Interruptible);
        if world.condition.load(Ordering::Relaxed) {
            world.run_state.set_runnable();
        } else {
            world.switch(false);
        }
        let moved = waker.join().expect("the waker");
        let stays = world.queue(ZERO).runs;
        assert!(moved != stays, "it runs on one of the two");
        assert!(world.lock_slot().is_none(), "it sleeps for ever");
    });
}

#[test]
fn of_two_wakers_one_wakes() {
    loom::model(|| {
        let world = World::asleep(ZERO);
        let other = world.clone();
        let waker = thread::spawn(move || other.wake(|| ONE));
        let mine = world.wake(|| ONE);
        let theirs = waker.join().expect("the waker");
        assert!(mine != theirs);
        assert!(world.run_on_one());
    });
}

#[test]
fn a_waiting_task_is_not_taken_off_a_stack_in_use() {
    loom::model(|| {
        let world = World::running();
        let other = world.clone();
        let thief = thread::spawn(move || {
            let mut queue = other.queue(ZERO);
            let got = other.run_state.is_off_cpu() && core::mem::take(&mut queue.waits);
            drop(queue);
            if got {
                other.enqueue(ONE);
                assert!(other.run_on_one());
            }
        });
        world.switch(true);
        thief.join().expect("the thief");
    });
}

#[test]
fn a_running_task_has_left_when_its_mask_was_narrowed() {
    let mut model = loom::model::Builder::new();
    // Both spin until the other has come further, in very many ways.
    model.preemption_bound = Some(3);
    model.check(|| {
        let world = World::running();
        let other = world.clone();
        let binder = thread::spawn(move || {
            other.bind_to_one();
            other.run_on_one();
        });
        // It switches when asked, or gives way on its own before.
        world.switch(true);
        if !world.queue(ONE).runs && world.queue(ZERO).waits {
            let mut queue = world.queue(ZERO);
            if core::mem::take(&mut queue.waits) {
                world.set_on_cpu();
                queue.runs = true;
                drop(queue);
                while !world.asked.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                world.switch(false);
            }
        }
        binder.join().expect("who narrows the mask");
    });
}

#[test]
fn a_waking_task_comes_to_no_cpu_that_was_just_forbidden() {
    // Woken to CPU 0: where it was, which is forbidden meanwhile, or from where it may stay.
    for last in [ZERO, ONE] {
        loom::model(move || {
            let world = World::asleep(last);
            let other = world.clone();
            let binder = thread::spawn(move || other.bind_to_one());
            assert!(world.wake(|| world.choose()));
            binder.join().expect("who narrows the mask");
            assert!(world.queue(ONE).waits, "it came to the CPU that was left");
        });
    }
}

#[test]
fn a_dead_task_is_freed_by_the_cpu_on_which_it_died() {
    loom::model(|| {
        let world = World::running();
        world.run_state.set_state(State::Interruptible);
        let other = world.clone();
        // It was woken, and comes to CPU 1 as soon as it may.
        let dies = thread::spawn(move || {
            while !other.run_state.is_off_cpu() {
                thread::yield_now();
            }
            other.run_state.set_runnable();
            other.run_state.set_on_cpu();
            other.run_state.set_state(State::Dead);
            other.run_state.clear_on_cpu()
        });
        assert_eq!(world.run_state.clear_on_cpu(), State::Interruptible);
        assert_eq!(dies.join().expect("CPU 1"), State::Dead);
    });
}
