//! /proc/PID/fd and fdinfo: open descriptors as links to what is open, and what is known of them.

use super::{Who, base};
use crate::access::{self, Mode};
use crate::proc::put;
use crate::proc::root::parse_id;
use crate::task::current;
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use fs::file::Llseek;
use fs::inode::{Inode, InodeBase, Link};
use fs::pseudo::{Access, DirSource, DynDir, DynLink, Listed, PseudoFs, Text, TextFile};
use fs::stat::FileType;
use fs::{FdTable, File};

struct Descriptors {
    fs: Arc<PseudoFs>,
    who: Who,
    /// fdinfo rather than fd.
    info: bool,
}

/// /proc/PID/fd.
pub fn directory(fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    DynDir::new(base, Descriptors { fs: fs.clone(), who, info: false })
}

/// /proc/PID/fdinfo.
pub fn info_directory(fs: &Arc<PseudoFs>, who: Who, base: InodeBase) -> Arc<dyn Inode> {
    DynDir::new(base, Descriptors { fs: fs.clone(), who, info: true })
}

/// ENOENT when there is none any more.
fn table(who: &Who) -> Result<Arc<FdTable>> {
    let task = who.task().map_err(|_| Errno::ENOENT)?;
    let files = task.files.lock().clone();
    Ok(files)
}

/// EACCES for those who may not look into the process.
fn check(who: &Who) -> Result<()> {
    access::check(&*who.find().map_err(|_| Errno::ENOENT)?, Mode::ReadFs)
}

fn file(who: &Who, fd: i32) -> Result<Arc<File>> {
    table(who)?.get(fd).map_err(|_| Errno::ENOENT)
}

fn parse_fd(name: &[u8]) -> Option<i32> {
    if name == b"0" { Some(0) } else { parse_id(name) }
}

impl Descriptors {
    fn ino(&self, fd: u64) -> u64 {
        let kind = if self.info { 1 << 48 } else { 1 << 47 };
        kind | (self.who.id() as u64) << 21 | fd
    }

    fn make(&self, fd: i32, file: &File) -> Arc<dyn Inode> {
        let who = self.who.clone();
        let ino = self.ino(fd as u64);
        if self.info {
            let base = base(&self.fs, &who, ino, g::S_IFREG | 0o444);
            return TextFile::with_base(
                &self.fs,
                base,
                Access::of_process(Llseek::Sequence),
                Box::new(move |out| info(&who, fd, out)),
                None,
            );
        }
        let rights = 0o100
            | if file.readable() { 0o400 } else { 0 }
            | if file.writable() { 0o200 } else { 0 };
        let base = base(&self.fs, &who, ino, g::S_IFLNK | rights);
        DynLink::with_base(base, 64, move || {
            check(&who)?;
            Ok(Link::Jump(self::file(&who, fd)?.place().clone()))
        })
    }
}

impl DirSource for Descriptors {
    fn open(&self) -> Result<()> {
        if self.info { check(&self.who) } else { Ok(()) }
    }

    /// The process itself reaches its descriptors even where their directory is root's.
    fn grants(&self) -> bool {
        let own =
            || self.who.find().is_ok_and(|process| core::ptr::eq(&*process, &*current().process));
        !self.info && own()
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.info {
            check(&self.who)?;
        }
        let fd = parse_fd(name).ok_or(Errno::ENOENT)?;
        let file = file(&self.who, fd)?;
        Ok(self.make(fd, &file))
    }

    fn entry(&self, from: u64) -> Result<Option<(u64, Listed)>> {
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        let next = table(&self.who).ok().and_then(|table| table.next_used(from));
        Ok(next.map(|fd| {
            let kind = if self.info { FileType::Regular } else { FileType::Symlink };
            let name = format!("{fd}").into_bytes();
            (fd as u64, Listed { name, ino: self.ino(fd as u64), kind })
        }))
    }
}

/// Position, flags, mount, inode, and what the object adds.
fn info(who: &Who, fd: i32, out: &mut Text) -> Result<()> {
    check(who)?;
    let table = table(who)?;
    let file = table.get(fd).map_err(|_| Errno::ENOENT)?;
    let cloexec = if table.cloexec(fd).unwrap_or(false) { g::O_CLOEXEC } else { 0 };
    // A task may read this of the very file that it reads it from: that one is at its start.
    let position = if file.is_seekable() { file.position_if_free().unwrap_or(0) } else { 0 };
    let meta = file.metadata();
    put!(out, "pos:\t{position}\nflags:\t0{:o}\n", file.flags() | cloexec);
    put!(out, "mnt_id:\t{}\nino:\t{}\n", meta.mount_id, meta.ino);
    let mut more = String::new();
    file.ops().fdinfo(&mut more);
    out.bytes(more.as_bytes());
    Ok(())
}
