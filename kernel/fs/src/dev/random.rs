//! The random number generator: ChaCha20 (RFC 8439) with fast key erasure.
//!
//! Each request takes a fresh 32-byte key from the generator for its own stream and leaves the
//! generator with a key that cannot be run backwards. The machine's entropy is mixed in at first
//! use and every few minutes.

use crate::env;
use abi::{Errno, Result};
use hal::user::{Sink, Source};
use sync::{SpinLock, hooks};

type Key = [u32; 8];

struct Generator {
    key: Key,
    /// Monotonic time of the last mixing, ns; None before the first.
    mixed: Option<u64>,
}

static GENERATOR: SpinLock<Generator> = SpinLock::new(Generator { key: [0; 8], mixed: None });

/// Nanoseconds between mixings: 5 minutes.
const MIX_INTERVAL: u64 = 300 * 1_000_000_000;

fn quarter(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, shift) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(shift);
    }
}

/// One block of ChaCha20: 64 bytes.
fn block(key: &Key, counter: u32, nonce: [u32; 3]) -> [u8; 64] {
    let mut initial = [0u32; 16];
    initial[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    initial[4..12].copy_from_slice(key);
    initial[12] = counter;
    initial[13..].copy_from_slice(&nonce);
    let mut state = initial;
    for _ in 0..10 {
        quarter(&mut state, 0, 4, 8, 12);
        quarter(&mut state, 1, 5, 9, 13);
        quarter(&mut state, 2, 6, 10, 14);
        quarter(&mut state, 3, 7, 11, 15);
        quarter(&mut state, 0, 5, 10, 15);
        quarter(&mut state, 1, 6, 11, 12);
        quarter(&mut state, 2, 7, 8, 13);
        quarter(&mut state, 3, 4, 9, 14);
    }
    let mut out = [0; 64];
    for (index, bytes) in out.chunks_exact_mut(4).enumerate() {
        bytes.copy_from_slice(&state[index].wrapping_add(initial[index]).to_le_bytes());
    }
    out
}

fn key_from(bytes: &[u8]) -> Key {
    core::array::from_fn(|index| {
        let at = index * 4;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    })
}

impl Generator {
    /// Mixes 32 bytes into the key: the new key is a block of the old one with them added.
    fn mix(&mut self, bytes: &[u8; 32]) {
        let extra = key_from(bytes);
        for (word, extra) in self.key.iter_mut().zip(extra) {
            *word ^= extra;
        }
        self.key = key_from(&block(&self.key, 0, [1, 0, 0])[..32]);
    }

    /// A key for one stream; the generator moves on.
    fn stream_key(&mut self) -> Key {
        let out = block(&self.key, 0, [0; 3]);
        self.key = key_from(&out[..32]);
        key_from(&out[32..])
    }
}

fn stream_key() -> Key {
    let now = hooks::now();
    let due = {
        let generator = GENERATOR.lock();
        generator.mixed.is_none_or(|at| now.saturating_sub(at) > MIX_INTERVAL)
    };
    let mut seed = [0; 32];
    if due {
        env::env().entropy(&mut seed);
    }
    let mut generator = GENERATOR.lock();
    if due {
        generator.mix(&seed);
        generator.mixed = Some(now);
    }
    generator.stream_key()
}

/// Fills `dst` with random bytes (getrandom(2), /dev/urandom); bytes given.
pub fn fill(dst: &mut dyn Sink) -> Result<usize> {
    if dst.room() == 0 {
        return Ok(0);
    }
    let key = stream_key();
    let mut done = 0;
    let mut counter = 0u64;
    while dst.room() > 0 {
        let bytes = block(&key, counter as u32, [2, (counter >> 32) as u32, 0]);
        counter += 1;
        let chunk = dst.room().min(bytes.len());
        match dst.put(&bytes[..chunk]) {
            Ok(n) => {
                done += n;
                if n < chunk || counter.is_multiple_of(64) && vm::env::killed() {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Fills kernel memory with random bytes (AT_RANDOM, stack and mmap offsets, ...).
pub fn fill_kernel(out: &mut [u8]) {
    let key = stream_key();
    for (counter, chunk) in out.chunks_mut(64).enumerate() {
        let bytes = block(&key, counter as u32, [3, 0, 0]);
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// Mixes what a user writes into the generator (it cannot make it worse).
pub fn stir(src: &mut dyn Source) -> Result<usize> {
    let mut done = 0;
    while src.left() > 0 {
        let mut bytes = [0; 32];
        let want = src.left().min(bytes.len());
        match src.get(&mut bytes[..want]) {
            Ok(0) => break,
            Ok(n) => {
                GENERATOR.lock().mix(&bytes);
                done += n;
            }
            Err(Errno::EFAULT) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hal::user::KernelSink;

    #[test]
    fn the_block_function_gives_the_vector_of_rfc_8439() {
        let key = key_from(&core::array::from_fn::<u8, 32, _>(|i| i as u8));
        let out = block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(out[..8], [0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15]);
        assert_eq!(out[56..], [0xcb, 0xd0, 0x83, 0xe8, 0xa2, 0x50, 0x3c, 0x4e]);
    }

    #[test]
    fn two_requests_never_give_the_same_bytes() {
        let (mut a, mut b) = ([0; 200], [0; 200]);
        assert_eq!(fill(&mut KernelSink::new(&mut a)), Ok(200));
        assert_eq!(fill(&mut KernelSink::new(&mut b)), Ok(200));
        assert_ne!(a, b);
        assert!(a.iter().any(|&x| x != a[0]));
        fill_kernel(&mut a[..7]);
        assert_ne!(a[..7], b[..7]);
    }
}
