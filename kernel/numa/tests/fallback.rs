//! Fallback orders against those that Linux 6.12 printed when it booted on the same machines
//! ("Fallback order for Node 0: ..."), and against what must hold on any machine.

use numa::{CpuId, Distances, FallbackOrder, Machine, MachineError, NodeId, NodeMask};
use proptest::prelude::*;

/// A machine in Linux's node numbers, and the order that Linux gave each node.
struct Case {
    name: &'static str,
    memory: &'static [u16],
    cpus: &'static [u16],
    distances: &'static [&'static [u8]],
    orders: &'static [&'static [u16]],
}

const LINUX: &[Case] = &[
    Case {
        name: "a ring of four",
        memory: &[0, 1, 2, 3],
        cpus: &[0, 1, 2, 3],
        distances: &[&[10, 20, 30, 20], &[20, 10, 20, 30], &[30, 20, 10, 20], &[20, 30, 20, 10]],
        orders: &[&[0, 1, 3, 2], &[1, 2, 0, 3], &[2, 3, 1, 0], &[3, 0, 2, 1]],
    },
    Case {
        name: "four nodes without a SLIT",
        memory: &[0, 1, 2, 3],
        cpus: &[0, 1, 2, 3],
        distances: &[&[10, 20, 20, 20], &[20, 10, 20, 20], &[20, 20, 10, 20], &[20, 20, 20, 10]],
        orders: &[&[0, 1, 2, 3], &[1, 2, 3, 0], &[2, 3, 0, 1], &[3, 0, 1, 2]],
    },
    Case {
        name: "eight nodes without a SLIT",
        memory: &[0, 1, 2, 3, 4, 5, 6, 7],
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7],
        distances: &[
            &[10, 20, 20, 20, 20, 20, 20, 20],
            &[20, 10, 20, 20, 20, 20, 20, 20],
            &[20, 20, 10, 20, 20, 20, 20, 20],
            &[20, 20, 20, 10, 20, 20, 20, 20],
            &[20, 20, 20, 20, 10, 20, 20, 20],
            &[20, 20, 20, 20, 20, 10, 20, 20],
            &[20, 20, 20, 20, 20, 20, 10, 20],
            &[20, 20, 20, 20, 20, 20, 20, 10],
        ],
        orders: &[
            &[0, 1, 2, 3, 4, 5, 6, 7],
            &[1, 2, 3, 4, 5, 6, 7, 0],
            &[2, 3, 4, 5, 6, 7, 0, 1],
            &[3, 4, 5, 6, 7, 0, 1, 2],
            &[4, 5, 6, 7, 0, 1, 2, 3],
            &[5, 6, 7, 0, 1, 2, 3, 4],
            &[6, 7, 0, 1, 2, 3, 4, 5],
            &[7, 0, 1, 2, 3, 4, 5, 6],
        ],
    },
    Case {
        name: "a ring of eight",
        memory: &[0, 1, 2, 3, 4, 5, 6, 7],
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7],
        distances: &[
            &[10, 20, 30, 40, 50, 40, 30, 20],
            &[20, 10, 20, 30, 40, 50, 40, 30],
            &[30, 20, 10, 20, 30, 40, 50, 40],
            &[40, 30, 20, 10, 20, 30, 40, 50],
            &[50, 40, 30, 20, 10, 20, 30, 40],
            &[40, 50, 40, 30, 20, 10, 20, 30],
            &[30, 40, 50, 40, 30, 20, 10, 20],
            &[20, 30, 40, 50, 40, 30, 20, 10],
        ],
        orders: &[
            &[0, 1, 7, 2, 6, 3, 5, 4],
            &[1, 2, 0, 7, 3, 6, 4, 5],
            &[2, 3, 1, 4, 0, 5, 7, 6],
            &[3, 4, 2, 5, 1, 6, 0, 7],
            &[4, 5, 3, 6, 2, 7, 1, 0],
            &[5, 6, 4, 7, 3, 0, 2, 1],
            &[6, 7, 5, 0, 4, 1, 3, 2],
            &[7, 0, 6, 1, 5, 2, 4, 3],
        ],
    },
    Case {
        name: "two sockets of four nodes",
        memory: &[0, 1, 2, 3, 4, 5, 6, 7],
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7],
        distances: &[
            &[10, 12, 12, 12, 32, 32, 32, 32],
            &[12, 10, 12, 12, 32, 32, 32, 32],
            &[12, 12, 10, 12, 32, 32, 32, 32],
            &[12, 12, 12, 10, 32, 32, 32, 32],
            &[32, 32, 32, 32, 10, 12, 12, 12],
            &[32, 32, 32, 32, 12, 10, 12, 12],
            &[32, 32, 32, 32, 12, 12, 10, 12],
            &[32, 32, 32, 32, 12, 12, 12, 10],
        ],
        orders: &[
            &[0, 1, 2, 3, 4, 5, 6, 7],
            &[1, 2, 3, 0, 5, 6, 7, 4],
            &[2, 3, 0, 1, 6, 7, 4, 5],
            &[3, 0, 1, 2, 7, 4, 5, 6],
            &[4, 5, 6, 7, 0, 1, 2, 3],
            &[5, 6, 7, 4, 1, 2, 3, 0],
            &[6, 7, 4, 5, 2, 3, 0, 1],
            &[7, 4, 5, 6, 3, 0, 1, 2],
        ],
    },
    Case {
        name: "two of five nodes without memory",
        memory: &[0, 2, 4],
        cpus: &[0, 1, 2, 3, 4],
        distances: &[
            &[10, 20, 20, 20, 20],
            &[20, 10, 20, 20, 20],
            &[20, 20, 10, 20, 20],
            &[20, 20, 20, 10, 20],
            &[20, 20, 20, 20, 10],
        ],
        orders: &[&[0, 2, 4], &[4, 2, 0], &[2, 4, 0], &[4, 0, 2], &[4, 0, 2]],
    },
    Case {
        name: "two of four nodes without CPUs",
        memory: &[0, 1, 2, 3],
        cpus: &[0, 1],
        distances: &[&[10, 20, 20, 20], &[20, 10, 20, 20], &[20, 20, 10, 20], &[20, 20, 20, 10]],
        orders: &[&[0, 1, 2, 3], &[1, 2, 3, 0], &[2, 3, 0, 1], &[3, 0, 1, 2]],
    },
    Case {
        name: "two of five without CPUs, 20 or 21 apart",
        memory: &[0, 1, 2, 3, 4],
        cpus: &[0, 1, 2],
        distances: &[
            &[10, 20, 21, 21, 21],
            &[20, 10, 21, 21, 21],
            &[21, 21, 10, 20, 20],
            &[21, 21, 20, 10, 20],
            &[21, 21, 20, 20, 10],
        ],
        orders: &[
            &[0, 1, 2, 3, 4],
            &[1, 0, 3, 4, 2],
            &[2, 4, 3, 0, 1],
            &[3, 4, 2, 1, 0],
            &[4, 2, 3, 0, 1],
        ],
    },
    Case {
        name: "eight nodes, asymmetric",
        memory: &[0, 1, 2, 3, 4, 5, 6, 7],
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7],
        distances: &[
            &[10, 21, 20, 22, 20, 30, 30, 30],
            &[30, 10, 21, 20, 30, 20, 30, 30],
            &[20, 30, 10, 22, 21, 20, 22, 20],
            &[20, 20, 20, 10, 30, 21, 30, 20],
            &[21, 30, 30, 21, 10, 22, 21, 21],
            &[30, 22, 20, 30, 20, 10, 21, 22],
            &[20, 22, 30, 21, 22, 22, 10, 30],
            &[30, 20, 30, 21, 30, 30, 21, 10],
        ],
        orders: &[
            &[0, 2, 4, 1, 3, 5, 6, 7],
            &[1, 3, 5, 2, 4, 6, 7, 0],
            &[2, 7, 5, 0, 4, 6, 3, 1],
            &[3, 7, 0, 5, 1, 2, 6, 4],
            &[4, 6, 7, 0, 3, 5, 2, 1],
            &[5, 4, 2, 6, 7, 1, 0, 3],
            &[6, 0, 3, 1, 4, 5, 7, 2],
            &[7, 1, 3, 6, 0, 2, 4, 5],
        ],
    },
    Case {
        name: "eight asymmetric nodes, two without memory, two without CPUs",
        memory: &[0, 2, 4, 5, 6, 7],
        cpus: &[0, 1, 2, 3, 4, 5],
        distances: &[
            &[10, 20, 20, 21, 20, 21, 20, 21],
            &[20, 10, 20, 21, 21, 21, 20, 21],
            &[21, 20, 10, 20, 20, 20, 20, 20],
            &[21, 20, 21, 10, 20, 21, 20, 21],
            &[21, 21, 21, 20, 10, 21, 21, 21],
            &[20, 21, 21, 21, 21, 10, 21, 21],
            &[21, 20, 20, 21, 21, 21, 10, 21],
            &[21, 21, 20, 21, 20, 21, 21, 10],
        ],
        orders: &[
            &[0, 2, 4, 6, 5, 7],
            &[6, 2, 0, 4, 7, 5],
            &[2, 7, 4, 5, 6, 0],
            &[4, 6, 5, 7, 0, 2],
            &[4, 6, 7, 5, 0, 2],
            &[5, 0, 7, 6, 2, 4],
            &[6, 2, 7, 0, 4, 5],
            &[7, 2, 4, 0, 5, 6],
        ],
    },
    Case {
        name: "ten nodes, asymmetric",
        memory: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        cpus: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        distances: &[
            &[10, 19, 21, 21, 19, 20, 21, 20, 21, 21],
            &[19, 10, 21, 19, 20, 20, 21, 19, 19, 21],
            &[20, 21, 10, 21, 20, 20, 21, 19, 19, 21],
            &[19, 21, 20, 10, 21, 19, 21, 19, 19, 21],
            &[19, 20, 19, 20, 10, 20, 21, 21, 20, 21],
            &[20, 20, 21, 21, 20, 10, 19, 20, 19, 19],
            &[19, 20, 19, 20, 21, 20, 10, 21, 20, 20],
            &[21, 20, 21, 20, 21, 21, 20, 10, 21, 19],
            &[20, 21, 19, 20, 21, 21, 21, 19, 10, 21],
            &[20, 21, 21, 21, 19, 21, 21, 19, 21, 10],
        ],
        orders: &[
            &[0, 1, 4, 5, 7, 2, 3, 6, 8, 9],
            &[1, 3, 7, 8, 0, 4, 5, 6, 9, 2],
            &[2, 7, 8, 4, 5, 0, 9, 3, 6, 1],
            &[3, 8, 5, 7, 0, 2, 6, 9, 4, 1],
            &[4, 0, 5, 8, 2, 1, 3, 7, 9, 6],
            &[5, 8, 9, 6, 7, 0, 1, 4, 3, 2],
            &[6, 0, 9, 8, 2, 1, 3, 5, 7, 4],
            &[7, 9, 3, 6, 8, 1, 0, 4, 5, 2],
            &[8, 2, 7, 0, 3, 9, 4, 5, 6, 1],
            &[9, 4, 7, 0, 5, 6, 3, 8, 1, 2],
        ],
    },
];

