//! One CPU's run queue: both classes, the running task, and the clock.
//!
//! Guarantees: the running task is the one that the last [`RunQueue::pick_next`] returned, and
//! stays in the queue's counts until it is dequeued; every method that takes `now` first charges
//! the running task up to then. Which CPU's queue a task belongs on, and the lock around all this,
//! are the caller's.

use crate::budget::Budget;
use crate::entity::{Entity, Handle, Key, Node, Place, Stats};
use crate::fair::{Best, Fair};
use crate::params::{Class, FairKind, MAX_RT_PRIORITY, Params};
use crate::tree::Tree;
use crate::vtime::VTime;
use alloc::boxed::Box;
use numa::CpuId;

/// Nanoseconds of a turn under SCHED_RR.
pub const RR_SLICE: u64 = 100_000_000;

/// Why a task comes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueue {
    /// It was just made.
    New,
    /// It slept.
    Wakeup,
    /// It was ready on another queue.
    Move,
}

/// Why the running task leaves its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dequeue {
    /// It sleeps or ends.
    Sleep,
    /// It stays ready, for another queue.
    Move,
}

/// The tasks of one CPU that are ready or running.
pub struct RunQueue<H> {
    cpu: CpuId,
    running: Option<Box<Node<H>>>,
    fair: Fair<H>,
    real_time: Tree<H>,
    budget: Budget,
    /// Until when the running task has been charged.
    charged: u64,
    /// The running fair task has had a slice since it was picked.
    slice_over: bool,
    load: u64,
    /// Numbers for keys: each next one at the end, and the last one before all.
    last_turn: i64,
    first_turn: i64,
}

impl<H: Handle> RunQueue<H> {
    /// The empty queue of `cpu`.
    #[must_use]
    pub const fn new(cpu: CpuId) -> Self {
        Self {
            cpu,
            running: None,
            fair: Fair::new(),
            real_time: Tree::new(),
            budget: Budget::new(),
            charged: 0,
            slice_over: false,
            load: 0,
            last_turn: 0,
            first_turn: 0,
        }
    }

    /// Whose queue this is.
    #[must_use]
    pub const fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// The task that runs; `None` when the CPU idles.
    #[must_use]
    pub fn current(&self) -> Option<&H> {
        self.running.as_ref()?.handle.as_ref()
    }

    /// The parameters of the running task.
    #[must_use]
    pub fn current_params(&self) -> Option<&Params> {
        self.running.as_ref().map(|node| &node.params)
    }

