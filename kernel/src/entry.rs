//! The few items that must have fixed names or attributes: the entry and the global allocator.
#![allow(unsafe_code, reason = "no_mangle is an unsafe attribute")]

/// The kernel's heap.
#[global_allocator]
pub static HEAP: frames::heap::Heap = frames::heap::Heap::new();

// SAFETY: the only symbol of this name; `hal::boot` declares it with the same signature.
#[unsafe(no_mangle)]
extern "Rust" fn kernel_main(start_info: u64) -> ! {
    crate::main(start_info)
}
