//! The user's floating-point and vector state. The kernel itself uses none.

use super::cpu::{cpuid, features};
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

/// x87, SSE, AVX, and the three AVX-512 parts; nothing that needs supervisor support.
const WANTED: u64 = 0x1 | 0x2 | 0x4 | 0xe0;
const AVX: u64 = 0x4;
const AVX512: u64 = 0xe0;
/// Legacy area and XSAVE header.
const LEAST: usize = 512 + 64;

static SIZE: AtomicUsize = AtomicUsize::new(512);

/// The components to enable out of those that CPUID offers: XSETBV faults on AVX-512 in part, or
/// without AVX.
fn wanted(offered: u64) -> u64 {
    let mask = offered & WANTED | 3;
    if mask & AVX512 == AVX512 && mask & AVX != 0 { mask } else { mask & !AVX512 }
}

/// Bytes that XSAVE writes for the components of `mask`: what CPUID says of the whole, and no less
/// than any one of them needs.
fn area(mask: u64) -> usize {
    let ends = (2..64).filter(|i| mask & 1 << i != 0).map(|i| {
        let leaf = cpuid(0xd, i);
        (leaf[0] + leaf[1]) as usize
    });
    ends.fold((cpuid(0xd, 0)[1] as usize).max(LEAST), usize::max)
}

/// Sets up XCR0 on this CPU and learns the size of the state.
pub fn init() {
    if features().xsave() {
        let leaf = cpuid(0xd, 0);
        let mask = wanted(u64::from(leaf[0]) | u64::from(leaf[3]) << 32);
        // SAFETY: only components that CPUID offers; CR4.OSXSAVE is set.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") mask as u32, in("edx") (mask >> 32) as u32);
        }
        // The sizes are those of the components now enabled. Every CPU saves into the same areas.
        let size = area(mask);
        let first = SIZE.swap(size, Ordering::Relaxed);
        assert!(
            first == 512 || first == size,
            "this CPU's XSAVE area has {size} bytes, the first one's {first}"
        );
    }
}

/// Bytes of a task's state as user space sees it in a signal frame.
pub fn size() -> usize {
    SIZE.load(Ordering::Relaxed)
}

/// The components enabled in XCR0 (1 | 2 without XSAVE).
pub fn components() -> u64 {
    if !features().xsave() {
        return 3;
    }
    let (lo, hi): (u32, u32);
    // SAFETY: CR4.OSXSAVE is set where XSAVE is present.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") lo, out("edx") hi) };
    u64::from(lo) | u64::from(hi) << 32
}

/// A task's saved state, 64-byte aligned.
pub struct FpuState {
    area: *mut u8,
}

// SAFETY: plain memory, owned by one task.
unsafe impl Send for FpuState {}
// SAFETY: changed only through `&mut`, or by the running task itself under the switch.
unsafe impl Sync for FpuState {}

fn layout() -> Layout {
    Layout::from_size_align(size().max(512), 64).expect("a small size and a power of two")
}

impl FpuState {
    /// The state of a fresh program: all exceptions masked, registers zero.
    pub fn new() -> Self {
        // SAFETY: the layout has a non-zero size.
        let area = unsafe { alloc_zeroed(layout()) };
        assert!(!area.is_null(), "no memory for a task's vector state");
        let mut state = Self { area };
        state.reset();
        state
    }

