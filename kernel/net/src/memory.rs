//! Memory of socket queues: pages of the node of whoever will read them, and how many there are.
//!
//! All queues together may have so many pages (net.ipv4.tcp_mem); the count is spread over the CPUs.

use crate::spread::Spread;
use abi::{Errno, Result};
use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use frames::{Kind, Page, Usage};
use numa::NodeId;

/// Pages by which a CPU's own count may differ from what all know.
const BATCH: i64 = 64;

static OWN: Spread = Spread::new();
static TOTAL: AtomicI64 = AtomicI64::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(i64::MAX as usize);

/// Sets how many pages queues may have, from the machine's memory in pages: three thirty-seconds.
pub fn set_memory(pages: u64) {
    LIMIT.store(limit_of(pages), Relaxed);
}

fn limit_of(pages: u64) -> usize {
    (pages / 32 * 3) as usize
}

/// Pages that queues may have.
pub fn limit() -> usize {
    LIMIT.load(Relaxed)
}

/// Pages that queues have.
pub fn used() -> usize {
    (TOTAL.load(Relaxed) + OWN.sum()).max(0) as usize
}

fn count(change: i64) {
    OWN.add_within(change, BATCH, &TOTAL);
}

/// The node of the running CPU: of who reads, when that is who runs.
pub fn here() -> NodeId {
    vm::env::local_node()
}

/// A page of a queue, counted.
pub struct Block(Page);

impl Block {
    /// A page of `node`, or of the next one that has some. ENOBUFS when the queues have too many,
    /// ENOMEM.
    pub fn new(node: NodeId) -> Result<Self> {
        if TOTAL.load(Relaxed) >= limit() as i64 {
            return Err(Errno::ENOBUFS);
        }
        let mut nodes = vm::env::machine().fallback(node).iter();
        let pfn = nodes.find_map(|node| frames::alloc_one(node, Kind::Kernel, Usage::User));
        count(1);
        // Refused, it is counted back.
        pfn.map(|pfn| Self(Page::from_alloc(pfn))).ok_or(Errno::ENOMEM).inspect_err(|_| count(-1))
    }

    /// The node that it is on.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        count(-1);
    }
}

/// Simulated memory for tests, set up once.
#[cfg(test)]
pub(crate) fn for_tests() {
    static START: std::sync::Once = std::sync::Once::new();
    START.call_once(|| {
        let id = NodeId::new(0);
        vm::env::set_machine(numa::Machine::single_node(numa::CpuMask::first_n(1)));
        let span = (hal::Pfn::new(0x1000), hal::Pfn::new(0x5000));
        let memory =
            frames::node::NodeMemory { id, present: 0x4000, free: std::vec![span], span, early: 0 };
        frames::node::init(std::vec![memory]);
    });
}
