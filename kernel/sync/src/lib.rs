//! Locks and waiting.
//!
//! * [`SpinLock`]: short critical sections of tasks; preemption is off while held. Never taken in
//!   interrupt context.
//! * [`IrqLock`]: the same for data that interrupt handlers also take; interrupts are off while
//!   held.
//! * [`Mutex`], [`RwLock`]: sleeping locks, for sections that allocate, copy user memory or wait.
//! * [`Once`]: a value made when it is first asked for.
//! * [`call`]: running a function on other CPUs.
//! * [`WaitQueue`]: waiting for a condition, with signals and deadlines.
//!
//! Sleeping, or touching user memory, while holding a spinning lock is a bug and panics; in a checked
//! kernel so does [`might_sleep`], which every way to sleep calls.
//! The scheduler above plugs in through [`hooks`].
#![no_std]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
extern crate std;

extern crate alloc;

pub mod call;
mod cell;
mod class;
pub mod contention;
pub mod hooks;
mod mutex;
mod once;
#[cfg(any(test, feature = "order"))]
pub mod order;
mod rwlock;
mod spinlock;
mod waitqueue;

pub use hooks::{Park, might_sleep};
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use spinlock::{IrqGuard, IrqLock, SpinGuard, SpinLock};
pub use waitqueue::{Notify, WaitError, WaitQueue, Watches};
