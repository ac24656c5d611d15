//! The kernel's heap: a slab allocator with a magazine per CPU in front of each node's slabs.
//!
//! Objects of 16 to 2048 bytes come from slabs of one size class; larger ones are blocks of the
//! buddy allocator. A slab that is empty goes back to its node. Allocation prefers the CPU's own
//! node and falls back to any node that has room: the kernel's own memory follows no policy.
//!
//! What no block of the buddy allocator can hold is contiguous in addresses alone ([`vmalloc`]). When
//! memory is out, an allocation goes through [`relief`](crate::relief): whoever may sleep has
//! memory made for it, whoever may not takes from the reserve.
#![allow(unsafe_code, reason = "an allocator hands out raw memory; see each SAFETY comment")]

use crate::meta::{Kind, frame};
use crate::node::{Usage, alloc as alloc_block, free as free_block};
use crate::{relief, vmalloc};
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use hal::{Pfn, PhysAddr, phys};
use numa::{MAX_CPUS, MAX_NODES, NodeId};
use sync::{IrqLock, Once};

const CLASSES: [u16; 15] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1280, 1536, 2048];
/// Class index by size in units of 16 bytes, rounded up.
const CLASS_OF: [u8; 129] = {
    let mut table = [0u8; 129];
    let mut units = 0;
    while units <= 128 {
        let mut class = 0;
        while (CLASSES[class] as usize) < units * 16 {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};
/// Slabs of large objects are blocks, so that little is wasted at their ends.
const fn slab_order(class: usize) -> u32 {
    if CLASSES[class] <= 256 {
        0
    } else if CLASSES[class] <= 768 {
        1
    } else {
        2
    }
}
/// Objects that a magazine takes or gives back at once.
const BATCH: u32 = 16;
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Magazine {
    head: *mut u8,
    count: u32,
}

#[repr(align(64))]
struct CpuHeap(IrqLock<[Magazine; CLASSES.len()]>);
// SAFETY: the pointers lead to free objects that only the holder of the lock touches.
unsafe impl Sync for CpuHeap {}
// SAFETY: as above.
unsafe impl Send for CpuHeap {}

/// A node's slabs of one class that have free objects: a list through their metadata.
struct Partial {
    head: u64,
    /// Slabs of the class on this node, full ones included, and objects of them that are out.
    slabs: u64,
    out: u64,
}

struct NodeHeap {
    classes: [IrqLock<Partial>; CLASSES.len()],
}

/// The global allocator. Until [`Heap::start`] it carves from a small static arena.
pub struct Heap {
    cpus: Once<alloc::vec::Vec<CpuHeap>>,
    nodes: [NodeHeap; MAX_NODES],
    started: AtomicBool,
    early: AtomicUsize,
}

/// One size of objects, over all nodes.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Bytes of an object.
    pub size: u64,
    /// Objects and frames of a slab.
    pub per_slab: u64,
    pub pages: u64,
    pub slabs: u64,
    /// Objects in use, those in the CPUs' magazines included.
    pub in_use: u64,
}

/// Bytes that boot may allocate before the frames are known.
const EARLY: usize = 384 * 1024;
#[repr(align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; EARLY]>);
// SAFETY: pieces are handed out once each, through an atomic counter.
unsafe impl Sync for Arena {}
static ARENA: Arena = Arena(core::cell::UnsafeCell::new([0; EARLY]));

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Heap {
    /// The allocator, in its early state.
    pub const fn new() -> Self {
        Self {
            cpus: Once::new(),
            nodes: [const {
                NodeHeap {
                    classes: [const { IrqLock::new(Partial { head: NONE, slabs: 0, out: 0 }) };
                        CLASSES.len()],
                }
            }; MAX_NODES],
            started: AtomicBool::new(false),
            early: AtomicUsize::new(0),
        }
    }

    /// Goes over to slabs: the nodes' memory is set up. `cpus` is the number of CPUs.
    pub fn start(&self, cpus: usize) {
        assert!(cpus <= MAX_CPUS);
        self.cpus.get_or_init(|| {
            (0..cpus)
                .map(|_| {
                    let empty = Magazine { head: core::ptr::null_mut(), count: 0 };
                    CpuHeap(IrqLock::new([empty; CLASSES.len()]))
                })
                .collect()
        });
        self.started.store(true, Ordering::Release);
    }

    /// The classes with what they hold now.
    pub fn classes(&self) -> impl Iterator<Item = Class> {
        CLASSES.iter().enumerate().map(|(class, &size)| {
            let pages = 1 << slab_order(class);
            let size = u64::from(size);
            let mut found =
                Class { size, per_slab: pages * 4096 / size, pages, slabs: 0, in_use: 0 };
            for node in &self.nodes {
                let partial = node.classes[class].lock();
                found.slabs += partial.slabs;
                found.in_use += partial.out;
            }
            found
        })
    }

    #[inline]
    fn attempt(&self, layout: Layout, usage: Usage) -> *mut u8 {
        match class_of(layout) {
            Some(class) => self.take(class, usage),
            None => large_alloc(layout, usage),
        }
    }

    /// An allocation for which there is no memory, or none in one piece.
    #[cold]
    fn when_out(&self, layout: Layout) -> *mut u8 {
        let apart = |usage| vmalloc::alloc(layout, usage);
        let mut p = apart(Usage::Kernel);
        let mut tries = 0;
        while p.is_null() && relief::make_room(layout.size(), tries) {
            tries += 1;
            self.trim();
            p = self.attempt(layout, Usage::Kernel);
            if p.is_null() {
                p = apart(Usage::Kernel);
            }
        }
        if p.is_null() {
            relief::note_emergency();
            p = self.attempt(layout, Usage::Emergency);
        }
        if p.is_null() { apart(Usage::Emergency) } else { p }
    }

    fn early_alloc(&self, layout: Layout) -> *mut u8 {
        let base = ARENA.0.get() as usize;
        let mut at = self.early.load(Ordering::Relaxed);
        loop {
            let start = (base + at).next_multiple_of(layout.align()) - base;
            let end = start + layout.size();
            if end > EARLY {
                return core::ptr::null_mut();
            }
            match self.early.compare_exchange(at, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (base + start) as *mut u8,
                Err(now) => at = now,
            }
        }
    }

    fn is_early(p: *mut u8) -> bool {
        let base = ARENA.0.get() as usize;
        (base..base + EARLY).contains(&(p as usize))
    }

    #[inline]
    fn magazine(&self) -> Option<&CpuHeap> {
        self.cpus.get()?.get(this_cpu())
    }

    #[inline]
    fn take(&self, class: usize, usage: Usage) -> *mut u8 {
        let Some(cpu) = self.magazine() else { return core::ptr::null_mut() };
        let mut magazines = cpu.0.lock();
        let magazine = &mut magazines[class];
        if magazine.count == 0 {
            self.refill(class, magazine, usage);
            if magazine.count == 0 {
                return core::ptr::null_mut();
            }
        }
        let p = magazine.head;
        // SAFETY: a free object holds the pointer to the next one in its first word.
        magazine.head = unsafe { p.cast::<*mut u8>().read() };
        magazine.count -= 1;
        p
    }

    #[inline]
    fn give(&self, class: usize, p: *mut u8) {
        let Some(cpu) = self.magazine() else { return };
        let mut magazines = cpu.0.lock();
        let magazine = &mut magazines[class];
        // SAFETY: the object is free now and at least 16 bytes.
        unsafe { p.cast::<*mut u8>().write(magazine.head) };
        magazine.head = p;
        magazine.count += 1;
        if magazine.count > 2 * BATCH {
            self.flush(class, magazine, BATCH);
        }
    }

    /// Takes a batch from the own node's slabs, else from any node's.
    #[cold]
    fn refill(&self, class: usize, magazine: &mut Magazine, usage: Usage) {
        let own = this_node();
        self.refill_from(own, class, magazine, usage);
        if magazine.count > 0 {
            return;
        }
        for i in 0..MAX_NODES {
            let Some(node) = NodeId::try_new(i) else { break };
            if node != own && crate::node(node).is_some() {
                self.refill_from(node, class, magazine, usage);
                if magazine.count > 0 {
                    return;
                }
            }
        }
    }

    fn refill_from(&self, node: NodeId, class: usize, magazine: &mut Magazine, usage: Usage) {
        let mut partial = self.nodes[node.index()].classes[class].lock();
        while magazine.count < BATCH {
            if partial.head == NONE && !partial.grow(node, class, usage) {
                return;
            }
            let p = partial.pop();
            // SAFETY: a free object of at least 16 bytes.
            unsafe { p.cast::<*mut u8>().write(magazine.head) };
            magazine.head = p;
            magazine.count += 1;
        }
    }

    /// Gives `count` objects back to their slabs.
    #[cold]
    fn flush(&self, class: usize, magazine: &mut Magazine, count: u32) {
        for _ in 0..count {
            let p = magazine.head;
            // SAFETY: as in `take`.
            magazine.head = unsafe { p.cast::<*mut u8>().read() };
            magazine.count -= 1;
            let slab = slab_of(p, class);
            let node = frame(slab).node();
            self.nodes[node.index()].classes[class].lock().push(slab, p, class);
        }
    }

    /// Gives every CPU's spare objects back, so that empty slabs return to their nodes.
    pub fn trim(&self) {
        let Some(cpus) = self.cpus.get() else { return };
        for cpu in cpus {
            let mut magazines = cpu.0.lock();
            for (class, magazine) in magazines.iter_mut().enumerate() {
                let count = magazine.count;
                self.flush(class, magazine, count);
            }
        }
    }
}

#[cfg(target_os = "none")]
fn this_cpu() -> usize {
    hal::percpu::cpu().index()
}
#[cfg(target_os = "none")]
fn this_node() -> NodeId {
    hal::percpu::node()
}
#[cfg(not(target_os = "none"))]
fn this_cpu() -> usize {
    0
}
#[cfg(not(target_os = "none"))]
fn this_node() -> NodeId {
    NodeId::new(0)
}

fn slab_of(p: *mut u8, class: usize) -> Pfn {
    let size = 4096u64 << slab_order(class);
    let base = phys::ptr::<u8>(PhysAddr::new(0)) as u64;
    Pfn::containing(PhysAddr::new((p as u64 - base) & !(size - 1)))
}

// A slab's metadata: owner/index link the list of slabs with free objects, `why` is unused; the
// head of its free objects and their number live in the first words of a free object chain:
// the count of objects in use is `maps`, the chain's head is kept in `refs` as an offset / 8 + 1.
impl Partial {
    fn grow(&mut self, node: NodeId, class: usize, usage: Usage) -> bool {
        let order = slab_order(class);
        let Some(slab) = alloc_block(node, order, Kind::Slab, usage) else { return false };
        let size = CLASSES[class] as usize;
        let base = phys::ptr::<u8>(slab.addr());
        let objects = (4096usize << order) / size;
        // Chain the objects in address order.
        for i in 0..objects {
            let next = if i + 1 < objects { ((i + 1) * size / 8 + 1) as u32 } else { 0 };
            // SAFETY: inside the block just allocated.
            unsafe { base.add(i * size).cast::<u32>().write(next) };
        }
        let meta = frame(slab);
        meta.set_refs(1);
        meta.clear_maps();
        self.slabs += 1;
        self.link(slab.raw());
        true
    }

    fn link(&mut self, slab: u64) {
        frame(Pfn::new(slab)).set_owner(self.head, NONE);
        if self.head != NONE {
            let next = frame(Pfn::new(self.head));
            let (after, _) = next.owner();
            next.set_owner(after, slab);
        }
        self.head = slab;
    }

    fn unlink(&mut self, slab: u64) {
        let (next, prev) = frame(Pfn::new(slab)).owner();
        if prev == NONE {
            self.head = next;
        } else {
            let before = frame(Pfn::new(prev));
            let (_, first) = before.owner();
            before.set_owner(next, first);
        }
        if next != NONE {
            let after = frame(Pfn::new(next));
            let (last, _) = after.owner();
            after.set_owner(last, prev);
        }
    }

    /// Takes an object of the first slab; the list is not empty.
    fn pop(&mut self) -> *mut u8 {
        let slab = self.head;
        let meta = frame(Pfn::new(slab));
        let base = phys::ptr::<u8>(Pfn::new(slab).addr());
        let at = (meta.refs() - 1) as usize * 8;
        // SAFETY: the chain's head is a free object of this slab.
        let (p, next) = unsafe {
            let p = base.add(at);
            (p, p.cast::<u32>().read())
        };
        meta.add_map();
        self.out += 1;
        if next == 0 {
            // Full: it comes back to the list with the first object that is freed.
            meta.set_refs(u32::MAX);
            self.unlink(slab);
        } else {
            meta.set_refs(next);
        }
        p
    }

    fn push(&mut self, slab: Pfn, p: *mut u8, class: usize) {
        let meta = frame(slab);
        assert!(meta.kind() == Kind::Slab, "freed memory at {p:p} is no heap object");
        let base = phys::ptr::<u8>(slab.addr());
        let next = if meta.refs() == u32::MAX { 0 } else { meta.refs() };
        // SAFETY: the object is free and belongs to this slab.
        unsafe { p.cast::<u32>().write(next) };
        let full_before = next == 0;
        meta.set_refs(((p as usize - base as usize) / 8 + 1) as u32);
        let in_use = meta.remove_map();
        self.out -= 1;
        if full_before {
            self.link(slab.raw());
        }
        // Keep one slab in the list, so that a single object does not go to and fro.
        let (next_slab, prev_slab) = meta.owner();
        if in_use == 0 && (next_slab != NONE || prev_slab != NONE) {
            self.unlink(slab.raw());
            debug_assert!(meta.order() == slab_order(class));
            self.slabs -= 1;
            free_block(slab);
        }
    }
}

// SAFETY: objects of a class are at least as large and as aligned as the layout asks (the class is
// chosen by the larger of both), and are handed out once until they are freed.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.started.load(Ordering::Relaxed) {
            return self.early_alloc(layout);
        }
        let p = self.attempt(layout, Usage::Kernel);
        if p.is_null() { self.when_out(layout) } else { p }
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // The arena and blocks whose frames lie apart are beyond the direct map.
        if vmalloc::is_beyond_direct_map(p) {
            if !Self::is_early(p) {
                vmalloc::free(p, layout.size());
            }
            return;
        }
        match class_of(layout) {
            Some(class) => self.give(class, p),
            None => {
                let base = phys::ptr::<u8>(PhysAddr::new(0)) as u64;
                free_block(Pfn::containing(PhysAddr::new(p as u64 - base)));
            }
        }
    }
}

/// The class for a layout; None above the largest. Alignments above 16 need a power-of-two class.
#[inline]
fn class_of(layout: Layout) -> Option<usize> {
    let size = if layout.align() > 16 {
        layout.size().max(layout.align()).next_power_of_two()
    } else {
        layout.size()
    };
    (size <= 2048).then(|| CLASS_OF[size.div_ceil(16)] as usize)
}

fn large_alloc(layout: Layout, usage: Usage) -> *mut u8 {
    let bytes = layout.size().max(layout.align());
    let order = bytes.div_ceil(4096).next_power_of_two().trailing_zeros();
    if order > crate::MAX_ORDER {
        return core::ptr::null_mut();
    }
    let own = this_node();
    let got = alloc_block(own, order, Kind::Slab, usage).or_else(|| {
        (0..MAX_NODES)
            .filter_map(NodeId::try_new)
            .find_map(|n| alloc_block(n, order, Kind::Slab, usage))
    });
    got.map_or(core::ptr::null_mut(), |pfn| phys::ptr(pfn.addr()))
}
