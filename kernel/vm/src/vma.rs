//! A virtual memory area: one contiguous range of an address space with one set of properties.

use crate::HUGE;
use crate::hugetlb::HugeArea;
use crate::object::MemObject;
use abi::flags::Prot;
use alloc::string::String;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::{Frame, Kind};
use numa::policy::Policy;

bitflags! {
    /// Properties of a VMA.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct VmaFlags: u32 {
        const READ = 1;
        const WRITE = 1 << 1;
        const EXEC = 1 << 2;
        /// Stores are seen by everyone who maps the object.
        const SHARED = 1 << 3;
        /// What mprotect may add (a shared mapping of a file opened read-only may not be written).
        const MAY_WRITE = 1 << 4;
        /// A stack: grows down on a fault below it.
        const GROWS_DOWN = 1 << 5;
        /// mlock: pages are made present and counted.
        const LOCKED = 1 << 6;
        /// MLOCK_ONFAULT: only counted.
        const LOCK_ON_FAULT = 1 << 7;
        /// madvise DONTFORK.
        const DONT_FORK = 1 << 8;
        /// madvise WIPEONFORK.
        const WIPE_ON_FORK = 1 << 9;
        /// madvise DONTDUMP.
        const DONT_DUMP = 1 << 10;
        /// MAP_NORESERVE.
        const NO_RESERVE = 1 << 11;
        /// A special mapping (vDSO, vvar): one piece for good, of pages that belong to the kernel.
        const SPECIAL = 1 << 12;
        /// madvise SEQUENTIAL, RANDOM (kept and shown; there is no read-ahead to steer).
        const SEQUENTIAL = 1 << 13;
        const RANDOM = 1 << 14;
        /// madvise HUGEPAGE, NOHUGEPAGE.
        const HUGE = 1 << 15;
        const NO_HUGE = 1 << 16;
        /// A shared mapping that can be written: counts against write seals.
        const MAP_WRITE = 1 << 17;
        /// Its pages are promised (Committed_AS). As on Linux it keeps the promise when writing is
        /// forbidden after the first page, so such an area does not become one with a neighbour
        /// that was never writable.
        const ACCOUNTED = 1 << 18;
        /// mprotect may not add EXEC: a file of a file system that was mounted noexec.
        const NEVER_EXEC = 1 << 19;
        /// Huge pages of the pool: whole ones only, at their own boundaries.
        const HUGETLB = 1 << 21;
        /// Frames without pages behind its entries (vvar): read by the program only, in no count.
        const PFN_MAP = 1 << 20;
    }
}

impl VmaFlags {
    /// The access rights as mmap takes them.
    pub fn prot(self) -> Prot {
        Prot::from_bits_truncate((self & Self::from_prot(Prot::all())).bits())
    }

    /// ACCOUNTED, if a new area with these flags is.
    pub fn account(self) -> Self {
        let other = Self::SHARED | Self::NO_RESERVE | Self::HUGETLB;
        let promise = self & (Self::WRITE | other) == Self::WRITE;
        if promise { Self::ACCOUNTED } else { Self::empty() }
    }

    /// Whether such memory counts as data (RLIMIT_DATA, VmData): private and writable, no stack.
    pub fn is_data(self) -> bool {
        self & (Self::WRITE | Self::SHARED | Self::GROWS_DOWN) == Self::WRITE
    }

    /// READ, WRITE and EXEC of `prot` (the bits are the same).
    pub fn from_prot(prot: Prot) -> Self {
        Self::from_bits_truncate(prot.bits() & 7)
    }
}

/// A file as a mapping shows it: /proc/PID/maps, and keeping it open.
pub trait MappedFile: Send + Sync {
    /// Path, with " (deleted)" if it is. ENOMEM.
    fn path(&self) -> abi::Result<String>;
    /// Device and inode number.
    fn id(&self) -> (u64, u64);
    /// What tells one opening of a file from another: areas of the same one may merge. None: of no
    /// other.
    fn opening(&self) -> Option<usize> {
        None
    }
    /// Its areas are counted (a segment's attaches): none vanishes by becoming one with another,
    /// though parts may go from one to the other.
    fn counts_areas(&self) -> bool {
        false
    }
}

