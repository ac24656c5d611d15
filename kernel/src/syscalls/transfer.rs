//! Copies from file to file inside the kernel: sendfile(2), copy_file_range(2), splice(2), tee(2).

use super::Ctx;
use super::io::{MAX_RW, or_signal};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::filled;
use fs::pipe::splice;
use fs::{File, FileType, Whence, oflag};
use hal::VirtAddr;
use hal::user::{KernelSink, KernelSource};

crate::syscalls! {
    40 sendfile(out: i32, from: i32, offset: VirtAddr, count: usize) => sendfile;
    275 splice(from: i32, from_at: VirtAddr, to: i32, to_at: VirtAddr, len: usize, flags: u32) => splice;
    276 tee(from: i32, to: i32, len: usize, flags: u32) => tee;
    326 copy_file_range(from: i32, from_at: VirtAddr, to: i32, to_at: VirtAddr, len: usize, flags: u32)
        => copy_file_range;
}

/// Bytes that are copied at once.
const CHUNK: usize = 32 * 1024;

fn buffer(count: usize) -> Result<Vec<u8>> {
    filled(0, count.min(CHUNK))
}

/// Copies `count` bytes from `pos` of `from` by `write`, until the end or an error; how many. An
/// error after the first byte is told by the next call.
fn copy(
    from: &File,
    mut pos: i64,
    count: usize,
    mut write: impl FnMut(&[u8]) -> Result<usize>,
) -> Result<usize> {
    let mut buf = buffer(count)?;
    let mut done = 0;
    while done < count {
        // It may go on for very long.
        if done > 0 && crate::signal::interrupts(&crate::task::current()) {
            break;
        }
        let want = (count - done).min(CHUNK);
        let step = from.read_at(&mut KernelSink::new(&mut buf[..want]), pos).and_then(|got| {
            let wrote = if got == 0 { 0 } else { write(&buf[..got])? };
            Ok((got, wrote))
        });
        match step {
            Ok((got, wrote)) => {
                done += wrote;
                pos += wrote as i64;
                if wrote < got || got == 0 {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A position: the user's at `at`, or the file's own.
fn position(file: &File, at: VirtAddr) -> Result<i64> {
    if at.raw() == 0 { Ok(*file.position() as i64) } else { hal::user::read(at) }
}

fn store(file: &File, at: VirtAddr, pos: i64) -> Result<()> {
    if at.raw() == 0 {
        *file.position() = pos as u64;
        return Ok(());
    }
    hal::user::write(at, &pos)
}

fn sendfile(c: &mut Ctx<'_>, out: i32, from: i32, offset: VirtAddr, count: usize) -> Result<usize> {
    let (from, out) = (c.file(from)?, c.file(out)?);
    if !from.readable() || !out.writable() {
        return Err(Errno::EBADF);
    }
    // What cannot be read again would lose bytes that the other side does not take.
    let stream = from.seek(0, Whence::Current).is_err();
    if stream || from.inode().base().is_dir() {
        return Err(if stream && offset.raw() != 0 { Errno::ESPIPE } else { Errno::EINVAL });
    }
    if out.flags() & oflag::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let start = position(&from, offset)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let done = or_signal(copy(&from, start, count.min(MAX_RW), |data| {
        out.write(&mut KernelSource(data))
    }))?;
    store(&from, offset, start + done as i64)?;
    c.task.counters.read(done);
    c.task.counters.wrote(done);
    Ok(done)
}

fn regular(file: &Arc<File>) -> Result<()> {
    match file.inode().base().file_type() {
        FileType::Regular => Ok(()),
        FileType::Directory => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

fn copy_file_range(
    c: &mut Ctx<'_>,
    from: i32,
    from_at: VirtAddr,
    to: i32,
    to_at: VirtAddr,
    len: usize,
    flags: u32,
) -> Result<usize> {
    let (from, to) = (c.file(from)?, c.file(to)?);
    let (from_pos, to_pos) = (position(&from, from_at)?, position(&to, to_at)?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    regular(&from)?;
    regular(&to)?;
    if !from.readable() || !to.writable() || to.flags() & oflag::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    if from.inode().base().dev != to.inode().base().dev {
        return Err(Errno::EXDEV);
    }
    let (from_pos, to_pos) = match (u64::try_from(from_pos), u64::try_from(to_pos)) {
        (Ok(a), Ok(b)) => (a, b),
        _ => return Err(Errno::EINVAL),
    };
    let size = from.metadata().size;
    let count = (len.min(MAX_RW) as u64).min(size.saturating_sub(from_pos));
    let overlap =
        from_pos < to_pos.saturating_add(count) && to_pos < from_pos.saturating_add(count);
    if Arc::ptr_eq(from.inode(), to.inode()) && overlap {
        return Err(Errno::EINVAL);
    }
    let mut at = to_pos as i64;
    let done = copy(&from, from_pos as i64, count as usize, |data| {
        let n = to.write_at(&mut KernelSource(data), at)?;
        at += n as i64;
        Ok(n)
    });
    let done = or_signal(done)?;
    store(&from, from_at, from_pos as i64 + done as i64)?;
    store(&to, to_at, to_pos as i64 + done as i64)?;
    c.task.counters.read(done);
    c.task.counters.wrote(done);
    Ok(done)
}

/// SPLICE_F_NONBLOCK.
const NONBLOCK: u32 = 2;
/// SPLICE_F_MOVE, NONBLOCK, MORE, GIFT.
const SPLICE_FLAGS: u32 = 0xf;

fn ends(c: &Ctx<'_>, from: i32, to: i32) -> Result<(Arc<File>, Arc<File>)> {
    let (from, to) = (c.file(from)?, c.file(to)?);
    if from.readable() && to.writable() { Ok((from, to)) } else { Err(Errno::EBADF) }
}

fn splice(
    c: &mut Ctx<'_>,
    from: i32,
    from_at: VirtAddr,
    to: i32,
    to_at: VirtAddr,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = ends(c, from, to)?;
    let given = |at: VirtAddr| match at.raw() {
        0 => Ok(None),
        _ => hal::user::read::<i64>(at).map(Some),
    };
    let (mut from_pos, mut to_pos) = (given(from_at)?, given(to_at)?);
    let len = len.min(MAX_RW);
    let moved =
        splice::splice(&from, from_pos.as_mut(), &to, to_pos.as_mut(), len, flags & NONBLOCK != 0);
    let moved = or_signal(moved)?;
    for (at, pos) in [(from_at, from_pos), (to_at, to_pos)] {
        if let Some(pos) = pos {
            hal::user::write(at, &pos)?;
        }
    }
    Ok(moved)
}

fn tee(c: &mut Ctx<'_>, from: i32, to: i32, len: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = ends(c, from, to)?;
    or_signal(splice::tee(&from, &to, len.min(MAX_RW), flags & NONBLOCK != 0))
}
