//! Reading, writing, positions.

use super::Ctx;
use crate::task::current;
use crate::task::process::limit;
use abi::{Errno, Result};
use alloc::sync::Arc;
use frames::fallible::filled;
use fs::{File, Whence};
use hal::VirtAddr;
pub use hal::user::MAX_RW;
use hal::user::{Sink, Source, UserIo};

crate::syscalls! {
    0 read(fd: i32, buf: VirtAddr, count: usize) => read;
    1 write(fd: i32, buf: VirtAddr, count: usize) => write;
    8 lseek(fd: i32, offset: i64, whence: u32) => lseek;
    17 pread64(fd: i32, buf: VirtAddr, count: usize, pos: i64) => pread64;
    18 pwrite64(fd: i32, buf: VirtAddr, count: usize, pos: i64) => pwrite64;
    19 readv(fd: i32, iov: VirtAddr, count: usize) => readv;
    20 writev(fd: i32, iov: VirtAddr, count: usize) => writev;
    74 fsync(fd: i32) => fsync;
    75 fdatasync(fd: i32) => fsync;
    77 ftruncate(fd: i32, len: i64) => ftruncate;
    78 getdents(fd: i32, buf: VirtAddr, size: u32) => getdents;
    162 sync() => sync;
    187 readahead(fd: i32, offset: i64, count: usize) => readahead;
    217 getdents64(fd: i32, buf: VirtAddr, size: u32) => getdents64;
    221 fadvise64(fd: i32, offset: i64, len: i64, advice: i32) => fadvise64;
    277 sync_file_range(fd: i32, offset: i64, len: i64, flags: u32) => sync_file_range;
    285 fallocate(fd: i32, mode: u32, offset: i64, len: i64) => fallocate;
    295 preadv(fd: i32, iov: VirtAddr, count: usize, pos: i64) => preadv;
    296 pwritev(fd: i32, iov: VirtAddr, count: usize, pos: i64) => pwritev;
    306 syncfs(fd: i32) => syncfs;
    327 preadv2(fd: i32, iov: VirtAddr, count: usize, pos: i64, pos_high: u64, flags: u32) => preadv2;
    328 pwritev2(fd: i32, iov: VirtAddr, count: usize, pos: i64, pos_high: u64, flags: u32) => pwritev2;
}

/// A buffer argument. EFAULT when it reaches out of the user half, before it is cut to [`MAX_RW`].
#[inline]
fn buffer(addr: VirtAddr, count: usize) -> Result<UserIo> {
    match addr.raw().checked_add(count as u64) {
        Some(end) if (end as i64) >= 0 => UserIo::new(addr, count.min(MAX_RW)),
        _ => Err(Errno::EFAULT),
    }
}

/// A write's result: EPIPE comes with SIGPIPE, EFBIG with SIGXFSZ.
#[inline]
pub fn or_signal<T>(result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        raise(*error);
    }
    result
}

#[cold]
fn raise(error: Errno) {
    match error {
        Errno::EPIPE => crate::signal::pipe(),
        // Without a limit it was the largest size that a file can have.
        Errno::EFBIG if current().process.soft_limit(limit::FSIZE) != u64::MAX => {
            crate::signal::file_too_large();
        }
        _ => {}
    }
}

fn to_read(c: &Ctx<'_>, fd: i32) -> Result<Arc<File>> {
    let file = c.file(fd)?;
    if file.readable() { Ok(file) } else { Err(Errno::EBADF) }
}

