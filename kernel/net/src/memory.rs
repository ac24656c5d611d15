//! Memory of socket queues: pages of the node of whoever will read them, and how many there are.
//!
//! All queues together may have so many pages (net.ipv4.tcp_mem); the count is spread over the CPUs.

use crate::spread::Spread;
use abi::{Errno, PAGE_SIZE, Result};
use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use frames::{Kind, Usage};
use hal::Pfn;
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

/// Largest block: 64 KiB, what programs write at once.
const MAX_ORDER: u32 = 4;

/// Pages of a queue that stand side by side, counted.
pub struct Block {
    first: Pfn,
    order: u32,
}

impl Block {
    /// Pages of `node` for up to `wanted` bytes: as many as stand side by side there, or one of the
    /// next node that has some. ENOBUFS when the queues have too many, ENOMEM.
    pub fn new(node: NodeId, wanted: usize) -> Result<Self> {
        if TOTAL.load(Relaxed) >= limit() as i64 {
            return Err(Errno::ENOBUFS);
        }
        let order = (wanted / PAGE_SIZE).max(1).ilog2().min(MAX_ORDER);
        let (first, order) = match frames::alloc(node, order, Kind::Kernel, Usage::User) {
            Some(first) => (first, order),
            None => {
                let mut nodes = vm::env::machine().fallback(node).iter();
                let one = |node| frames::alloc_one(node, Kind::Kernel, Usage::User);
                (nodes.find_map(one).ok_or(Errno::ENOMEM)?, 0)
            }
        };
        count(1 << order);
        Ok(Self { first, order })
    }

    /// The node that it is on.
    pub fn node(&self) -> NodeId {
        frames::frame(self.first).node()
    }

    /// Bytes of it.
    #[inline]
    pub fn size(&self) -> usize {
        PAGE_SIZE << self.order
    }

    fn page(&self, at: usize) -> Pfn {
        Pfn::new(self.first.raw() + (at / PAGE_SIZE) as u64)
    }

    /// Its bytes from `at` on, up to the end of the page that they lie in.
    #[inline]
    pub fn bytes(&self, at: usize) -> &[u8] {
        &hal::phys::bytes(self.page(at))[at % PAGE_SIZE..]
    }

    /// As [`Block::bytes`], to write.
    #[inline]
    pub fn bytes_mut(&mut self, at: usize) -> &mut [u8] {
        &mut hal::phys::bytes_mut(self.page(at))[at % PAGE_SIZE..]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        count(-(1 << self.order));
        frames::free(self.first);
    }
}

#[cfg(test)]
mod testing {
    use numa::NodeId;

    /// Simulated memory for tests, set up once.
    pub fn for_tests() {
        static START: std::sync::Once = std::sync::Once::new();
        START.call_once(|| {
            let id = NodeId::new(0);
            vm::env::set_machine(numa::Machine::single_node(numa::CpuMask::first_n(1)));
            let span = (hal::Pfn::new(0x1000), hal::Pfn::new(0x5000));
            let free = std::vec![span];
            let memory = frames::node::NodeMemory { id, present: 0x4000, free, span, early: 0 };
            frames::node::init(std::vec![memory]);
        });
    }
}
#[cfg(test)]
pub(crate) use testing::for_tests;
