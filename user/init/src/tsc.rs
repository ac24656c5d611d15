//! The time-stamp counter. Under QEMU's `-icount shift=0` it counts instructions since reset, so
//! its value at init's entry is what booting cost.

/// Cycles (or instructions under icount) since reset.
pub fn read() -> u64 {
    // SAFETY: RDTSC reads a counter; every x86-64 CPU has it and neither kernel traps it.
    #[allow(unused_unsafe, reason = "newer toolchains declare the intrinsic safe")]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}
