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

use crate::faults::{self, Want};
use crate::meta::{Kind, frame};
use crate::node::{Usage, alloc as alloc_block, free as free_block};
use crate::{relief, vmalloc};
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
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
/// Bytes of the largest block that is asked for to see whether it can be had.
const PROBED: usize = 8 * 4096;
/// Objects that a magazine takes or gives back at once.
const BATCH: u32 = 16;
const NONE: u64 = u64::MAX;

/// A CPU's free objects of each class: chains, and how many there are, which may be looked at
/// without the lock.
#[repr(align(64))]
struct CpuHeap {
    heads: IrqLock<[*mut u8; CLASSES.len()]>,
    counts: [AtomicU32; CLASSES.len()],
}
// SAFETY: the pointers lead to free objects that only the holder of the lock touches.
unsafe impl Sync for CpuHeap {}
// SAFETY: as above.
unsafe impl Send for CpuHeap {}

/// The magazine of one class, locked.
struct Magazine<'a> {
    head: &'a mut *mut u8,
    count: &'a AtomicU32,
}

impl Magazine<'_> {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds a free object; how many there are then.
    #[inline(always)]
    fn push(&mut self, p: *mut u8) -> u32 {
        // SAFETY: the object is free and at least 16 bytes.
        unsafe { p.cast::<*mut u8>().write(*self.head) };
        *self.head = p;
        let len = self.len() + 1;
        self.count.store(len, Ordering::Relaxed);
        len
    }

    /// Takes an object; there is one.
    #[inline(always)]
    fn pop(&mut self) -> *mut u8 {
        let p = *self.head;
        // SAFETY: a free object holds the pointer to the next one in its first word.
        *self.head = unsafe { p.cast::<*mut u8>().read() };
        self.count.store(self.len() - 1, Ordering::Relaxed);
        p
    }
}

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

