//! The root directory: the fixed names, then every process by number.

use super::pid::{self, Who};
use crate::task::{current, table};
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use fs::inode::{Inode, Link};
use fs::pseudo::{Dir, DirSource, DynDir, DynLink, Listed, PseudoFs};
use fs::stat::FileType;

struct Processes {
    fs: Arc<PseudoFs>,
    fixed: Arc<Dir>,
}

/// A number as a name of a directory entry: no sign, no leading zero.
pub fn parse_id(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

impl DirSource for Processes {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let id = parse_id(name).ok_or(Errno::ENOENT)?;
        // A thread's number leads to its process, though it is not listed.
        let process = table::process(id)
            .or_else(|| table::task(id).map(|task| task.process.clone()))
            .ok_or(Errno::ENOENT)?;
        pid::directory(&self.fs, Who::process(&process))
    }

    fn entry(&self, from: u64) -> Result<Option<(u64, Listed)>> {
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        Ok(table::next_process(from).map(|process| {
            let name = format!("{}", process.pid).into_bytes();
            let ino = pid::ino(&Who::process(&process), 0);
            (process.pid as u64, Listed { name, ino, kind: FileType::Directory })
        }))
    }

    fn fixed(&self) -> Option<&Arc<Dir>> {
        Some(&self.fixed)
    }
}

/// The root, with `fixed` before the processes.
pub fn make(fs: &Arc<PseudoFs>, fixed: Arc<Dir>) -> Arc<dyn Inode> {
    fixed.add("self", DynLink::new(fs, || Ok(Link::Path(format!("{}", current().pid()).into()))));
    let thread_self = || {
        let task = current();
        Ok(Link::Path(format!("{}/task/{}", task.pid(), task.tid()).into()))
    };
    fixed.add("thread-self", DynLink::new(fs, thread_self));
    let base = fs.base_with(1, abi::raw::general::S_IFDIR | 0o555, 0, 0);
    DynDir::new(base, Processes { fs: fs.clone(), fixed })
}