fn distances(rows: &[impl AsRef<[u8]>]) -> Distances {
    let mut distances = Distances::flat();
    for (from, row) in rows.iter().enumerate() {
        for (to, distance) in row.as_ref().iter().enumerate() {
            distances.set(NodeId::new(from as u16), NodeId::new(to as u16), *distance);
        }
    }
    distances
}

fn mask(nodes: &[u16]) -> NodeMask {
    nodes.iter().map(|n| NodeId::new(*n)).collect()
}

fn numbers(order: &FallbackOrder) -> Vec<u16> {
    order.iter().map(|node| node.index() as u16).collect()
}

#[test]
fn orders_are_those_that_linux_prints() {
    for case in LINUX {
        let cpus = case.cpus.iter().enumerate();
        let cpus = cpus.map(|(cpu, node)| (CpuId::new(cpu as u16), NodeId::new(*node)));
        let distances = distances(case.distances);
        let machine = Machine::new(mask(case.memory), cpus, NodeMask::EMPTY, &distances).unwrap();
        for (node, order) in case.orders.iter().enumerate() {
            let ours = numbers(machine.fallback(NodeId::new(node as u16)));
            assert_eq!(ours, *order, "{}: node {node}", case.name);
        }
    }
}

#[test]
fn a_machine_knows_its_parts() {
    let cpus = [(0, 1), (1, 1), (2, 3), (1, 3)].map(|(c, n)| (CpuId::new(c), NodeId::new(n)));
    let machine = Machine::new(mask(&[0, 1]), cpus, mask(&[5]), &Distances::flat()).unwrap();
    assert_eq!(machine.nodes(), mask(&[0, 1, 3, 5]));
    assert_eq!(machine.memory_nodes(), mask(&[0, 1]));
    assert_eq!(machine.cpu_nodes(), mask(&[1, 3]));
    assert_eq!(machine.cpus_of(NodeId::new(3)).to_string(), "1-2");
    assert_eq!(machine.node_of(CpuId::new(1)), NodeId::new(3));
    assert_eq!((machine.node_ids(), machine.cpu_ids()), (6, 3));
    assert_eq!(numbers(machine.fallback(NodeId::new(5))), [1, 0]);
    assert!(machine.fallback(NodeId::new(2)).is_empty());
    assert!(size_of::<Machine>() <= 12 * 1024);
}

