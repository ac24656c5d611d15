//! Futexes: waiting for a word of user memory to change.
//!
//! * [`key`]: which word is meant, for one process or for all that share it.
//! * [`table`]: who waits, in buckets with a lock each. [`wait`]: sleeping and waking.
//! * [`requeue`]: waking some and moving others; wake with an operation.
//! * [`pi`]: locks whose owner inherits the priority of who waits. [`robust`]: locks of the dead.
//!
//! A bucket's lock is held while the word is compared, so that no wake-up is lost. User memory is
//! only looked at under it if it is there: a page that is missing is made present without the lock,
//! and the comparison begins again.

pub mod key;
pub mod pi;
pub mod requeue;
pub mod robust;
pub mod table;
pub mod wait;

pub use robust::{on_exec, on_thread_exit};

/// The thread id in a lock's word.
pub const TID_MASK: u32 = 0x3fff_ffff;
/// Somebody waits in the kernel.
pub const WAITERS: u32 = 0x8000_0000;
/// The owner died without unlocking.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// All bits of a wait: woken by any wake.
pub const ANY: u32 = u32::MAX;
