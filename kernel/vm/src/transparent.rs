//! Transparent huge pages: private memory in pages of 2 MiB where its area has room for them, they are
//! wanted, and the node that the memory is to come from has a block. Linux's transhuge.rst.
//!
//! * [`fault`]: making one present, or the huge page of zeroes, and the first write to a shared one.
//! * [`split`]: an entry of the second level becomes 512 small ones: where an area, or what is done
//!   to it, ends within the page.
//! * [`shared`]: which memory of objects may have them; `shared_fault` maps those.
//! * [`collapse`] and `collapse_shared`: the other way round, for who asks ([`scan`] decides) and by [`khugepaged`].
//!
//! What such a page is, whole or broken up, is [`frames::compound`]'s matter.

#[cfg(target_os = "none")]
mod collapse;
#[cfg(target_os = "none")]
mod collapse_shared;
#[cfg(target_os = "none")]
mod fault;
pub mod khugepaged;
pub mod scan;
pub mod shared;
#[cfg(target_os = "none")]
mod shared_fault;
#[cfg(target_os = "none")]
mod split;

#[cfg(target_os = "none")]
pub(crate) use fault::{Huge, is_zero, take_for_migration};
#[cfg(target_os = "none")]
pub(crate) use shared_fault::is_shared;

/// Before a block is taken on `first` to collapse into: has its node compacted if it has none. No lock
/// is held.
#[cfg(target_os = "none")]
fn make_block_for(first: numa::NodeId, rules: &scan::Rules) {
    let has = frames::node(first).is_some_and(|node| node.has_block(frames::compound::ORDER));
    let asked = !rules.unasked || khugepaged::DEFRAG.get() != 0;
    if !has && asked && crate::compact::is_promising(first) {
        // Whether there is one now, who takes it finds out.
        let _there = crate::compact::make_block(first);
    }
}

/// A huge page of shared memory, contents undefined: its first frame. `advised` as for a fault.
#[cold]
pub(crate) fn take_shared(
    policy: Option<&numa::policy::Policy>,
    at: crate::place::At,
    advised: bool,
) -> Option<hal::Pfn> {
    let to = crate::place::placement(policy, at);
    take_shared_from(&to, to.nodes_for_huge(defrag().waits(advised)))
}

/// The same, from the first of `nodes` that has a block.
pub(crate) fn take_shared_from(
    to: &numa::policy::Placement<'_>,
    nodes: impl Iterator<Item = numa::NodeId>,
) -> Option<hal::Pfn> {
    if frames::faults::should_fail(frames::faults::Want::Frame) {
        return None;
    }
    let mut nodes = nodes;
    let head = nodes.find_map(frames::compound::alloc_shared)?;
    let first = frames::Page::from_alloc(head);
    crate::place::note(&first, to);
    let why = first.frame().why();
    (1..frames::compound::FRAMES)
        .for_each(|i| frames::frame(hal::Pfn::new(head.raw() + i)).set_why(why));
    Some(first.into_raw())
}

use crate::HUGE;
use crate::vma::{Backing, Vma, VmaFlags};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use frames::compound::FRAMES;

/// Faults served with a huge page, and those that had to do without (thp_fault_alloc and
/// thp_fault_fallback).
pub static ALLOCATED: AtomicU64 = AtomicU64::new(0);
/// See [`ALLOCATED`].
pub static FELL_BACK: AtomicU64 = AtomicU64::new(0);
/// Entries of the second level split (thp_split_pmd).
pub static SPLIT: AtomicU64 = AtomicU64::new(0);
/// Huge pages of zeroes made, and those that could not be (thp_zero_page_alloc and _failed).
pub static ZERO_PAGES: AtomicU64 = AtomicU64::new(0);
/// See [`ZERO_PAGES`].
pub static ZERO_PAGES_REFUSED: AtomicU64 = AtomicU64::new(0);
/// Huge pages moved whole, those that stayed, and those that were split to be moved in parts
/// (thp_migration_success, _fail, _split).
pub static MOVED: AtomicU64 = AtomicU64::new(0);
/// See [`MOVED`].
pub static STAYED: AtomicU64 = AtomicU64::new(0);
/// See [`MOVED`].
pub static SPLIT_TO_MOVE: AtomicU64 = AtomicU64::new(0);

/// Which areas get huge pages (transparent_hugepage/enabled).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Enabled {
    Always,
    /// Those of MADV_HUGEPAGE.
    Madvise,
    Never,
    /// As the setting for all sizes says (hugepages-2048kB/enabled only).
    Inherit,
}

impl Enabled {
    const fn from_u8(n: u8) -> Self {
        match n {
            0 => Self::Always,
            1 => Self::Madvise,
            3 => Self::Inherit,
            _ => Self::Never,
        }
    }
}

/// How hard a fault tries (transparent_hugepage/defrag): for which areas it waits for compaction, and
/// a huge page on another node is better than small ones on the nearest. Nothing is compacted in the
/// background: who defers it leaves it to khugepaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Defrag {
    Always,
    Defer,
    DeferMadvise,
    Madvise,
    Never,
}

impl Defrag {
    const fn from_u8(n: u8) -> Self {
        match n {
            0 => Self::Always,
            1 => Self::Defer,
            2 => Self::DeferMadvise,
            3 => Self::Madvise,
            _ => Self::Never,
        }
    }

