//! A topology in QEMU's words: -smp, -m, -object memory-backend-ram, -numa.

use super::Topology;

impl Topology {
    /// The arguments that make QEMU's q35 machine this shape.
    ///
    /// Memory backends are not preallocated: a guest costs what it touches. The whole distance
    /// matrix is always given, so that QEMU writes a SLIT. Where there are latencies, it writes an
    /// HMAT, too.
    pub fn qemu_args(&self) -> Vec<String> {
        let latencies = self.latencies();
        let shape = &self.shape;
        let mut args = vec![
            "-smp".into(),
            format!(
                "{},sockets={},dies={},cores={},threads={}",
                self.cpus(),
                shape.sockets,
                shape.dies,
                shape.cores,
                shape.threads
            ),
            "-m".into(),
            format!("{}M", self.memory() >> 20),
        ];
        for (index, node) in self.nodes.iter().enumerate() {
            let mut numa = format!("node,nodeid={index}");
            for (first, last) in ranges(&node.cpus) {
                numa += &format!(",cpus={first}-{last}");
            }
            if node.memory > 0 {
                args.push("-object".into());
                args.push(format!("memory-backend-ram,id=node{index},size={}M", node.memory >> 20));
                numa += &format!(",memdev=node{index}");
            }
            if let Some(nearest) = latencies.as_ref().and_then(|ns| self.initiator(ns, index)) {
                numa += &format!(",initiator={nearest}");
            }
            args.push("-numa".into());
            args.push(numa);
        }
        if self.nodes.len() > 1 {
            for (from, row) in self.distances.iter().enumerate() {
                for (to, distance) in row.iter().enumerate().filter(|(to, _)| *to != from) {
                    args.push("-numa".into());
                    args.push(format!("dist,src={from},dst={to},val={distance}"));
                }
            }
        }
        if let Some(latencies) = latencies {
            args.extend(["-machine".into(), "hmat=on".into()]);
            args.extend(self.latency_args(&latencies));
        }
        args
    }

    /// The same machine, whose firmware tells these latencies.
    pub fn with_latencies(mut self, memory: &[Vec<f64>]) -> Self {
        let latency = self.model.latency.get_or_insert_default();
        latency.memory = Some(memory.to_vec());
        self
    }

    /// Nanoseconds, `[CPU's node][memory's node]`, if the file names any.
    fn latencies(&self) -> Option<Vec<Vec<f64>>> {
        let file = self.model.latency.as_ref()?;
        file.latencies(&self.distances).ok().map(|latencies| latencies.memory)
    }

    /// The node with CPUs that is nearest to a node: the node itself if it has some.
    fn initiator(&self, latencies: &[Vec<f64>], node: usize) -> Option<usize> {
        if !self.nodes[node].cpus.is_empty() {
            return Some(node);
        }
        let able = (0..self.nodes.len()).filter(|&from| !self.nodes[from].cpus.is_empty());
        able.min_by(|&a, &b| latencies[a][node].total_cmp(&latencies[b][node]))
    }

    /// The latency from each node with CPUs to each with memory, in whole nanoseconds.
    fn latency_args(&self, latencies: &[Vec<f64>]) -> Vec<String> {
        let mut args = Vec::new();
        let nodes = || self.nodes.iter().enumerate();
        for (from, _) in nodes().filter(|(_, node)| !node.cpus.is_empty()) {
            for (to, _) in nodes().filter(|(_, node)| node.memory > 0) {
                let ns = latencies[from][to].round().max(1.0);
                args.push("-numa".into());
                args.push(format!(
                    "hmat-lb,initiator={from},target={to},hierarchy=memory,\
                     data-type=access-latency,latency={ns}"
                ));
            }
        }
        args
    }
}

/// Runs of consecutive numbers in an ascending list.
pub fn ranges(list: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in list {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == number => run.1 = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::file::builtin;

    #[test]
    fn a_node_without_memory_has_no_backend_and_one_without_cpus_no_list() {
        let memoryless = builtin("memoryless").unwrap().unwrap().qemu_args();
        assert!(memoryless.contains(&"node,nodeid=1,cpus=2-3".to_string()));
        let cxl = builtin("cxl").unwrap().unwrap().qemu_args();
        assert!(cxl.contains(&"node,nodeid=2,memdev=node2,initiator=0".to_string()));
    }

    #[test]
    fn asymmetric_distances_reach_qemu_as_they_are() {
        let topology = Topology::even(2, 2, 1 << 30).unwrap();
        let args = topology.with_distances(&[(0, 1, 12), (1, 0, 34)]).unwrap().qemu_args();
        assert!(args.contains(&"dist,src=0,dst=1,val=12".to_string()));
        assert!(args.contains(&"dist,src=1,dst=0,val=34".to_string()));
    }

    #[test]
    fn latencies_reach_qemu_as_an_hmat() {
        let text = "[[node]]\ncpus = 1\nmemory = \"1G\"\n[[node]]\nmemory = \"1G\"\n\
                    [distances]\nmatrix = [[10, 25], [25, 10]]\n[latency]\nlocal = 80\n";
        let args = crate::topology::file::parse("t", text).unwrap().qemu_args().join(" ");
        for want in [
            "node,nodeid=1,memdev=node1,initiator=0",
            "-machine hmat=on",
            "hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-latency,latency=200",
        ] {
            assert!(args.contains(want), "{args}");
        }
        assert!(!builtin("ring-4").unwrap().unwrap().qemu_args().join(" ").contains("hmat"));
    }

    #[test]
    fn lists_become_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), [(0, 2), (5, 5), (7, 8)]);
        assert_eq!(ranges(&[]), []);
    }
}