fn to_write(c: &Ctx<'_>, fd: i32) -> Result<Arc<File>> {
    let file = c.file(fd)?;
    if file.writable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// Counts what the caller read.
#[inline(always)]
pub fn reads(c: &Ctx<'_>, done: Result<usize>) -> Result<usize> {
    c.task.counters.read(*done.as_ref().unwrap_or(&0));
    done
}

/// Counts what the caller wrote, and sends the signals of errors.
#[inline(always)]
pub fn writes(c: &Ctx<'_>, done: Result<usize>) -> Result<usize> {
    c.task.counters.wrote(*done.as_ref().unwrap_or(&0));
    or_signal(done)
}

fn read(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr, count: usize) -> Result<usize> {
    let file = to_read(c, fd)?;
    let done = file.read(&mut buffer(buf, count)?);
    reads(c, done)
}

fn write(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr, count: usize) -> Result<usize> {
    let file = to_write(c, fd)?;
    let done = file.write(&mut buffer(buf, count)?);
    writes(c, done)
}

fn readv(c: &mut Ctx<'_>, fd: i32, iov: VirtAddr, count: usize) -> Result<usize> {
    let file = to_read(c, fd)?;
    let mut data = UserIo::from_iovecs(iov, count)?;
    // Nothing into nowhere is not even asked for: an empty datagram stays.
    let done = if data.room() == 0 { Ok(0) } else { file.read(&mut data) };
    reads(c, done)
}

fn writev(c: &mut Ctx<'_>, fd: i32, iov: VirtAddr, count: usize) -> Result<usize> {
    let file = to_write(c, fd)?;
    let mut data = UserIo::from_iovecs(iov, count)?;
    let done = match data.left() {
        0 => Ok(0),
        _ if file.ops().writes_ranges() => write_ranges(&file, &mut data),
        _ => file.write(&mut data),
    };
    writes(c, done)
}

/// A write for each range, until one is not taken whole.
fn write_ranges(file: &File, data: &mut UserIo) -> Result<usize> {
    let mut done = 0;
    while let Some(mut range) = data.next_range() {
        let len = range.left();
        match file.write(&mut range) {
            Ok(wrote) => {
                done += wrote;
                if wrote < len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A position argument: EINVAL when negative, whatever the descriptor.
fn position(pos: i64) -> Result<()> {
    if pos < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

fn pread64(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr, count: usize, pos: i64) -> Result<usize> {
    position(pos)?;
    let done = c.file(fd)?.read_at(&mut buffer(buf, count)?, pos);
    reads(c, done)
}

fn pwrite64(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr, count: usize, pos: i64) -> Result<usize> {
    position(pos)?;
    let done = c.file(fd)?.write_at(&mut buffer(buf, count)?, pos);
    writes(c, done)
}

fn preadv(c: &mut Ctx<'_>, fd: i32, iov: VirtAddr, count: usize, pos: i64) -> Result<usize> {
    position(pos)?;
    let done = c.file(fd)?.read_at(&mut UserIo::from_iovecs(iov, count)?, pos);
    reads(c, done)
}

fn pwritev(c: &mut Ctx<'_>, fd: i32, iov: VirtAddr, count: usize, pos: i64) -> Result<usize> {
    position(pos)?;
    let done = c.file(fd)?.write_at(&mut UserIo::from_iovecs(iov, count)?, pos);
    writes(c, done)
}

/// RWF_HIPRI, RWF_DSYNC, RWF_SYNC: nothing to be done for what lives in memory.
const RWF_HARMLESS: u32 = 0x7;
/// RWF_APPEND.
const RWF_APPEND: u32 = 0x10;

/// The high half of the position is zero on a 64-bit machine; -1 is the file's own position.
fn preadv2(
    c: &mut Ctx<'_>,
    fd: i32,
    iov: VirtAddr,
    count: usize,
    pos: i64,
    _: u64,
    flags: u32,
) -> Result<usize> {
    if flags & !RWF_HARMLESS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if pos == -1 { readv(c, fd, iov, count) } else { preadv(c, fd, iov, count, pos) }
}

fn pwritev2(
    c: &mut Ctx<'_>,
    fd: i32,
    iov: VirtAddr,
    count: usize,
    pos: i64,
    _: u64,
    flags: u32,
) -> Result<usize> {
    if flags & !(RWF_HARMLESS | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 {
        let file = to_write(c, fd)?;
        if file.is_seekable() {
            let (end, done) = file.ops().append(&file, &mut UserIo::from_iovecs(iov, count)?)?;
            if pos == -1 {
                *file.position() = end + done as u64;
            }
            return writes(c, Ok(done));
        }
    }
    if pos == -1 { writev(c, fd, iov, count) } else { pwritev(c, fd, iov, count, pos) }
}

fn lseek(c: &mut Ctx<'_>, fd: i32, offset: i64, whence: u32) -> Result<u64> {
    let file = c.real_file(fd)?;
    file.seek(offset, Whence::from_raw(whence)?)
}

fn fsync(c: &mut Ctx<'_>, fd: i32) -> Result<()> {
    c.file(fd)?.fsync()
}

/// Everything lives in memory: there is nothing to write back.
fn sync(_: &mut Ctx<'_>) -> Result<()> {
    Ok(())
}

fn syncfs(c: &mut Ctx<'_>, fd: i32) -> Result<()> {
    c.real_file(fd).map(|_| ())
}

fn sync_file_range(c: &mut Ctx<'_>, fd: i32, offset: i64, len: i64, flags: u32) -> Result<()> {
    let file = c.real_file(fd)?;
    if flags & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    match file.inode().base().file_type() {
        fs::FileType::Regular
        | fs::FileType::Directory
        | fs::FileType::Block
        | fs::FileType::Symlink => Ok(()),
        _ => Err(Errno::ESPIPE),
    }
}

fn ftruncate(c: &mut Ctx<'_>, fd: i32, len: i64) -> Result<()> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    or_signal(c.file(fd)?.truncate(len))
}

fn fallocate(c: &mut Ctx<'_>, fd: i32, mode: u32, offset: i64, len: i64) -> Result<()> {
    or_signal(c.real_file(fd)?.fallocate(mode, offset, len))
}

/// Pages of files are always in memory.
fn readahead(c: &mut Ctx<'_>, fd: i32, _: i64, _: usize) -> Result<()> {
    let file = to_read(c, fd)?;
    if file.inode().object().is_some() { Ok(()) } else { Err(Errno::EINVAL) }
}

fn fadvise64(c: &mut Ctx<'_>, fd: i32, _: i64, len: i64, advice: i32) -> Result<()> {
    let file = c.real_file(fd)?;
    if file.inode().base().file_type() == fs::FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || !(0..=5).contains(&advice) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn getdents64(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr, size: u32) -> Result<usize> {
    let file = c.file(fd)?;
    file.getdents(&mut UserIo::new(buf, size as usize)?)
}

/// The old record has the new one's length: the type moves to its last byte, the name down by one.
fn getdents(c: &mut Ctx<'_>, fd: i32, buf: VirtAddr, size: u32) -> Result<usize> {
    const TYPE: usize = 18;
    let file = c.file(fd)?;
    let mut records = filled(0u8, (size as usize).min(32 * 1024))?;
    let len = file.getdents(&mut hal::user::KernelSink::new(&mut records))?;
    let mut at = 0;
    while at < len {
        let size = usize::from(u16::from_le_bytes([records[at + 16], records[at + 17]]));
        let record = &mut records[at..at + size];
        record[TYPE..].rotate_left(1);
        at += size;
    }
    hal::user::copy_to(buf, &records[..len])?;
    Ok(len)
}
