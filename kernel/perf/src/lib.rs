//! Performance events: what perf_event_open(2) means, with no machine in it.
//!
//! - [`attr`]: `struct perf_event_attr`, its sizes and which contents Linux refuses.
//! - [`counter`]: states and times of an event, periods, adaptation to a frequency, throttling.
//! - [`group`]: which groups are on the hardware now, and whose turn is next.
//! - [`record`]: the records of the ring buffer, byte for byte.
//! - [`ring`]: writing them where a reader follows behind, and counting what found no room.
//! - [`pmu`]: the counters of Intel's and AMD's cores behind a register interface.
//!
//! Locks, timers, tasks and memory are the kernel's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod attr;
pub mod counter;
pub mod group;
pub mod pmu;
pub mod record;
pub mod ring;
