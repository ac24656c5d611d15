//! File contents in memory: the memory objects of the layer below.

pub use vm::{MemObject, ObjectKind};
