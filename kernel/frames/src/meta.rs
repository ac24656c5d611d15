//! Frame metadata: an array indexed by frame number, mapped so that each node's part lies on the
//! node itself (kernel), or in ordinary memory (host tests).

use crate::refs::Refs;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hal::Pfn;
use numa::NodeId;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Not memory, or never given to the allocator.
    Reserved = 0,
    /// Head of a free block of the buddy allocator.
    Free,
    /// In a per-CPU cache.
    Cached,
    /// Allocated, use not told apart (also the inner frames of blocks).
    Kernel,
    /// Objects of the kernel's heap.
    Slab,
    PageTable,
    Stack,
    /// Private memory of processes.
    Anon,
    /// Shared memory: tmpfs, memfd, System V, page cache.
    Shared,
    /// The same, where it begins a run of [`crate::compound::FRAMES`] frames that are one huge page of
    /// their object.
    SharedHuge,
    /// Head of a page of the pool of huge pages, in use or not.
    HugeTlb,
    /// Head of a transparent huge page: private memory of processes, not broken up.
    AnonHuge,
}

/// Number of kinds.
pub const KINDS: usize = 12;

/// Names of the kinds, for reports.
pub const KIND_NAMES: [&str; KINDS] = [
    "reserved",
    "free",
    "cached",
    "kernel",
    "slab",
    "pagetable",
    "stack",
    "anon",
    "shared",
    "sharedhuge",
    "hugetlb",
    "anonhuge",
];

impl Kind {
    fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Free,
            2 => Self::Cached,
            3 => Self::Kernel,
            4 => Self::Slab,
            5 => Self::PageTable,
            6 => Self::Stack,
            7 => Self::Anon,
            8 => Self::Shared,
            9 => Self::SharedHuge,
            10 => Self::HugeTlb,
            11 => Self::AnonHuge,
            _ => Self::Reserved,
        }
    }

    /// True for a page of shared memory.
    #[inline]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Shared | Self::SharedHuge)
    }
}

/// Why a page is where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Reason {
    /// Not placed by a policy (kernel memory).
    None = 0,
    Local,
    Preferred,
    Bind,
    Interleave,
    WeightedInterleave,
    PreferredMany,
    /// The policy's node was full.
    Fallback,
    /// Moved by mbind(2), migrate_pages(2), move_pages(2).
    MovedMbind,
    MovedMigratePages,
    MovedMovePages,
    /// Gathered from small pages, where most of them were (MADV_COLLAPSE, khugepaged).
    Collapsed,
}

impl Reason {
    /// The word that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Local => "local",
            Self::Preferred => "preferred",
            Self::Bind => "bind",
            Self::Interleave => "interleave",
            Self::WeightedInterleave => "weighted-interleave",
            Self::PreferredMany => "preferred-many",
            Self::Fallback => "fallback",
            Self::MovedMbind => "moved-by-mbind",
            Self::MovedMigratePages => "moved-by-migrate_pages",
            Self::MovedMovePages => "moved-by-move_pages",
            Self::Collapsed => "collapsed",
        }
    }

    fn from_u8(value: u8) -> Self {
        const ALL: [Reason; 12] = [
            Reason::None,
            Reason::Local,
            Reason::Preferred,
            Reason::Bind,
            Reason::Interleave,
            Reason::WeightedInterleave,
            Reason::PreferredMany,
            Reason::Fallback,
            Reason::MovedMbind,
            Reason::MovedMigratePages,
            Reason::MovedMovePages,
            Reason::Collapsed,
        ];
        ALL.get(value as usize).copied().unwrap_or(Reason::None)
    }
}

/// A page's history: the reason, whether a copy-on-write made it, and where it was before a move
/// or would have been without the fallback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Why {
    pub reason: Reason,
    pub cow: bool,
    pub from: Option<NodeId>,
}

impl Why {
    /// Placed for `reason`, first of its line.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, cow: false, from: None }
    }

    fn pack(self) -> u32 {
        let from = self.from.map_or(0, |n| n.index() as u32 + 1);
        self.reason as u32 | u32::from(self.cow) << 8 | from << 16
    }

    fn unpack(word: u32) -> Self {
        Self {
            reason: Reason::from_u8(word as u8),
            cow: word & 0x100 != 0,
            from: (word >> 16).checked_sub(1).and_then(|n| NodeId::try_new(n as usize)),
        }
    }
}

