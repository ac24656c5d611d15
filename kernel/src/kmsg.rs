//! /dev/kmsg: the kernel's log as records, each reader at its own place; and writing to it.
//!
//! A record is "priority,number,microseconds,-;text", as Linux's dev-kmsg has it. Places are not
//! for seeking: a reader begins with the oldest record that is kept.

use crate::console;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use fs::dev::{CharDevice, register_char};
use fs::inode::OpenArgs;
use fs::stat::DevId;
use fs::{File, FileOps, PollMask, PollTable};
use hal::user::{Sink, Source};
use sync::SpinLock;

const DEVICE: DevId = DevId::new(1, 11);

/// Registers the device and makes its node.
pub fn init(devtmpfs: &Arc<fs::mount::Super>) {
    register_char(DEVICE, 1, Arc::new(Driver));
    if let Err(error) = fs::boot::add_node(devtmpfs, "kmsg", g::S_IFCHR | 0o644, DEVICE) {
        log::warn!("/dev/kmsg: {error}");
    }
}

struct Driver;

impl CharDevice for Driver {
    fn open(&self, _rdev: DevId, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        let at = console::log_start();
        let place = Place { at, number: console::message_number(at) };
        Ok(Arc::new(Reader { place: SpinLock::new(place) }))
    }
}

/// Where a reader is: bytes into the log, and that message's number.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    number: u64,
}

struct Reader {
    place: SpinLock<Place>,
}

/// A message "<severity>[seconds.micros] text" as a record.
fn record(line: &str, number: u64) -> String {
    let parse = || {
        let (severity, rest) = line.strip_prefix('<')?.split_once(">[")?;
        let (stamp, text) = rest.split_once("] ")?;
        let (seconds, micros) = stamp.trim_start().split_once('.')?;
        let micros: u64 = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
        Some(format!("{severity},{number},{micros},-;{text}\n"))
    };
    // The rest of a message that was longer than a line.
    parse().unwrap_or_else(|| format!("6,{number},0,c;{line}\n"))
}

impl Reader {
    /// The next record and the place behind it. EPIPE when it was overwritten: the place is then
    /// that of the oldest that is left.
    fn next(&self, from: Place) -> Result<Option<(String, Place)>> {
        /// More than any message that is logged in one line.
        const ENOUGH: usize = 8192;
        let oldest = console::log_start();
        if from.at < oldest {
            *self.place.lock() = Place { at: oldest, number: console::message_number(oldest) };
            return Err(Errno::EPIPE);
        }
        let mut text = Vec::new();
        let end = console::read_log(from.at, ENOUGH, &mut text);
        let start = end - text.len() as u64;
        let Some(len) = text.iter().position(|&b| b == b'\n') else { return Ok(None) };
        let line = String::from_utf8_lossy(&text[..len]);
        let after = Place { at: start + len as u64 + 1, number: from.number + 1 };
        Ok(Some((record(&line, from.number), after)))
    }
}

impl FileOps for Reader {
    fn read(&self, file: &File, dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        loop {
            let from = *self.place.lock();
            if let Some((record, after)) = self.next(from)? {
                if record.len() > dst.room() {
                    return Err(Errno::EINVAL);
                }
                dst.put_all(record.as_bytes())?;
                *self.place.lock() = after;
                return Ok(record.len());
            }
            if file.nonblocking() {
                return Err(Errno::EAGAIN);
            }
            crate::proc::wait_beyond(from.at)?;
        }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        fs::dev::mem::write_kmsg(src)
    }

    fn poll(&self, _file: &File, interest: PollMask, _table: Option<&mut PollTable>) -> PollMask {
        let news = console::log_end() > self.place.lock().at;
        let readable = if news { PollMask::READABLE } else { PollMask::empty() };
        (readable | PollMask::WRITABLE) & interest
    }

    fn seekable(&self) -> fs::file::Seek {
        fs::file::Seek::Stream
    }
}
