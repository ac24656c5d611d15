//! The pool of huge pages: set by an operation, told after each one from then on, and empty again
//! before the next sequence.

use std::fmt::Write;
use std::sync::atomic::Ordering::SeqCst;

use crate::block::shared;
use crate::sys::{failed, sys};
use crate::trace::Line;

const ALL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const NODES: &str = "/sys/devices/system/node/node";
const OF_NODE: &str = "/hugepages/hugepages-2048kB";
/// Nodes that are looked at.
const MOST: u64 = 64;

/// A path, ended by a zero byte.
struct Path {
    bytes: [u8; 128],
    len: usize,
}

impl Path {
    fn new(args: std::fmt::Arguments<'_>) -> Self {
        let mut path = Self { bytes: [0; 128], len: 0 };
        // All of these are shorter.
        let _ = path.write_fmt(args);
        path
    }

    fn of(what: u64) -> Self {
        match what {
            0 => Self::new(format_args!("{ALL}/nr_hugepages")),
            1 => Self::new(format_args!("{ALL}/nr_hugepages_mempolicy")),
            2 => Self::new(format_args!("{ALL}/nr_overcommit_hugepages")),
            node => {
                Self::new(format_args!("{NODES}{}{OF_NODE}/nr_hugepages", node.saturating_sub(10)))
            }
        }
    }

    fn open(&self, flags: i32) -> i64 {
        sys!(libc::SYS_openat, libc::AT_FDCWD, self.bytes.as_ptr(), flags, 0)
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        if text.len() > room {
            return Err(std::fmt::Error);
        }
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

fn write(what: u64, pages: u64) -> i64 {
    let fd = Path::of(what).open(libc::O_WRONLY);
    if failed(fd) {
        return fd;
    }
    let text = Path::new(format_args!("{pages}"));
    let result = sys!(libc::SYS_write, fd, text.bytes.as_ptr(), text.len);
    sys!(libc::SYS_close, fd);
    result
}

/// Sets a part of the pool.
pub fn set(what: u64, pages: u64, line: &mut Line) {
    shared().pooled.store(1, SeqCst);
    line.outcome(write(what, pages));
}

/// Gives everything back.
pub fn empty() {
    write(2, 0);
    write(0, 0);
}

fn read(path: &Path) -> Option<u64> {
    let fd = path.open(libc::O_RDONLY);
    if failed(fd) {
        return None;
    }
    let mut text = [0u8; 24];
    let got = sys!(libc::SYS_read, fd, text.as_mut_ptr(), text.len());
    sys!(libc::SYS_close, fd);
    let text = text.get(..usize::try_from(got).ok()?)?;
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The pool as it is: all, free, reserved and surplus pages, then all and free ones of each node.
pub fn observe(line: &mut Line) {
    if shared().pooled.load(SeqCst) == 0 {
        return;
    }
    line.put(format_args!(" pool="));
    for name in ["nr", "free", "resv", "surplus"] {
        let count = read(&Path::new(format_args!("{ALL}/{name}_hugepages"))).unwrap_or(0);
        line.put(format_args!("{count},"));
    }
    for node in 0..MOST {
        let count =
            |name: &str| read(&Path::new(format_args!("{NODES}{node}{OF_NODE}/{name}_hugepages")));
        if let Some(all) = count("nr") {
            line.put(format_args!(" {node}:{all},{}", count("free").unwrap_or(0)));
        }
    }
}
