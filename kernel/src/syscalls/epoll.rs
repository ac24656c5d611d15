//! epoll(7).

use super::Ctx;
use super::poll::{milliseconds, timespec};
use abi::raw::general as g;
use abi::{Errno, Result};
use fs::epoll::{self, Control, EVENT_SIZE};
use fs::oflag;
use fs::pollwait::Timeout;
use hal::VirtAddr;
use hal::user::UserIo;

crate::syscalls! {
    213 epoll_create(size: i32) => epoll_create;
    232 epoll_wait(epfd: i32, events: VirtAddr, max: i32, timeout: i32) => epoll_wait;
    233 epoll_ctl(epfd: i32, op: u32, fd: i32, event: VirtAddr) => epoll_ctl;
    281 epoll_pwait(epfd: i32, events: VirtAddr, max: i32, timeout: i32, mask: VirtAddr, size: usize)
        => epoll_pwait;
    291 epoll_create1(flags: u32) => epoll_create1;
    441 epoll_pwait2(epfd: i32, events: VirtAddr, max: i32, timeout: VirtAddr, mask: VirtAddr, size: usize)
        => epoll_pwait2;
}

fn epoll_create(c: &mut Ctx<'_>, size: i32) -> Result<i32> {
    if size <= 0 { Err(Errno::EINVAL) } else { epoll_create1(c, 0) }
}

fn epoll_create1(c: &mut Ctx<'_>, flags: u32) -> Result<i32> {
    let file = epoll::create(flags)?;
    c.install(file, flags & oflag::O_CLOEXEC != 0)
}

fn epoll_ctl(c: &mut Ctx<'_>, epfd: i32, op: u32, fd: i32, event: VirtAddr) -> Result<()> {
    // The structure is packed: events, then data.
    let [events, low, high] = match op {
        g::EPOLL_CTL_DEL => [0; 3],
        _ => hal::user::read::<[u32; 3]>(event)?,
    };
    let data = u64::from(high) << 32 | u64::from(low);
    let (epoll, target) = (c.file(epfd)?, c.file(fd)?);
    let request = match op {
        g::EPOLL_CTL_ADD => Control::Add { events, data },
        g::EPOLL_CTL_MOD => Control::Modify { events, data },
        g::EPOLL_CTL_DEL => Control::Delete,
        _ => return Err(Errno::EINVAL),
    };
    epoll::control(&epoll, fd, &target, request)
}

fn wait(c: &Ctx<'_>, epfd: i32, events: VirtAddr, max: i32, timeout: Timeout) -> Result<usize> {
    if max <= 0 || max as usize > i32::MAX as usize / EVENT_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut dst = UserIo::new(events, max as usize * EVENT_SIZE)?;
    epoll::wait(&*c.real_file(epfd)?, &mut dst, max as usize, timeout)
}

fn epoll_wait(
    c: &mut Ctx<'_>,
    epfd: i32,
    events: VirtAddr,
    max: i32,
    timeout: i32,
) -> Result<usize> {
    wait(c, epfd, events, max, milliseconds(timeout))
}

fn epoll_pwait(
    c: &mut Ctx<'_>,
    epfd: i32,
    events: VirtAddr,
    max: i32,
    timeout: i32,
    mask: VirtAddr,
    size: usize,
) -> Result<usize> {
    let mask = crate::signal::mask::read_optional(mask, size)?;
    crate::signal::mask::with(mask, || wait(c, epfd, events, max, milliseconds(timeout)))
}

fn epoll_pwait2(
    c: &mut Ctx<'_>,
    epfd: i32,
    events: VirtAddr,
    max: i32,
    timeout: VirtAddr,
    mask: VirtAddr,
    size: usize,
) -> Result<usize> {
    let timeout = timespec(timeout)?;
    let mask = crate::signal::mask::read_optional(mask, size)?;
    crate::signal::mask::with(mask, || wait(c, epfd, events, max, timeout))
}
