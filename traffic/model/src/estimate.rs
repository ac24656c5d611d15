//! How long memory would take, by a table of latencies: a model, and said to be one.
//!
//! Every access waits for its own latency and nothing overlaps, so that the sum is an upper bound;
//! what it is good for is comparing one placement with another.

use crate::sums::{Sums, Who, all, node};

/// Nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latencies {
    pub l1: f64,
    pub l2: f64,
    pub l3: f64,
    /// Another CPU's cache on the same node.
    pub cache: f64,
    /// Memory, `[CPU's node][memory's node]`; another node's cache costs the same.
    pub memory: Vec<Vec<f64>>,
}

/// Local memory, if nobody says.
const LOCAL: f64 = 90.0;
/// The distance of a node to itself in a SLIT.
const SLIT_LOCAL: f64 = 10.0;

impl Latencies {
    /// A server of the 2020s; `local` memory in ns, remote memory in the proportion of the SLIT.
    pub fn of_distances(distances: &[Vec<u32>], local: Option<f64>) -> Self {
        let local = local.unwrap_or(LOCAL);
        let scaled = |&distance: &u32| local * f64::from(distance) / SLIT_LOCAL;
        let memory = distances.iter().map(|row| row.iter().map(scaled).collect()).collect();
        Self { l1: 1.2, l2: 4.0, l3: 18.0, cache: 35.0, memory }
    }

    fn memory(&self, from: usize, to: usize) -> f64 {
        self.memory.get(from).and_then(|row| row.get(to)).copied().unwrap_or(LOCAL)
    }
}

/// Time in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Time {
    pub total: f64,
    /// If every line had come from the CPU's own node.
    pub if_local: f64,
}

impl Time {
    /// What remoteness costs.
    pub fn remoteness(self) -> f64 {
        (self.total - self.if_local).max(0.0)
    }

    pub fn add(&mut self, other: Self) {
        self.total += other.total;
        self.if_local += other.if_local;
    }
}

/// What `sums` of a CPU on `from` take, the program's own accesses and the kernel's.
pub fn time(sums: &Sums, from: usize, latencies: &Latencies) -> Time {
    let mut time = Time::default();
    for who in Who::ALL {
        let both = |count: u64, ns: f64, local: f64| Time {
            total: count as f64 * ns,
            if_local: count as f64 * local,
        };
        for (field, ns) in
            [(all::L1, latencies.l1), (all::L2, latencies.l2), (all::L3, latencies.l3)]
        {
            time.add(both(sums.get_all(who, field), ns, ns));
        }
        for to in 0..sums.nodes() {
            let lines = sums.get(who, to, node::LINES_READ) + sums.get(who, to, node::LINES_WRITE);
            time.add(both(lines, latencies.memory(from, to), latencies.memory(from, from)));
            let taken =
                sums.get(who, to, node::CACHE_CLEAN) + sums.get(who, to, node::CACHE_MODIFIED);
            let ns = if to == from { latencies.cache } else { latencies.memory(from, to) };
            time.add(both(taken, ns, latencies.cache));
        }
    }
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_line_costs_what_the_distance_says() {
        let latencies = Latencies::of_distances(&[vec![10, 21], vec![21, 10]], Some(100.0));
        let mut sums = Sums::new(2);
        *sums.at(Who::User, 1, node::LINES_READ) = 10;
        *sums.at(Who::User, 0, node::LINES_WRITE) = 1;
        *sums.all(Who::Kernel, all::L2) = 5;
        let time = time(&sums, 0, &latencies);
        assert_eq!(time, Time { total: 2100.0 + 100.0 + 20.0, if_local: 1100.0 + 20.0 });
        assert_eq!(time.remoteness(), 1100.0);
    }
}