/// Flag bits of a frame (upper half of its state word).
pub mod flag {
    /// Written through a mapping or a system call since it was last clean.
    pub const DIRTY: u32 = 1 << 24;
    /// In a locked mapping (mlock).
    pub const LOCKED: u32 = 1 << 25;
    /// Lazily freed (MADV_FREE): may be dropped while clean.
    pub const LAZY_FREE: u32 = 1 << 26;
    /// A fork has shared the transparent huge page that it is, or was a part of: as on Linux a write
    /// copies such a part, even when nobody else has it any more.
    pub const FORKED: u32 = 1 << 27;
    /// Recently used.
    pub const REFERENCED: u32 = 1 << 28;
    /// Made by fallocate and not used since: a hole to whoever reads or asks.
    pub const RESERVED: u32 = 1 << 29;
    /// A huge page, of the pool or transparent, that is a process' private memory.
    pub const PRIVATE: u32 = 1 << 30;
    /// A huge page that a reservation stood for and that is not used yet: freed now, it is reserved
    /// again.
    pub const RESTORE: u32 = 1 << 31;
}

/// What is known about one frame: 32 bytes.
#[repr(C, align(32))]
pub struct Frame {
    /// References: one per mapping, one of the owning object, and those of walks under way.
    refs: Refs,
    /// Page-table entries that map it.
    maps: AtomicU32,
    /// kind: 8 bits, order: 8 bits, node: 8 bits, flags: 8 bits.
    state: AtomicU32,
    why: AtomicU32,
    /// Owner's id; next free block while free.
    owner: AtomicU64,
    /// Page index in the owner; previous free block while free.
    index: AtomicU64,
}

const _: () = assert!(size_of::<Frame>() == 32);

