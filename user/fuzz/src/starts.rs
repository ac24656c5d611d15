//! Where interleaving over shared memory begins: at the node that the object's inode number says,
//! which is another one on every kernel and every day.
//!
//! A sequence knows over how many nodes it interleaves; workers use numbers up until one is a
//! multiple of all these counts ([`crate::execute`]), and interleaving begins at the first node.

use crate::ops::{Kind, Op};

const INTERLEAVE: u64 = 3;
const WEIGHTED: u64 = 6;
const STATIC: u64 = 1 << 15;
const RELATIVE: u64 = 1 << 14;
const BALANCING: u64 = 1 << 13;
/// Numbers are used up one by one: as far as it takes for any of up to eight nodes.
const MOST: u64 = 840;

/// What inode numbers have to be a multiple of.
#[derive(Clone, Copy)]
pub struct Starts(u64);

impl Default for Starts {
    fn default() -> Self {
        Self(1)
    }
}

impl Starts {
    /// Takes a policy into account; false where the multiple would be a rare number, and the
    /// policy is to be another one.
    pub fn admit(&mut self, (mode, mask, shape): (u64, u64, u64), nodes: &[u64]) -> bool {
        let all = lcm(self.0, interleaved(mode, mask, shape, nodes));
        let few = all <= MOST;
        self.0 = if few { all } else { self.0 };
        few
    }

    /// Tells the operations that make shared memory, which were made with 0.
    pub fn settle(self, ops: &mut [Op]) {
        for op in ops {
            match op.kind {
                Kind::Mmap if op.args[6] == 0 => op.args[6] = self.0,
                Kind::Object => op.args[3] = self.0,
                _ => {}
            }
        }
    }
}

/// Nodes that the policy interleaves over; 1 for one that does not.
fn interleaved(mode: u64, mask: u64, shape: u64, nodes: &[u64]) -> u64 {
    if ![INTERLEAVE, WEIGHTED].contains(&(mode & !(STATIC | RELATIVE | BALANCING))) {
        return 1;
    }
    // Shapes as execute.rs makes masks: 4 with bit 1000, 5 with it alone.
    let low = (0..64).filter(|bit| shape != 5 && mask >> bit & 1 == 1);
    let bits = low.chain((shape == 4 || shape == 5).then_some(1000));
    let mut taken: Vec<u64> = if mode & RELATIVE == 0 {
        bits.filter(|bit| nodes.contains(bit)).collect()
    } else {
        bits.map(|bit| bit % nodes.len() as u64).collect()
    };
    taken.sort_unstable();
    taken.dedup();
    (taken.len() as u64).max(1)
}

fn lcm(a: u64, b: u64) -> u64 {
    a / gcd(a, b) * b
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_interleaved_over_are_counted_as_the_kernel_does() {
        let nodes = [0, 2, 3];
        assert_eq!(interleaved(3, 0b1111, 0, &nodes), 3);
        assert_eq!(interleaved(6 | STATIC, 0b0110, 0, &nodes), 1);
        assert_eq!(interleaved(2, 0b1111, 0, &nodes), 1);
        // Bits 0 and 3 are the same node, bit 1000 is the second.
        assert_eq!(interleaved(3 | RELATIVE, 0b1001, 4, &nodes), 2);
        assert_eq!(interleaved(3, 0b1111, 5, &nodes), 1);
    }

    #[test]
    fn inode_numbers_are_multiples_of_all_counts_as_long_as_such_are_not_rare() {
        let nodes: Vec<u64> = (0..64).collect();
        let mut starts = Starts::default();
        for count in 1..=8 {
            assert!(starts.admit((3, (1 << count) - 1, 0), &nodes));
        }
        assert!(!starts.admit((3, (1 << 11) - 1, 0), &nodes));
        let mut ops = [Op::new(0, Kind::Object, &[0, 0, 3, 0]), Op::new(0, Kind::Mmap, &[0; 7])];
        ops[1].args[6] = 1;
        starts.settle(&mut ops);
        assert_eq!((ops[0].args[3], ops[1].args[6]), (840, 1));
    }
}
