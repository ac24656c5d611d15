//! Keeps a task's run state: the words by which CPUs hand it to each other (Linux: `__state`, `on_cpu`,
//! `task_cpu`).
//!
//! - [`State`]: whether it sleeps, written by itself before it does and by who wakes it.
//! - *on a CPU*: from before it runs until its CPU has left its stack. Nobody else runs it before.
//! - *where*: the CPU whose queue it is on, was on last, or is about to come to.
//!
//! A sleeping task's entity lies in its *slot*, under a lock of the task's; a ready one's is in a
//! queue, under that queue's. The locks are the caller's, in this order. Checked under loom: no
//! wake-up is lost, no two CPUs use one stack, and whoever narrows a task's mask has seen it
//! gone when [`RunState::evict`] says so.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use numa::CpuId;

/// What a task is doing, as far as waking it is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// On a queue, or running.
    Runnable = 0,
    /// Sleeps until woken or signalled.
    Interruptible,
    /// Sleeps until woken.
    Uninterruptible,
    /// Stopped by a signal: only SIGCONT or SIGKILL wake it.
    Stopped,
    /// Stands still for its tracer, which wakes it, as SIGKILL does.
    Traced,
    /// Ended, waits for its parent (or for the reaper).
    Dead,
}

impl State {
    const fn from_u32(v: u32) -> Self {
        match v {
            0 => Self::Runnable,
            1 => Self::Interruptible,
            2 => Self::Uninterruptible,
            3 => Self::Stopped,
            4 => Self::Traced,
            _ => Self::Dead,
        }
    }

    /// The letter of /proc/PID/stat.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Runnable => 'R',
            Self::Interruptible => 'S',
            Self::Uninterruptible => 'D',
            Self::Stopped => 'T',
            Self::Traced => 't',
            Self::Dead => 'Z',
        }
    }
}

/// What came of waking a task.
#[derive(Debug, PartialEq, Eq)]
pub enum Woken<E> {
    /// It does not sleep, or not so that this wakes it.
    No,
    /// It was about to sleep, and will not.
    Awake,
    /// It slept: the waker puts it on a queue.
    Asleep(E),
}

/// What came of a look at a task that is to leave the CPUs that it may not use.
#[derive(Debug, PartialEq, Eq)]
pub enum Evicted<T> {
    /// It is on a CPU that it may use, or about to come to one.
    There(CpuId),
    /// It sleeps, and will wake on such a CPU.
    Asleep,
    /// It waited on one, and is now in the caller's hands.
    Taken(T),
    /// It runs there, or is in somebody's hands: have that CPU switch, and look again.
    NotYet(CpuId),
}

/// The run state of one task.
#[derive(Debug)]
pub struct RunState {
    state: AtomicU32,
    on_cpu: AtomicBool,
    cpu: AtomicU32,
}

impl RunState {
    /// Of a task that was made on `cpu` and has not been started.
    #[must_use]
    pub fn new(cpu: CpuId) -> Self {
        Self {
            state: AtomicU32::new(State::Uninterruptible as u32),
            on_cpu: AtomicBool::new(false),
            cpu: AtomicU32::new(cpu.index() as u32),
        }
    }

    /// What it is doing.
    #[inline]
    pub fn state(&self) -> State {
        State::from_u32(self.state.load(Ordering::Acquire))
    }

    /// Says that it is about to sleep (or to end), unless it is woken before the switch. What it
    /// looks at after this, such as the condition that it waits for, is newer than what a waker did
    /// who still found it awake.
    #[inline]
    pub fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Says that it goes on, having slept or not.
    #[inline]
    pub fn set_runnable(&self) {
        self.state.store(State::Runnable as u32, Ordering::Relaxed);
    }

    /// Wakes it if it sleeps (or is about to) in a state that `wakes` accepts. Under the lock of
    /// `slot`; what it waits for was changed, and a fence passed, before. `pause` is called while
    /// its last CPU still stands on its stack.
    #[inline]
    pub fn wake<E>(
        &self,
        slot: &mut Option<E>,
        wakes: impl Fn(State) -> bool,
        mut pause: impl FnMut(),
    ) -> Woken<E> {
        let woken = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| {
            (state != State::Runnable as u32 && wakes(State::from_u32(state)))
                .then_some(State::Runnable as u32)
        });
        if woken.is_err() {
            return Woken::No;
        }
        // Without its entity it is still on its queue: the switch, which looks at the state under
        // this lock, has not come, and will let it run on.
        let Some(entity) = slot.take() else { return Woken::Awake };
        while !self.is_off_cpu() {
            pause();
        }
        Woken::Asleep(entity)
    }

    /// Says that a CPU is about to run it: before it lets go of the queue that had it.
    #[inline]
    pub fn set_on_cpu(&self) {
        self.on_cpu.store(true, Ordering::Relaxed);
    }

    /// Says that its CPU has left its stack, and has saved all of it. Returns the state in which it was
    /// left: another CPU may run it from now on, and what it does there, such as to die, is that CPU's
    /// to see.
    #[inline]
    pub fn clear_on_cpu(&self) -> State {
        let left = self.state();
        self.on_cpu.store(false, Ordering::Release);
        left
    }

    /// No CPU stands on its stack. Under the lock of the queue on which it waits, or of its slot
    /// while its entity is there, that remains so; elsewhere it is a hint.
    #[inline]
    pub fn is_off_cpu(&self) -> bool {
        !self.on_cpu.load(Ordering::Acquire)
    }

    /// The CPU it is on, was on, or is coming to.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        CpuId::new(self.cpu.load(Ordering::Relaxed) as u16)
    }

    /// Locks the queue that the task, which is in the caller's hands, may go to: that of `first`, or
    /// of another CPU when it may not use that one (any more). Returns the CPU and its locked queue.
    /// `may` and `other` look at its mask under the mask's lock; `other` is asked without a queue's.
    #[inline]
    pub fn lock_allowed_queue<Q>(
        &self,
        first: CpuId,
        mut lock: impl FnMut(CpuId) -> Q,
        mut may: impl FnMut(CpuId) -> bool,
        mut other: impl FnMut() -> CpuId,
    ) -> (CpuId, Q) {
        let mut cpu = first;
        loop {
            let queue = lock(cpu);
            // The CPU is named before the mask is looked at, and who narrows the mask writes it
            // before looking where the task is: one of the two sees the other. The mask's lock
            // orders them.
            self.cpu.store(cpu.index() as u32, Ordering::Relaxed);
            if may(cpu) {
                return (cpu, queue);
            }
            drop(queue);
            cpu = other();
        }
    }

    /// One look at whether it has left the CPUs outside of its mask, which the caller has narrowed
    /// to what `may` says. `take` takes it off a CPU's queue if it waits there and its argument,
    /// called under that queue's lock, allows it; `asleep` says whether its slot is filled.
    #[inline]
    pub fn evict<T>(
        &self,
        may: impl FnOnce(CpuId) -> bool,
        take: impl FnOnce(CpuId, &dyn Fn() -> bool) -> Option<T>,
        asleep: impl FnOnce() -> bool,
    ) -> Evicted<T> {
        let at = self.cpu();
        if may(at) {
            return Evicted::There(at);
        }
        // One that was preempted waits already while its CPU still stands on its stack: it must
        // not come to another queue before that is over.
        if let Some(taken) = take(at, &|| self.is_off_cpu()) {
            return Evicted::Taken(taken);
        }
        if asleep() && self.is_off_cpu() {
            return Evicted::Asleep;
        }
        Evicted::NotYet(at)
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
