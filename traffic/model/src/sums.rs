//! What is added up for a task on a CPU: once for the program's own code, once for the kernel's.

/// Whose code made an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    User,
    Kernel,
}

impl Who {
    pub const ALL: [Self; 2] = [Self::User, Self::Kernel];

    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Kernel => "kernel",
        }
    }
}

/// Counted for each node of memory.
pub mod node {
    pub const READS: usize = 0;
    pub const WRITES: usize = 1;
    pub const READ_BYTES: usize = 2;
    pub const WRITE_BYTES: usize = 3;
    /// Lines that came from this node's memory, for reads and for writes.
    pub const LINES_READ: usize = 4;
    pub const LINES_WRITE: usize = 5;
    /// Lines that came from a cache of this node: not modified, modified.
    pub const CACHE_CLEAN: usize = 6;
    pub const CACHE_MODIFIED: usize = 7;
    pub const FIELDS: usize = 8;
    pub const NAMES: [&str; FIELDS] = [
        "reads",
        "writes",
        "read_bytes",
        "write_bytes",
        "lines_read",
        "lines_write",
        "cache_clean",
        "cache_modified",
    ];
}

/// Counted once.
pub mod all {
    pub const L1: usize = 0;
    pub const L2: usize = 1;
    pub const L3: usize = 2;
    /// Writes that took a line away from others.
    pub const INVALIDATIONS: usize = 3;
    /// Accesses to what is no memory of a node.
    pub const ELSEWHERE: usize = 4;
    pub const FIELDS: usize = 5;
    pub const NAMES: [&str; FIELDS] = ["l1", "l2", "l3", "invalidations", "elsewhere"];
}

/// Both classes' counts, in one piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    nodes: usize,
    counts: Box<[u64]>,
}

impl Sums {
    pub fn new(nodes: usize) -> Self {
        let one = all::FIELDS + nodes * node::FIELDS;
        Self { nodes, counts: vec![0; 2 * one].into_boxed_slice() }
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    #[inline(always)]
    fn base(&self, who: Who) -> usize {
        who as usize * (all::FIELDS + self.nodes * node::FIELDS)
    }

    /// A count of [`all`].
    #[inline(always)]
    pub fn all(&mut self, who: Who, field: usize) -> &mut u64 {
        &mut self.counts[self.base(who) + field]
    }

    /// A count of [`node`].
    #[inline(always)]
    pub fn at(&mut self, who: Who, node: usize, field: usize) -> &mut u64 {
        &mut self.counts[self.base(who) + all::FIELDS + node * node::FIELDS + field]
    }

    pub fn get_all(&self, who: Who, field: usize) -> u64 {
        self.counts[self.base(who) + field]
    }

    pub fn get(&self, who: Who, node: usize, field: usize) -> u64 {
        self.counts[self.base(who) + all::FIELDS + node * node::FIELDS + field]
    }

    pub fn add(&mut self, other: &Self) {
        for (to, from) in self.counts.iter_mut().zip(&other.counts) {
            *to += from;
        }
    }

    /// Every count times `factor`.
    pub fn scale(&mut self, factor: u64) {
        self.counts.iter_mut().for_each(|count| *count *= factor);
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// All counts, for [`Self::from_counts`].
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub fn from_counts(nodes: usize, counts: &[u64]) -> Option<Self> {
        let empty = Self::new(nodes);
        (empty.counts.len() == counts.len()).then(|| Self { nodes, counts: counts.into() })
    }
}
