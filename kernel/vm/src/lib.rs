//! Virtual memory: address spaces, shared memory objects, faults, policies on ranges, migration.
//!
//! * [`vma`], [`tree`]: what is mapped where; pure, tested against a page-by-page map.
//! * [`mm`]: an address space and its page tables ([`table`]); [`tlb`]: flushing them elsewhere.
//! * [`object`]: memory that several address spaces share.
//! * [`fault`], [`map`], [`remap`], [`protect`], [`advice`], [`fork`]: the operations.
//! * [`place`]: the frame for a page, from the node that its policy names.
//! * [`mempolicy`], [`migrate`], [`movepages`]: policies on ranges and pages that move; [`compact`]:
//!   pages that move together.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
extern crate std;

extern crate alloc;

#[cfg(any(target_os = "none", test))]
mod batch;
pub mod commit;
#[cfg(any(target_os = "none", test))]
pub mod compact;
pub mod env;
pub mod flush;
mod gaps;
#[cfg(any(target_os = "none", test))]
mod hold;
pub mod home;
pub mod hugetlb;
pub mod object;
mod tree;
pub mod vma;

#[cfg(target_os = "none")]
pub mod advice;
#[cfg(target_os = "none")]
pub mod fault;
#[cfg(target_os = "none")]
pub mod fork;
#[cfg(target_os = "none")]
pub mod map;
#[cfg(target_os = "none")]
pub mod mempolicy;
#[cfg(target_os = "none")]
pub mod migrate;
#[cfg(target_os = "none")]
pub mod mm;
#[cfg(target_os = "none")]
pub mod movepages;
pub mod place;
#[cfg(target_os = "none")]
pub mod protect;
#[cfg(target_os = "none")]
pub mod referenced;
#[cfg(target_os = "none")]
pub mod remap;
#[cfg(target_os = "none")]
pub mod remote;
pub mod shared_policy;
#[cfg(target_os = "none")]
pub mod show;
#[cfg(target_os = "none")]
mod sweep;
#[cfg(target_os = "none")]
pub mod table;
#[cfg(target_os = "none")]
pub mod tlb;
pub mod transparent;

#[cfg(target_os = "none")]
pub use mm::Mm;
pub use object::{MemObject, ObjectKind};
pub use tree::VmaTree;
pub use vma::{MappedFile, Vma, VmaFlags};

/// Bytes in a page, as the address type's integer.
pub const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Bytes in a huge page: what one entry of a table of the second level maps.
pub const HUGE: u64 = frames::hugetlb::SIZE;
