//! /proc/locks: advisory locks on files that some process has open.

use super::put;
use crate::task::table;
use abi::Result;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::{TryMap, TryVec};
use fs::File;
use fs::locks::{Kind, Owner};
use fs::pseudo::Text;

/// Open files of all processes, each inode once, with the process that was found to have it open.
fn open_files() -> Result<Vec<(i32, Arc<File>)>> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for process in table::processes() {
        for thread in process.threads() {
            let table = thread.files.lock().clone();
            let mut from = 0;
            while let Some(fd) = table.next_used(from) {
                from = fd + 1;
                let Ok(file) = table.get(fd) else { continue };
                let locked = file.inode().base().locks_if_used().is_some();
                let inode = Arc::as_ptr(file.inode()).cast::<()>() as usize;
                if locked && seen.try_insert_in(inode, ())?.is_none() {
                    files.try_push((process.pid, file))?;
                }
            }
        }
    }
    Ok(files)
}

/// Number, kind, mode, owner, device and inode, first and last byte.
pub fn show(out: &mut Text) -> Result<()> {
    let mut number = 0;
    for (pid, file) in open_files()? {
        let base = file.inode().base();
        let Some(table) = base.locks_if_used() else { continue };
        let mut row = |class: &str, write: bool, pid: i64, start: u64, end: u64| {
            number += 1;
            let mode = if write { "WRITE" } else { "READ " };
            let (dev, ino) = (base.dev, base.ino);
            put!(out, "{number}: {class} ADVISORY  {mode} {pid} ");
            put!(out, "{:02x}:{:02x}:{ino} {start} ", dev.major, dev.minor);
            if end >= i64::MAX as u64 { put!(out, "EOF\n") } else { put!(out, "{end}\n") }
        };
        for record in table.records()? {
            let (start, end) = (*record.range.start(), *record.range.end());
            let (class, pid) = match record.owner {
                Owner::Process(_) => ("POSIX ", i64::from(record.pid)),
                Owner::Description(_) => ("OFDLCK", -1),
            };
            row(class, record.kind == Kind::Write, pid, start, end);
        }
        for exclusive in table.flocks()? {
            row("FLOCK ", exclusive, i64::from(pid), 0, u64::MAX);
        }
    }
    Ok(())
}
