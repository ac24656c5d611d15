//! Host stand-ins, so that the crates above can be tested with `cargo test`.

use std::sync::OnceLock;

/// Bytes of simulated physical memory (reserved, touched lazily by the host).
pub const ARENA_BYTES: usize = 1 << 30;

/// The first byte of simulated physical memory, page aligned, zeroed.
pub fn arena() -> *mut u8 {
    static ARENA: OnceLock<usize> = OnceLock::new();
    *ARENA.get_or_init(|| {
        let layout = std::alloc::Layout::from_size_align(ARENA_BYTES, 1 << 21).expect("layout");
        // SAFETY: the layout has a non-zero size; the block is never freed.
        unsafe { std::alloc::alloc_zeroed(layout) as usize }
    }) as *mut u8
}
