//! A node's memory: the buddy allocator behind a lock, a small cache per CPU in front of it, and
//! counters that no two CPUs share.

pub mod pageblocks;

use crate::buddy::{Buddy, MOBILITIES, Mobility};
use crate::meta::{KINDS, Kind, frame};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use hal::Pfn;
use numa::{CpuId, MAX_NODES, NodeId, NodeMask};
use sync::{IrqLock, Once};

/// Frames that a CPU's cache takes from the buddy or gives back at once (a batch).
const BATCH: usize = 16;
/// Frames of a mobility that a CPU's cache holds at most: two batches.
const CACHE: usize = 2 * BATCH;

/// Counters of one CPU for one node. Written only by that CPU, so relaxed loads and stores do.
#[repr(align(64))]
struct PerCpu {
    caches: IrqLock<[Cache; MOBILITIES - 1]>,
    /// Frames ever allocated and freed by this CPU, by kind: the difference, over all CPUs, is in
    /// use.
    allocated: [AtomicU64; KINDS],
    freed: [AtomicU64; KINDS],
    /// Frames of shared memory that page tables map. Negative when another CPU mapped them.
    mapped: AtomicI64,
    events: [AtomicU64; EVENTS],
}

impl PerCpu {
    fn new() -> Self {
        Self {
            caches: IrqLock::new(
                [const { Cache { len: 0, frames: [Pfn::new(0); CACHE] } }; MOBILITIES - 1],
            ),
            allocated: [const { AtomicU64::new(0) }; KINDS],
            freed: [const { AtomicU64::new(0) }; KINDS],
            mapped: AtomicI64::new(0),
            events: [const { AtomicU64::new(0) }; EVENTS],
        }
    }

    /// Free frames in its caches.
    fn cached(&self) -> usize {
        self.caches.lock().iter().map(|cache| cache.len).sum()
    }
}

/// Free frames of one mobility.
struct Cache {
    len: usize,
    frames: [Pfn; CACHE],
}

/// Gives frames of a cache back to the buddy: those that follow each other, up or down, at once.
fn give_back(buddy: &mut Buddy, node: NodeId, frames: &[Pfn]) {
    let mut rest = frames;
    while let [first, others @ ..] = rest {
        let step = others.first().map_or(0, |next| next.raw().wrapping_sub(first.raw()));
        if step != 1 && step != u64::MAX {
            buddy.free(*first, 0);
            rest = others;
            continue;
        }
        let mut expected = first.raw();
        let count = 1 + others
            .iter()
            .take_while(|next| {
                expected = expected.wrapping_add(step);
                next.raw() == expected
            })
            .count();
        let (these, others) = rest.split_at(count);
        these.iter().for_each(|pfn| frame(*pfn).set_state(Kind::Kernel, 0, node));
        buddy.free_run(these[0].min(these[count - 1]), count as u64);
        rest = others;
    }
}

/// What numastat counts, per node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Event {
    /// Intended here and allocated here.
    Hit = 0,
    /// Allocated here though another node was intended.
    Miss,
    /// Intended here, allocated elsewhere.
    Foreign,
    /// Interleaved here as intended.
    InterleaveHit,
    /// Allocated here by a CPU of this node.
    Local,
    /// Allocated here by a CPU of another node.
    Other,
}

/// Number of events.
pub const EVENTS: usize = 6;

/// How deep an allocation may dig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Memory of programs: stops at the reserve.
    User,
    /// Memory that the kernel needs to go on (page tables, heap): may use half of the reserve.
    Kernel,
    /// What cannot fail, and whoever is about to die and give memory back: may use all of it.
    Emergency,
}

/// One node's memory.
pub struct Node {
    id: NodeId,
    buddy: IrqLock<Buddy>,
    /// Absent until the heap works: then the buddy serves everybody.
    per_cpu: Once<Box<[PerCpu]>>,
    /// Frames in use that were counted before that.
    early: [AtomicI64; KINDS],
    /// Frames that users may not have.
    reserve: u64,
    /// Frames under management.
    managed: u64,
    /// Frames of the node, with those that were never given to the allocator.
    present: u64,
    /// First and one-past-last frame of the node.
    span: (Pfn, Pfn),
}

/// A node's numbers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub present: u64,
    pub managed: u64,
    /// Free in the buddy allocator and in the CPUs' caches.
    pub free: u64,
    pub cached: u64,
    pub reserve: u64,
    pub used: [u64; KINDS],
    /// Frames ever allocated, and given back, of any kind.
    pub allocated: u64,
    pub freed: u64,
    /// Frames of shared memory that page tables map.
    pub mapped: u64,
    pub events: [u64; EVENTS],
    pub blocks: [u64; crate::MAX_ORDER as usize + 1],
    pub span: (u64, u64),
}

static NODES: Once<[Option<Node>; MAX_NODES]> = Once::new();