    /// How many tasks are ready, the running one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting() + usize::from(self.running.is_some())
    }

    /// Whether the CPU has nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tasks wait for the CPU: more than none is work to steal.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.fair.waiting.len() + self.real_time.len()
    }

    /// The weights of all ready tasks together.
    #[must_use]
    pub const fn load(&self) -> u64 {
        self.load
    }

    /// Nanoseconds that real-time tasks may still have while fair ones wait.
    #[must_use]
    pub fn real_time_left(&self, now: u64) -> u64 {
        self.budget.left(now)
    }

    /// Puts a task on the queue. True when it should preempt the running one: the caller then
    /// has the CPU reschedule.
    pub fn enqueue(&mut self, handle: H, entity: Entity<H>, why: Enqueue, now: u64) -> bool {
        self.charge(now);
        let mut node = entity.0;
        node.handle = Some(handle);
        node.waits_since = now;
        self.load += node.weight();
        match node.params.class.rt_priority() {
            Some(priority) => node.key = self.rt_key(priority, false),
            None => self.fair.join(&mut node, self.cpu, why),
        }
        let params = node.params;
        let key = self.wait(node);
        self.preempts(key, &params, now)
    }

    /// Takes the running task off the queue; [`Self::pick_next`] comes after.
    pub fn dequeue_current(&mut self, why: Dequeue, now: u64) -> Option<(H, Entity<H>)> {
        self.charge(now);
        let node = self.running.take()?;
        self.slice_over = false;
        self.part_with(node, why)
    }

    /// Takes a waiting task off the queue. `None` when it does not wait here: it runs, sleeps, or
    /// is on another queue, as its queue link says.
    pub fn remove(&mut self, handle: &H, now: u64) -> Option<(H, Entity<H>)> {
        self.charge(now);
        let node = self.take_waiting(handle)?;
        self.part_with(node, Dequeue::Move)
    }

    /// Chooses who runs next, the running task included, and makes it the running one. `None`:
    /// the CPU idles.
    pub fn pick_next(&mut self, now: u64) -> Option<&H> {
        self.charge(now);
        self.slice_over = false;
        let chosen = match self.choice(now) {
            Choice::Keep | Choice::Idle => None,
            Choice::Fair(key) => self.fair.waiting.remove(&key),
            Choice::RealTime(key) => self.real_time.remove(&key),
        };
        if let Some(mut chosen) = chosen {
            if let Some(mut before) = self.running.take() {
                before.waits_since = now;
                self.wait(before);
            }
            chosen.stats.waited += now.saturating_sub(chosen.waits_since);
            chosen.stats.picked += 1;
            if let Some(handle) = &chosen.handle {
                handle.queue_link().write(self.cpu, Place::Running);
            }
            if chosen.turn_left == 0 {
                chosen.turn_left = RR_SLICE;
            }
            self.running = Some(chosen);
        }
        let running = self.running.as_mut()?;
        running.protected = true;
        running.handle.as_ref()
    }

    /// Looks at the clock. True when the running task has had its time and another should run.
    pub fn tick(&mut self, now: u64) -> bool {
        self.charge(now);
        match &self.running {
            None => self.waiting() > 0,
            Some(node) if node.params.class.rt_priority().is_none() => {
                let real_time = matches!(self.choice(now), Choice::RealTime(_));
                real_time || self.slice_over && self.fair.waiting.len() > 0
            }
            Some(_) => self.choice(now) != Choice::Keep,
        }
    }

    /// In how many nanoseconds [`Self::tick`] has something to decide, if nothing else happens
    /// before; `None` when the running task (or idleness) may go on for ever.
    #[must_use]
    pub fn next_tick(&self, now: u64) -> Option<u64> {
        let running = self.running.as_deref()?;
        let real_time_waits = self.real_time.len() > 0;
        let fair_waits = self.fair.waiting.len() > 0;
        let (own, other) = match running.params.class {
            Class::Fair { .. } => (
                fair_waits.then(|| self.fair.slice_left(running)),
                real_time_waits.then(|| self.budget.until_next(now)),
            ),
            Class::Fifo { .. } | Class::RoundRobin { .. } => (
                (real_time_waits && matches!(running.params.class, Class::RoundRobin { .. }))
                    .then_some(running.turn_left),
                fair_waits.then(|| self.budget.left(now)),
            ),
        };
        let elapsed = now.saturating_sub(self.charged);
        let own = own.map(|time| time.saturating_sub(elapsed));
        own.into_iter().chain(other).min().map(|time| time.max(1))
    }

    /// The running task gives way: a fair one the rest of its slice, a real-time one its place
    /// before others of its priority.
    pub fn yield_current(&mut self, now: u64) {
        self.charge(now);
        let Some(mut node) = self.running.take() else { return };
        match node.params.class.rt_priority() {
            Some(priority) => node.key = self.rt_key(priority, false),
            None => self.fair.yield_slice(&mut node),
        }
        self.running = Some(node);
    }

    /// Gives a task on this queue, waiting or running, other parameters. `None` when it is not
    /// here; true when the CPU should reschedule.
    ///
    /// A real-time task whose priority falls goes before others of the new one, as on Linux.
    pub fn set_params(&mut self, handle: &H, params: Params, now: u64) -> Option<bool> {
        self.charge(now);
        if handle.queue_link().queue() != Some(self.cpu) {
            return None;
        }
        if handle.queue_link().is_running() {
            let mut node = self.running.take()?;
            self.change(&mut node, params);
            self.running = Some(node);
            return Some(self.choice(now) != Choice::Keep);
        }
        let mut node = self.take_waiting(handle)?;
        self.change(&mut node, params);
        let key = self.wait(node);
        Some(self.preempts(key, &params, now))
    }

    /// Takes off a waiting task that `may` accepts, for another CPU: a real-time one of the
    /// highest priority first, else the fair one that would have to wait longest here.
    pub fn steal(
        &mut self,
        now: u64,
        mut may: impl FnMut(&H, &Params) -> bool,
    ) -> Option<(H, Entity<H>)> {
        self.charge(now);
        let mut wanted =
            |node: &Node<H>| node.handle.as_ref().is_some_and(|handle| may(handle, &node.params));
        let key = self.real_time.find(false, &mut wanted).map(|node| node.key);
        let node = match key {
            Some(key) => self.real_time.remove(&key),
            None => {
                let key = self.fair.waiting.find(true, &mut wanted)?.key;
                self.fair.waiting.remove(&key)
            }
        };
        self.part_with(node?, Dequeue::Move)
    }

    /// Calls `look` on every waiting task, real-time ones first, until it returns true.
    pub fn any_waiting(&self, mut look: impl FnMut(&H, &Params) -> bool) -> bool {
        let mut wanted =
            |node: &Node<H>| node.handle.as_ref().is_some_and(|handle| look(handle, &node.params));
        self.real_time.find(false, &mut wanted).is_some()
            || self.fair.waiting.find(false, &mut wanted).is_some()
    }

    /// Counts the time since the last charge for the running task.
    pub fn charge(&mut self, now: u64) {
        let time = now.saturating_sub(self.charged);
        self.charged = self.charged.max(now);
        let Some(mut node) = self.running.take() else { return };
        node.stats.ran += time;
        match node.params.class {
            Class::Fair { .. } => self.slice_over |= self.fair.charge(&mut node, time),
            Class::Fifo { .. } => self.budget.charge(time, now),
            Class::RoundRobin { priority } => {
                self.budget.charge(time, now);
                node.turn_left = node.turn_left.saturating_sub(time);
                if node.turn_left == 0 {
                    node.turn_left = RR_SLICE;
                    node.key = self.rt_key(priority, false);
                }
            }
        }
        self.running = Some(node);
    }

    /// What has been counted for a task on this queue up to the last charge, and its parameters.
    /// `None` when it is not here.
    #[must_use]
    pub fn stats(&self, handle: &H) -> Option<(Stats, Params)> {
        if handle.queue_link().queue() != Some(self.cpu) {
            return None;
        }
        let node = match handle.queue_link().place() {
            Place::Running => self.running.as_deref(),
            Place::Fair(key) => self.fair.waiting.get(&key),
            Place::RealTime(key) => self.real_time.get(&key),
            Place::Away => None,
        }?;
        Some((node.stats, node.params))
    }
}

