//! Kernel stacks: 16 KiB each, in their own area, with unmapped guard pages below.
//!
//! A stack stays mapped when its task ends and waits in its node's pool for the next one: so
//! neither fork nor exit touches kernel mappings once a machine is warm.

use alloc::vec::Vec;
use frames::fallible::Grow;
use frames::faults::{self, Want};
use frames::{Kind, Usage};
use hal::{VirtAddr, paging};
use numa::{MAX_NODES, NodeId};
use sync::SpinLock;

/// Bytes of a stack.
pub const SIZE: u64 = 4 * 4096;
/// Distance between stacks: the rest is guard.
const STRIDE: u64 = 8 * 4096;

/// The next stack of the area, and how many of its pages are mapped. Who finds no memory for the
/// rest leaves it to whoever comes next.
struct Building {
    slot: u64,
    mapped: u64,
}

static BUILDING: SpinLock<Building> = SpinLock::new(Building { slot: 0, mapped: 0 });

/// A node's stacks.
struct Pool {
    free: Vec<u64>,
    /// All of them: there is room for each to come back.
    made: usize,
}

static POOLS: [SpinLock<Pool>; MAX_NODES] =
    [const { SpinLock::new(Pool { free: Vec::new(), made: 0 }) }; MAX_NODES];

/// A kernel stack; goes back to its node's pool when dropped.
pub struct KernelStack {
    bottom: u64,
    node: NodeId,
}

impl KernelStack {
    /// A stack whose frames are on `node`, or as near as there is memory. None without memory.
    pub fn new(node: NodeId) -> Option<Self> {
        {
            let mut pool = POOLS[node.index()].lock();
            if let Some(bottom) = pool.free.pop() {
                return Some(Self { bottom, node });
            }
            let missing = pool.made + 1 - pool.free.len();
            pool.free.room_for(missing).ok()?;
            pool.made += 1;
        }
        let built = Self::build(node);
        if built.is_none() {
            POOLS[node.index()].lock().made -= 1;
        }
        built
    }

    fn build(node: NodeId) -> Option<Self> {
        let one = |kind| {
            if faults::should_fail(Want::Frame) {
                return None;
            }
            let machine = crate::machine();
            machine.fallback(node).iter().find_map(|n| frames::alloc_one(n, kind, Usage::Kernel))
        };
        let mut next = BUILDING.lock();
        let bottom = paging::STACK_AREA + next.slot * STRIDE + (STRIDE - SIZE);
        while next.mapped < SIZE / 4096 {
            let frame = one(Kind::Stack)?;
            // What was ever written can be told from what was not.
            hal::phys::zero(frame);
            let table = || {
                let table = one(Kind::PageTable)?;
                hal::phys::zero(table);
                Some(table)
            };
            let at = VirtAddr::new(bottom + next.mapped * 4096);
            if !paging::map_kernel_page(at, frame, table) {
                frames::free_one(frame);
                return None;
            }
            next.mapped += 1;
        }
        *next = Building { slot: next.slot + 1, mapped: 0 };
        Some(Self { bottom, node })
    }

    /// One past its last byte: where it begins.
    pub fn top(&self) -> u64 {
        self.bottom + SIZE
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        POOLS[self.node.index()].lock().free.push(self.bottom);
    }
}

/// The bytes that were ever in use of the stack that was used deepest, of [`SIZE`]. Reads them all.
pub fn deepest() -> u64 {
    let made = BUILDING.lock().slot;
    let used = |slot| {
        let bottom = paging::STACK_AREA + slot * STRIDE + (STRIDE - SIZE);
        SIZE - hal::switch::never_written(VirtAddr::new(bottom), SIZE)
    };
    (0..made).map(used).max().unwrap_or(0)
}

/// True when two addresses of the stack area are of one stack.
pub fn are_one(a: u64, b: u64) -> bool {
    a / STRIDE == b / STRIDE
}

/// True when `addr` lies in the stack area: a fault there is an overflow into a guard page.
pub fn is_guard(addr: u64) -> bool {
    (paging::STACK_AREA..paging::VMALLOC_AREA).contains(&addr)
}
