//! A topology in QEMU's words: -smp, -m, -object memory-backend-ram, -numa.

use super::Topology;

impl Topology {
    /// The arguments that make QEMU's q35 machine this shape.
    ///
    /// Memory backends are not preallocated: a guest costs what it touches. The whole distance
    /// matrix is always given, so that QEMU writes a SLIT.
    pub fn qemu_args(&self) -> Vec<String> {
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
        assert!(cxl.contains(&"node,nodeid=2,memdev=node2".to_string()));
    }

    #[test]
    fn asymmetric_distances_reach_qemu_as_they_are() {
        let topology = Topology::even(2, 2, 1 << 30).unwrap();
        let args = topology.with_distances(&[(0, 1, 12), (1, 0, 34)]).unwrap().qemu_args();
        assert!(args.contains(&"dist,src=0,dst=1,val=12".to_string()));
        assert!(args.contains(&"dist,src=1,dst=0,val=34".to_string()));
    }

    #[test]
    fn lists_become_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), [(0, 2), (5, 5), (7, 8)]);
        assert_eq!(ranges(&[]), []);
    }
}
