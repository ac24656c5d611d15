//! Random bytes: from the CPU where it gives them, stirred with the clock.

use core::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);

/// A word: the CPU's, mixed with a counter and the time-stamp counter, so that a CPU without a
/// generator still gives differing (if guessable) ones.
pub fn word() -> u64 {
    let mut z = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    z ^= hal::cpu::random().unwrap_or(0) ^ hal::cpu::rdtsc().rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fills `out`.
pub fn fill(out: &mut [u8]) {
    for chunk in out.chunks_mut(8) {
        let bytes = word().to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}