impl Frame {
    /// What it is used for.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::from_u8(self.state.load(Ordering::Relaxed) as u8)
    }
    /// log2 of the block's frames (heads of blocks).
    #[inline]
    pub fn order(&self) -> u32 {
        self.state.load(Ordering::Relaxed) >> 8 & 0xff
    }
    /// The node it belongs to.
    #[inline]
    pub fn node(&self) -> NodeId {
        NodeId::new((self.state.load(Ordering::Relaxed) >> 16 & 0xff) as u16)
    }
    /// Sets kind, order and node; flags are cleared. Only the owner calls this.
    #[inline]
    pub(crate) fn set_state(&self, kind: Kind, order: u32, node: NodeId) {
        self.state.store(kind as u32 | order << 8 | (node.index() as u32) << 16, Ordering::Relaxed);
    }
    /// True when it is of exactly this kind, order and node, without flags.
    #[inline(always)]
    pub(crate) fn is(&self, kind: Kind, order: u32, node: NodeId) -> bool {
        let state = kind as u32 | order << 8 | (node.index() as u32) << 16;
        self.state.load(Ordering::Relaxed) == state
    }
    /// Makes it another kind; all else stays.
    pub(crate) fn turn_into(&self, kind: Kind) {
        let turned = |state| Some(state & !0xff | kind as u32);
        let _before = self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, turned);
    }
    /// True when all of `flags` (see [`flag`]) are set.
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        self.state.load(Ordering::Relaxed) & flags == flags
    }
    /// Sets flags; what was set before.
    #[inline]
    pub fn set(&self, flags: u32) -> u32 {
        self.state.fetch_or(flags, Ordering::AcqRel) & 0xff00_0000
    }
    /// Clears flags; what was set before.
    #[inline]
    pub fn clear(&self, flags: u32) -> u32 {
        self.state.fetch_and(!flags, Ordering::AcqRel) & 0xff00_0000
    }
    /// The flags.
    pub fn flags(&self) -> u32 {
        self.state.load(Ordering::Relaxed) & 0xff00_0000
    }

    /// True for private memory of processes, whatever the size of its page.
    #[inline]
    pub fn is_private(&self) -> bool {
        self.kind() == Kind::Anon || self.has(flag::PRIVATE)
    }

    /// Number of references.
    #[inline]
    pub fn refs(&self) -> u32 {
        self.refs.count()
    }
    #[inline]
    pub(crate) fn set_refs(&self, n: u32) {
        self.refs.set(n);
    }
    /// One more reference; the caller has one already.
    #[inline]
    pub(crate) fn get(&self) {
        self.refs.get();
    }
    /// See [`Refs::try_get`].
    #[inline]
    pub(crate) fn try_get(&self) -> bool {
        self.refs.try_get()
    }
    /// One reference less; true when it was the last.
    #[inline]
    pub(crate) fn put(&self) -> bool {
        self.refs.put()
    }
    /// See [`Refs::freeze`].
    pub fn freeze(&self, expected: u32) -> bool {
        self.refs.freeze(expected)
    }
    /// See [`Refs::unfreeze`].
    pub fn unfreeze(&self, n: u32) {
        self.refs.unfreeze(n);
    }

    /// Page-table entries that map it.
    #[inline]
    pub fn maps(&self) -> u32 {
        self.maps.load(Ordering::Relaxed)
    }
    /// One more mapping.
    #[inline]
    pub fn add_map(&self) {
        if self.maps.fetch_add(1, Ordering::Relaxed) == 0 && self.kind().is_shared() {
            crate::node::note_mapped(self.node(), 1);
        }
    }
    /// One mapping less; how many are left.
    #[inline]
    pub fn remove_map(&self) -> u32 {
        let left = self.maps.fetch_sub(1, Ordering::AcqRel) - 1;
        if left == 0 && self.kind().is_shared() {
            crate::node::note_mapped(self.node(), -1);
        }
        left
    }
    #[inline]
    pub(crate) fn clear_maps(&self) {
        self.set_maps(0);
    }
    #[inline]
    pub(crate) fn set_maps(&self, n: u32) {
        self.maps.store(n, Ordering::Relaxed);
    }

    /// Owner's id and page index in it.
    #[inline]
    pub fn owner(&self) -> (u64, u64) {
        (self.owner.load(Ordering::Relaxed), self.index.load(Ordering::Relaxed))
    }
    /// Names the owner.
    #[inline]
    pub fn set_owner(&self, owner: u64, index: u64) {
        self.owner.store(owner, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
    }

    /// Why the page is here.
    pub fn why(&self) -> Why {
        Why::unpack(self.why.load(Ordering::Relaxed))
    }
    /// Says why the page is here.
    #[inline]
    pub fn set_why(&self, why: Why) {
        self.why.store(why.pack(), Ordering::Relaxed);
    }
}

/// The metadata of `pfn`. The frame must be memory that a node was given at boot.
#[inline]
pub fn frame(pfn: Pfn) -> &'static Frame {
    array::get(pfn)
}

/// Address where the metadata of `pfn` goes (for mapping it at boot).
#[cfg(target_os = "none")]
pub fn address(pfn: Pfn) -> u64 {
    hal::paging::METADATA_AREA + pfn.raw() * size_of::<Frame>() as u64
}

/// The only `unsafe` of this crate: finding an element of the array.
#[allow(unsafe_code, reason = "turns a frame number into a reference into the metadata array")]
mod array {
    use super::{Frame, Pfn};

    #[cfg(target_os = "none")]
    #[inline(always)]
    pub(super) fn get(pfn: Pfn) -> &'static Frame {
        // SAFETY: the metadata of every frame of memory is mapped and zeroed (a valid `Frame`) at
        // boot, and stays; a frame number that is not memory faults on the unmapped page.
        unsafe { &*(super::address(pfn) as *const Frame) }
    }

    #[cfg(not(target_os = "none"))]
    pub(super) fn get(pfn: Pfn) -> &'static Frame {
        use std::sync::OnceLock;
        static ARRAY: OnceLock<std::boxed::Box<[Frame]>> = OnceLock::new();
        let array = ARRAY.get_or_init(|| {
            let count = 1usize << 18; // the arena's 1 GiB
            // SAFETY: a zeroed `Frame` is valid (atomics of zero).
            unsafe { std::boxed::Box::<[Frame]>::new_zeroed_slice(count).assume_init() }
        });
        &array[pfn.raw() as usize]
    }
}
