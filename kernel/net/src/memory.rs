//! Memory of socket queues: pages of the node of whoever will read them, and how many there are.
//!
//! All queues of a kind together may have so many pages (net.ipv4.tcp_mem, udp_mem); the counts are
//! spread over the CPUs. A stream's empty queue gets a page in any case, so that who fills the others
//! does not stop everybody.

use crate::spread::Spread;
use abi::{Errno, PAGE_SIZE, Result};
use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use frames::{Kind, Usage};
use hal::Pfn;
use numa::NodeId;

/// Pages by which a CPU's own count may differ from what all know.
const BATCH: i64 = 64;

/// With which queues memory is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    #[default]
    Streams,
    /// Datagrams, and netlink's answers.
    Messages,
}

struct Count {
    own: Spread,
    total: AtomicI64,
}

impl Count {
    const fn new() -> Self {
        Self { own: Spread::new(), total: AtomicI64::new(0) }
    }
    fn add(&self, change: i64) {
        self.own.add_within(change, BATCH, &self.total);
    }
}

static COUNTS: [Count; 2] = [Count::new(), Count::new()];
static LIMIT: AtomicUsize = AtomicUsize::new(i64::MAX as usize);

impl Pool {
    fn count(self) -> &'static Count {
        &COUNTS[self as usize]
    }

    /// True when its queues have all that they may have, but for what CPUs have counted alone.
    pub fn is_full(self) -> bool {
        self.count().total.load(Relaxed) >= limit() as i64
    }

    /// Pages that its queues have.
    pub fn used(self) -> usize {
        let count = self.count();
        (count.total.load(Relaxed) + count.own.sum()).max(0) as usize
    }
}

/// Sets how many pages the queues of a kind may have, from the machine's memory in pages: three thirty-seconds.
pub fn set_memory(pages: u64) {
    LIMIT.store(limit_of(pages), Relaxed);
}

fn limit_of(pages: u64) -> usize {
    (pages / 32 * 3) as usize
}

/// Pages that the queues of a kind may have.
pub fn limit() -> usize {
    LIMIT.load(Relaxed)
}

/// Memory of the heap that a queue of messages has, counted in pages until it is dropped.
pub struct Charge(i64);

impl Charge {
    /// Counts `bytes`. ENOBUFS when the queues have too many.
    pub fn new(bytes: usize) -> Result<Self> {
        if Pool::Messages.is_full() {
            return Err(Errno::ENOBUFS);
        }
        let pages = bytes.div_ceil(PAGE_SIZE).max(1) as i64;
        Pool::Messages.count().add(pages);
        Ok(Self(pages))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        Pool::Messages.count().add(-self.0);
    }
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
    pool: Pool,
}

impl Block {
    /// Pages of `node` for up to `wanted` bytes: as many as stand side by side there, or one of the
    /// next node that has some. ENOBUFS when the queues of `pool` have too many, ENOMEM.
    pub fn new(node: NodeId, wanted: usize, pool: Pool) -> Result<Self> {
        if pool.is_full() { Err(Errno::ENOBUFS) } else { Self::anyway(node, wanted, pool) }
    }

    /// The same, however many the queues have.
    pub fn anyway(node: NodeId, wanted: usize, pool: Pool) -> Result<Self> {
        let order = (wanted / PAGE_SIZE).max(1).ilog2().min(MAX_ORDER);
        let (first, order) = match frames::alloc(node, order, Kind::Kernel, Usage::User) {
            Some(first) => (first, order),
            None => {
                let mut nodes = vm::env::machine().fallback(node).iter();
                let one = |node| frames::alloc_one(node, Kind::Kernel, Usage::User);
                (nodes.find_map(one).ok_or(Errno::ENOMEM)?, 0)
            }
        };
        pool.count().add(1 << order);
        Ok(Self { first, order, pool })
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
        self.pool.count().add(-(1 << self.order));
        frames::free(self.first);
    }
}

#[cfg(test)]
pub(crate) use testing::for_tests;

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
