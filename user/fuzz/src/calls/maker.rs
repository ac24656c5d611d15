//! Making calls: a number and words that mostly fit it.

use crate::arena::{self, PAGE};
use crate::call_args;
use crate::random::Random;

/// Numbers beyond the last call, too.
const NUMBERS: u64 = 470;
/// Bytes of junk that pointers point to.
pub const BUFFER: usize = 64 << 10;

/// Paths that calls are given; all that is made is below /tmp/f.
const PATHS: &[&str] =
    &["/tmp/f/a", "/tmp/f/b", "/tmp/f/c/d", "/tmp/f/c", "/tmp/f/e", "/tmp/f/long-name-of-a-file"];
const READ_PATHS: &[&str] = &[
    "/proc/self/maps",
    "/proc/self/numa_maps",
    "/proc/self/status",
    "/proc/self/fd/3",
    "/sys/devices/system/node/online",
    "/dev/null",
    "/dev/zero",
    "/tmp/f",
    "",
    ".",
    "..",
    "/",
    "/proc/meminfo",
    "relative",
];

/// Requests of ptrace(2).
const REQUESTS: &[u64] = &[
    1, 2, 3, 3, 4, 5, 6, 6, 7, 7, 9, 9, 12, 13, 13, 14, 15, 16, 24, 24, 30, 31, 32, 0x4200, 0x4201,
    0x4202, 0x4203, 0x4204, 0x4205, 0x4205, 0x4206, 0x4207, 0x4208, 0x4209, 0x420a, 0x420b, 0x420e,
    0x420f,
];
/// TRACEME, KILL, DETACH: after them there is little left to ask.
const LAST_REQUESTS: &[u64] = &[0, 8, 17];

pub struct Maker {
    pub random: Random,
    /// Junk that pointers point to.
    pub buffer: Box<[u64; BUFFER / 8]>,
    pub own: u64,
    /// A child that the worker traces; 0 without one.
    pub tracee: u64,
}

impl Maker {
    fn path(&mut self) -> u64 {
        let list = if self.random.chance(2, 3) { PATHS } else { READ_PATHS };
        let text = self.random.of(list);
        // Into the buffer's end, where it is ended by a zero.
        let place = self.random.below(8) as usize * 8;
        let words = &mut self.buffer[BUFFER / 8 - 128 + place..][..8];
        words.fill(0);
        for (at, byte) in text.bytes().take(60).enumerate() {
            words[at / 8] |= u64::from(byte) << (at % 8 * 8);
        }
        words.as_ptr().expose_provenance() as u64
    }

    fn pointer(&mut self) -> u64 {
        match self.random.below(24) {
            0 => 0,
            1 => self.random.word(),
            2 => 0xffff_8000_0000_0000 | self.random.below(1 << 40),
            3 => arena::at(self.random.below(4), self.random.below(20)) + PAGE - 4,
            4 => 0x0000_7fff_ffff_f000,
            5 => 1 << 47,
            _ => {
                let at = self.random.below((BUFFER / 8 - 512) as u64) as usize;
                self.buffer[at..].as_ptr().expose_provenance() as u64
            }
        }
    }

    fn length(&mut self) -> u64 {
        match self.random.below(16) {
            0 => 0,
            1..5 => self.random.below(64),
            5..8 => self.random.of(&[8, 16, 24, 32, 48, 56, 64, 128, 144]),
            8..11 => self.random.below(5000),
            11 | 12 => PAGE * self.random.below(64),
            13 => self.random.below(64 << 20),
            14 => self.random.word() >> self.random.below(64),
            _ => self.random.of(&[u64::MAX, 1 << 63, 1 << 47, u64::MAX - PAGE]),
        }
    }

    fn word(&mut self) -> u64 {
        match self.random.below(8) {
            0..3 => self.random.below(16),
            3 => 1 << self.random.below(64),
            4 => self.random.word() >> self.random.below(64),
            5 => (self.random.below(5)).wrapping_neg(),
            6 => self.random.below(4096),
            _ => self.pointer(),
        }
    }

    fn argument(&mut self, kind: u8) -> u64 {
        if !matches!(kind, b'P' | b'T') && self.random.chance(1, 40) {
            return self.word();
        }
        match kind {
            b'f' => match self.random.below(12) {
                0 => u64::MAX,
                1 => libc::AT_FDCWD as u64,
                2 => self.random.below(2000),
                _ => self.random.below(24),
            },
            b'p' | b'n' => self.pointer(),
            b'l' => self.length(),
            b's' => self.path(),
            b'i' => self.random.below(12),
            b'g' => match self.random.below(4) {
                0 => 0,
                1 => 1 << self.random.below(32),
                2 => 1 << self.random.below(20) | 1 << self.random.below(20),
                _ => self.random.below(64),
            },
            b'm' => arena::at(self.random.below(4), self.random.below(64)),
            // Nobody but the worker itself, or nobody at all.
            b'P' => self.random.of(&[0, self.own, self.own, 4_000_000, u64::MAX - 4_000_000]),
            b'T' if self.random.chance(9, 10) => self.tracee,
            b'T' => self.random.of(&[0, self.own, 4_000_000]),
            b'R' => match self.random.below(64) {
                0 => self.random.of(LAST_REQUESTS),
                1 | 2 => self.word(),
                _ => self.random.of(REQUESTS),
            },
            b'S' => self.random.below(66),
            _ => self.word(),
        }
    }

    /// A call's number and words.
    pub fn call(&mut self) -> (u64, [u64; 6]) {
        loop {
            let number = self.random.below(NUMBERS);
            let out = call_args::left_out(number)
                || call_args::seldom(number) && !self.random.chance(1, 60);
            if out {
                continue;
            }
            let mut words = [0; 6];
            for (word, kind) in words.iter_mut().zip(call_args::of(number).bytes()) {
                *word = self.argument(kind);
            }
            // A child of the supervisor tells it of its end: not by a signal.
            if number == libc::SYS_clone as u64 && words[0] & libc::CLONE_PARENT as u64 != 0 {
                words[0] &= !0xff;
            }
            // mmap in the arena or wherever the kernel likes, not over the worker's own memory.
            if number == libc::SYS_mmap as u64 && !arena::holds(words[0]) {
                words[3] &= !(libc::MAP_FIXED as u64);
            }
            return (number, words);
        }
    }

    pub fn refill(&mut self) {
        for at in 0..self.buffer.len() {
            self.buffer[at] = match self.random.below(6) {
                0 => 0,
                1 => self.random.below(64),
                2 => self.random.word(),
                3 => self.random.below(64) << 32 | self.random.below(64),
                _ => {
                    self.buffer.as_ptr().expose_provenance() as u64
                        + self.random.below(BUFFER as u64 - 4096)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_calls_and_no_call_that_ends_the_machine() {
        let make = || {
            let buffer = vec![0; BUFFER / 8].into_boxed_slice().try_into().expect("its size");
            Maker { random: Random::new(7), buffer, own: 12345, tracee: 12346 }
        };
        let (mut first, mut second) = (make(), make());
        for _ in 0..20_000 {
            let (a, b) = (first.call(), second.call());
            // Pointers into the two buffers differ.
            assert_eq!(a.0, b.0);
            assert!(!call_args::left_out(a.0));
            if [62, 200, 129].contains(&a.0) {
                assert!([0, 12345, 4_000_000].contains(&a.1[0]) || a.1[0] > 1 << 32);
            }
        }
    }
}
