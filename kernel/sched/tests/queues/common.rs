//! Tasks and a simulated CPU for the tests of run queues.

use sched::{Class, Dequeue, Enqueue, Entity, FairKind, Handle, Nice, Params, QueueLink, RunQueue};
use std::sync::Arc;

/// A task: a number and a queue link.
pub struct Task {
    pub id: usize,
    queue_link: QueueLink,
}

#[derive(Clone)]
pub struct Ref(Arc<Task>);

impl Handle for Ref {
    fn queue_link(&self) -> &QueueLink {
        &self.0.queue_link
    }
}

impl Ref {
    pub fn new(id: usize) -> Self {
        Self(Arc::new(Task { id, queue_link: QueueLink::new() }))
    }

    pub fn id(&self) -> usize {
        self.0.id
    }
}

pub const MS: u64 = 1_000_000;

pub fn fair(nice: i32) -> Params {
    kind(FairKind::Normal, nice)
}

pub fn kind(kind: FairKind, nice: i32) -> Params {
    Params::new(Class::Fair { kind, nice: Nice::clamped(nice) }, 3 * MS)
}

pub fn fifo(priority: u8) -> Params {
    Params::new(Class::Fifo { priority }, 3 * MS)
}

pub fn round_robin(priority: u8) -> Params {
    Params::new(Class::RoundRobin { priority }, 3 * MS)
}

/// A CPU that obeys its queue: it reschedules when told to, and has a timer.
pub struct Cpu {
    pub queue: RunQueue<Ref>,
    pub now: u64,
    /// Off the queue: the tasks' entities.
    pub asleep: Vec<Option<Entity<Ref>>>,
    pub tasks: Vec<Ref>,
    pub switches: usize,
}

impl Cpu {
    pub fn new() -> Self {
        let queue = RunQueue::new(numa::CpuId::new(0));
        Self { queue, now: 0, asleep: vec![], tasks: vec![], switches: 0 }
    }

    /// Makes a task and lets it run.
    pub fn spawn(&mut self, params: Params) -> usize {
        let task = Ref::new(self.tasks.len());
        self.tasks.push(task);
        self.asleep.push(Some(Entity::new(params)));
        self.wake_as(self.tasks.len() - 1, Enqueue::New);
        self.tasks.len() - 1
    }

    pub fn wake(&mut self, id: usize) -> bool {
        self.wake_as(id, Enqueue::Wakeup)
    }

    fn wake_as(&mut self, id: usize, why: Enqueue) -> bool {
        let entity = self.asleep[id].take().expect("a sleeping task");
        let preempts = self.queue.enqueue(self.tasks[id].clone(), entity, why, self.now);
        if preempts {
            self.reschedule();
        }
        preempts
    }

    pub fn reschedule(&mut self) {
        let before = self.current();
        let _ = self.queue.pick_next(self.now);
        self.switches += usize::from(self.current() != before);
    }

    pub fn current(&self) -> Option<usize> {
        self.queue.current().map(Ref::id)
    }

    /// Puts the running task to sleep.
    pub fn sleep(&mut self) -> usize {
        let (task, entity) = self.queue.dequeue_current(Dequeue::Sleep, self.now).expect("a task");
        self.asleep[task.id()] = Some(entity);
        self.reschedule();
        task.id()
    }

    /// Lets time pass until `end`, with a timer where the queue wants one.
    pub fn run_until(&mut self, end: u64) {
        while self.now < end {
            let step = self.queue.next_tick(self.now).unwrap_or(u64::MAX).min(end - self.now);
            self.now += step;
            if self.queue.tick(self.now) {
                self.reschedule();
            }
        }
    }

    /// What each task has had of the CPU, in nanoseconds.
    pub fn ran(&mut self) -> Vec<u64> {
        self.queue.charge(self.now);
        let tasks = self.tasks.iter().zip(&self.asleep);
        let ran = tasks.map(|(task, asleep)| match asleep {
            Some(entity) => entity.stats().ran,
            None => self.queue.stats(task).expect("a task on the queue").0.ran,
        });
        ran.collect()
    }
}
