//! Kernel stacks: 16 KiB each, in their own area, with unmapped guard pages below.
//!
//! A stack stays mapped when its task ends and waits in its node's pool for the next one: so
//! neither fork nor exit touches kernel mappings once a machine is warm.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::{Kind, Usage};
use hal::{VirtAddr, paging};
use numa::{MAX_NODES, NodeId};
use sync::SpinLock;

/// Bytes of a stack.
pub const SIZE: u64 = 4 * 4096;
/// Distance between stacks: the rest is guard.
const STRIDE: u64 = 8 * 4096;

static NEXT: AtomicU64 = AtomicU64::new(0);
static POOLS: [SpinLock<Vec<u64>>; MAX_NODES] = [const { SpinLock::new(Vec::new()) }; MAX_NODES];
static MAPPING: SpinLock<()> = SpinLock::new(());

/// A kernel stack; goes back to its node's pool when dropped.
pub struct KernelStack {
    bottom: u64,
    node: NodeId,
}

impl KernelStack {
    /// A stack whose frames are on `node`, or as near as there is memory. None without memory.
    pub fn new(node: NodeId) -> Option<Self> {
        if let Some(bottom) = POOLS[node.index()].lock().pop() {
            return Some(Self { bottom, node });
        }
        let slot = NEXT.fetch_add(1, Ordering::Relaxed);
        let bottom = paging::STACK_AREA + slot * STRIDE + (STRIDE - SIZE);
        let one = |kind| {
            let machine = crate::machine();
            machine.fallback(node).iter().find_map(|n| frames::alloc_one(n, kind, Usage::Kernel))
        };
        let _one_mapper = MAPPING.lock();
        for page in 0..SIZE / 4096 {
            let frame = one(Kind::Stack)?;
            let table = || {
                let table = one(Kind::PageTable)?;
                hal::phys::zero(table);
                Some(table)
            };
            if !paging::map_kernel_page(VirtAddr::new(bottom + page * 4096), frame, table) {
                return None;
            }
        }
        Some(Self { bottom, node })
    }

    /// One past its last byte: where it begins.
    pub fn top(&self) -> u64 {
        self.bottom + SIZE
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        POOLS[self.node.index()].lock().push(self.bottom);
    }
}

/// True when `addr` lies in the stack area: a fault there is an overflow into a guard page.
pub fn is_guard(addr: u64) -> bool {
    (paging::STACK_AREA..paging::VMALLOC_AREA).contains(&addr)
}
