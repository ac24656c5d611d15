//! Memory that guest and host share (QEMU's ivshmem-plain device), which carries the program's streams:
//! a serial port takes microseconds for each byte. user/init/src/shared.rs is its other end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use super::session::Event;
use crate::error::{Context, Result};

/// Its size, of which each direction has half; a power of two.
pub const BYTES: u64 = 4 << 20;
const HALF: u64 = BYTES / 2;
/// The guest is told what was taken when it may begin to matter.
const TELL: u64 = HALF / 4;
/// The guest announces no more at once: what waits for its reader is counted by pieces.
const PIECE: u64 = 64 * 1024;

/// The memory, as a file that QEMU maps.
#[derive(Clone)]
pub struct Shared(Arc<File>);

impl Shared {
    pub fn new() -> Result<Self> {
        let file = memfd_create("proxima", MemfdFlags::CLOEXEC).context("memfd_create")?;
        let file = File::from(file);
        file.set_len(BYTES).context("memfd_create")?;
        Ok(Self(Arc::new(file)))
    }

    /// Bytes that may be under way to the guest.
    pub const fn room() -> u64 {
        HALF
    }

    /// Puts bytes at place `at` of what the guest is sent.
    pub fn put(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (first, rest) = bytes.split_at(before_end(at, bytes.len()));
        self.0.write_all_at(first, HALF + at % HALF)?;
        self.0.write_all_at(rest, HALF)
    }

    /// The bytes at place `at` of what the guest has sent.
    fn get(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let (first, rest) = bytes.split_at_mut(before_end(at, len));
        self.0.read_exact_at(first, at % HALF)?;
        self.0.read_exact_at(rest, 0)?;
        Ok(bytes)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many of `len` bytes at `at` lie before the ring's end.
fn before_end(at: u64, len: usize) -> usize {
    len.min((HALF - at % HALF) as usize)
}

/// What the guest sends, as its lines announce it.
pub struct Inbox {
    shared: Shared,
    taken: u64,
    told: u64,
}

impl Inbox {
    pub fn new(shared: Shared) -> Self {
        Self { shared, taken: 0, told: 0 }
    }

    /// What a line announces, taken out of the ring; None for another line, or for more than a piece.
    pub fn take(&mut self, line: &str, mut control: impl Write) -> Option<Event> {
        let (title, len) = line.rsplit_once(' ')?;
        let file = title.strip_prefix("piece ").and_then(|number| number.parse::<usize>().ok());
        if !matches!(title, "out" | "err") && file.is_none() {
            return None;
        }
        let len = len.parse().ok().filter(|len| (1..=PIECE).contains(len))?;
        let bytes = self.shared.get(self.taken, len as usize).ok()?;
        self.taken += len;
        if self.taken - self.told >= TELL {
            self.told = self.taken;
            let _ = control.write_all(format!("taken {}\n", self.taken).as_bytes());
        }
        match (title, file) {
            ("out", _) => Some(Event::Out(bytes)),
            ("err", _) => Some(Event::Err(bytes)),
            (_, file) => Some(Event::File(file?, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_announces_is_taken_across_the_rings_end() {
        let shared = Shared::new().unwrap();
        let mut inbox = Inbox::new(shared.clone());
        let mut said = Vec::new();
        shared.0.write_all_at(&[1; HALF as usize], 0).unwrap();
        for len in [vec![PIECE; (HALF / PIECE - 1) as usize], vec![PIECE - 2]].concat() {
            let Some(Event::Out(bytes)) = inbox.take(&format!("out {len}"), &mut said) else {
                panic!("no bytes of stdout");
            };
            assert_eq!(bytes, vec![1; len as usize]);
        }
        let told: String = (1..4).map(|n| format!("taken {}\n", n * TELL)).collect();
        assert_eq!(said, told.as_bytes());
        shared.0.write_all_at(b"cd", 0).unwrap();
        shared.0.write_all_at(b"ab", HALF - 2).unwrap();
        let Some(Event::File(3, bytes)) = inbox.take("piece 3 4", &mut said) else {
            panic!("no piece of a file");
        };
        assert_eq!(bytes, b"abcd");
    }

    #[test]
    fn other_lines_and_impossible_ones_take_nothing() {
        let mut inbox = Inbox::new(Shared::new().unwrap());
        let more = format!("out {}", PIECE + 1);
        let others = ["exit 0 out 5 err 7", "ready 5 shared", "out -1", "file 0 00", "out 0"];
        let far = "piece 18446744073709551616 5";
        for line in others.into_iter().chain([&*more, "err 18446744073709551615", far]) {
            assert!(inbox.take(line, io::sink()).is_none(), "{line}");
        }
        assert_eq!(inbox.taken, 0);
    }

    #[test]
    fn what_is_put_wraps_at_the_end() {
        let shared = Shared::new().unwrap();
        shared.put(HALF * 3 - 1, b"xy").unwrap();
        let mut byte = [0; 2];
        shared.0.read_exact_at(&mut byte[..1], BYTES - 1).unwrap();
        shared.0.read_exact_at(&mut byte[1..], HALF).unwrap();
        assert_eq!(&byte, b"xy");
    }
}
