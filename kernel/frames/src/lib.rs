//! Physical memory: who owns each frame, and how frames are had and given back.
//!
//! * [`meta`]: 32 bytes about every frame, on the frame's own node.
//! * [`buddy`]: the allocator of one node.
//! * [`node`]: a node's memory: its buddy, the per-CPU caches in front of it, the counters.
//! * [`hugetlb`]: pools of huge pages, per node; [`compound`]: transparent ones.
//! * [`heap`]: the kernel's own objects; [`fallible`]: those made for users.
//! * [`faults`]: allocations that fail on request.
//! * [`dma`]: frames for devices.
//! * [`relief`]: what happens when it is out.
//! * [`boot`]: memory before there is an allocator.
//!
//! A frame always comes from a named node: there is no "any". Which node, and what to do when it
//! is full, is decided above ([`numa`]'s placements).
#![no_std]
#![deny(unsafe_code)]

#[cfg(not(target_os = "none"))]
extern crate std;

extern crate alloc;

pub mod boot;
pub mod buddy;
pub mod compound;
pub mod dma;
pub mod fallible;
pub mod faults;
pub mod heap;
pub mod hugetlb;
pub mod meta;
pub mod node;
mod page;
pub mod refs;
pub mod relief;
mod vmalloc;

pub use meta::{Frame, Kind, Reason, frame};
pub use node::{Usage, alloc, alloc_one, free, free_one, node, stats};
pub use page::Page;

/// Largest block: 2^10 frames = 4 MiB.
pub const MAX_ORDER: u32 = 10;
