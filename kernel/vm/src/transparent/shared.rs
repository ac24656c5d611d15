//! Huge pages of shared memory: which objects may have them, and where.
//!
//! Such a page is 512 pages of its object, each of which is read, written and found as any other, on frames
//! that lie together (see [`frames::compound`]). It is made where none of the 512 is there yet, mapped by
//! one entry where an area has room for it, and an ordinary run of pages from when a part leaves the object.

use abi::{Errno, Result};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use frames::compound::FRAMES;
use numa::{MAX_NODES, NodeId};

/// Huge pages that an object got, did without for want of a block, and entries that map one
/// (thp_file_alloc, thp_file_fallback, thp_file_mapped).
pub static ALLOCATED: AtomicU64 = AtomicU64::new(0);
/// See [`ALLOCATED`].
pub static FELL_BACK: AtomicU64 = AtomicU64::new(0);
/// See [`ALLOCATED`].
pub static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Entries that map a huge page of shared memory, by the page's node.
static ENTRIES: [AtomicI64; MAX_NODES] = [const { AtomicI64::new(0) }; MAX_NODES];

/// Counts entries that map a huge page on `node`.
#[cfg(target_os = "none")]
pub(crate) fn count_entries(node: NodeId, n: i64) {
    ENTRIES[node.index()].fetch_add(n, Relaxed);
}

/// Entries that map a huge page of `node`.
pub fn mapped(node: NodeId) -> u64 {
    ENTRIES[node.index()].load(Relaxed).max(0) as u64
}

/// Which pages of a mount's files are huge (tmpfs(5) `huge=`, shmem_enabled).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Huge {
    Never,
    Always,
    /// Those that lie within the file's length; beyond it as `Advise`.
    WithinSize,
    /// In areas of MADV_HUGEPAGE.
    Advise,
    /// None, whatever mounts say (shmem_enabled only).
    Deny,
    /// All, whatever mounts say (shmem_enabled only).
    Force,
    /// As shmem_enabled says (hugepages-2048kB/shmem_enabled only).
    Inherit,
}

impl Huge {
    const fn from_u8(n: u8) -> Self {
        match n {
            1 => Self::Always,
            2 => Self::WithinSize,
            3 => Self::Advise,
            4 => Self::Deny,
            5 => Self::Force,
            6 => Self::Inherit,
            _ => Self::Never,
        }
    }
}

/// A setting.
pub struct Choice(AtomicU8);

impl Choice {
    /// With a value.
    pub const fn new(huge: Huge) -> Self {
        Self(AtomicU8::new(huge as u8))
    }

    /// What it says.
    pub fn get(&self) -> Huge {
        Huge::from_u8(self.0.load(Relaxed))
    }

    /// Says otherwise.
    pub fn set(&self, huge: Huge) {
        self.0.store(huge as u8, Relaxed);
        if huge != Huge::Never && huge != Huge::Inherit {
            want();
            super::khugepaged::wake();
        }
    }
}

/// Somebody has asked for huge pages since boot: until then nobody looks further.
static EVER: AtomicBool = AtomicBool::new(false);

/// Somebody asks for huge pages.
pub(crate) fn want() {
    EVER.store(true, Relaxed);
}

/// Whether anybody ever asked for huge pages.
#[inline]
pub(crate) fn ever_wanted() -> bool {
    EVER.load(Relaxed)
}

/// What was written last to transparent_hugepage/shmem_enabled.
static ENABLED: Choice = Choice::new(Huge::Never);
/// The kernel's own mount: of memfds, segments and shared anonymous memory.
static INTERNAL: Choice = Choice::new(Huge::Never);
/// Of shared anonymous memory and memfds that are mapped (hugepages-2048kB/shmem_enabled).
pub static OF_SIZE: Choice = Choice::new(Huge::Inherit);

/// What shmem_enabled shows.
pub fn enabled() -> Huge {
    ENABLED.get()
}

/// Sets shmem_enabled. Deny and force leave the kernel's own mount as it was.
/// EINVAL for force while shared anonymous memory does not go by it.
pub fn set_enabled(huge: Huge) -> Result<()> {
    if huge == Huge::Force && OF_SIZE.get() != Huge::Inherit {
        return Err(Errno::EINVAL);
    }
    ENABLED.set(huge);
    if huge != Huge::Deny && huge != Huge::Force {
        INTERNAL.set(huge);
    }
    Ok(())
}

/// What a mounted tmpfs says of its files.
pub struct Mount {
    pub huge: Choice,
    /// Limit in pages; `u64::MAX` is none.
    pub limit: AtomicU64,
    /// Pages in use. Signed: differences are added by several CPUs in any order.
    pub used: AtomicI64,
}

