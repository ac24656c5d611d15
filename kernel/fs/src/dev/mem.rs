//! /dev/null, zero, full, and kmsg's writing side.

use crate::dev::{CharDevice, random, register_char};
use crate::env;
use crate::file::{File, FileOps, MapTarget, Seek};
use crate::inode::OpenArgs;
use crate::poll::{PollMask, PollTable};
use crate::stat::DevId;
use abi::flags::Prot;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use hal::user::{Sink, Source};

static ZEROES: [u8; 4096] = [0; 4096];

fn discard(src: &mut dyn Source) -> Result<usize> {
    // Linux does not even look at the bytes.
    Ok(src.left())
}

fn zero_fill(dst: &mut dyn Sink) -> Result<usize> {
    let mut done = 0;
    while dst.room() > 0 {
        let chunk = dst.room().min(ZEROES.len());
        match dst.put(&ZEROES[..chunk]) {
            Ok(n) => {
                done += n;
                if n < chunk || vm::env::killed() {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

struct Null;
impl FileOps for Null {
    fn seekable(&self) -> Seek {
        Seek::Ignored
    }
    fn read(&self, _file: &File, _dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        Ok(0)
    }
    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        discard(src)
    }
}

struct Zero;
impl FileOps for Zero {
    fn seekable(&self) -> Seek {
        Seek::Ignored
    }
    fn read(&self, _file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        zero_fill(dst)
    }
    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        discard(src)
    }
    fn map(&self, _file: &File, _shared: bool, _prot: Prot) -> Result<MapTarget> {
        Ok(MapTarget::Anonymous)
    }
}

struct Full;
impl FileOps for Full {
    fn seekable(&self) -> Seek {
        Seek::Ignored
    }
    fn read(&self, _file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        zero_fill(dst)
    }
    fn write(&self, _file: &File, _src: &mut dyn Source, _at: u64) -> Result<usize> {
        Err(Errno::ENOSPC)
    }
}

/// /dev/random and /dev/urandom: the same generator, as on Linux since 5.18.
struct Random {
    /// /dev/random, which once could be waited for, is still polled; /dev/urandom never was.
    waits: bool,
}
impl FileOps for Random {
    fn seekable(&self) -> Seek {
        Seek::Ignored
    }
    fn read(&self, _file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        random::fill(dst)
    }
    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        random::stir(src)
    }
    fn poll(&self, _file: &File, _interest: PollMask, _table: Option<&mut PollTable>) -> PollMask {
        PollMask::READABLE | PollMask::WRITABLE
    }
    fn pollable(&self) -> bool {
        self.waits
    }
    fn ioctl(&self, _file: &File, cmd: u32, arg: u64) -> Result<u64> {
        /// RNDGETENTCNT: bits of entropy in the pool.
        const GET_COUNT: u32 = 0x8004_5200;
        if cmd != GET_COUNT {
            return Err(Errno::EINVAL);
        }
        hal::user::write(hal::VirtAddr::new(arg), &256i32)?;
        Ok(0)
    }
}

/// Longest line that /dev/kmsg takes, bytes.
const KMSG_LINE: usize = 992;

/// Splits "<PRI>text" into priority and text; without a prefix it is a user notice.
fn priority(line: &[u8]) -> (u32, &[u8]) {
    /// Facility "user" (1), level "notice" would be a guess: Linux uses the default level 4.
    const DEFAULT: u32 = 8 + 4;
    let parse = || {
        let end = line.iter().position(|&b| b == b'>')?;
        let digits = core::str::from_utf8(line.get(1..end)?).ok()?;
        let value: u32 = digits.parse().ok()?;
        // Facility 0 is the kernel's own: user space gets facility 1.
        let value = if value < 8 { value + 8 } else { value };
        Some((value, &line[end + 1..]))
    };
    if line.first() == Some(&b'<') { parse().unwrap_or((DEFAULT, line)) } else { (DEFAULT, line) }
}

/// Takes one line for the kernel's log (a write to /dev/kmsg). EINVAL when it is too long.
pub fn write_kmsg(src: &mut dyn Source) -> Result<usize> {
    let len = src.left();
    if len > KMSG_LINE {
        return Err(Errno::EINVAL);
    }
    let mut line = vec![0; len];
    let got = src.get(&mut line)?;
    if got < len {
        return Err(Errno::EFAULT);
    }
    let (priority, text) = priority(&line);
    env::env().log(priority, text.strip_suffix(b"\n").unwrap_or(text));
    Ok(len)
}

/// Serves the memory devices of major 1; the operations are made once.
struct MemDevices {
    null: Arc<dyn FileOps>,
    zero: Arc<dyn FileOps>,
    full: Arc<dyn FileOps>,
    random: Arc<dyn FileOps>,
    urandom: Arc<dyn FileOps>,
}

impl CharDevice for MemDevices {
    fn open(&self, rdev: DevId, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(match rdev.minor {
            3 => self.null.clone(),
            5 => self.zero.clone(),
            7 => self.full.clone(),
            8 => self.random.clone(),
            9 => self.urandom.clone(),
            _ => return Err(Errno::ENXIO),
        })
    }
}

/// Names, minors and modes of the devices of major 1 that [`register`] serves.
pub const NODES: [(&str, u32, u32); 5] = [
    ("null", 3, 0o666),
    ("zero", 5, 0o666),
    ("full", 7, 0o666),
    ("random", 8, 0o666),
    ("urandom", 9, 0o666),
];

/// Registers null (1:3), zero (1:5), full (1:7), random (1:8) and urandom (1:9).
pub fn register() {
    let devices = MemDevices {
        null: Arc::new(Null),
        zero: Arc::new(Zero),
        full: Arc::new(Full),
        random: Arc::new(Random { waits: true }),
        urandom: Arc::new(Random { waits: false }),
    };
    register_char(DevId::new(1, 3), 7, Arc::new(devices));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_carry_their_priority() {
        assert_eq!(priority(b"<3>disk on fire"), (11, b"disk on fire" as &[u8]));
        assert_eq!(priority(b"<30>x"), (30, b"x" as &[u8]));
        assert_eq!(priority(b"plain"), (12, b"plain" as &[u8]));
        assert_eq!(priority(b"<x>plain"), (12, b"<x>plain" as &[u8]));
        assert_eq!(priority(b"<"), (12, b"<" as &[u8]));
    }
}
