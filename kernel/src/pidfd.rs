//! pidfds: descriptors that name a process for good, also when its id has another use.
//!
//! One becomes readable when the process has ended, and stays so.

use crate::task::{Process, table};
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use frames::fallible::arc;
use fs::file::Seek;
use fs::{File, FileOps, PollMask, PollTable};

struct PidFd(Arc<Process>);

impl FileOps for PidFd {
    fn seekable(&self) -> Seek {
        Seek::Stream
    }

    fn poll(&self, _file: &File, interest: PollMask, table: Option<&mut PollTable>) -> PollMask {
        if let Some(table) = table {
            table.watch(&self.0.ended);
        }
        if !self.0.zombie.load(Ordering::Acquire) {
            return PollMask::empty();
        }
        let gone = if is_there(&self.0) { PollMask::empty() } else { PollMask::HUP };
        (PollMask::READABLE | gone) & (interest | PollMask::HUP)
    }

    fn pollable(&self) -> bool {
        true
    }

    fn fdinfo(&self, out: &mut String) {
        let pid = if is_there(&self.0) { self.0.pid } else { -1 };
        // Writing to a String cannot fail.
        let _ = write!(out, "Pid:\t{pid}\nNSpid:\t{pid}\n");
    }
}

/// It has not been reaped.
fn is_there(process: &Arc<Process>) -> bool {
    table::process(process.pid).is_some_and(|p| Arc::ptr_eq(&p, process))
}

/// A descriptor's file for `process`.
pub fn file(process: &Arc<Process>, nonblocking: bool) -> Result<Arc<File>> {
    let flags = fs::oflag::O_RDWR | if nonblocking { fs::oflag::O_NONBLOCK } else { 0 };
    fs::anon::file(arc(PidFd(process.clone()))?, "[pidfd]", flags)
}

/// The process that a file names: EBADF for another kind of file.
pub fn process_of(file: &File) -> Result<Arc<Process>> {
    file.ops_as::<PidFd>().map(|fd| fd.0.clone()).ok_or(Errno::EBADF)
}

/// As [`living`], of a pidfd or a directory /proc/PID.
pub fn living_by_directory(file: &File) -> Result<Arc<Process>> {
    match crate::proc::process_of_directory(file) {
        Some(process) => process,
        None => living(file),
    }
}

/// As [`process_of`]; ESRCH when it has been reaped.
pub fn living(file: &File) -> Result<Arc<Process>> {
    let process = process_of(file)?;
    if is_there(&process) { Ok(process) } else { Err(Errno::ESRCH) }
}
