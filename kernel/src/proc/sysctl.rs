//! /proc/sys: the kernel's settings.
//!
//! What can be changed has its effect at once. What is fixed here can be read, and refuses to be
//! opened for writing (EACCES), as Linux's read-only settings do.

mod fs_limits;
mod kernel;
mod memory;
mod net;

use super::guard::Guarded;
use super::{Show, put};
use crate::uts;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use fs::inode::OpenArgs;
use fs::pseudo::{Access, Dir, PseudoFs, Store, Text, TextFile};

/// What a setting is.
pub enum Setting {
    /// A constant text, without its newline.
    Fixed(&'static str),
    /// A text that is made.
    Read(Show),
    /// One that can be written: mode, text, what writing does.
    Write(u32, Show, fn(&[u8]) -> Result<()>),
    /// A name, with what reads and writes it; its changes are told.
    Name(&'static uts::Name, Show, fn(&[u8]) -> Result<()>),
}

/// A text made by a closure.
type Made = Box<dyn Fn(&mut Text) -> Result<()> + Send + Sync>;

/// Enters the directories.
pub fn add(fs: &Arc<PseudoFs>, dir: &Dir) {
    enter(fs, dir, kernel::SETTINGS);
    enter(fs, dir, memory::SETTINGS);
    enter(fs, dir, fs_limits::SETTINGS);
    enter(fs, dir, net::SETTINGS);
}

fn enter(fs: &Arc<PseudoFs>, top: &Dir, settings: &'static [(&'static str, Setting)]) {
    for (path, setting) in settings {
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut parts = dirs.split('/').filter(|part| !part.is_empty());
        match parts.next() {
            None => put_in(fs, top, name, setting),
            Some(first) => {
                let dir = parts.fold(top.dir(first), |dir, part| dir.dir(part));
                put_in(fs, &dir, name, setting);
            }
        }
    }
}

fn put_in(fs: &Arc<PseudoFs>, dir: &Dir, name: &str, setting: &'static Setting) {
    let file = |mode: u32, access: Access, show: Made, store: Option<Store>| {
        let base = fs.base(abi::raw::general::S_IFREG | mode);
        TextFile::with_base(fs, base, access, show, store)
    };
    let read_only = |show: Made| Guarded::read_only(file(0o444, Access::SETTING, show, None));
    match setting {
        Setting::Fixed(text) => {
            let show = move |out: &mut Text| {
                put!(out, "{text}\n");
                Ok(())
            };
            dir.add(name, read_only(Box::new(show)));
        }
        Setting::Read(show) => dir.add(name, read_only(Box::new(*show))),
        Setting::Write(mode, show, store) => {
            let store: Store = Box::new(*store);
            let file = file(*mode, Access::SETTING, Box::new(*show), Some(store));
            let mode = *mode;
            dir.add(name, Guarded::new(file, move |args| check(mode, args)));
        }
        Setting::Name(of, show, store) => {
            let store: Store = Box::new(*store);
            let access = Access::SETTING.telling(&of.news);
            let file = file(0o644, access, Box::new(*show), Some(store));
            dir.add(name, Guarded::new(file, move |args| check(0o644, args)));
        }
    }
}

/// Settings go by their mode alone: root is held to what the owner may do.
fn check(mode: u32, args: &OpenArgs<'_>) -> Result<()> {
    let reads = args.flags & fs::oflag::O_ACCMODE != fs::oflag::O_WRONLY;
    let writes = args.flags & fs::oflag::O_ACCMODE != fs::oflag::O_RDONLY;
    let refused = reads && mode & 0o400 == 0 || writes && mode & 0o200 == 0;
    if refused { Err(Errno::EACCES) } else { Ok(()) }
}

/// A number that was written, EINVAL outside of `range`.
fn number(data: &[u8], range: core::ops::RangeInclusive<i64>) -> Result<i64> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let first = text.split_ascii_whitespace().next().ok_or(Errno::EINVAL)?;
    let value = first.parse().map_err(|_| Errno::EINVAL)?;
    if range.contains(&value) { Ok(value) } else { Err(Errno::EINVAL) }
}
