//! futex(2) and its kin.

use super::Ctx;
use crate::futex::requeue::{Operation, requeue, wake_op};
use crate::futex::wait::{self, Word};
use crate::futex::{ANY, pi};
use crate::task::{Restart, table};
use crate::time::clock;
use abi::raw::general as g;
use abi::uapi::Timespec;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hal::VirtAddr;

crate::syscalls! {
    202 futex(addr: VirtAddr, op: u32, value: u32, timeout: u64, addr2: VirtAddr, value3: u32) => futex;
    273 set_robust_list(head: u64, len: usize) => set_robust_list;
    274 get_robust_list(pid: i32, head: VirtAddr, len: VirtAddr) => get_robust_list;
    449 futex_waitv(waiters: VirtAddr, count: u32, flags: u32, timeout: VirtAddr, clock: i32) => futex_waitv;
    454 futex_wake(addr: VirtAddr, mask: u64, count: i32, flags: u32) => futex_wake;
    455 futex_wait(addr: VirtAddr, value: u64, mask: u64, flags: u32, timeout: VirtAddr, clock: i32) => futex_wait;
    456 futex_requeue(waiters: VirtAddr, flags: u32, wake: i32, requeue: i32) => futex_requeue;
}

/// Bytes of `struct robust_list_head`.
const ROBUST_HEAD: usize = 24;
/// Words that futex_waitv may wait for.
const MAX_WORDS: u32 = 128;
/// FUTEX2_SIZE_U32 and the mask of sizes.
const SIZE_U32: u32 = 2;
const SIZE_MASK: u32 = 3;
const PRIVATE: u32 = g::FUTEX_PRIVATE_FLAG;

fn read_timeout(at: u64) -> Result<Option<u64>> {
    if at == 0 {
        return Ok(None);
    }
    let time: Timespec = hal::user::read(VirtAddr::new(at))?;
    time.to_ns().map(Some)
}

