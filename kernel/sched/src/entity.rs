//! A task as a run queue sees it.
//!
//! Each task has one [`Entity`], made with the task. Off the queue the task keeps it; enqueueing
//! moves it into the queue and dequeueing gives it back. Whoever holds a sleeping task's entity is
//! the one who may wake it. The box is what makes enqueueing free of allocation: it becomes the
//! tree's node.
//!
//! What a task carries besides is a [`QueueLink`]: where its entity is, so that a queue finds it
//! without searching. Only queues write it.

use crate::params::Params;
use crate::vtime::{VTime, scale};
use alloc::boxed::Box;
use core::cmp::Ordering;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use numa::CpuId;

/// What a queue holds for a task: a counted pointer to it.
pub trait Handle {
    /// The task's own queue link, the same for every handle to it.
    fn queue_link(&self) -> &QueueLink;
}

/// Where in a tree a node stands. Unique in its queue, because `turn` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Fair: the virtual deadline. Real-time: the lower, the higher the priority.
    pub(crate) first: VTime,
    /// Among equals, who comes first.
    pub(crate) turn: i64,
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.first.cmp(&other.first).then(self.turn.cmp(&other.turn))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Where an entity is, as its queue link says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Away,
    Running,
    Fair(Key),
    RealTime(Key),
}

/// Says in which queue a task's entity is, and where there.
///
/// Written by a queue's methods, so under that queue's lock; a reader without the lock sees a hint.
#[derive(Debug)]
pub struct QueueLink {
    /// The place's tag below, the queue's CPU above.
    place: AtomicU32,
    first: AtomicU64,
    turn: AtomicU64,
}

const AWAY: u32 = 0;
const RUNNING: u32 = 1;
const FAIR: u32 = 2;
const REAL_TIME: u32 = 3;
const TAG_BITS: u32 = 8;

impl Default for QueueLink {
    fn default() -> Self {
        Self::new()
    }
}

impl QueueLink {
    /// The queue link of a task that is on no queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { place: AtomicU32::new(AWAY), first: AtomicU64::new(0), turn: AtomicU64::new(0) }
    }

    /// The CPU on whose queue the task is, waiting or running; `None` when it is on none.
    #[must_use]
    pub fn queue(&self) -> Option<CpuId> {
        let place = self.place.load(Relaxed);
        match place & ((1 << TAG_BITS) - 1) {
            AWAY => None,
            _ => CpuId::try_new((place >> TAG_BITS) as usize),
        }
    }

    /// Whether the task is the one that its queue has running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.place.load(Relaxed) & ((1 << TAG_BITS) - 1) == RUNNING
    }

    pub(crate) fn place(&self) -> Place {
        let key = Key {
            first: VTime::from_bits(self.first.load(Relaxed)),
            turn: self.turn.load(Relaxed) as i64,
        };
        match self.place.load(Relaxed) & ((1 << TAG_BITS) - 1) {
            RUNNING => Place::Running,
            FAIR => Place::Fair(key),
            REAL_TIME => Place::RealTime(key),
            _ => Place::Away,
        }
    }

    pub(crate) fn write(&self, cpu: CpuId, place: Place) {
        let tag = match place {
            Place::Away => AWAY,
            Place::Running => RUNNING,
            Place::Fair(_) => FAIR,
            Place::RealTime(_) => REAL_TIME,
        };
        if let Place::Fair(key) | Place::RealTime(key) = place {
            self.first.store(key.first.bits(), Relaxed);
            self.turn.store(key.turn as u64, Relaxed);
        }
        self.place.store((cpu.index() as u32) << TAG_BITS | tag, Relaxed);
    }
}

/// What a queue has counted for a task, in the units of /proc/PID/schedstat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Nanoseconds on a CPU.
    pub ran: u64,
    /// Nanoseconds ready and waiting for one.
    pub waited: u64,
    /// How often it was put on a CPU.
    pub picked: u64,
}

/// A node of a queue's tree: a task's scheduling state, and while queued its handle.
pub(crate) struct Node<H> {
    pub(crate) handle: Option<H>,
    pub(crate) params: Params,
    pub(crate) stats: Stats,
    /// When it last began to wait.
    pub(crate) waits_since: u64,

    /// Virtual time had, on the queue's clock.
    pub(crate) vruntime: VTime,
    /// What the last charge left over, see [`crate::vtime::virtual_time`].
    pub(crate) carried: u64,
    pub(crate) deadline: VTime,
    /// Off the fair queue: how much virtual time it was owed when it left.
    pub(crate) lag: i64,
    /// The queue that it left, and that queue's virtual time then.
    pub(crate) left: Option<(CpuId, VTime)>,
    /// Off the queue and on its way to another: what was left to the deadline.
    pub(crate) to_deadline: Option<i64>,
    /// Was picked and has not had its slice: keeps the CPU while it is eligible.
    pub(crate) protected: bool,

    /// What is left of the turn under RR.
    pub(crate) turn_left: u64,

    pub(crate) key: Key,
    /// The least vruntime of this node and all below.
    pub(crate) least: VTime,
    /// A random number: above both children's. It keeps the tree shallow.
    pub(crate) height: u32,
    pub(crate) before: Link<H>,
    pub(crate) after: Link<H>,
}

pub(crate) type Link<H> = Option<Box<Node<H>>>;

impl<H> Node<H> {
    pub(crate) fn weight(&self) -> u64 {
        self.params.weight()
    }

    /// Changes the parameters of a node that no fair queue counts. What it is owed stays the same
    /// in real time.
    pub(crate) fn set_params(&mut self, params: Params) {
        let (old, new) = (self.weight(), params.weight());
        self.lag = scale(self.lag, old, new);
        let is_fair = params.class.rt_priority().is_none();
        let rest = self.to_deadline.filter(|_| is_fair);
        self.to_deadline = rest.map(|rest| scale(rest, old, new));
        self.params = params;
    }
}

/// A task's scheduling state, while it is on no queue.
pub struct Entity<H>(pub(crate) Box<Node<H>>);

impl<H> Entity<H> {
    /// The state of a task that has never run.
    #[must_use]
    pub fn new(params: Params) -> Self {
        let origin = Key { first: VTime::ZERO, turn: 0 };
        Self(Box::new(Node {
            handle: None,
            params,
            stats: Stats::default(),
            waits_since: 0,
            vruntime: VTime::ZERO,
            carried: 0,
            deadline: VTime::ZERO,
            lag: 0,
            left: None,
            to_deadline: None,
            protected: false,
            turn_left: 0,
            key: origin,
            least: VTime::ZERO,
            height: 0,
            before: None,
            after: None,
        }))
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.0.params
    }

    /// Changes the parameters of a task that is on no queue.
    pub fn set_params(&mut self, params: Params) {
        self.0.set_params(params);
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats
    }
}

impl<H> fmt::Debug for Entity<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entity")
            .field("params", &self.0.params)
            .field("lag", &self.0.lag)
            .field("stats", &self.0.stats)
            .finish_non_exhaustive()
    }
}