/// What lies behind a VMA.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes, private to the address space.
    Anon,
    /// An object's pages, shared or copied on write (by [`VmaFlags::SHARED`]).
    Object { object: Arc<MemObject>, file: Option<Arc<dyn MappedFile>> },
}

/// A name for maps that no file gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Label {
    #[default]
    None,
    Heap,
    Stack,
    Vdso,
    Vvar,
}

/// One area `[start, end)`, page aligned.
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub flags: VmaFlags,
    /// Page index of `start` in the backing; for anonymous memory the address it was made at, in
    /// pages (so that interleaving and the reverse map survive a move).
    pub pgoff: u64,
    pub backing: Backing,
    pub label: Label,
    /// mbind(2)'s policy; None is the task's.
    pub policy: Option<Arc<Policy>>,
    /// Which private pages it has: 0 none yet (fork copies page tables only then), else the group
    /// that its first one began or, as a neighbour that could be one with it had begun one, joined.
    /// Areas of two groups stay apart, as on Linux.
    pub anon: AtomicU64,
    /// Its private pages came with a fork. As on Linux, such an area takes no fresh neighbour in:
    /// a new mapping beside it counts its pages from its own address.
    pub inherited: bool,
    /// Of private huge pages: what is reserved for them.
    pub hugetlb: Option<Arc<HugeArea>>,
}

impl Clone for Vma {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            end: self.end,
            flags: self.flags,
            pgoff: self.pgoff,
            backing: self.backing.clone(),
            label: self.label,
            policy: self.policy.clone(),
            anon: AtomicU64::new(self.group()),
            inherited: self.inherited,
            hugetlb: self.hugetlb.clone(),
        }
    }
}

