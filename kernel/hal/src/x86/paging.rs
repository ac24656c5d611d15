//! Page-table entries, the kernel's own tables, and this CPU's TLB.
//!
//! Kernel half (PML4 slots): 256.. the direct map, 384 kernel stacks, 400 blocks of the heap that
//! are contiguous in addresses alone, 416 frame metadata, 511 the image. The top-level entries are made once at boot, so every address space shares them by
//! copying 256 words.

use crate::{Pfn, PhysAddr, VirtAddr, phys};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Kernel stacks, with guard pages between them.
pub const STACK_AREA: u64 = 0xffff_c000_0000_0000;
/// Blocks of the kernel's heap whose frames lie apart; 512 GiB at most.
pub const VMALLOC_AREA: u64 = 0xffff_c800_0000_0000;
/// Frame metadata: an array indexed by frame number.
pub const METADATA_AREA: u64 = 0xffff_d000_0000_0000;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    pub const EMPTY: Self = Self(0);
    pub const PRESENT: u64 = 1;
    pub const WRITABLE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const WRITE_THROUGH: u64 = 1 << 3;
    pub const UNCACHED: u64 = 1 << 4;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    pub const LARGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    /// First bit that the hardware leaves to software.
    pub const SOFT0: u64 = 1 << 9;
    pub const SOFT1: u64 = 1 << 10;
    pub const SOFT2: u64 = 1 << 11;
    pub const NO_EXEC: u64 = 1 << 63;
    const FRAME: u64 = 0x000f_ffff_ffff_f000;

    /// An entry for `frame` with the given bits.
    #[inline]
    pub const fn new(frame: Pfn, bits: u64) -> Self {
        Self(frame.addr().raw() | bits)
    }
    /// The frame it points to.
    #[inline]
    pub const fn frame(self) -> Pfn {
        Pfn::new((self.0 & Self::FRAME) >> 12)
    }
    #[inline]
    pub const fn present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }
    #[inline]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
    #[inline]
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }
    #[inline]
    pub const fn without(self, bits: u64) -> Self {
        Self(self.0 & !bits)
    }
    /// The bits without the frame.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0 & !Self::FRAME
    }
}

/// One entry of a page table, shared with the hardware.
#[derive(Clone, Copy)]
pub struct Slot(&'static AtomicU64);

impl Slot {
    /// Entry `index` (0 to 511) of the table in `table`.
    ///
    /// The caller holds the table: it is not freed while the slot is used.
    #[inline]
    pub fn of(table: Pfn, index: usize) -> Self {
        assert!(index < 512);
        // SAFETY: the direct map covers the table, which is 512 aligned words; the hardware
        // changes them too (accessed, dirty), so they are atomics.
        Self(unsafe { &*phys::ptr::<AtomicU64>(table.addr()).add(index) })
    }
    #[inline]
    pub fn load(self) -> Pte {
        Pte(self.0.load(Ordering::Relaxed))
    }
    #[inline]
    pub fn store(self, pte: Pte) {
        // Release: contents of a frame or table are written before it can be reached.
        self.0.store(pte.0, Ordering::Release);
    }
    /// Stores and returns what was there, with the hardware's last accessed and dirty bits.
    #[inline]
    pub fn swap(self, pte: Pte) -> Pte {
        Pte(self.0.swap(pte.0, Ordering::AcqRel))
    }
    /// Replaces `old` by `new` unless something changed in between.
    #[inline]
    pub fn replace(self, old: Pte, new: Pte) -> Result<(), Pte> {
        self.0
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
            .map(|_| ())
            .map_err(Pte)
    }
}

/// Index into the table of `level` (4 = PML4 ... 1 = page table).
#[inline]
pub const fn index(addr: VirtAddr, level: u32) -> usize {
    (addr.raw() >> (12 + 9 * (level - 1)) & 511) as usize
}

/// The kernel's own root table.
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// The kernel's own root table.
pub fn kernel_root() -> Pfn {
    Pfn::new(KERNEL_ROOT.load(Ordering::Relaxed))
}

/// Builds the kernel's tables at boot.
pub struct Mapper<'a> {
    root: Pfn,
    /// Gives a zeroed frame below the end of what is mapped so far.
    alloc: &'a mut dyn FnMut() -> Pfn,
}

impl<'a> Mapper<'a> {
    /// A new, empty root.
    pub fn new(alloc: &'a mut dyn FnMut() -> Pfn) -> Self {
        let root = alloc();
        Self { root, alloc }
    }

    /// The tables in use, to add to.
    pub fn existing(alloc: &'a mut dyn FnMut() -> Pfn) -> Self {
        Self { root: kernel_root(), alloc }
    }

    fn next(&mut self, slot: Slot) -> Pfn {
        let pte = slot.load();
        if pte.present() {
            assert!(!pte.has(Pte::LARGE), "mapping over a large page");
            return pte.frame();
        }
        let table = (self.alloc)();
        slot.store(Pte::new(table, Pte::PRESENT | Pte::WRITABLE));
        table
    }

    /// Makes the upper tables for every kernel slot, so that address spaces can share them.
    pub fn reserve_top_level(&mut self) {
        for at in [phys::DIRECT_MAP, STACK_AREA, VMALLOC_AREA, METADATA_AREA] {
            let slot = Slot::of(self.root, index(VirtAddr::new(at), 4));
            self.next(slot);
        }
    }

