//! Physical memory through the direct map.

use crate::{Pfn, PhysAddr};
use abi::PAGE_SIZE;

/// Where the direct map of physical memory begins (kernel only).
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;

/// The kernel's pointer to physical address `pa`. Dereferencing it is up to the caller.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn ptr<T>(pa: PhysAddr) -> *mut T {
    (pa.raw() + DIRECT_MAP) as *mut T
}

/// On the host physical memory is an arena: address 0 is the arena's first byte.
#[cfg(not(target_os = "none"))]
pub fn ptr<T>(pa: PhysAddr) -> *mut T {
    crate::host::arena().wrapping_add(pa.raw() as usize).cast()
}

/// Fills a frame with zeroes.
///
/// The caller owns the frame: nobody else may be using its contents.
#[inline]
pub fn zero(pfn: Pfn) {
    let p = ptr::<u64>(pfn.addr());
    // SAFETY: the direct map covers every frame; exclusive use is the caller's promise, and a
    // violated promise corrupts only the frame's contents, which are plain bytes.
    unsafe { core::ptr::write_bytes(p, 0, PAGE_SIZE / 8) }
}

/// Copies one frame's contents to another.
#[inline]
pub fn copy(dst: Pfn, src: Pfn) {
    // SAFETY: both lie in the direct map, are distinct frames of plain bytes, 8-byte aligned.
    unsafe {
        core::ptr::copy_nonoverlapping(
            ptr::<u64>(src.addr()),
            ptr::<u64>(dst.addr()),
            PAGE_SIZE / 8,
        )
    }
}

/// Fills `count` frames from `first` on with zeroes. See [`zero`].
pub fn zero_frames(first: Pfn, count: u64) {
    let p = ptr::<u64>(first.addr());
    // SAFETY: as `zero`, for each of the frames, which follow each other in the direct map as well.
    unsafe { core::ptr::write_bytes(p, 0, count as usize * PAGE_SIZE / 8) }
}

/// True when the frame holds nothing but zeroes.
pub fn is_zero(pfn: Pfn) -> bool {
    bytes(pfn).chunks_exact(16).all(|chunk| chunk == [0; 16])
}

/// Copies `count` frames from `src` on to those from `dst` on. See [`copy`].
pub fn copy_frames(dst: Pfn, src: Pfn, count: u64) {
    let (to, from) = (ptr::<u64>(dst.addr()), ptr::<u64>(src.addr()));
    // SAFETY: as `copy`, for each of the frames; the two ranges do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(from, to, count as usize * PAGE_SIZE / 8) }
}

/// A frame's bytes. User space may change them at any time (they are plain bytes): callers copy,
/// and never take a decision twice on the same byte.
#[inline]
pub fn bytes<'a>(pfn: Pfn) -> &'a [u8] {
    // SAFETY: the direct map covers every frame; the caller holds a reference to the frame.
    unsafe { core::slice::from_raw_parts(ptr::<u8>(pfn.addr()), PAGE_SIZE) }
}

/// A frame's bytes, to write. See [`bytes`].
#[inline]
#[allow(clippy::mut_from_ref, reason = "frames are shared memory: aliasing is their nature")]
pub fn bytes_mut<'a>(pfn: Pfn) -> &'a mut [u8] {
    // SAFETY: as `bytes`; writers of one frame's bytes are serialized by its owner or racing user
    // code, and each copy is a single memcpy.
    unsafe { core::slice::from_raw_parts_mut(ptr::<u8>(pfn.addr()), PAGE_SIZE) }
}

/// A 64-bit word of a frame that others change too. See [`bytes`].
pub fn atomic_u64<'a>(pfn: Pfn, offset: usize) -> &'a core::sync::atomic::AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset < PAGE_SIZE, "a word of a frame");
    // SAFETY: as `bytes`; aligned and inside the frame.
    unsafe { &*ptr::<core::sync::atomic::AtomicU64>(pfn.addr() + offset as u64) }
}

/// A range of physical memory, as bytes. The caller owns it (the initramfs, firmware's tables).
pub fn range<'a>(at: PhysAddr, len: usize) -> &'a [u8] {
    // SAFETY: the direct map covers memory; nobody writes to what the caller owns.
    unsafe { core::slice::from_raw_parts(ptr::<u8>(at), len) }
}