impl Vma {
    /// Pages.
    pub fn pages(&self) -> u64 {
        (self.end - self.start) / crate::PAGE
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never: an area holds at least one page.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Page index of `addr` in the backing.
    #[inline]
    pub fn index(&self, addr: u64) -> u64 {
        self.pgoff + (addr - self.start) / crate::PAGE
    }

    /// Where page `index` of the backing is mapped, if it is in here.
    pub fn address_of(&self, index: u64) -> Option<u64> {
        let offset = index.checked_sub(self.pgoff)?;
        (offset < self.pages()).then(|| self.start + offset * crate::PAGE)
    }

    /// True when stores are shared.
    #[inline]
    pub fn shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// True for a mapping that is never split and grows no further: what asks for a part of it is
    /// EINVAL.
    #[inline]
    pub fn special(&self) -> bool {
        self.flags.contains(VmaFlags::SPECIAL)
    }

    /// True for an area of huge pages.
    #[inline]
    pub fn is_huge(&self) -> bool {
        self.flags.contains(VmaFlags::HUGETLB)
    }

    /// True when no area may begin or end at `at`, which lies inside: in a special mapping, or
    /// within a huge page.
    pub fn is_whole_at(&self, at: u64) -> bool {
        self.start < at
            && at < self.end
            && (self.special() || self.is_huge() && !at.is_multiple_of(HUGE))
    }

    /// Bytes of its pages.
    pub fn page_size(&self) -> u64 {
        if self.is_huge() { HUGE } else { crate::PAGE }
    }

    /// True when `page`, which it maps, is the kernel's own: it stays where it is, and nobody
    /// counts that as a failure. A private copy of such a page is the program's.
    #[inline]
    pub fn reserves(&self, page: &Frame) -> bool {
        self.special() && page.kind() != Kind::Anon
    }

    /// The object that has the policy of the area's pages; None: the area has it.
    #[inline]
    pub fn policy_object(&self) -> Option<&Arc<MemObject>> {
        self.object().filter(|_| !self.flags.intersects(VmaFlags::SPECIAL | VmaFlags::HUGETLB))
    }

    /// The object behind it.
    pub fn object(&self) -> Option<&Arc<MemObject>> {
        match &self.backing {
            Backing::Anon => None,
            Backing::Object { object, .. } => Some(object),
        }
    }

    /// The file behind it.
    pub fn file(&self) -> Option<&Arc<dyn MappedFile>> {
        match &self.backing {
            Backing::Object { file, .. } => file.as_ref(),
            Backing::Anon => None,
        }
    }

    /// It may become a part of a neighbour.
    pub fn may_vanish(&self) -> bool {
        !self.file().is_some_and(|file| file.counts_areas())
    }

    /// Splits off what lies at `at` and above; `self` keeps what is below.
    pub fn split_at(&mut self, at: u64) -> Self {
        debug_assert!(self.start < at && at < self.end);
        let mut upper = self.clone();
        upper.start = at;
        upper.pgoff = self.index(at);
        self.end = at;
        upper
    }

    /// The group of its private pages; 0 without any.
    #[inline]
    pub fn group(&self) -> u64 {
        self.anon.load(Ordering::Relaxed)
    }

    /// True when both have the same properties, bounds and pages aside.
    pub fn like(&self, other: &Self) -> bool {
        self.flags == other.flags && same_policy(self.policy.as_ref(), other.policy.as_ref())
    }

    /// True when `next` continues this area with the same properties, pages aside.
    fn continues(&self, next: &Self) -> bool {
        self.end == next.start
            && self.flags == next.flags
            && !self.flags.intersects(VmaFlags::SPECIAL | VmaFlags::HUGETLB)
            && self.label == next.label
            && self.pgoff + self.pages() == next.pgoff
            && same_backing(&self.backing, &next.backing)
            && same_policy(self.policy.as_ref(), next.policy.as_ref())
    }

    /// True when `changed`, which has just got its properties, can become one with its neighbour;
    /// one of the two is `self`, the other begins where it ends. An area without private pages
    /// joins one that has, if those came with no fork; not the other way round.
    pub fn joins(&self, next: &Self, changed: Changed) -> bool {
        let (changed, neighbour) = match changed {
            Changed::Low => (self, next),
            Changed::High => (next, self),
        };
        let (own, other) = (changed.group(), neighbour.group());
        (own == other || own == 0 && !neighbour.inherited) && self.continues(next)
    }

    /// The group of a neighbour that `self`'s first private page joins: one that would be one area
    /// with it but for its access rights. `next` begins where `self` ends.
    fn kin(&self, next: &Self) -> bool {
        let rights = VmaFlags::from_prot(Prot::all());
        self.end == next.start
            && self.flags - rights == next.flags - rights
            && self.pgoff + self.pages() == next.pgoff
            && same_backing(&self.backing, &next.backing)
            && same_policy(self.policy.as_ref(), next.policy.as_ref())
    }

    /// Gives the area a group if it has none: `next`'s, else `before`'s, else a new one.
    pub fn begin_group(&self, before: Option<&Self>, next: Option<&Self>) {
        let lends = |vma: &&Self| vma.group() != 0 && !vma.inherited;
        let next = next.filter(|next| self.kin(next)).filter(lends);
        let before = before.filter(|before| before.kin(self)).filter(lends);
        let group = next.or(before).map_or_else(new_group, Self::group);
        // Another thread may have been quicker; its choice was as good.
        let _ = self.anon.compare_exchange(0, group, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Which of two neighbours has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    Low,
    High,
}

/// A group that no area has.
pub fn new_group() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn same_backing(a: &Backing, b: &Backing) -> bool {
    match (a, b) {
        (Backing::Anon, Backing::Anon) => true,
        (Backing::Object { object: a, file: fa }, Backing::Object { object: b, file: fb }) => {
            Arc::ptr_eq(a, b)
                && match (fa, fb) {
                    (None, None) => true,
                    (Some(fa), Some(fb)) => {
                        Arc::ptr_eq(fa, fb)
                            || fa.opening().is_some_and(|own| fb.opening() == Some(own))
                    }
                    _ => false,
                }
        }
        _ => false,
    }
}

/// True when both policies are the same in every way that can be read or felt.
pub fn same_policy(a: Option<&Arc<Policy>>, b: Option<&Arc<Policy>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            Arc::ptr_eq(a, b)
                || (numa::policy::read_back(Some(a)) == numa::policy::read_back(Some(b))
                    && a.nodes() == b.nodes()
                    && a.home() == b.home())
        }
        _ => false,
    }
}
