//! What a topology may be, and the sentence that refuses each one that may not.

use super::*;

fn two() -> Topology {
    Topology::even(2, 4, 1 << 30).unwrap()
}

#[test]
fn cpus_and_memory_are_shared_evenly_and_the_first_nodes_get_the_rest() {
    let topology = Topology::even(3, 8, 1 << 30).unwrap();
    let cpus: Vec<_> = topology.nodes.iter().map(|node| node.cpus.clone()).collect();
    assert_eq!(cpus, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
    assert_eq!(topology.memory(), 1 << 30);
    assert_eq!(topology.shape.sockets, 8);
}

#[test]
fn nodes_of_one_size_are_sockets() {
    assert_eq!(two().shape, CpuShape { sockets: 2, dies: 1, cores: 2, threads: 1 });
}

#[test]
fn a_cpu_on_two_nodes_is_refused() {
    let mut topology = two();
    topology.nodes[1].cpus = vec![1, 2];
    assert_eq!(topology.check().unwrap_err(), "CPU 1 is on node 0 and on node 1");
}

#[test]
fn a_gap_in_the_cpu_numbers_is_refused() {
    let mut topology = two();
    topology.nodes[1].cpus = vec![3, 4];
    assert!(topology.check().unwrap_err().starts_with("CPU 2 is on no node"));
}

#[test]
fn a_distance_below_ten_is_refused() {
    let error = two().with_distances(&[(0, 1, 9)]).unwrap_err();
    assert_eq!(error, "distance from node 0 to node 1 is 9: nothing is nearer than 10");
}

#[test]
fn two_nodes_at_ten_are_refused() {
    let error = two().with_distances(&[(0, 1, 10)]).unwrap_err();
    assert!(error.starts_with("distance from node 0 to node 1 is 10: "), "{error}");
}

#[test]
fn more_nodes_than_the_kernel_takes_are_refused() {
    let error = Topology::even(65, 65, 8 << 30).unwrap_err();
    assert_eq!(error, "65 nodes are more than the 64 a machine may have");
}

#[test]
fn a_node_is_at_ten_from_itself() {
    assert!(two().with_distances(&[(1, 1, 12)]).is_err());
}

#[test]
fn unreachable_nodes_are_refused() {
    assert!(two().with_distances(&[(0, 1, 255)]).is_err());
}

#[test]
fn one_distance_holds_both_ways_and_two_may_differ() {
    let both = two().with_distances(&[(0, 1, 30)]).unwrap();
    assert_eq!((both.distances[0][1], both.distances[1][0]), (30, 30));
    let two_ways = two().with_distances(&[(0, 1, 30), (1, 0, 40)]).unwrap();
    assert_eq!((two_ways.distances[0][1], two_ways.distances[1][0]), (30, 40));
}

#[test]
fn a_distance_to_a_node_that_is_not_there_is_refused() {
    assert!(two().with_distances(&[(0, 2, 20)]).unwrap_err().contains("names node 2"));
}

#[test]
fn more_nodes_than_cpus_and_memory_are_refused() {
    let error = Topology::even(64, 8, 40 << 20).unwrap_err();
    assert!(error.contains("neither a CPU nor memory"), "{error}");
}

#[test]
fn more_nodes_than_cpus_alone_leave_nodes_of_memory_only() {
    let topology = Topology::even(4, 2, 1 << 30).unwrap();
    assert!(topology.nodes[3].cpus.is_empty() && topology.nodes[3].memory > 0);
}

#[test]
fn memory_is_rescaled_in_proportion_to_the_byte() {
    let cxl = file::builtin("cxl").unwrap().unwrap().with_memory(1 << 30).unwrap();
    assert_eq!(cxl.memory(), 1 << 30);
    assert_eq!(cxl.nodes[0].memory, 384 << 20);
}

#[test]
fn too_little_memory_is_refused() {
    assert!(two().with_memory(8 << 20).unwrap_err().contains("too little"));
    assert!(two().with_memory(1 << 20).unwrap_err().starts_with("1M of memory are too little"));
}

#[test]
fn cpus_are_spread_over_the_nodes_that_have_some() {
    let cxl = file::builtin("cxl").unwrap().unwrap().with_cpus(6).unwrap();
    assert_eq!(cxl.nodes[1].cpus, [3, 4, 5]);
    assert!(cxl.nodes[2].cpus.is_empty());
    assert!(file::builtin("cxl").unwrap().unwrap().with_cpus(1).is_err());
}
