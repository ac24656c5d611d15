//! The machine: everything that touches registers, page tables, interrupts or raw memory.
//!
//! The only crate of the kernel that uses `unsafe` freely; what it exports is safe to call or says
//! in a `# Safety` section what the caller must hold. On the host (for tests of the crates above)
//! the same interfaces are backed by ordinary memory and threads: see the `host` module.
#![no_std]

#[cfg(not(target_os = "none"))]
extern crate std;

extern crate alloc;

pub mod addr;
pub mod clock;
pub mod dma;
pub mod firmware;
pub mod hmat;
pub mod irq;
pub mod memory_devices;
pub mod phys;
pub mod preempt;
pub mod requests;
pub mod room;
pub mod user;

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod x86;
#[cfg(target_os = "none")]
pub use x86::*;

pub use addr::{Pfn, PhysAddr, VirtAddr};