/// The kernel's heap.
#[cfg(target_os = "none")]
#[global_allocator]
pub static HEAP: Heap = Heap::new();

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
                .map(|_| CpuHeap {
                    heads: IrqLock::new([core::ptr::null_mut(); CLASSES.len()]),
                    counts: [const { AtomicU32::new(0) }; CLASSES.len()],
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

    /// An allocation for which there is no memory, or none in one piece. The reserve gives what
    /// nothing else does.
    #[cold]
    fn when_out(&self, layout: Layout) -> *mut u8 {
        let p = self.with_relief(layout);
        if p.is_null() { self.take_reserve(layout) } else { p }
    }

    #[cold]
    fn take_reserve(&self, layout: Layout) -> *mut u8 {
        relief::note_emergency();
        let p = self.attempt(layout, Usage::Emergency);
        if p.is_null() { vmalloc::alloc(layout, Usage::Emergency) } else { p }
    }

    /// Tries again while others make room, if the caller may wait for them.
    #[cold]
    fn with_relief(&self, layout: Layout) -> *mut u8 {
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
        p
    }

    /// Makes sure that the next `count` objects of `layout` are there, without the reserve: they
    /// wait on this CPU. A block that is no object is only asked for and given back; of a large one
    /// the frames are counted. False without memory.
    #[inline(always)]
    pub fn ready(&self, layout: Layout, count: u32) -> bool {
        if faults::should_fail(Want::Fallible(layout.size() * count as usize)) {
            return false;
        }
        // Mostly they are there. Whoever takes one in between has the others looked for anew.
        let there = |class: usize| {
            let cpu = self.magazine();
            cpu.is_some_and(|cpu| cpu.counts[class].load(Ordering::Relaxed) >= count)
        };
        class_of(layout).is_some_and(there) || self.make_ready(layout, count)
    }

    #[cold]
    fn make_ready(&self, layout: Layout, count: u32) -> bool {
        if !self.started.load(Ordering::Relaxed) {
            return true;
        }
        let Some(class) = class_of(layout) else {
            return if layout.size() > PROBED { self.has_room(layout) } else { self.probe(layout) };
        };
        debug_assert!(count <= BATCH);
        self.stock(class, count) || self.stock_with_relief(layout, class, count)
    }

    /// Has this CPU hold `count` objects of a class.
    fn stock(&self, class: usize, count: u32) -> bool {
        let Some(cpu) = self.magazine() else { return false };
        let mut heads = cpu.heads.lock();
        let mut magazine = Magazine { head: &mut heads[class], count: &cpu.counts[class] };
        if magazine.len() < count {
            self.refill(class, &mut magazine, Usage::Kernel, count);
        }
        magazine.len() >= count
    }

    #[cold]
    fn stock_with_relief(&self, layout: Layout, class: usize, count: u32) -> bool {
        let mut tries = 0;
        while relief::make_room(layout.size(), tries) {
            tries += 1;
            self.trim();
            if self.stock(class, count) {
                return true;
            }
        }
        false
    }

    /// Whether the frames of a large block are there, beside the reserves.
    #[cold]
    fn has_room(&self, layout: Layout) -> bool {
        let pages = (layout.size() as u64).div_ceil(4096);
        let nodes = || (0..MAX_NODES).filter_map(NodeId::try_new).filter_map(crate::node);
        let there = || nodes().map(crate::node::Node::spare_frames).sum::<u64>() > pages;
        let mut tries = 0;
        while !there() {
            if !relief::make_room(layout.size(), tries) {
                return false;
            }
            tries += 1;
            self.trim();
        }
        true
    }

    #[cold]
    fn probe(&self, layout: Layout) -> bool {
        let mut p = self.attempt(layout, Usage::Kernel);
        if p.is_null() {
            p = self.with_relief(layout);
        }
        if !p.is_null() {
            // SAFETY: the block was allocated with this layout just now.
            unsafe { self.dealloc(p, layout) };
        }
        !p.is_null()
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
        let mut heads = cpu.heads.lock();
        let mut magazine = Magazine { head: &mut heads[class], count: &cpu.counts[class] };
        if magazine.len() == 0 {
            self.refill(class, &mut magazine, usage, 1);
            if magazine.len() == 0 {
                return core::ptr::null_mut();
            }
        }
        magazine.pop()
    }

    #[inline]
    fn give(&self, class: usize, p: *mut u8) {
        let Some(cpu) = self.magazine() else { return };
        let mut heads = cpu.heads.lock();
        let mut magazine = Magazine { head: &mut heads[class], count: &cpu.counts[class] };
        if magazine.push(p) > 2 * BATCH {
            self.flush(class, &mut magazine, BATCH);
        }
    }

    /// Takes a batch from the own node's slabs, else, until there are `least`, from any node's.
    #[cold]
    fn refill(&self, class: usize, magazine: &mut Magazine<'_>, usage: Usage, least: u32) {
        let own = this_node();
        self.refill_from(own, class, magazine, usage);
        if magazine.len() >= least {
            return;
        }
        for i in 0..MAX_NODES {
            let Some(node) = NodeId::try_new(i) else { break };
            if node != own && crate::node(node).is_some() {
                self.refill_from(node, class, magazine, usage);
                if magazine.len() >= least {
                    return;
                }
            }
        }
    }

    fn refill_from(&self, node: NodeId, class: usize, magazine: &mut Magazine<'_>, usage: Usage) {
        let mut partial = self.nodes[node.index()].classes[class].lock();
        while magazine.len() < BATCH {
            if partial.head == NONE && !partial.grow(node, class, usage) {
                return;
            }
            magazine.push(partial.pop());
        }
    }

    /// Gives `count` objects back to their slabs.
    #[cold]
    fn flush(&self, class: usize, magazine: &mut Magazine<'_>, count: u32) {
        for _ in 0..count {
            let p = magazine.pop();
            let slab = slab_of(p, class);
            let node = frame(slab).node();
            self.nodes[node.index()].classes[class].lock().push(slab, p, class);
        }
    }

    /// Gives every CPU's spare objects back, so that empty slabs return to their nodes.
    pub fn trim(&self) {
        let Some(cpus) = self.cpus.get() else { return };
        for cpu in cpus {
            let mut heads = cpu.heads.lock();
            for (class, head) in heads.iter_mut().enumerate() {
                let mut magazine = Magazine { head, count: &cpu.counts[class] };
                let count = magazine.len();
                self.flush(class, &mut magazine, count);
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
        if faults::should_fail(Want::Certain(layout.size())) {
            return self.take_reserve(layout);
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