/// What [`RunQueue::pick_next`] would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Idle,
    Keep,
    Fair(Key),
    RealTime(Key),
}

impl<H: Handle> RunQueue<H> {
    fn choice(&self, now: u64) -> Choice {
        let running = self.running.as_deref();
        let real_time = running.filter(|node| node.params.class.rt_priority().is_some());
        let waits = self.real_time.first().map(|node| node.key);
        let has_real_time = real_time.is_some() || waits.is_some();
        if has_real_time && (self.fair.count() == 0 || self.budget.left(now) > 0) {
            return match (real_time, waits) {
                (Some(node), Some(key)) if key < node.key => Choice::RealTime(key),
                (None, Some(key)) => Choice::RealTime(key),
                _ => Choice::Keep,
            };
        }
        match self.fair.best(running.filter(|_| real_time.is_none())) {
            Best::Running => Choice::Keep,
            Best::Waiting(key) => Choice::Fair(key),
            Best::Nobody => Choice::Idle,
        }
    }

    /// Whether the waiting task at `key`, which just came or changed, should run at once.
    fn preempts(&mut self, key: Key, params: &Params, now: u64) -> bool {
        let Some(running) = self.running.as_deref_mut() else { return true };
        let Class::Fair { kind, .. } = params.class else {
            return self.choice(now) == Choice::RealTime(key);
        };
        let Class::Fair { kind: running_kind, .. } = running.params.class else {
            return self.budget.left(now) == 0;
        };
        if running_kind == FairKind::Idle && kind != FairKind::Idle {
            // The slice that it was promised does not count against others.
            running.protected = false;
            return true;
        }
        if kind != FairKind::Normal {
            return false;
        }
        if params.slice < running.params.slice && key.first < running.deadline {
            running.protected = false;
        }
        self.choice(now) == Choice::Fair(key)
    }

    fn change(&mut self, node: &mut Node<H>, params: Params) {
        let (old, new) = (node.weight(), params.weight());
        let was = node.params.class.rt_priority();
        if was.is_none() {
            self.fair.leave(node, self.cpu, Dequeue::Move);
        }
        self.load = self.load - old + new;
        node.set_params(params);
        match (params.class.rt_priority(), was) {
            (None, _) => self.fair.join(node, self.cpu, Enqueue::Move),
            (Some(now), Some(was)) if now == was => {}
            (Some(now), was) => node.key = self.rt_key(now, was.is_some_and(|was| now < was)),
        }
    }

    fn rt_key(&mut self, priority: u8, before_others: bool) -> Key {
        let rank = u64::from(MAX_RT_PRIORITY.saturating_sub(priority));
        let first = VTime::from_bits(rank);
        if before_others {
            self.first_turn -= 1;
            Key { first, turn: self.first_turn }
        } else {
            self.last_turn += 1;
            Key { first, turn: self.last_turn }
        }
    }

    /// Puts a counted task among those that wait, and returns where.
    fn wait(&mut self, mut node: Box<Node<H>>) -> Key {
        let is_fair = node.params.class.rt_priority().is_none();
        if is_fair {
            self.last_turn += 1;
            node.key = Key { first: node.deadline, turn: self.last_turn };
        }
        let key = node.key;
        let place = if is_fair { Place::Fair(key) } else { Place::RealTime(key) };
        if let Some(handle) = &node.handle {
            handle.queue_link().write(self.cpu, place);
        }
        if is_fair {
            self.fair.wait(node)
        } else {
            self.real_time.insert(node)
        }
        key
    }

    fn take_waiting(&mut self, handle: &H) -> Option<Box<Node<H>>> {
        if handle.queue_link().queue() != Some(self.cpu) {
            return None;
        }
        match handle.queue_link().place() {
            Place::Fair(key) => self.fair.waiting.remove(&key),
            Place::RealTime(key) => self.real_time.remove(&key),
            Place::Away | Place::Running => None,
        }
    }

    /// Takes a task that no longer waits or runs out of the counts.
    fn part_with(&mut self, mut node: Box<Node<H>>, why: Dequeue) -> Option<(H, Entity<H>)> {
        self.load -= node.weight();
        if node.params.class.rt_priority().is_none() {
            self.fair.leave(&mut node, self.cpu, why);
        }
        let handle = node.handle.take()?;
        handle.queue_link().write(self.cpu, Place::Away);
        Some((handle, Entity(node)))
    }
}
