//! The machine as NUMA code sees it: nodes, which have CPUs and memory, and how far they are apart.
//!
//! Built once at boot from what ACPI says, and never changed: everything that the hot paths ask
//! (a CPU's node, a node's fallback order) is a table look-up. Which of these nodes a task may
//! use is not known here.

use crate::distances::{DistanceError, Distances};
use crate::fallback::{self, FallbackOrder};
use crate::ids::{CpuId, MAX_CPUS, MAX_NODES, NodeId};
use crate::mask::{CpuMask, NodeMask};
use core::fmt;

/// Why a description cannot be a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// No node has memory.
    NoMemory,
    /// The matrix has impossible values.
    Distance(DistanceError),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no node has memory"),
            Self::Distance(error) => error.fmt(f),
        }
    }
}

/// Nodes, CPUs, memory and distances. About 11 KiB: keep it in a static.
#[derive(Clone, Debug)]
pub struct Machine {
    nodes: NodeMask,
    memory: NodeMask,
    with_cpus: NodeMask,
    cpus: CpuMask,
    node_of_cpu: [NodeId; MAX_CPUS],
    cpus_of_node: [CpuMask; MAX_NODES],
    distances: Distances,
    fallback: [FallbackOrder; MAX_NODES],
}

impl Machine {
    /// A machine whose memory lies on the nodes of `memory` and whose CPUs are on the nodes that
    /// `cpus` says. A node is present when it has either or is in `empty` (a node that firmware
    /// names without giving it anything). CPUs not listed count as being on the first node.
    pub fn new(
        memory: NodeMask,
        cpus: impl IntoIterator<Item = (CpuId, NodeId)>,
        empty: NodeMask,
        distances: &Distances,
    ) -> Result<Self, MachineError> {
        if memory.is_empty() {
            return Err(MachineError::NoMemory);
        }
        let mut machine = Self {
            nodes: memory | empty,
            memory,
            with_cpus: NodeMask::EMPTY,
            cpus: CpuMask::EMPTY,
            node_of_cpu: [NodeId::new(0); MAX_CPUS],
            cpus_of_node: [CpuMask::EMPTY; MAX_NODES],
            distances: distances.clone(),
            fallback: [FallbackOrder::EMPTY; MAX_NODES],
        };
        for (cpu, node) in cpus {
            machine.place(cpu, node);
        }
        machine.distances.validate(machine.nodes).map_err(MachineError::Distance)?;
        fallback::build(machine.nodes, memory, &machine.distances, &mut machine.fallback);
        Ok(machine)
    }

    /// The machine of one node: what remains when firmware's tables cannot be used.
    #[must_use]
    pub fn single_node(cpus: CpuMask) -> Self {
        let node = NodeId::new(0);
        let mut machine = Self {
            nodes: NodeMask::single(node),
            memory: NodeMask::single(node),
            with_cpus: NodeMask::EMPTY,
            cpus: CpuMask::EMPTY,
            node_of_cpu: [node; MAX_CPUS],
            cpus_of_node: [CpuMask::EMPTY; MAX_NODES],
            distances: Distances::flat(),
            fallback: [FallbackOrder::EMPTY; MAX_NODES],
        };
        for cpu in cpus {
            machine.place(cpu, node);
        }
        fallback::build(machine.nodes, machine.memory, &machine.distances, &mut machine.fallback);
        machine
    }

    /// Puts `cpu` on `node`; said twice, the last word counts.
    fn place(&mut self, cpu: CpuId, node: NodeId) {
        let before = self.node_of_cpu[cpu.index()];
        if self.cpus_of_node[before.index()].remove(cpu)
            && self.cpus_of_node[before.index()].is_empty()
        {
            self.with_cpus.remove(before);
        }
        self.nodes.insert(node);
        self.with_cpus.insert(node);
        self.cpus.insert(cpu);
        self.cpus_of_node[node.index()].insert(cpu);
        self.node_of_cpu[cpu.index()] = node;
    }

    /// The nodes that are there, with or without memory or CPUs.
    #[must_use]
    #[inline]
    pub const fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// The nodes with memory (Linux's N_MEMORY).
    #[must_use]
    #[inline]
    pub const fn memory_nodes(&self) -> NodeMask {
        self.memory
    }

    /// The nodes with CPUs (Linux's N_CPU).
    #[must_use]
    #[inline]
    pub const fn cpu_nodes(&self) -> NodeMask {
        self.with_cpus
    }

    /// The CPUs that are there.
    #[must_use]
    #[inline]
    pub const fn cpus(&self) -> CpuMask {
        self.cpus
    }

    /// One more than the highest node number (Linux's nr_node_ids).
    #[must_use]
    pub fn node_ids(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.index() + 1)
    }

    /// One more than the highest CPU number (Linux's nr_cpu_ids).
    #[must_use]
    pub fn cpu_ids(&self) -> usize {
        self.cpus.last().map_or(0, |cpu| cpu.index() + 1)
    }

    /// The node of `cpu`.
    #[must_use]
    #[inline]
    pub const fn node_of(&self, cpu: CpuId) -> NodeId {
        self.node_of_cpu[cpu.index()]
    }

    /// The CPUs of `node`.
    #[must_use]
    #[inline]
    pub const fn cpus_of(&self, node: NodeId) -> CpuMask {
        self.cpus_of_node[node.index()]
    }

    /// How far the nodes are from each other.
    #[must_use]
    #[inline]
    pub const fn distances(&self) -> &Distances {
        &self.distances
    }

    /// The distance from the CPUs of `from` to the memory of `to`.
    #[must_use]
    #[inline]
    pub const fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        self.distances.get(from, to)
    }

    /// The nodes with memory in the order in which `node` falls back to them, itself first when
    /// it has memory. Empty only for a node that is not there.
    #[must_use]
    #[inline]
    pub const fn fallback(&self, node: NodeId) -> &FallbackOrder {
        &self.fallback[node.index()]
    }
}
