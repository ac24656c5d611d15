//! The entry, which must have a fixed name.
#![allow(unsafe_code, reason = "no_mangle is an unsafe attribute")]

// SAFETY: the only symbol of this name; `hal::boot` declares it with the same signature.
#[unsafe(no_mangle)]
extern "Rust" fn kernel_main(start_info: u64) -> ! {
    crate::main(start_info)
}
