//! Small operations on files.

use std::ffi::CString;
use std::fs::{self, File};

use super::{Op, op};
use crate::clock::{Samples, batched};
use crate::sys::{Error, Result, at, call, close, pipe, read_byte, write_byte};

pub const OPS: &[Op] = &[
    op("file/pipe_byte", pipe_byte),
    op("file/zero_byte", zero_byte),
    op("file/tmpfs_open_close", open_close),
    op("file/tmpfs_stat", stat),
];

const ROUNDS: usize = 100;
const BATCH: usize = 20;
const AT_FDCWD: usize = libc::AT_FDCWD as usize;

/// A byte into a pipe and out of it.
fn pipe_byte() -> Result<Samples> {
    let ends = pipe()?;
    batched(ROUNDS, BATCH, || {
        write_byte(ends[1])?;
        read_byte(ends[0]).map(drop)
    })
}

fn zero_byte() -> Result<Samples> {
    let path = c"/dev/zero";
    let fd = call("openat", libc::SYS_openat, [AT_FDCWD, at(path.as_ptr()), 0])?;
    batched(ROUNDS, BATCH, || read_byte(fd).map(drop))
}

/// A file on a tmpfs, gone with this value.
struct Scratch(CString);

impl Scratch {
    fn new() -> Result<Self> {
        let failed = |error: std::io::Error| Error {
            what: "a file on tmpfs",
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        };
        let dir = ["/dev/shm", "/tmp"].into_iter().find(|dir| fs::metadata(dir).is_ok());
        let path = format!("{}/bench-scratch", dir.unwrap_or(""));
        File::create(&path).map_err(failed)?;
        CString::new(path).map(Self).map_err(|error| failed(error.into()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = call("unlink", libc::SYS_unlink, [at(self.0.as_ptr())]);
    }
}

fn open_close() -> Result<Samples> {
    let file = Scratch::new()?;
    let args = [AT_FDCWD, at(file.0.as_ptr()), libc::O_RDONLY as usize];
    batched(ROUNDS, BATCH, || close(call("openat", libc::SYS_openat, args)?))
}

fn stat() -> Result<Samples> {
    let file = Scratch::new()?;
    // Larger than any struct stat.
    let mut buffer = [0_u64; 32];
    let args = [AT_FDCWD, at(file.0.as_ptr()), at(&raw mut buffer), 0];
    batched(ROUNDS, BATCH, || call("newfstatat", libc::SYS_newfstatat, args).map(drop))
}