impl Mount {
    /// With a limit in pages.
    pub fn new(huge: Huge, limit: u64) -> Self {
        let choice = Choice::new(Huge::Never);
        choice.set(huge);
        Self { huge: choice, limit: AtomicU64::new(limit), used: AtomicI64::new(0) }
    }

    /// Pages that may still be used.
    pub fn pages_left(&self) -> u64 {
        let used = self.used.load(Relaxed).max(0) as u64;
        self.limit.load(Relaxed).saturating_sub(used)
    }
}

/// Who wants a page of an object, as far as its size depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// The object's length in bytes will be at least this.
    pub len: u64,
    /// It is wanted by a mapping, not by a system call.
    pub mapped: bool,
    /// Its area has MADV_HUGEPAGE.
    pub advised: bool,
    /// Its area, or its process, is to have no huge pages.
    pub barred: bool,
    /// Whatever the settings say, deny apart (MADV_COLLAPSE).
    pub forced: bool,
    /// Nobody is to see the page as used (fallocate).
    pub reserved: bool,
}

/// Whether page `index` may be a huge one, of an object of `len` bytes on a mount that says `mount`;
/// `anonymous`: it is mapped, and no name leads to it.
pub(crate) fn may_be_huge(mount: Huge, anonymous: bool, index: u64, wish: &Wish) -> bool {
    decide(ENABLED.get(), mount, anonymous.then(|| OF_SIZE.get()), index, wish)
}

/// What the kernel's own mount says.
pub(crate) fn internal() -> Huge {
    INTERNAL.get()
}

/// Linux's shmem_allowable_huge_orders(), for one order.
fn decide(enabled: Huge, mount: Huge, of_size: Option<Huge>, index: u64, wish: &Wish) -> bool {
    if wish.barred || enabled == Huge::Deny {
        return false;
    }
    let within = wish.len.div_ceil(crate::PAGE) >= (index + 1).next_multiple_of(FRAMES);
    let by = |huge| match huge {
        Huge::Always => true,
        Huge::WithinSize => within || wish.advised,
        Huge::Advise => wish.advised,
        _ => false,
    };
    let inherited = wish.forced || enabled == Huge::Force || by(mount);
    match of_size {
        None | Some(Huge::Inherit) => inherited,
        _ if enabled == Huge::Force => false,
        Some(Huge::WithinSize) => within,
        Some(own) => by(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Wish = Wish {
        len: 2 << 20,
        mapped: true,
        advised: false,
        barred: false,
        forced: false,
        reserved: false,
    };
    const SMALL: Wish = Wish { len: (2 << 20) - 4096, ..LARGE };

    #[test]
    fn a_mount_says_which_pages_are_huge() {
        let of = |mount, wish: &Wish| decide(Huge::Never, mount, None, 100, wish);
        let advised = Wish { advised: true, ..SMALL };
        for (mount, small, large, advice) in [
            (Huge::Never, false, false, false),
            (Huge::Always, true, true, true),
            (Huge::WithinSize, false, true, true),
            (Huge::Advise, false, false, true),
        ] {
            assert_eq!(of(mount, &SMALL), small, "{mount:?}");
            assert_eq!(of(mount, &LARGE), large, "{mount:?}");
            assert_eq!(of(mount, &advised), advice, "{mount:?}");
            assert!(!of(mount, &Wish { barred: true, ..advised }));
            assert!(of(mount, &Wish { forced: true, ..SMALL }));
        }
        assert!(!decide(Huge::Never, Huge::WithinSize, None, 512, &LARGE));
    }

    #[test]
    fn deny_and_force_overrule_mounts() {
        assert!(!decide(Huge::Deny, Huge::Always, None, 0, &LARGE));
        assert!(!decide(Huge::Deny, Huge::Never, None, 0, &Wish { forced: true, ..LARGE }));
        assert!(decide(Huge::Force, Huge::Never, None, 0, &SMALL));
        assert!(!decide(Huge::Force, Huge::Never, Some(Huge::Always), 0, &SMALL));
        assert!(decide(Huge::Force, Huge::Never, Some(Huge::Inherit), 0, &SMALL));
    }

    #[test]
    fn anonymous_memory_has_a_setting_of_its_own() {
        let of = |own, wish: &Wish| decide(Huge::Never, Huge::Never, Some(own), 0, wish);
        assert!(of(Huge::Always, &SMALL) && !of(Huge::Never, &LARGE));
        assert!(of(Huge::WithinSize, &LARGE) && !of(Huge::WithinSize, &SMALL));
        assert!(!of(Huge::WithinSize, &Wish { advised: true, ..SMALL }));
        assert!(of(Huge::Advise, &Wish { advised: true, ..SMALL }));
        assert!(decide(Huge::Always, Huge::Always, Some(Huge::Inherit), 0, &SMALL));
    }
}
