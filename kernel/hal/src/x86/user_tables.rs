//! Root tables of user address spaces.

use super::paging;
use crate::Pfn;

/// Loads `root` on this CPU.
///
/// The caller keeps the table alive until another root is loaded, and made it with
/// [`new_root`] (or it is the kernel's own).
#[inline]
pub fn load(root: Pfn) {
    // SAFETY: the root has the kernel half (see `new_root`), so the running code stays mapped.
    unsafe { paging::load_root(root) }
}

/// Makes the zeroed frame `root` the root of an address space without user mappings.
pub fn new_root(root: Pfn) {
    paging::share_kernel_half(root);
}
