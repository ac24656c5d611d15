//! How fast a node's memory is from the CPUs that are nearest to it.

use crate::ids::NodeId;

/// A node's memory as firmware describes it; what it does not say is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The node whose CPUs are nearest.
    pub initiator: NodeId,
    /// Nanoseconds, of reads and of writes.
    pub latency: [u32; 2],
    /// MB/s, of reads and of writes.
    pub bandwidth: [u32; 2],
}
