//! pidfds, and what one process does to another: its descriptors, its memory.

use super::Ctx;
use crate::access::{self, Mode};
use crate::pidfd;
use crate::signal::info::code;
use crate::signal::{SigInfo, send, set};
use crate::task::{Process, table};
use abi::raw::general as g;
use abi::uapi::Iovec;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::fallible::{arc, filled};
use hal::VirtAddr;
use vm::{Mm, PAGE};

crate::syscalls! {
    272 unshare(flags: u64) => unshare;
    310 process_vm_readv(pid: i32, local: VirtAddr, local_count: usize, remote: VirtAddr, remote_count: usize, flags: u64)
        => process_vm_readv;
    311 process_vm_writev(pid: i32, local: VirtAddr, local_count: usize, remote: VirtAddr, remote_count: usize, flags: u64)
        => process_vm_writev;
    424 pidfd_send_signal(fd: i32, signal: i32, info: VirtAddr, flags: u32) => pidfd_send_signal;
    434 pidfd_open(pid: i32, flags: u32) => pidfd_open;
    438 pidfd_getfd(pidfd: i32, fd: i32, flags: u32) => pidfd_getfd;
}

fn pidfd_open(c: &mut Ctx<'_>, pid: i32, flags: u32) -> Result<i32> {
    if flags & !g::O_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let Some(process) = table::process(pid) else {
        // A thread that leads no process has no descriptor of its own here.
        return Err(if table::task(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH });
    };
    c.install(pidfd::file(&process, flags & g::O_NONBLOCK != 0)?, true)
}

fn pidfd_send_signal(
    c: &mut Ctx<'_>,
    fd: i32,
    signal: i32,
    info: VirtAddr,
    flags: u32,
) -> Result<()> {
    /// PIDFD_SIGNAL_THREAD_GROUP, the default, and PIDFD_SIGNAL_PROCESS_GROUP.
    const GROUP: u32 = 2;
    const PROCESS_GROUP: u32 = 4;
    if !matches!(flags, 0 | GROUP | PROCESS_GROUP) {
        return Err(Errno::EINVAL);
    }
    let process = pidfd::living_by_directory(&*c.file(fd)?)?;
    let info = if info.raw() == 0 {
        send::own_info(signal, code::USER)
    } else {
        let given = SigInfo(hal::user::read(info)?);
        if given.signal() != signal {
            return Err(Errno::EINVAL);
        }
        let pretends = given.code() >= 0 || given.code() == code::TKILL;
        if pretends && !Arc::ptr_eq(&process, &c.task.process) {
            return Err(Errno::EPERM);
        }
        given
    };
    if signal != 0 && !set::is_valid(signal) {
        return Err(Errno::EINVAL);
    }
    if flags == PROCESS_GROUP {
        return send::to_many(table::group(process.pid), info);
    }
    send::to_many(core::iter::once(process), info)
}

/// The first thread of a process that is not gone, if the caller may look into it. ESRCH, EPERM.
fn looked_into(process: &Arc<Process>) -> Result<crate::task::TaskRef> {
    let task = process.place.lock().threads.first().cloned().ok_or(Errno::ESRCH)?;
    access::check_task(&task, Mode::AttachReal)?;
    Ok(task)
}

fn pidfd_getfd(c: &mut Ctx<'_>, pidfd: i32, fd: i32, flags: u32) -> Result<i32> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let process = pidfd::living(&*c.file(pidfd)?)?;
    let task = looked_into(&process)?;
    let table = task.files.lock().clone();
    c.install(table.get(fd)?, true)
}

fn unshare(c: &mut Ctx<'_>, flags: u64) -> Result<()> {
    const FILES: u64 = g::CLONE_FILES as u64;
    const FS: u64 = g::CLONE_FS as u64;
    const SYSVSEM: u64 = g::CLONE_SYSVSEM as u64;
    /// What only a process of one thread can leave, because nobody shares it then.
    const ALONE: u64 = g::CLONE_THREAD as u64 | g::CLONE_SIGHAND as u64 | g::CLONE_VM as u64;
    // Namespaces are not there.
    if flags & !(FILES | FS | SYSVSEM | ALONE) != 0 {
        return Err(Errno::EINVAL);
    }
    let threads = c.task.process.place.lock().threads.len();
    let shares_memory = c.mm().users() > 1;
    if flags & ALONE != 0 && (threads > 1 || shares_memory) {
        return Err(Errno::EINVAL);
    }
    if flags & FILES != 0 {
        let own = arc(c.fd_table().duplicate()?)?;
        let old = core::mem::replace(&mut *c.task.files.lock(), own);
        drop(old);
    }
    if flags & FS != 0 {
        let shared = c.task.fs.lock().clone();
        let own = arc(shared.duplicate()?)?;
        let old = core::mem::replace(&mut *c.task.fs.lock(), own);
        drop(old);
    }
    Ok(())
}