#[test]
fn what_cannot_be_a_machine_is_refused() {
    let none: [(CpuId, NodeId); 0] = [];
    let build = |memory: &[u16], distances: &Distances| {
        Machine::new(mask(memory), none, NodeMask::EMPTY, distances).map(|_| ())
    };
    assert_eq!(build(&[], &Distances::flat()), Err(MachineError::NoMemory));
    let too_near = distances(&[[10, 10], [20, 10]]);
    assert!(matches!(build(&[0, 1], &too_near), Err(MachineError::Distance(_))));
    assert_eq!(build(&[0], &too_near), Ok(()), "node 1 is not there");
    let not_local = distances(&[[11, 20], [20, 10]]);
    assert!(matches!(build(&[0, 1], &not_local), Err(MachineError::Distance(_))));
}

proptest! {
    #[test]
    fn an_order_is_complete_and_by_distance(
        rows in proptest::collection::vec(proptest::collection::vec(11u8..=255, 64), 64),
        memory in 1u64..,
        present in any::<u64>(),
    ) {
        let mut distances = distances(&rows);
        let memory = NodeMask::from_words(&[memory]);
        let present = NodeMask::from_words(&[present]);
        for node in NodeMask::full() {
            distances.set(node, node, 10);
        }
        let cpus: [(CpuId, NodeId); 0] = [];
        let machine = Machine::new(memory, cpus, present, &distances).unwrap();
        for node in machine.nodes() {
            let order: Vec<_> = machine.fallback(node).iter().collect();
            prop_assert_eq!(order.iter().copied().collect::<NodeMask>(), memory);
            prop_assert_eq!(order.len(), memory.count());
            prop_assert_eq!(order[0] == node, memory.contains(node));
            // A lower number counts as one unit farther.
            let cost = |to: NodeId| u16::from(machine.distance(node, to)) + u16::from(to < node);
            prop_assert!(order.is_sorted_by_key(|to| cost(*to)));
        }
    }

    #[test]
    fn equally_near_nodes_take_turns(count in 2u16..64) {
        let none: [(CpuId, NodeId); 0] = [];
        let memory = NodeMask::first_n(usize::from(count));
        let machine = Machine::new(memory, none, NodeMask::EMPTY, &Distances::flat()).unwrap();
        for node in memory {
            let order = numbers(machine.fallback(node));
            let circle: Vec<_> = (0..count).map(|i| (node.index() as u16 + i) % count).collect();
            prop_assert_eq!(order, circle);
        }
    }
}