    /// Maps `len` bytes of physical memory at `to`, with the largest pages that fit.
    pub fn map(&mut self, to: VirtAddr, from: PhysAddr, len: u64, bits: u64) {
        let huge = super::cpu::features().pdpe1gb();
        let (mut va, mut pa, end) = (to.raw(), from.raw(), to.raw() + len);
        while va < end {
            let fits = |size: u64| (va | pa) & (size - 1) == 0 && end - va >= size;
            let level = if huge && fits(1 << 30) {
                3
            } else if fits(1 << 21) {
                2
            } else {
                1
            };
            let mut table = self.root;
            for upper in (level + 1..=4).rev() {
                table = self.next(Slot::of(table, index(VirtAddr::new(va), upper)));
            }
            let large = if level > 1 { Pte::LARGE } else { 0 };
            Slot::of(table, index(VirtAddr::new(va), level))
                .store(Pte::new(Pfn::containing(PhysAddr::new(pa)), bits | large | Pte::PRESENT));
            let size = 1u64 << (12 + 9 * (level - 1));
            va += size;
            pa += size;
        }
    }

    /// Makes these tables the kernel's and this CPU's.
    ///
    /// # Safety
    /// They map the running code, its stack, and everything that is used from here on.
    pub unsafe fn activate(self) {
        KERNEL_ROOT.store(self.root.raw(), Ordering::Release);
        // SAFETY: the caller's promise.
        unsafe { load_root(self.root) };
    }
}

/// Switches this CPU to the tables of `root`, dropping its non-global translations.
///
/// # Safety
/// `root` shares the kernel half and lives until another root is loaded.
#[inline]
pub unsafe fn load_root(root: Pfn) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr3, {}", in(reg) root.addr().raw(), options(nostack)) };
}

/// Copies the kernel half of the root into a fresh user root.
pub fn share_kernel_half(root: Pfn) {
    let kernel = kernel_root();
    for i in 256..512 {
        Slot::of(root, i).store(Slot::of(kernel, i).load());
    }
}

/// Drops this CPU's translation of one page.
#[inline]
pub fn flush_page(addr: VirtAddr) {
    // SAFETY: forgetting a translation is always sound.
    unsafe { asm!("invlpg [{}]", in(reg) addr.raw(), options(nostack)) };
}

/// Drops all of this CPU's non-global translations.
#[inline]
pub fn flush_all() {
    // SAFETY: reloading CR3 with itself only drops translations.
    unsafe { asm!("mov {t}, cr3", "mov cr3, {t}", t = out(reg) _, options(nostack)) };
}

/// Maps one page of a kernel area at run time, for good (present for every address space at once,
/// since the upper tables are shared).
///
/// The caller serializes changes to one area. `alloc` gives zeroed frames for tables.
pub fn map_kernel_page(addr: VirtAddr, frame: Pfn, alloc: impl FnMut() -> Option<Pfn>) -> bool {
    map_with(addr, frame, Pte::GLOBAL, alloc)
}

/// As [`map_kernel_page`], a page that [`unmap_kernel_page`] takes out again: its translations go
/// with [`flush_all`].
pub fn map_passing_page(addr: VirtAddr, frame: Pfn, alloc: impl FnMut() -> Option<Pfn>) -> bool {
    map_with(addr, frame, 0, alloc)
}

/// Takes the page at `addr` out of the kernel's tables; its frame. CPUs may know the translation
/// until each has called [`flush_all`]: `addr` is not used again before.
pub fn unmap_kernel_page(addr: VirtAddr) -> Option<Pfn> {
    let mut table = kernel_root();
    for level in (2..=4).rev() {
        let pte = Slot::of(table, index(addr, level)).load();
        if !pte.present() {
            return None;
        }
        table = pte.frame();
    }
    let old = Slot::of(table, index(addr, 1)).swap(Pte::EMPTY);
    old.present().then(|| old.frame())
}

fn map_with(addr: VirtAddr, frame: Pfn, bits: u64, mut alloc: impl FnMut() -> Option<Pfn>) -> bool {
    let mut table = kernel_root();
    for level in (2..=4).rev() {
        let slot = Slot::of(table, index(addr, level));
        if !slot.load().present() {
            let Some(new) = alloc() else { return false };
            slot.store(Pte::new(new, Pte::PRESENT | Pte::WRITABLE));
        }
        table = slot.load().frame();
    }
    Slot::of(table, index(addr, 1))
        .store(Pte::new(frame, Pte::PRESENT | Pte::WRITABLE | Pte::NO_EXEC | bits));
    true
}

/// The frame behind a kernel address outside the direct map, if it is mapped by a base page.
pub fn translate_kernel(addr: VirtAddr) -> Option<Pfn> {
    let mut table = kernel_root();
    for level in (1..=4).rev() {
        let pte = Slot::of(table, index(addr, level)).load();
        if !pte.present() || (level > 1 && pte.has(Pte::LARGE)) {
            return None;
        }
        table = pte.frame();
    }
    Some(table)
}

/// True when a page of any size is mapped at `addr` of the kernel.
pub fn is_kernel_mapped(addr: VirtAddr) -> bool {
    let mut table = kernel_root();
    for level in (1..=4).rev() {
        let pte = Slot::of(table, index(addr, level)).load();
        if !pte.present() {
            return false;
        }
        if level > 1 && pte.has(Pte::LARGE) {
            return true;
        }
        table = pte.frame();
    }
    true
}