/// The node's memory, or None when it has none.
#[inline]
pub fn node(id: NodeId) -> Option<&'static Node> {
    NODES.get()?[id.index()].as_ref()
}

/// The nodes that have memory.
pub fn with_memory() -> NodeMask {
    let nodes = NODES.get().into_iter().flatten().flatten();
    nodes.fold(NodeMask::EMPTY, |mask, node| mask.with(node.id))
}

/// A node's numbers; zeroes when it has no memory.
pub fn stats(id: NodeId) -> Stats {
    node(id).map(Node::stats).unwrap_or_default()
}

/// What [`init`] needs to know of a node.
pub struct NodeMemory {
    pub id: NodeId,
    pub present: u64,
    /// Free ranges, to be managed.
    pub free: Vec<(Pfn, Pfn)>,
    pub span: (Pfn, Pfn),
    /// Frames that were taken before this allocator existed and may be freed to it later.
    pub early: u64,
}

/// Puts the CPUs' caches in front of every node (the heap works).
pub fn start_caches(cpus: usize) {
    for node in NODES.get().into_iter().flatten().flatten() {
        let caches: Vec<PerCpu> = (0..cpus).map(|_| PerCpu::new()).collect();
        node.per_cpu.get_or_init(|| caches.into_boxed_slice());
    }
}

/// Sets every node up, once. The metadata of the ranges is mapped and zeroed.
pub fn init(memory: Vec<NodeMemory>) {
    NODES.get_or_init(|| {
        let mut nodes = [const { None }; MAX_NODES];
        for m in memory {
            let mut buddy = Buddy::new(m.id, m.span);
            for &(start, end) in &m.free {
                buddy.add(start, end);
            }
            let managed = buddy.free_frames() + m.early;
            let early = [const { AtomicI64::new(0) }; KINDS];
            early[Kind::Kernel as usize].store(m.early as i64, Ordering::Relaxed);
            nodes[m.id.index()] = Some(Node {
                id: m.id,
                buddy: IrqLock::new(buddy),
                per_cpu: Once::new(),
                early,
                // 1/256 of the node, 64 KiB to 4 MiB.
                reserve: (managed / 256).clamp(16, 1024),
                managed,
                present: m.present,
                span: m.span,
            });
        }
        nodes
    });
}

#[cfg(target_os = "none")]
#[inline(always)]
fn this_cpu() -> usize {
    hal::percpu::cpu().index()
}
#[cfg(not(target_os = "none"))]
fn this_cpu() -> usize {
    0
}

impl Node {
    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    fn caches(&self) -> &[PerCpu] {
        self.per_cpu.get().map_or(&[], |all| &all[..])
    }

    #[inline]
    fn count(&self, cpu: usize, kind: Kind, frames: i64) {
        let Some(all) = self.per_cpu.get() else {
            self.early[kind as usize].fetch_add(frames, Ordering::Relaxed);
            return;
        };
        let counters = if frames > 0 { &all[cpu].allocated } else { &all[cpu].freed };
        counters[kind as usize].fetch_add(frames.unsigned_abs(), Ordering::Relaxed);
    }

    /// Free frames at which an allocation stops.
    fn floor(&self, usage: Usage) -> u64 {
        match usage {
            Usage::User => self.reserve,
            Usage::Kernel => self.reserve / 2,
            Usage::Emergency => 0,
        }
    }

