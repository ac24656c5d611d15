//! Large tables that cost memory only where they are touched: zeroed pages straight from the host.
//!
//! The one module of this crate with `unsafe`: it asks the allocator for zeroed memory, which the
//! host's hands out lazily.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// A type of which all bits zero is a value.
///
/// # Safety
/// So it must be.
pub unsafe trait Zero {}
// SAFETY: numbers, atomic or not, and arrays of them.
unsafe impl Zero for u32 {}
// SAFETY: as above.
unsafe impl Zero for u64 {}
// SAFETY: as above.
unsafe impl Zero for AtomicU16 {}
// SAFETY: as above.
unsafe impl Zero for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zero for AtomicU64 {}
// SAFETY: as above.
unsafe impl<T: Zero, const N: usize> Zero for [T; N] {}

/// `count` zeros.
pub fn zeroed<T: Zero>(count: usize) -> Box<[T]> {
    let layout = Layout::array::<T>(count).expect("a table larger than the address space");
    if layout.size() == 0 {
        return Vec::new().into_boxed_slice();
    }
    // SAFETY: the size is not zero; zero bits are a valid T; the box frees with the same layout.
    unsafe {
        let memory = alloc_zeroed(layout).cast::<T>();
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(std::ptr::slice_from_raw_parts_mut(memory, count))
    }
}
