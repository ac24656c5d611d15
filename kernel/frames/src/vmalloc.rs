//! Blocks of the heap that are contiguous in addresses alone: those above the buddy allocator's
//! largest, and what finds no block in one piece.
//!
//! The area is cut into chunks of 4 MiB, one bit each. A block takes a run of chunks and leaves at
//! least one page at its end unmapped. Its frames are free as soon as it is freed; its addresses
//! are not used again before every CPU has forgotten them, which happens for many at once.
#![allow(unsafe_code, reason = "an allocator hands out raw memory; see each SAFETY comment")]

#[cfg(not(target_os = "none"))]
pub use host::{alloc, free, is_beyond_direct_map};
#[cfg(target_os = "none")]
pub use metal::{alloc, free, is_beyond_direct_map};

/// Without page tables there is no such area.
#[cfg(not(target_os = "none"))]
mod host {
    use crate::Usage;
    use core::alloc::Layout;

    pub fn alloc(_: Layout, _: Usage) -> *mut u8 {
        core::ptr::null_mut()
    }
    pub fn free(_: *mut u8, _: usize) {}
    pub fn is_beyond_direct_map(_: *mut u8) -> bool {
        false
    }
}

#[cfg(target_os = "none")]
mod metal {
    use super::{Chunks, run_of};
    use crate::{Kind, Usage, alloc_one, free_one, node, relief};
    use core::alloc::Layout;
    use core::sync::atomic::{AtomicBool, Ordering};
    use hal::{Pfn, VirtAddr, paging, percpu};
    use numa::{MAX_NODES, NodeId};
    use sync::IrqLock;

    const PAGE: u64 = 4096;
    /// Freed chunks at which the CPUs are made to forget them: 128 MiB of addresses.
    const MANY: usize = 32;

    struct Area {
        used: Chunks,
        /// Freed, but a CPU may know what was there.
        dirty: Chunks,
        /// Number of dirty ones.
        freed: usize,
    }

    static AREA: IrqLock<Area> =
        IrqLock::new(Area { used: Chunks::new(), dirty: Chunks::new(), freed: 0 });
    /// The chunks that a purge under way makes free again.
    static PURGED: IrqLock<Chunks> = IrqLock::new(Chunks::new());
    static PURGING: AtomicBool = AtomicBool::new(false);

    /// True for addresses above the direct map: this area's and the image's.
    #[inline]
    pub fn is_beyond_direct_map(p: *mut u8) -> bool {
        p as u64 >= paging::STACK_AREA
    }

    /// Makes freed addresses usable again, if the CPUs can be asked now.
    fn purge() {
        if PURGING.swap(true, Ordering::Acquire) {
            return;
        }
        {
            let mut area = AREA.lock();
            let mut purged = PURGED.lock();
            purged.copy_from(&area.dirty);
            area.dirty.clear();
            area.freed = 0;
        }
        let flushed = relief::flush_all_cpus();
        {
            let mut area = AREA.lock();
            let purged = PURGED.lock();
            if flushed {
                area.used.subtract(&purged);
            } else {
                area.freed += area.dirty.add(&purged);
            }
        }
        PURGING.store(false, Ordering::Release);
    }

    fn take_run(count: usize) -> Option<usize> {
        let mut area = AREA.lock();
        let first = area.used.find_run(count)?;
        area.used.set(first, count);
        Some(first)
    }

    /// A block for `layout`, its frames from the CPU's node first. Null without memory or room.
    #[cold]
    pub fn alloc(layout: Layout, usage: Usage) -> *mut u8 {
        if layout.align() as u64 > PAGE || layout.size() > isize::MAX as usize / 2 {
            return core::ptr::null_mut();
        }
        let pages = (layout.size() as u64).div_ceil(PAGE);
        if !enough(pages) {
            return core::ptr::null_mut();
        }
        if AREA.lock().freed > MANY {
            purge();
        }
        let count = run_of(layout.size());
        let run = take_run(count).or_else(|| {
            purge();
            take_run(count)
        });
        let Some(first) = run else { return core::ptr::null_mut() };
        let start = address(first);
        for page in 0..pages {
            let mapped = frame(Kind::Slab, usage).is_some_and(|pfn| {
                // The lock serializes changes of the upper tables.
                let _area = AREA.lock();
                let table = || {
                    let table = frame(Kind::PageTable, usage)?;
                    hal::phys::zero(table);
                    Some(table)
                };
                let done = paging::map_passing_page(VirtAddr::new(start + page * PAGE), pfn, table);
                if !done {
                    free_one(pfn);
                }
                done
            });
            if !mapped {
                release(first, count, page);
                return core::ptr::null_mut();
            }
        }
        start as *mut u8
    }

