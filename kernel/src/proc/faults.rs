//! Fault injection in the checked kernel: /proc/PID/fail-nth, /proc/proxima/faults.
//!
//! `faults` has a line for each place where an allocation failed: `refused`, `reserve` or `frame`,
//! how often, the largest number of bytes, and the innermost callers; then, for each system call,
//! the most bytes that it took without being ready for a refusal. Writing `trace` notes all places
//! of the kind `reserve`, `stop` ends that, `reset` forgets.

use super::pid::Who;
use super::put;
use crate::faults::{self, Kind};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use fs::file::Llseek;
use fs::inode::{Inode, InodeBase, OpenArgs, SetAttr};
use fs::pseudo::{PseudoFs, Text};
use fs::{File, FileOps};
use hal::user::{Sink, Source};

/// The text of /proc/proxima/faults.
pub fn show(out: &mut Text) -> Result<()> {
    let mut at = 0;
    while let Some(site) = faults::site(at) {
        at += 1;
        let kind = match site.kind {
            Kind::Refused => "refused",
            Kind::Reserve => "reserve",
            Kind::Frame => "frame",
        };
        put!(out, "{kind} {} {}", site.times, site.bytes);
        for ip in site.chain.into_iter().take_while(|&ip| ip != 0) {
            match hal::symbols::lookup(ip) {
                Some((name, offset)) => put!(out, " {name}+{offset:#x}"),
                None => put!(out, " {ip:#x}"),
            }
        }
        out.bytes(b"\n");
    }
    put!(out, "lost {}\n", faults::lost());
    for (number, bytes) in faults::most() {
        let name = crate::syscalls::table::find(number as u64).map_or("?", |entry| entry.name);
        put!(out, "most {bytes} {name}\n");
    }
    Ok(())
}

/// What was written to /proc/proxima/faults.
pub fn store(data: &[u8]) -> Result<()> {
    match data.trim_ascii() {
        b"trace" => faults::TRACING.store(true, Relaxed),
        b"stop" => faults::TRACING.store(false, Relaxed),
        b"reset" => faults::reset(),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// fail-nth of a task. Reading and writing it allocates nothing, so that it counts only what is
/// asked for in between.
struct FailNth {
    base: InodeBase,
    who: Who,
}

/// /proc/PID/fail-nth and /proc/PID/task/TID/fail-nth.
pub fn fail_nth(_fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    Arc::new(FailNth { base, who })
}

impl Inode for FailNth {
    fn base(&self) -> &InodeBase {
        &self.base
    }
    fn setattr(&self, change: &SetAttr) -> Result<()> {
        self.base.apply(change);
        Ok(())
    }
    fn open(self: Arc<Self>, _args: &OpenArgs<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(self)
    }
}

impl FileOps for FailNth {
    fn llseek(&self) -> Llseek {
        Llseek::Address
    }

    fn read(&self, _file: &File, dst: &mut dyn Sink, at: u64) -> Result<usize> {
        let mut left = self.who.task()?.faults.nth.load(Relaxed);
        // Ten digits and a line's end, from the last to the first.
        let mut text = [b'\n'; 11];
        let mut first = 10;
        loop {
            first -= 1;
            text[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let text = &text[first..];
        let rest = &text[(at as usize).min(text.len())..];
        let want = rest.len().min(dst.room());
        if want == 0 { Ok(0) } else { dst.put(&rest[..want]) }
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _at: u64) -> Result<usize> {
        let mut data = [0; 16];
        let count = src.get(&mut data)?;
        let text = core::str::from_utf8(&data[..count]).map_err(|_| Errno::EINVAL)?;
        let nth = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        self.who.task()?.faults.nth.store(nth, Relaxed);
        Ok(count)
    }
}
