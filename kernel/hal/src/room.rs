//! Whether the heap, which lies above, has memory: for vectors that are filled here and in `sync`
//! on behalf of users.

use abi::{Errno, Result};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Has the heap keep a block of this layout ready; false without memory.
type Ready = fn(Layout) -> bool;

static READY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Registers the heap, once, when there are tasks.
pub fn register(ready: Ready) {
    READY.store(ready as *mut (), Ordering::Release);
}

/// Makes sure of a block. ENOMEM.
fn ready(layout: Layout) -> Result<()> {
    let ready = READY.load(Ordering::Acquire);
    if layout.size() == 0 || ready.is_null() {
        return Ok(());
    }
    // SAFETY: only `register` stores there, and what it stores is of this type.
    let ready = unsafe { core::mem::transmute::<*mut (), Ready>(ready) };
    if ready(layout) { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// Bytes of what a call may take without asking: an argument or two.
const SMALL: usize = 256;

/// Makes sure of room for `count` elements at one place. ENOMEM.
pub fn for_array<T>(count: usize) -> Result<()> {
    ready(Layout::array::<T>(count).map_err(|_| Errno::ENOMEM)?)
}

/// Room for exactly `count` values in an empty vector. ENOMEM.
#[inline]
pub fn exact<T>(values: &mut Vec<T>, count: usize) -> Result<()> {
    if count > SMALL / size_of::<T>().max(1) {
        for_array::<T>(count)?;
    }
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)
}

/// Adds bytes; `many`: to one of any number of strings. ENOMEM.
#[inline]
pub fn add(out: &mut Vec<u8>, bytes: &[u8], many: bool) -> Result<()> {
    if out.capacity() - out.len() < bytes.len() {
        let wanted = (2 * out.capacity()).max(out.len() + bytes.len());
        if many || wanted > SMALL {
            for_array::<u8>(wanted)?;
        }
        out.try_reserve_exact(wanted - out.len()).map_err(|_| Errno::ENOMEM)?;
    }
    out.extend_from_slice(bytes);
    Ok(())
}