/// `count` ranges; EINVAL for too many or when their lengths overflow.
fn ranges(at: VirtAddr, count: usize) -> Result<Vec<Iovec>> {
    const MOST: usize = 1024;
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    let ranges: Vec<Iovec> = hal::user::read_vec(at, count)?;
    let total = ranges.iter().try_fold(0u64, |sum, r| sum.checked_add(r.len));
    total.filter(|&t| t <= isize::MAX as u64).map(|_| ranges).ok_or(Errno::EINVAL)
}

/// A walk through ranges, in pieces.
struct Walk {
    ranges: Vec<Iovec>,
    at: usize,
    done: u64,
}

impl Walk {
    fn new(ranges: Vec<Iovec>) -> Self {
        Self { ranges, at: 0, done: 0 }
    }

    /// The next address and how many bytes follow it; None at the end.
    fn head(&mut self) -> Option<(u64, u64)> {
        while let Some(range) = self.ranges.get(self.at) {
            if self.done < range.len {
                return Some((range.base.wrapping_add(self.done), range.len - self.done));
            }
            self.at += 1;
            self.done = 0;
        }
        None
    }
}

/// Copies between the caller's ranges and another's. Bytes, or EFAULT when there are none.
fn transfer(mm: &Mm, local: Vec<Iovec>, remote: Vec<Iovec>, write: bool) -> Result<usize> {
    let (mut local, mut remote) = (Walk::new(local), Walk::new(remote));
    let mut buf = filled(0u8, PAGE as usize)?;
    let mut done = 0;
    while let (Some((here, room)), Some((there, left))) = (local.head(), remote.head()) {
        let step = room.min(left).min(PAGE) as usize;
        let piece = &mut buf[..step];
        let moved = if write {
            let got = hal::user::copy_from_partial(piece, VirtAddr::new(here));
            mm.write_remote(there, &piece[..got], false)
        } else {
            let got = mm.read_remote(there, piece, false);
            hal::user::copy_to_partial(VirtAddr::new(here), &piece[..got])
        };
        done += moved;
        local.done += moved as u64;
        remote.done += moved as u64;
        // It may go on for very long.
        if moved < step || vm::env::killed() {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
    }
    Ok(done)
}

fn other_memory(
    c: &Ctx<'_>,
    pid: i32,
    vectors: [(VirtAddr, usize); 2],
    flags: u64,
    write: bool,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let [local, remote] = vectors;
    let local = ranges(local.0, local.1)?;
    let remote = ranges(remote.0, remote.1)?;
    let task = table::task(pid).ok_or(Errno::ESRCH)?;
    let mm = task.process.mm.lock().clone().filter(|mm| mm.users() > 0).ok_or(Errno::ESRCH)?;
    if !Arc::ptr_eq(&mm, &c.mm()) {
        access::check_task(&task, Mode::AttachReal)?;
    }
    transfer(&mm, local, remote, write)
}

fn process_vm_readv(
    c: &mut Ctx<'_>,
    pid: i32,
    local: VirtAddr,
    local_count: usize,
    remote: VirtAddr,
    remote_count: usize,
    flags: u64,
) -> Result<usize> {
    other_memory(c, pid, [(local, local_count), (remote, remote_count)], flags, false)
}

fn process_vm_writev(
    c: &mut Ctx<'_>,
    pid: i32,
    local: VirtAddr,
    local_count: usize,
    remote: VirtAddr,
    remote_count: usize,
    flags: u64,
) -> Result<usize> {
    other_memory(c, pid, [(local, local_count), (remote, remote_count)], flags, true)
}