    /// Back to the state of a fresh program.
    pub fn reset(&mut self) {
        let bytes = self.bytes_mut();
        bytes.fill(0);
        bytes[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        bytes[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        if features().xsave() {
            // XSTATE_BV: x87 and SSE are in the area, the rest is in its initial state.
            bytes[512..520].copy_from_slice(&3u64.to_le_bytes());
        }
    }

    /// The raw area in the non-compacted XSAVE (or FXSAVE) format.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the area was allocated with this size.
        unsafe { core::slice::from_raw_parts(self.area, layout().size()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `bytes`, exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.area, layout().size()) }
    }

    /// Takes over bytes of user space: of the whole area, or of its legacy part (512 bytes) while
    /// the rest is as in a fresh program. They are made safe to restore: reserved MXCSR bits and
    /// unknown components would fault.
    pub fn set_bytes(&mut self, from: &[u8]) {
        let mask = components();
        let xsave = features().xsave();
        let bytes = self.bytes_mut();
        bytes[..from.len()].copy_from_slice(from);
        if xsave && from.len() < bytes.len() {
            bytes[from.len()..].fill(0);
            bytes[512] = 3;
        }
        let mut word = [0u8; 4];
        word.copy_from_slice(&bytes[24..28]);
        let mxcsr = u32::from_le_bytes(word) & 0xffff;
        bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        if xsave {
            let mut bv = [0u8; 8];
            bv.copy_from_slice(&bytes[512..520]);
            let bv = u64::from_le_bytes(bv) & mask;
            bytes[512..520].copy_from_slice(&bv.to_le_bytes());
            bytes[520..576].fill(0);
        }
    }

    /// Copies the area to `out`, as long as it: with all components as the program sees them, and the
    /// components that there are in the software's words, as Linux has it for debuggers.
    pub fn copy_whole(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.bytes()[..out.len()]);
        if !features().xsave() {
            return;
        }
        let mut bv = [0u8; 8];
        bv.copy_from_slice(&out[512..520]);
        let bv = u64::from_le_bytes(bv);
        // What is in its initial state need not have been written.
        if bv & 1 == 0 {
            out[..24].fill(0);
            out[32..160].fill(0);
            out[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        }
        if bv & 2 == 0 {
            out[160..416].fill(0);
        }
        for i in (2..64).filter(|i| components() & !bv & 1 << i != 0) {
            let [size, at, ..] = cpuid(0xd, i).map(|word| word as usize);
            out[at..at + size].fill(0);
        }
        out[416..512].fill(0);
        out[464..472].copy_from_slice(&components().to_le_bytes());
    }

    /// Takes over bytes as [`FpuState::copy_whole`] gives them, or their legacy part (512 bytes) beside
    /// the other components as they are. False, and nothing changes, for what would fault when it is
    /// loaded.
    pub fn set_checked(&mut self, from: &[u8]) -> bool {
        let word = |at: usize| {
            let mut bytes = [0u8; 8];
            bytes.copy_from_slice(&from[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let mxcsr = word(24) as u32;
        let whole = from.len() > 512;
        let header_ok = !whole
            || word(512) & !components() == 0 && from[520..576].iter().all(|&byte| byte == 0);
        if mxcsr & !0xffff != 0 || !header_ok {
            return false;
        }
        let xsave = features().xsave();
        let bytes = self.bytes_mut();
        bytes[..from.len()].copy_from_slice(from);
        if xsave && !whole {
            bytes[512] |= 3;
        }
        true
    }

    /// Saves this CPU's registers.
    #[inline]
    pub fn save(&mut self) {
        // SAFETY: the area is large enough and aligned.
        unsafe {
            if features().xsaveopt() {
                asm!("xsaveopt64 [{}]", in(reg) self.area, in("eax") u32::MAX, in("edx") u32::MAX);
            } else if features().xsave() {
                asm!("xsave64 [{}]", in(reg) self.area, in("eax") u32::MAX, in("edx") u32::MAX);
            } else {
                asm!("fxsave64 [{}]", in(reg) self.area);
            }
        }
    }

    /// As [`FpuState::save`], and components that are in their initial state are written, too: the
    /// area holds them all, whatever XSTATE_BV says.
    pub fn save_whole(&mut self) {
        if !features().xsave() {
            return self.save();
        }
        // SAFETY: the area is large enough and aligned.
        unsafe {
            asm!("xsave64 [{}]", in(reg) self.area, in("eax") u32::MAX, in("edx") u32::MAX);
        }
    }

    /// Loads this CPU's registers.
    #[inline]
    pub fn restore(&self) {
        // SAFETY: the area was saved, reset or sanitized.
        unsafe {
            if features().xsave() {
                asm!("xrstor64 [{}]", in(reg) self.area, in("eax") u32::MAX, in("edx") u32::MAX);
            } else {
                asm!("fxrstor64 [{}]", in(reg) self.area);
            }
        }
    }
}

impl Default for FpuState {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for FpuState {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.area, layout()) }
    }
}
