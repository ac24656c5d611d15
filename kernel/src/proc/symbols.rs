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
        let last = (self.next + PIECE).min(hal::symbols::count());
        for index in self.next..last {
            let Some((address, name)) = hal::symbols::get(index) else { continue };
            put!(out, "{:016x} T {name}\n", if self.with_addresses { address } else { 0 });
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
    dir.add("kallsyms", TextFile::pieces(fs, base, start));
}
