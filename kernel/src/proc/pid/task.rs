//! /proc/PID/task: the threads, each with a directory of its own; and a thread's children.

use super::{Who, directory as who_directory, ino};
use crate::proc::put;
use crate::proc::root::parse_id;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use fs::inode::{Inode, InodeBase};
use fs::pseudo::{DirSource, DynDir, Listed, PseudoFs, Text};
use fs::stat::FileType;

struct Threads {
    fs: Arc<PseudoFs>,
    who: Who,
}

/// The directory. Its link count tells how many threads there are, as some programs count them.
pub fn directory(fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    let threads = who.find().map_or(0, |process| process.place.lock().threads.len());
    base.set_nlink(threads as u32 + 2);
    DynDir::new(base, Threads { fs: fs.clone(), who })
}

impl DirSource for Threads {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let tid = parse_id(name).ok_or(Errno::ENOENT)?;
        let process = self.who.find()?;
        if process.place.lock().threads.get(tid).is_none() {
            return Err(Errno::ENOENT);
        }
        who_directory(&self.fs, Who::thread(&process, tid))
    }

    fn entry(&self, from: u64) -> Result<Option<(u64, Listed)>> {
        let Ok(process) = self.who.find() else { return Ok(None) };
        let next = {
            let place = process.place.lock();
            i32::try_from(from).ok().and_then(|from| place.threads.next(from)).map(|t| t.tid())
        };
        Ok(next.map(|tid| {
            let name = format!("{tid}").into_bytes();
            let ino = ino(&Who::thread(&process, tid), 0);
            (tid as u64, Listed { name, ino, kind: FileType::Directory })
        }))
    }
}

/// Child processes. They belong to the process here, so its first thread shows them.
pub fn children(who: &Who, out: &mut Text) -> Result<()> {
    let task = who.task()?;
    if task.is_leader() {
        let pids: alloc::vec::Vec<i32> =
            task.process.place.lock().children.keys().copied().collect();
        for pid in pids {
            put!(out, "{pid} ");
        }
    }
    Ok(())
}