fn futex(
    c: &mut Ctx<'_>,
    addr: VirtAddr,
    op: u32,
    value: u32,
    timeout: u64,
    addr2: VirtAddr,
    value3: u32,
) -> Result<i32> {
    let command = op & !(g::FUTEX_PRIVATE_FLAG | g::FUTEX_CLOCK_REALTIME);
    let shared = op & g::FUTEX_PRIVATE_FLAG == 0;
    let realtime = op & g::FUTEX_CLOCK_REALTIME != 0;
    if realtime
        && !matches!(command, g::FUTEX_WAIT_BITSET | g::FUTEX_WAIT_REQUEUE_PI | g::FUTEX_LOCK_PI2)
    {
        return Err(Errno::ENOSYS);
    }
    let absolute = |wall: bool| -> Result<Option<u64>> {
        Ok(read_timeout(timeout)?.map(|ns| if wall { clock::monotonic_at(ns) } else { ns }))
    };
    let count = value as i32;
    match command {
        g::FUTEX_WAIT => {
            let until = read_timeout(timeout)?.map(|ns| hal::time::now().saturating_add(ns));
            wait_restartable(c, addr, value, ANY, shared, until)
        }
        g::FUTEX_WAIT_BITSET => {
            let until = absolute(realtime)?;
            wait_restartable(c, addr, value, value3, shared, until)
        }
        g::FUTEX_WAKE => wait::wake(addr, count, ANY, shared),
        g::FUTEX_WAKE_BITSET => wait::wake(addr, count, value3, shared),
        g::FUTEX_REQUEUE => requeue((addr, shared), (addr2, shared), count, timeout as i32, None),
        g::FUTEX_CMP_REQUEUE => {
            requeue((addr, shared), (addr2, shared), count, timeout as i32, Some(value3))
        }
        g::FUTEX_WAKE_OP => {
            wake_op(addr, addr2, shared, count, timeout as i32, Operation::decode(value3)?)
        }
        g::FUTEX_LOCK_PI => pi::lock(addr, shared, absolute(true)?, false).map(|()| 0),
        g::FUTEX_LOCK_PI2 => pi::lock(addr, shared, absolute(realtime)?, false).map(|()| 0),
        g::FUTEX_TRYLOCK_PI => pi::lock(addr, shared, None, true).map(|()| 0),
        g::FUTEX_UNLOCK_PI => pi::unlock(addr, shared).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}

/// Waits; a wait with a deadline that a signal without a handler interrupts goes on with it.
fn wait_restartable(
    c: &Ctx<'_>,
    addr: VirtAddr,
    value: u32,
    bits: u32,
    shared: bool,
    until: Option<u64>,
) -> Result<i32> {
    let result = wait::wait(addr, value, bits, shared, until);
    match (result, until) {
        (Err(Errno::ERESTARTSYS), Some(until)) => {
            let restart = Restart::Futex { addr: addr.raw(), value, until, bits, shared };
            *c.task.restart.lock() = Some(restart);
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        (result, _) => result.map(|()| 0),
    }
}

/// restart_syscall(2) of a wait.
pub fn again(
    c: &Ctx<'_>,
    addr: u64,
    value: u32,
    until: u64,
    bits: u32,
    shared: bool,
) -> Result<u64> {
    wait_restartable(c, VirtAddr::new(addr), value, bits, shared, Some(until)).map(|_| 0)
}

fn set_robust_list(c: &mut Ctx<'_>, head: u64, len: usize) -> Result<()> {
    if len != ROBUST_HEAD {
        return Err(Errno::EINVAL);
    }
    c.task.robust_list.store(head, Ordering::Relaxed);
    Ok(())
}

fn get_robust_list(c: &mut Ctx<'_>, pid: i32, head: VirtAddr, len: VirtAddr) -> Result<()> {
    let list = if pid == 0 {
        c.task.robust_list.load(Ordering::Relaxed)
    } else {
        let task = table::task(pid).ok_or(Errno::ESRCH)?;
        crate::access::check_task(&task, crate::access::Mode::ReadReal)?;
        task.robust_list.load(Ordering::Relaxed)
    };
    hal::user::write(len, &ROBUST_HEAD)?;
    hal::user::write(head, &list)
}

/// Flags of the newer calls: 32-bit words only, shared or private.
fn is_shared(flags: u32) -> Result<bool> {
    if flags & !(SIZE_MASK | PRIVATE) != 0 || flags & SIZE_MASK != SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(flags & PRIVATE == 0)
}

/// `struct futex_waitv` as words: value, address, flags and a reserved zero.
fn read_word(at: VirtAddr) -> Result<Word> {
    let [value, addr, rest]: [u64; 3] = hal::user::read(at)?;
    if rest >> 32 != 0 {
        return Err(Errno::EINVAL);
    }
    let shared = is_shared(rest as u32)?;
    if value > u64::from(u32::MAX) {
        return Err(Errno::EINVAL);
    }
    Ok(Word { addr: VirtAddr::new(addr), value: value as u32, shared })
}

fn deadline(timeout: VirtAddr, id: i32) -> Result<Option<u64>> {
    if timeout.raw() == 0 {
        return Ok(None);
    }
    let wall = match id {
        0 => true,
        1 => false,
        _ => return Err(Errno::EINVAL),
    };
    let ns = read_timeout(timeout.raw())?;
    Ok(ns.map(|ns| if wall { clock::monotonic_at(ns) } else { ns }))
}

fn futex_waitv(
    _: &mut Ctx<'_>,
    waiters: VirtAddr,
    count: u32,
    flags: u32,
    timeout: VirtAddr,
    clock: i32,
) -> Result<usize> {
    if flags != 0 || count == 0 || count > MAX_WORDS || waiters.raw() == 0 {
        return Err(Errno::EINVAL);
    }
    let until = deadline(timeout, clock)?;
    let words: Vec<Word> =
        (0..u64::from(count)).map(|i| read_word(waiters + i * 24)).collect::<Result<_>>()?;
    wait::wait_any(&words, until)
}

fn mask32(mask: u64) -> Result<u32> {
    u32::try_from(mask).map_err(|_| Errno::EINVAL)
}

fn futex_wake(_: &mut Ctx<'_>, addr: VirtAddr, mask: u64, count: i32, flags: u32) -> Result<i32> {
    let shared = is_shared(flags)?;
    let mask = mask32(mask)?;
    if count == 0 && mask != 0 {
        return Ok(0);
    }
    wait::wake(addr, count, mask, shared)
}

fn futex_wait(
    c: &mut Ctx<'_>,
    addr: VirtAddr,
    value: u64,
    mask: u64,
    flags: u32,
    timeout: VirtAddr,
    clock: i32,
) -> Result<i32> {
    let shared = is_shared(flags)?;
    let until = deadline(timeout, clock)?;
    let value = mask32(value)?;
    wait_restartable(c, addr, value, mask32(mask)?, shared, until)
}

fn futex_requeue(
    _: &mut Ctx<'_>,
    waiters: VirtAddr,
    flags: u32,
    wake: i32,
    count: i32,
) -> Result<i32> {
    if flags != 0 || waiters.raw() == 0 {
        return Err(Errno::EINVAL);
    }
    let from = read_word(waiters)?;
    let to = read_word(waiters + 24)?;
    requeue((from.addr, from.shared), (to.addr, to.shared), wake, count, Some(from.value))
}
