//! What stands behind an open file description: [`FileOps`].

use super::File;
use crate::fasync::Fasync;
use crate::object::MemObject;
use crate::poll::{PollMask, PollTable};
use crate::socket::SocketOps;
use crate::stat::FileType;
use abi::flags::Prot;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::any::Any;
use hal::user::{Sink, Source};

/// Where a seek starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    Set,
    Current,
    End,
    Data,
    Hole,
}

impl Whence {
    /// From lseek(2)'s number; EINVAL.
    pub fn from_raw(raw: u32) -> Result<Self> {
        Ok(match raw {
            0 => Self::Set,
            1 => Self::Current,
            2 => Self::End,
            3 => Self::Data,
            4 => Self::Hole,
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// What mmap(2) of a file maps.
pub enum MapTarget {
    /// Pages of this object at the file offset.
    Object(Arc<MemObject>),
    /// Anonymous zero memory (/dev/zero).
    Anonymous,
}

/// How file positions work for an opened object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Reads and writes at positions; lseek moves.
    Positioned,
    /// A stream: no position, lseek and pread fail with ESPIPE.
    Stream,
    /// No position matters, but lseek succeeds (/dev/null, terminals fail: they are streams).
    Ignored,
}

/// Where lseek(2) may go in what has positions; the names of Linux's functions in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Llseek {
    /// Anywhere (generic_file_llseek, default_llseek).
    File,
    /// Anywhere below 2^31 (generic_file_llseek where the file system has no large files).
    Small,
    /// There is no end to count from (seq_lseek, dcache_dir_lseek).
    Sequence,
    /// As [`Llseek::Sequence`]; positions are addresses, and reads may be beyond the largest offset
    /// (mem_lseek).
    Address,
}

impl Llseek {
    /// SEEK_END, SEEK_DATA and SEEK_HOLE have a meaning.
    #[must_use]
    pub const fn has_end(self) -> bool {
        matches!(self, Self::File | Self::Small)
    }

    /// The largest position.
    #[must_use]
    pub const fn largest(self) -> u64 {
        match self {
            Self::Small => i32::MAX as u64,
            _ => i64::MAX as u64,
        }
    }
}

/// The operations behind an open file description.
///
/// Positions are passed in; the description keeps them. Methods may sleep, and return
/// ERESTARTSYS when a signal ends a sleep. Defaults answer as Linux does for an object that lacks
/// the operation.
pub trait FileOps: Any + Send + Sync {
    /// How positions work.
    fn seekable(&self) -> Seek {
        Seek::Positioned
    }

    /// Where lseek(2) may go.
    fn llseek(&self) -> Llseek {
        Llseek::File
    }

    /// True when O_DIRECT may be set.
    fn direct_io(&self) -> bool {
        false
    }

    /// Reads up to `dst.room()` bytes at `at`; 0 is the end.
    fn read(&self, _file: &File, _dst: &mut dyn Sink, _at: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes up to `src.left()` bytes at `at`.
    fn write(&self, _file: &File, _src: &mut dyn Source, _at: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at the end (O_APPEND), atomically; the position it began at, and the bytes written.
    fn append(&self, file: &File, src: &mut dyn Source) -> Result<(u64, usize)> {
        self.write(file, src, 0).map(|n| (0, n))
    }

    /// What is ready of `interest` (and always ERR and HUP); with a table, also enters the queues
    /// that will tell of changes.
    fn poll(&self, _file: &File, _interest: PollMask, _table: Option<&mut PollTable>) -> PollMask {
        PollMask::READABLE | PollMask::WRITABLE
    }

    /// Returns whether writev(2) of several ranges is a write for each (what has no write_iter on
    /// Linux).
    fn writes_ranges(&self) -> bool {
        false
    }

    /// True when epoll can watch it (regular files and directories cannot be watched).
    fn pollable(&self) -> bool {
        false
    }

    /// A device's own requests; `arg` is a user address or a number.
    fn ioctl(&self, _file: &File, _cmd: u32, _arg: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// SEEK_DATA and SEEK_HOLE from `at`: the default knows no holes before `size`.
    fn seek_hole(&self, at: u64, size: u64, hole: bool) -> Result<u64> {
        if at >= size {
            return Err(Errno::ENXIO);
        }
        Ok(if hole { size } else { at })
    }

    /// Makes data durable: EINVAL for what has none (pipes, sockets).
    fn fsync(&self, _file: &File) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2), mode bits as there.
    fn fallocate(&self, file: &File, _mode: u32, _offset: u64, _len: u64) -> Result<()> {
        match file.inode().base().file_type() {
            FileType::Fifo => Err(Errno::ESPIPE),
            _ => Err(Errno::ENODEV),
        }
    }

    /// What a mapping of the file maps; ENODEV when it cannot be mapped. `shared` and `prot` are
    /// checked against the open mode already; `prot` lets seals refuse.
    fn map(&self, _file: &File, _shared: bool, _prot: Prot) -> Result<MapTarget> {
        Err(Errno::ENODEV)
    }

    /// What O_ASYNC arms: nothing where there are no signals.
    fn fasync(&self) -> [Option<&Fasync>; 2] {
        [None, None]
    }

    /// The process group that O_ASYNC tells when F_SETOWN named nobody, 0 for the caller's process;
    /// `None`: nobody is told.
    fn default_owner(&self) -> Option<u32> {
        None
    }

    /// Told that O_NONBLOCK, O_APPEND or O_DIRECT changed.
    fn flags_changed(&self, _file: &File) -> Result<()> {
        Ok(())
    }

    /// The socket, if this is one.
    fn as_socket(&self) -> Option<&dyn SocketOps> {
        None
    }

    /// Lines for /proc/PID/fdinfo after the common ones.
    fn fdinfo(&self, _out: &mut alloc::string::String) {}
}

/// The operations of a description opened with O_PATH: none.
pub struct PathOnly;

impl FileOps for PathOnly {}
