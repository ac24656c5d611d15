//! /proc/kallsyms: the kernel's symbols, if the image carries them. Addresses for root only.

use super::put;
use abi::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::pseudo::{Dir, PseudoFs, Records, Text, TextFile};

/// Symbols that are written at once.
const PIECE: usize = 64;

struct Symbols {
    next: usize,
    with_addresses: bool,
}

impl Records for Symbols {
    fn next(&mut self, out: &mut Text) -> Result<bool> {
        let shown = |address: u64| if self.with_addresses { address } else { 0 };
        if self.next == 0 {
            // By these names profilers find where the kernel's code begins and ends.
            let (start, end) = hal::symbols::text();
            put!(out, "{0:016x} T _text\n{0:016x} T _stext\n", shown(start));
            put!(out, "{:016x} T _etext\n", shown(end));
        }
        let last = (self.next + PIECE).min(hal::symbols::count());
        for index in self.next..last {
            let Some((address, name)) = hal::symbols::get(index) else { continue };
            put!(out, "{:016x} T {name}\n", shown(address));
        }
        let any = last > self.next;
        self.next = last;
        Ok(any)
    }
}

/// Enters the file.
pub fn add(fs: &Arc<PseudoFs>, dir: &Dir) {
    let base = fs.base(abi::raw::general::S_IFREG | 0o444);
    let start = || -> Result<Box<dyn Records>> {
        /// CAP_SYSLOG.
        const SYSLOG: u32 = 34;
        Ok(Box::new(Symbols { next: 0, with_addresses: crate::creds::has(SYSLOG) }))
    };
    dir.add("kallsyms", TextFile::pieces(fs, base, fs.style().access, start));
}
