//! Descriptors: close, duplicate, fcntl, ioctl, locks; pipes and the other nameless files.

use super::Ctx;
use crate::signal::sigio;
use abi::raw::general as g;
use abi::uapi::Timespec;
use abi::{Errno, Result};
use alloc::sync::Arc;
use frames::fallible::arc;
use fs::eventfd::EventFd;
use fs::locks::Flock;
use fs::oflag;
use fs::pipe::Pipe;
use fs::signalfd::SignalFd;
use fs::timerfd::{Clock, Setting, TimerFd};
use hal::VirtAddr;

crate::syscalls! {
    3 close(fd: i32) => close;
    16 ioctl(fd: i32, cmd: u32, arg: u64) => ioctl;
    22 pipe(fds: VirtAddr) => pipe;
    32 dup(fd: i32) => dup;
    33 dup2(old: i32, new: i32) => dup2;
    73 flock(fd: i32, operation: u32) => flock;
    282 signalfd(fd: i32, mask: VirtAddr, size: usize) => signalfd;
    283 timerfd_create(clock: u32, flags: u32) => timerfd_create;
    284 eventfd(initial: u32) => eventfd;
    286 timerfd_settime(fd: i32, flags: u32, new: VirtAddr, old: VirtAddr) => timerfd_settime;
    287 timerfd_gettime(fd: i32, now: VirtAddr) => timerfd_gettime;
    289 signalfd4(fd: i32, mask: VirtAddr, size: usize, flags: u32) => signalfd4;
    290 eventfd2(initial: u32, flags: u32) => eventfd2;
    292 dup3(old: i32, new: i32, flags: u32) => dup3;
    293 pipe2(fds: VirtAddr, flags: u32) => pipe2;
    319 memfd_create(name: VirtAddr, flags: u32) => memfd_create;
    436 close_range(first: u32, last: u32, flags: u32) => close_range;
}

