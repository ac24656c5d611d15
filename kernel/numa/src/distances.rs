//! The distance matrix: how far memory of one node is from the CPUs of another.
//!
//! Values are those of the ACPI SLIT (ACPI 6.5, 5.2.17): 10 is a node to itself, larger is
//! farther, and the matrix need not be symmetric. Firmware's values are not trusted: what
//! [`Distances::validate`] refuses, Linux refuses too, and the caller falls back to
//! [`Distances::flat`].

use crate::ids::{MAX_NODES, NodeId};
use crate::mask::NodeMask;
use core::fmt;

/// The distance of a node to itself.
pub const LOCAL_DISTANCE: u8 = 10;

/// The distance between two nodes when firmware names none.
pub const REMOTE_DISTANCE: u8 = 20;

/// Why a matrix cannot be one of distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistanceError {
    /// A node is not at [`LOCAL_DISTANCE`] from itself.
    NotLocal(NodeId),
    /// Another node is no farther than the node itself.
    TooNear(NodeId, NodeId),
}

impl fmt::Display for DistanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLocal(node) => {
                write!(f, "node {node} is not at distance {LOCAL_DISTANCE} from itself")
            }
            Self::TooNear(from, to) => {
                write!(f, "distance from node {from} to {to} is not above {LOCAL_DISTANCE}")
            }
        }
    }
}

/// How far each node is from each other.
#[derive(Clone, PartialEq, Eq)]
pub struct Distances {
    rows: [[u8; MAX_NODES]; MAX_NODES],
}

impl Default for Distances {
    fn default() -> Self {
        Self::flat()
    }
}

impl Distances {
    /// Every other node at [`REMOTE_DISTANCE`]: what holds without a SLIT.
    #[must_use]
    pub const fn flat() -> Self {
        let mut rows = [[REMOTE_DISTANCE; MAX_NODES]; MAX_NODES];
        let mut node = 0;
        while node < MAX_NODES {
            rows[node][node] = LOCAL_DISTANCE;
            node += 1;
        }
        Self { rows }
    }

    /// Sets the distance from the CPUs of `from` to the memory of `to`, that way only.
    pub const fn set(&mut self, from: NodeId, to: NodeId, distance: u8) {
        self.rows[from.index()][to.index()] = distance;
    }

    /// The distance from the CPUs of `from` to the memory of `to`.
    #[must_use]
    #[inline]
    pub const fn get(&self, from: NodeId, to: NodeId) -> u8 {
        self.rows[from.index()][to.index()]
    }

    /// Whether the rows and columns of `nodes` can be distances.
    pub fn validate(&self, nodes: NodeMask) -> Result<(), DistanceError> {
        for from in nodes {
            for to in nodes {
                let distance = self.get(from, to);
                if from == to && distance != LOCAL_DISTANCE {
                    return Err(DistanceError::NotLocal(from));
                }
                if from != to && distance <= LOCAL_DISTANCE {
                    return Err(DistanceError::TooNear(from, to));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Distances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rows).finish()
    }
}
