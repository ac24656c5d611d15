//! Linux's user-space ABI (x86_64, 6.12) as types.
//!
//! Structures and constants come from `linux-raw-sys` (generated from the uapi headers) and are
//! re-exported as [`raw`]; what the kernel wants typed (errno values, flag sets, device numbers)
//! stands in the modules here. Nothing in this crate has behaviour beyond conversion.
#![no_std]
#![forbid(unsafe_code)]

pub mod doorbell;
mod errno;
pub mod flags;
pub mod uapi;

pub use errno::Errno;
/// The generated uapi bindings.
pub use linux_raw_sys as raw;

/// Result of everything that a system call can fail with.
pub type Result<T> = core::result::Result<T, Errno>;

/// Bytes in a base page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: usize = 12;
