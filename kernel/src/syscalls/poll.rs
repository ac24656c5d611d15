//! poll(2), select(2) and their relatives with signal masks.

use super::Ctx;
use crate::task::Restart;
use abi::uapi::{Timespec, Timeval};
use abi::{Errno, Result};
use alloc::vec::Vec;
use frames::fallible::TryVec;
use fs::pollwait::{self, PollFd, SelectSets, Timeout};
use hal::VirtAddr;

crate::syscalls! {
    7 poll(fds: VirtAddr, count: u32, timeout: i32) => poll;
    23 select(count: i32, read: VirtAddr, write: VirtAddr, except: VirtAddr, timeout: VirtAddr) => select;
    270 pselect6(count: i32, read: VirtAddr, write: VirtAddr, except: VirtAddr, timeout: VirtAddr, mask: VirtAddr)
        => pselect6;
    271 ppoll(fds: VirtAddr, count: u32, timeout: VirtAddr, mask: VirtAddr, size: usize) => ppoll;
}

/// `until` of [`Restart::Poll`] without a time limit.
const FOREVER: u64 = u64::MAX;

fn poll_fds(c: &Ctx<'_>, at: VirtAddr, count: u32, timeout: Timeout) -> Result<usize> {
    if u64::from(count) > c.fd_limit() {
        return Err(Errno::EINVAL);
    }
    let words: Vec<u64> = hal::user::read_vec(at, count as usize)?;
    let entry = |&word: &u64| PollFd { fd: word as i32, events: (word >> 32) as u16, revents: 0 };
    let mut fds = Vec::gather(words.iter().map(entry))?;
    let result = pollwait::poll(&c.fd_table(), &mut fds, timeout);
    // A signal does not keep back what was found.
    for (i, entry) in fds.iter().enumerate() {
        hal::user::write(at + (i as u64 * 8 + 6), &entry.revents)?;
    }
    result
}

/// As [`poll_fds`]; after a signal without a handler it goes on until the same time.
fn poll_until(c: &Ctx<'_>, at: VirtAddr, count: u32, timeout: Timeout) -> Result<usize> {
    let result = poll_fds(c, at, count, timeout);
    if result != Err(Errno::ERESTARTNOHAND) {
        return result;
    }
    let until = match timeout {
        Timeout::At(until) => until,
        _ => FOREVER,
    };
    *c.task.restart.lock() = Some(Restart::Poll { fds: at.raw(), count: u64::from(count), until });
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// restart_syscall(2) of a poll.
pub fn restart(c: &Ctx<'_>, fds: u64, count: u64, until: u64) -> Result<usize> {
    let timeout = if until == FOREVER { Timeout::Forever } else { Timeout::At(until) };
    poll_until(c, VirtAddr::new(fds), count as u32, timeout)
}

/// A timeout in milliseconds; negative is for ever.
pub fn milliseconds(timeout: i32) -> Timeout {
    Timeout::after(u64::try_from(timeout).ok().map(|ms| ms * 1_000_000))
}

fn poll(c: &mut Ctx<'_>, fds: VirtAddr, count: u32, timeout: i32) -> Result<usize> {
    poll_until(c, fds, count, milliseconds(timeout))
}

/// A timeout as `struct timespec`; null is for ever.
pub fn timespec(at: VirtAddr) -> Result<Timeout> {
    if at.raw() == 0 {
        return Ok(Timeout::Forever);
    }
    Ok(Timeout::after(Some(hal::user::read::<Timespec>(at)?.to_ns()?)))
}

/// What is left of a timeout, ns; None when there is none to tell.
fn left(timeout: Timeout) -> Option<u64> {
    match timeout {
        Timeout::At(until) => Some(until.saturating_sub(sync::hooks::now())),
        _ => None,
    }
}

/// Stores what is left of a timeout. When that fails, the call cannot be restarted: it would wait
/// the whole time again.
fn tell_left<T>(result: Result<T>, stored: Option<Result<()>>) -> Result<T> {
    match (result, stored) {
        (Err(Errno::ERESTARTNOHAND), Some(Err(_))) => Err(Errno::EINTR),
        (result, _) => result,
    }
}

fn ppoll(
    c: &mut Ctx<'_>,
    fds: VirtAddr,
    count: u32,
    at: VirtAddr,
    mask: VirtAddr,
    size: usize,
) -> Result<usize> {
    let timeout = timespec(at)?;
    let mask = crate::signal::mask::read_optional(mask, size)?;
    let result = crate::signal::mask::with(mask, || poll_fds(c, fds, count, timeout));
    let stored = left(timeout).map(|ns| hal::user::write(at, &Timespec::from_ns(ns)));
    tell_left(result, stored)
}

fn select_fds(c: &Ctx<'_>, count: i32, at: [VirtAddr; 3], timeout: Timeout) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let table = c.fd_table();
    let count = count.min(table.capacity());
    let words = count.div_ceil(64);
    let read = |at: VirtAddr| match at.raw() {
        0 => Ok(None),
        _ => hal::user::read_vec::<u64>(at, words).map(Some),
    };
    let mut sets = [read(at[0])?, read(at[1])?, read(at[2])?];
    let [r, w, x] = &mut sets;
    let mut typed =
        SelectSets { read: r.as_deref_mut(), write: w.as_deref_mut(), except: x.as_deref_mut() };
    let found = pollwait::select(&table, count, &mut typed, timeout)?;
    for (at, set) in at.iter().zip(&sets) {
        if let Some(set) = set {
            hal::user::copy_to(*at, hal::user::slice_bytes(set))?;
        }
    }
    Ok(found)
}

fn select(
    c: &mut Ctx<'_>,
    count: i32,
    read: VirtAddr,
    write: VirtAddr,
    except: VirtAddr,
    at: VirtAddr,
) -> Result<usize> {
    let timeout = if at.raw() == 0 {
        Timeout::Forever
    } else {
        // Linux carries microseconds beyond a second over.
        let time: Timeval = hal::user::read(at)?;
        let sec = time.sec.saturating_add(time.usec / 1_000_000);
        let nsec = time.usec % 1_000_000 * 1000;
        Timeout::after(Some(Timespec { sec, nsec }.to_ns()?))
    };
    let result = select_fds(c, count, [read, write, except], timeout);
    let stored = left(timeout).map(|ns| hal::user::write(at, &Timeval::from_ns(ns)));
    tell_left(result, stored)
}

fn pselect6(
    c: &mut Ctx<'_>,
    count: i32,
    read: VirtAddr,
    write: VirtAddr,
    except: VirtAddr,
    at: VirtAddr,
    mask: VirtAddr,
) -> Result<usize> {
    // The sixth argument points to the mask's address and size.
    let [mask, size] = if mask.raw() == 0 { [0, 0] } else { hal::user::read::<[u64; 2]>(mask)? };
    let timeout = timespec(at)?;
    let mask = crate::signal::mask::read_optional(VirtAddr::new(mask), size as usize)?;
    let result =
        crate::signal::mask::with(mask, || select_fds(c, count, [read, write, except], timeout));
    let stored = left(timeout).map(|ns| hal::user::write(at, &Timespec::from_ns(ns)));
    tell_left(result, stored)
}
