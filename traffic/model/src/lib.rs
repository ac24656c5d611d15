//! Where a program's memory traffic goes: what a QEMU plugin counts of it, and what follows.
//!
//! The plugin (`traffic/plugin`) calls [`recorder`] for every access of the measured program; the
//! host tool reads what it wrote ([`raw`]). Nothing here knows the emulator, and nothing but
//! [`zeroed`] uses `unsafe`.

#![deny(unsafe_code)]

pub mod advice;
pub mod bell;
pub mod cache;
pub mod contended;
pub mod directory;
pub mod estimate;
pub mod geometry;
pub mod hierarchy;
pub mod known;
pub mod pages;
pub mod ram;
pub mod raw;
pub mod recorder;
pub mod registry;
pub mod sums;
#[allow(unsafe_code, reason = "asks the allocator for zeroed memory")]
pub mod zeroed;