    /// Gives a block of `size` bytes back.
    #[cold]
    pub fn free(p: *mut u8, size: usize) {
        let offset = p as u64 - paging::VMALLOC_AREA;
        let first = (offset / super::CHUNK) as usize;
        debug_assert!(offset.is_multiple_of(super::CHUNK));
        release(first, run_of(size), (size as u64).div_ceil(PAGE));
    }

    fn release(first: usize, count: usize, pages: u64) {
        let start = address(first);
        for page in 0..pages {
            if let Some(pfn) = paging::unmap_kernel_page(VirtAddr::new(start + page * PAGE)) {
                free_one(pfn);
            }
        }
        let mut area = AREA.lock();
        area.dirty.set(first, count);
        area.freed += count;
    }

    fn address(chunk: usize) -> u64 {
        paging::VMALLOC_AREA + chunk as u64 * super::CHUNK
    }

    /// Whether all nodes together have `pages` free: what cannot be is not begun.
    fn enough(pages: u64) -> bool {
        let nodes = (0..MAX_NODES).filter_map(NodeId::try_new).filter_map(node);
        pages < 64 || nodes.map(crate::node::Node::free_frames).sum::<u64>() > pages
    }

    fn frame(kind: Kind, usage: Usage) -> Option<Pfn> {
        alloc_one(percpu::node(), kind, usage).or_else(|| {
            (0..MAX_NODES).filter_map(NodeId::try_new).find_map(|n| alloc_one(n, kind, usage))
        })
    }
}

/// Bytes of a chunk.
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "for the bare machine"))]
const CHUNK: u64 = 4 << 20;
/// Chunks of the area: 256 GiB of addresses.
const CHUNKS: usize = 65_536;

/// Chunks that `size` bytes and the unmapped page behind them take.
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "for the bare machine"))]
const fn run_of(size: usize) -> usize {
    (size as u64 + 4096).div_ceil(CHUNK) as usize
}

/// A set of chunks.
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "for the bare machine"))]
struct Chunks([u64; CHUNKS / 64]);

#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "for the bare machine"))]
impl Chunks {
    const fn new() -> Self {
        Self([0; CHUNKS / 64])
    }

    fn contains(&self, chunk: usize) -> bool {
        self.0[chunk / 64] & 1 << (chunk % 64) != 0
    }

    fn set(&mut self, first: usize, count: usize) {
        for chunk in first..first + count {
            self.0[chunk / 64] |= 1 << (chunk % 64);
        }
    }

    /// The first `count` chunks in a row that are not in the set.
    fn find_run(&self, count: usize) -> Option<usize> {
        let (mut first, mut at) = (0, 0);
        while at < CHUNKS {
            if at.is_multiple_of(64) && self.0[at / 64] == u64::MAX {
                at += 64;
                first = at;
                continue;
            }
            if self.contains(at) {
                first = at + 1;
            } else if at + 1 - first >= count {
                return Some(first);
            }
            at += 1;
        }
        None
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    fn copy_from(&mut self, other: &Self) {
        self.0.copy_from_slice(&other.0);
    }

    fn subtract(&mut self, other: &Self) {
        for (word, gone) in self.0.iter_mut().zip(&other.0) {
            *word &= !gone;
        }
    }

    /// Adds all of `other`, which are apart; how many they are.
    fn add(&mut self, other: &Self) -> usize {
        let mut added = 0;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
            added += more.count_ones() as usize;
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_first_that_fits() {
        let mut set = std::boxed::Box::new(Chunks::new());
        assert_eq!(set.find_run(1), Some(0));
        set.set(0, 70);
        set.set(75, 60);
        assert_eq!(set.find_run(5), Some(70));
        assert_eq!(set.find_run(6), Some(135));
        assert_eq!(set.find_run(CHUNKS), None);
        let mut gone = std::boxed::Box::new(Chunks::new());
        gone.set(2, 3);
        set.subtract(&gone);
        assert_eq!(set.find_run(3), Some(2));
        set.set(0, CHUNKS);
        assert_eq!(set.find_run(1), None);
    }

    #[test]
    fn a_block_leaves_a_page_at_its_end() {
        assert_eq!(run_of(1), 1);
        assert_eq!(run_of((4 << 20) - 4096), 1);
        assert_eq!(run_of(4 << 20), 2);
        assert_eq!(run_of((8 << 20) - 4095), 3);
    }
}