    /// Whether a fault in an area, which MADV_HUGEPAGE named or not, would wait for memory.
    const fn waits(self, advised: bool) -> bool {
        match self {
            Self::Always => true,
            Self::DeferMadvise | Self::Madvise => advised,
            Self::Defer | Self::Never => false,
        }
    }
}

static ENABLED: AtomicU8 = AtomicU8::new(Enabled::Always as u8);
static SIZE_ENABLED: AtomicU8 = AtomicU8::new(Enabled::Inherit as u8);
static DEFRAG: AtomicU8 = AtomicU8::new(Defrag::Madvise as u8);

/// Whether a read gets the huge page of zeroes (transparent_hugepage/use_zero_page).
pub static USE_ZERO_PAGE: AtomicBool = AtomicBool::new(true);

/// The setting for all sizes.
pub fn enabled() -> Enabled {
    Enabled::from_u8(ENABLED.load(Relaxed))
}

/// See [`enabled`].
pub fn set_enabled(enabled: Enabled) {
    ENABLED.store(enabled as u8, Relaxed);
    khugepaged::wake();
}

/// The setting for pages of 2 MiB.
pub fn size_enabled() -> Enabled {
    Enabled::from_u8(SIZE_ENABLED.load(Relaxed))
}

/// See [`size_enabled`].
pub fn set_size_enabled(enabled: Enabled) {
    SIZE_ENABLED.store(enabled as u8, Relaxed);
    khugepaged::wake();
}

/// How hard a fault tries.
pub fn defrag() -> Defrag {
    Defrag::from_u8(DEFRAG.load(Relaxed))
}

/// See [`defrag`].
pub fn set_defrag(defrag: Defrag) {
    DEFRAG.store(defrag as u8, Relaxed);
}

/// Whether the settings let a fault in such an area, of an address space that allows them at all,
/// have huge pages.
fn wanted(flags: VmaFlags) -> bool {
    let setting = match size_enabled() {
        Enabled::Inherit => enabled(),
        own => own,
    };
    let advised = flags.contains(VmaFlags::HUGE);
    setting == Enabled::Always || setting == Enabled::Madvise && advised
}

/// Whether `vma` could have huge pages, whatever the settings want and wherever it lies; `disabled` is
/// its address space's own word.
fn could_have(vma: &Vma, disabled: bool) -> bool {
    let barred = VmaFlags::NO_HUGE | VmaFlags::SPECIAL | VmaFlags::HUGETLB | VmaFlags::PFN_MAP;
    !disabled && matches!(vma.backing, Backing::Anon) && !vma.flags.intersects(barred)
}

/// Whether `vma` may have huge pages, wherever it lies.
fn may_have(vma: &Vma, disabled: bool) -> bool {
    could_have(vma, disabled) && wanted(vma.flags)
}

/// Whether a whole huge page lies somewhere in `vma`; of an object it is one of the object's.
fn has_room(vma: &Vma) -> bool {
    let congruent = match vma.object() {
        Some(_) => (vma.start / crate::PAGE).wrapping_sub(vma.pgoff).is_multiple_of(FRAMES),
        None => true,
    };
    congruent && vma.start.next_multiple_of(HUGE) + HUGE <= vma.end
}

/// Whether `vma`, of shared memory, may have huge pages of its object.
fn may_have_shared(vma: &Vma, disabled: bool, forced: bool) -> bool {
    let barred = VmaFlags::NO_HUGE | VmaFlags::SPECIAL | VmaFlags::HUGETLB | VmaFlags::PFN_MAP;
    let Some(object) = vma.object().filter(|_| !disabled && !vma.flags.intersects(barred)) else {
        return false;
    };
    let advised = vma.flags.contains(VmaFlags::HUGE);
    let wish = shared::Wish {
        len: object.len(),
        mapped: true,
        advised,
        forced,
        ..shared::Wish::default()
    };
    object.may_be_huge(vma.pgoff, &wish)
}

/// Whether `vma` may have a huge page somewhere (THPeligible in smaps).
pub fn is_eligible(vma: &Vma, disabled: bool) -> bool {
    if vma.object().is_none() {
        return may_have(vma, disabled) && has_room(vma);
    }
    // As on Linux it is enough that two pages could be one of twice the size.
    let pairs = (vma.start / crate::PAGE).wrapping_sub(vma.pgoff).is_multiple_of(2);
    let pair = 2 * crate::PAGE;
    pairs
        && vma.start.next_multiple_of(pair) + pair <= vma.end
        && may_have_shared(vma, disabled, false)
}

/// Whether the settings want huge pages anywhere.
pub fn is_enabled() -> bool {
    match size_enabled() {
        Enabled::Inherit => enabled() != Enabled::Never,
        own => own != Enabled::Never,
    }
}

/// Where the huge page at `addr` stands for interleaving: counted in huge pages from its area's
/// begin, each rounded down by itself, as on Linux.
#[cfg(target_os = "none")]
pub(crate) fn position(vma: &Vma, addr: u64) -> u64 {
    vma.pgoff / frames::compound::FRAMES + (addr - vma.start) / HUGE
}