fn close(c: &mut Ctx<'_>, fd: i32) -> Result<()> {
    let table = c.fd_table();
    table.close(fd)
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

fn close_range(c: &mut Ctx<'_>, first: u32, last: u32, flags: u32) -> Result<()> {
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let cloexec = flags & CLOSE_RANGE_CLOEXEC != 0;
    let mut table = c.fd_table();
    // The task's own reference and this one.
    if flags & CLOSE_RANGE_UNSHARE != 0 && Arc::strong_count(&table) > 2 {
        // What is closed at once need not be copied.
        let own = if last == u32::MAX && !cloexec {
            table.duplicate_below(first)?
        } else {
            table.duplicate()?
        };
        table = arc(own)?;
        let old = core::mem::replace(&mut *c.task.files.lock(), table.clone());
        drop(old);
    }
    table.close_range(first, last, cloexec);
    Ok(())
}

fn dup(c: &mut Ctx<'_>, fd: i32) -> Result<i32> {
    c.install(c.file(fd)?, false)
}

fn dup2(c: &mut Ctx<'_>, old: i32, new: i32) -> Result<i32> {
    if old == new {
        return c.file(old).map(|_| new);
    }
    dup3(c, old, new, 0)
}

fn dup3(c: &mut Ctx<'_>, old: i32, new: i32, flags: u32) -> Result<i32> {
    if flags & !oflag::O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let file = c.file(old)?;
    c.fd_table().insert_at(new, file, flags != 0, c.fd_limit())?;
    Ok(new)
}

fn ioctl(c: &mut Ctx<'_>, fd: i32, cmd: u32, arg: u64) -> Result<u64> {
    use abi::raw::ioctl as i;
    let file = c.real_file(fd)?;
    match cmd {
        i::FIOCLEX => c.fd_table().set_cloexec(fd, true).map(|()| 0),
        i::FIONCLEX => c.fd_table().set_cloexec(fd, false).map(|()| 0),
        i::FIOASYNC => {
            let on: i32 = hal::user::read(VirtAddr::new(arg))?;
            sigio::set_async(&file, fd, on != 0).map(|()| 0)
        }
        i::FIOSETOWN | i::SIOCSPGRP if file.ops().as_socket().is_some() => {
            sigio::set_owner(&file, hal::user::read(VirtAddr::new(arg))?).map(|()| 0)
        }
        i::FIOGETOWN | i::SIOCGPGRP if file.ops().as_socket().is_some() => {
            hal::user::write(VirtAddr::new(arg), &sigio::owner(&file)).map(|()| 0)
        }
        i::TIOCGPTPEER => {
            let flags = arg as u32;
            let creds = c.task.credentials().fs.clone();
            let peer = fs::tty::open_pty_peer(&file, flags, &creds)?;
            c.install(peer, flags & oflag::O_CLOEXEC != 0).map(|fd| fd as u64)
        }
        _ => file.ioctl(cmd, arg).or_else(|error| match error {
            // What any socket can be asked.
            Errno::ENOTTY if file.ops().as_socket().is_some() => net::interface::ioctl(cmd, arg),
            other => Err(other),
        }),
    }
}

fn pipe(c: &mut Ctx<'_>, fds: VirtAddr) -> Result<()> {
    pipe2(c, fds, 0)
}

fn pipe2(c: &mut Ctx<'_>, fds: VirtAddr, flags: u32) -> Result<()> {
    c.install_pair(Pipe::pair(flags)?, flags & oflag::O_CLOEXEC != 0, fds)
}

fn flock(c: &mut Ctx<'_>, fd: i32, operation: u32) -> Result<()> {
    const SHARED: u32 = 1;
    const EXCLUSIVE: u32 = 2;
    const NO_WAIT: u32 = 4;
    const UNLOCK: u32 = 8;
    let request = match operation & !NO_WAIT {
        SHARED => Flock::Shared,
        EXCLUSIVE => Flock::Exclusive,
        UNLOCK => Flock::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let file = c.real_file(fd)?;
    file.inode().base().locks().flock(&file, request, operation & NO_WAIT == 0)
}

fn eventfd(c: &mut Ctx<'_>, initial: u32) -> Result<i32> {
    eventfd2(c, initial, 0)
}

fn eventfd2(c: &mut Ctx<'_>, initial: u32, flags: u32) -> Result<i32> {
    let file = EventFd::open(initial, flags)?;
    c.install(file, flags & oflag::O_CLOEXEC != 0)
}

fn memfd_create(c: &mut Ctx<'_>, name: VirtAddr, flags: u32) -> Result<i32> {
    let name = hal::user::read_cstr(name, 4095).map_err(|error| match error {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let file = fs::memfd::create(&name, flags)?;
    c.install(file, flags & g::MFD_CLOEXEC != 0)
}

fn signalfd(c: &mut Ctx<'_>, fd: i32, mask: VirtAddr, size: usize) -> Result<i32> {
    signalfd4(c, fd, mask, size, 0)
}

fn signalfd4(c: &mut Ctx<'_>, fd: i32, mask: VirtAddr, size: usize, flags: u32) -> Result<i32> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = hal::user::read(mask)?;
    if fd == -1 {
        let file = SignalFd::open(mask, flags)?;
        return c.install(file, flags & oflag::O_CLOEXEC != 0);
    }
    if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = c.real_file(fd)?;
    file.ops_as::<SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask)?;
    Ok(fd)
}

fn timerfd_create(c: &mut Ctx<'_>, clock: u32, flags: u32) -> Result<i32> {
    const REALTIME_ALARM: u32 = 8;
    const BOOTTIME_ALARM: u32 = 9;
    /// CAP_WAKE_ALARM.
    const WAKE_ALARM: u32 = 35;
    let which = Clock::from_raw(clock)?;
    let file = TimerFd::open(which, flags)?;
    if matches!(clock, REALTIME_ALARM | BOOTTIME_ALARM) && !crate::creds::has(WAKE_ALARM) {
        return Err(Errno::EPERM);
    }
    c.install(file, flags & oflag::O_CLOEXEC != 0)
}

fn store_setting(at: VirtAddr, setting: Setting) -> Result<()> {
    hal::user::write(at, &[Timespec::from_ns(setting.interval), Timespec::from_ns(setting.value)])
}

fn timerfd_settime(
    c: &mut Ctx<'_>,
    fd: i32,
    flags: u32,
    new: VirtAddr,
    old: VirtAddr,
) -> Result<()> {
    let [interval, value]: [Timespec; 2] = hal::user::read(new)?;
    let setting = Setting { value: value.to_ns()?, interval: interval.to_ns()? };
    let file = c.real_file(fd)?;
    let before = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?.set(flags, setting)?;
    if old.raw() != 0 {
        store_setting(old, before)?;
    }
    Ok(())
}

fn timerfd_gettime(c: &mut Ctx<'_>, fd: i32, now: VirtAddr) -> Result<()> {
    let file = c.real_file(fd)?;
    store_setting(now, file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?.get())
}
