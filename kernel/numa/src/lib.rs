//! Nodes, distances and memory policies: every NUMA decision of the kernel, with no machine in it.
//!
//! - [`ids`] and [`mask`]: what a node and a CPU are called, and sets of them;
//! - [`access`]: how fast a node's memory is;
//! - [`machine`]: which nodes there are, what they have, and in which order each falls back;
//! - [`policy`]: what set_mempolicy(2), mbind(2) and migrate_pages(2) decide.
//!
//! Everything here is plain data and arithmetic: the same arguments give the same answer on the
//! host, where the tests run, as in the kernel. Frames, page tables and locks are the callers'.
#![no_std]
#![forbid(unsafe_code)]

pub mod access;
pub mod distances;
pub mod fallback;
pub mod ids;
pub mod machine;
pub mod mask;
pub mod policy;
pub mod text;

pub use access::Access;
pub use distances::{Distances, LOCAL_DISTANCE, REMOTE_DISTANCE};
pub use fallback::FallbackOrder;
pub use ids::{CpuId, MAX_CPUS, MAX_NODES, NodeId};
pub use machine::{Machine, MachineError};
pub use mask::{AtomicCpuMask, CpuMask, NodeMask};
