//! Who runs next, and where: the scheduler's decisions, with no machine in them.
//!
//! - [`RunQueue`]: the tasks of one CPU. Real-time tasks by priority, then the fair class by
//!   EEVDF ("earliest eligible virtual deadline first", Stoica and Abdel-Wahab, 1995), as Linux
//!   6.12 has them. It charges time, picks, and says when a newcomer should preempt.
//! - [`Domains`]: which CPU a task goes to when it wakes or is born, from whom an idle CPU takes
//!   work, and when load is worth moving.
//!
//! A queue knows tasks through handles and moves their [`Entity`] in and out: no queue operation
//! allocates, so they may be called with interrupts off. A task's entity is either with the task
//! or in one queue; it cannot be in two. Locks, timers, interrupts and switching stacks are the
//! kernel's. All times are nanoseconds of a clock that does not go backwards.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod budget;
pub mod domains;
mod entity;
mod fair;
pub mod idle_masks;
mod params;
mod queue;
mod run_state;
mod tree;
mod vtime;

pub use domains::{Domains, Loads, Pull, Wish};
pub use entity::{Entity, Handle, QueueLink, Stats};
pub use idle_masks::IdleMasks;
pub use params::{Class, FairKind, MAX_RT_PRIORITY, Nice, Params, base_slice};
pub use queue::{Dequeue, Enqueue, RR_SLICE, RunQueue};
pub use run_state::{Evicted, RunState, State, Woken};