    /// Counts an event of numastat on this CPU.
    #[inline]
    pub fn event(&self, event: Event) {
        if let Some(all) = self.per_cpu.get() {
            all[this_cpu()].events[event as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One frame from this CPU's cache, refilled from the buddy when it is empty.
    #[inline]
    fn take_one(&self, mobility: Mobility, usage: Usage) -> Option<(Pfn, usize)> {
        let _stay = hal::preempt::PreemptGuard::new();
        let cpu = this_cpu();
        let Some(all) = self.per_cpu.get() else {
            return Some((self.buddy.lock().alloc(0, mobility)?, cpu));
        };
        let mut caches = all[cpu].caches.lock();
        let cache = &mut caches[mobility as usize];
        if cache.len == 0 {
            self.refill(cache, mobility, usage)?;
        }
        cache.len -= 1;
        Some((cache.frames[cache.len], cpu))
    }

    #[cold]
    fn refill(&self, cache: &mut Cache, mobility: Mobility, usage: Usage) -> Option<()> {
        let mut buddy = self.buddy.lock();
        let floor = self.floor(usage);
        while cache.len < BATCH {
            let room = buddy.free_frames().saturating_sub(floor).min((BATCH - cache.len) as u64);
            if room == 0 {
                break;
            }
            let Some((start, order)) = buddy.alloc_some(room, mobility) else { break };
            for pfn in start.raw()..start.raw() + (1 << order) {
                frame(Pfn::new(pfn)).set_state(Kind::Cached, 0, self.id);
                let at = cache.len;
                cache.frames[at] = Pfn::new(pfn);
                cache.len += 1;
            }
        }
        // Lowest address first out: neighbours stay together.
        let len = cache.len;
        cache.frames[..len].reverse();
        (cache.len > 0).then_some(())
    }

    /// Frees what the CPUs' caches hold (before saying that the node is full; for exact counts).
    pub fn drain(&self) {
        for per_cpu in self.caches() {
            let mut caches = per_cpu.caches.lock();
            for cache in caches.iter_mut().filter(|cache| cache.len > 0) {
                give_back(&mut self.buddy.lock(), self.id, &cache.frames[..cache.len]);
                cache.len = 0;
            }
        }
    }

    fn alloc_one(&self, kind: Kind, usage: Usage) -> Option<Pfn> {
        let mobility = Mobility::of(kind);
        let (pfn, cpu) = match self.take_one(mobility, usage) {
            Some(got) => got,
            None => {
                // Other caches may hold the node's last frames.
                self.drain();
                self.take_one(mobility, usage)?
            }
        };
        let meta = frame(pfn);
        meta.set_state(kind, 0, self.id);
        meta.clear_maps();
        meta.set_refs(1);
        self.count(cpu, kind, 1);
        Some(pfn)
    }

    fn alloc_block(&self, order: u32, kind: Kind, usage: Usage) -> Option<Pfn> {
        let floor = self.floor(usage);
        let take = || {
            let mut buddy = self.buddy.lock();
            let enough = buddy.free_frames() >= floor + (1 << order);
            enough.then(|| buddy.alloc(order, Mobility::of(kind))).flatten()
        };
        let pfn = take().or_else(|| {
            self.drain();
            take()
        })?;
        let meta = frame(pfn);
        meta.set_state(kind, order, self.id);
        meta.clear_maps();
        meta.set_refs(1);
        let _stay = hal::preempt::PreemptGuard::new();
        self.count(this_cpu(), kind, 1 << order);
        Some(pfn)
    }

    fn free_one(&self, pfn: Pfn) {
        let meta = frame(pfn);
        let kind = meta.kind();
        // One range of numbers: from the first to the last kind that a single frame in use has.
        if !matches!(
            kind,
            Kind::Kernel | Kind::Slab | Kind::PageTable | Kind::Stack | Kind::Anon | Kind::Shared
        ) {
            return free_otherwise(pfn, kind);
        }
        let _stay = hal::preempt::PreemptGuard::new();
        let cpu = this_cpu();
        self.count(cpu, kind, -1);
        meta.set_state(Kind::Cached, 0, self.id);
        let Some(all) = self.per_cpu.get() else {
            meta.set_state(Kind::Kernel, 0, self.id);
            return self.buddy.lock().free(pfn, 0);
        };
        let mut caches = all[cpu].caches.lock();
        let cache = &mut caches[Mobility::of(kind) as usize];
        if cache.len == CACHE {
            give_back(&mut self.buddy.lock(), self.id, &cache.frames[..BATCH]);
            cache.frames.copy_within(BATCH.., 0);
            cache.len = CACHE - BATCH;
        }
        let at = cache.len;
        cache.frames[at] = pfn;
        cache.len += 1;
    }

    fn free_block(&self, pfn: Pfn) {
        let meta = frame(pfn);
        let (kind, order) = (meta.kind(), meta.order());
        let _stay = hal::preempt::PreemptGuard::new();
        self.count(this_cpu(), kind, -(1 << order));
        self.buddy.lock().free(pfn, order);
    }

    /// Gives frames back that were taken before the allocator existed (the initramfs).
    pub fn free_early(&self, start: Pfn, end: Pfn) {
        let _stay = hal::preempt::PreemptGuard::new();
        self.count(this_cpu(), Kind::Kernel, -((end.raw() - start.raw()) as i64));
        self.buddy.lock().add(start, end);
    }

    /// Free frames, those in caches included.
    pub fn free_frames(&self) -> u64 {
        let cached: u64 = self.caches().iter().map(|c| c.cached() as u64).sum();
        self.buddy.lock().free_frames() + cached
    }

    /// Frames beside the reserve that the CPUs' caches do not hold.
    pub(crate) fn spare_frames(&self) -> u64 {
        self.buddy.lock().free_frames().saturating_sub(self.reserve)
    }

    /// True when users can have `frames` more.
    pub fn has_room(&self, frames: u64) -> bool {
        self.buddy.lock().free_frames() > self.reserve + frames
    }

    fn stats(&self) -> Stats {
        let cached: u64 = self.caches().iter().map(|c| c.cached() as u64).sum();
        let buddy = self.buddy.lock();
        let mut stats = Stats {
            present: self.present,
            managed: self.managed,
            free: buddy.free_frames() + cached,
            cached,
            reserve: self.reserve,
            blocks: buddy.blocks(),
            span: (self.span.0.raw(), self.span.1.raw()),
            ..Stats::default()
        };
        drop(buddy);
        for kind in 0..KINDS {
            // Frees first: what is freed meanwhile must not count without its allocation.
            let freed: u64 =
                self.caches().iter().map(|c| c.freed[kind].load(Ordering::Relaxed)).sum();
            let early = self.early[kind].load(Ordering::Relaxed).max(0) as u64;
            let allocated: u64 =
                self.caches().iter().map(|c| c.allocated[kind].load(Ordering::Relaxed)).sum();
            stats.used[kind] = (early + allocated).saturating_sub(freed);
            stats.allocated += allocated;
            stats.freed += freed;
        }
        let mapped: i64 = self.caches().iter().map(|c| c.mapped.load(Ordering::Relaxed)).sum();
        stats.mapped = mapped.max(0) as u64;
        for event in 0..EVENTS {
            stats.events[event] =
                self.caches().iter().map(|c| c.events[event].load(Ordering::Relaxed)).sum();
        }
        stats
    }
}

/// Frees what is no single frame in use: a huge page of the pool goes back there.
#[cold]
#[inline(never)]
fn free_otherwise(pfn: Pfn, kind: Kind) {
    match kind {
        Kind::HugeTlb => crate::hugetlb::release(pfn),
        Kind::AnonHuge => free(pfn),
        Kind::SharedHuge => {
            crate::compound::part_shared(pfn, false);
            crate::free_one(pfn);
        }
        _ => panic!("frame {:#x} freed while {kind:?}", pfn.raw()),
    }
}

/// Counts frames in use of one kind as frames of another from now on.
pub(crate) fn recount(node_id: NodeId, from: Kind, to: Kind, frames: u64) {
    let _stay = hal::preempt::PreemptGuard::new();
    if let Some(node) = node(node_id) {
        node.count(this_cpu(), to, frames as i64);
        node.count(this_cpu(), from, -(frames as i64));
    }
}

/// One frame from exactly `node`, with one reference; contents are whatever was there.
#[inline]
pub fn alloc_one(node_id: NodeId, kind: Kind, usage: Usage) -> Option<Pfn> {
    node(node_id)?.alloc_one(kind, usage)
}

/// A block of 2^order frames from exactly `node`.
pub fn alloc(node_id: NodeId, order: u32, kind: Kind, usage: Usage) -> Option<Pfn> {
    if order == 0 {
        return alloc_one(node_id, kind, usage);
    }
    node(node_id)?.alloc_block(order, kind, usage)
}

/// Gives one frame back.
#[inline]
pub fn free_one(pfn: Pfn) {
    if let Some(node) = node(frame(pfn).node()) {
        node.free_one(pfn);
    }
}

/// Gives a block back; its order is remembered in its metadata.
pub fn free(pfn: Pfn) {
    if frame(pfn).order() == 0 {
        return free_one(pfn);
    }
    if let Some(node) = node(frame(pfn).node()) {
        node.free_block(pfn);
    }
}

/// Counts a frame of shared memory as mapped for the first time (1) or no longer (-1).
pub(crate) fn note_mapped(id: NodeId, change: i64) {
    let _stay = hal::preempt::PreemptGuard::new();
    if let Some(all) = node(id).and_then(|node| node.per_cpu.get()) {
        all[this_cpu()].mapped.fetch_add(change, Ordering::Relaxed);
    }
}

/// Counts an allocation as numastat does: `wanted` is the node that the policy named, `got` where
/// it came from.
#[inline(always)]
pub fn account(wanted: NodeId, got: NodeId, interleaved: bool) {
    let _stay = hal::preempt::PreemptGuard::new();
    let Some(target) = node(got) else { return };
    #[cfg(target_os = "none")]
    let here = hal::percpu::node();
    #[cfg(not(target_os = "none"))]
    let here = NodeId::new(0);
    if wanted == got {
        target.event(Event::Hit);
        if interleaved {
            target.event(Event::InterleaveHit);
        }
    } else {
        target.event(Event::Miss);
        if let Some(intended) = node(wanted) {
            intended.event(Event::Foreign);
        }
    }
    target.event(if here == got { Event::Local } else { Event::Other });
}

/// The CPUs' caches of a node: CPU, frames in it, the most that it holds, frames of a batch.
pub fn caches(node_id: NodeId) -> impl Iterator<Item = (CpuId, usize, usize, usize)> {
    let caches = node(node_id).map_or(&[] as &[PerCpu], Node::caches);
    caches.iter().enumerate().filter_map(|(i, c)| {
        Some((CpuId::try_new(i)?, c.cached(), (MOBILITIES - 1) * CACHE, BATCH))
    })
}
