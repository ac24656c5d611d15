//! sched_setaffinity(2), sched_getaffinity(2), sched_yield(2).

use super::Ctx;
use crate::sched;
use crate::task::{TaskRef, table};
use abi::{Errno, Result};
use hal::VirtAddr;
use hal::user;
use numa::{CpuMask, MAX_CPUS};

crate::syscalls! {
    24 sched_yield() => sched_yield;
    203 sched_setaffinity(pid: i32, len: u32, mask: VirtAddr) => setaffinity;
    204 sched_getaffinity(pid: i32, len: u32, mask: VirtAddr) => getaffinity;
}

fn sched_yield(_: &mut Ctx<'_>) -> Result<()> {
    sched::yield_now();
    Ok(())
}

fn find(c: &Ctx<'_>, pid: i32) -> Result<TaskRef> {
    if pid == 0 { Ok(c.task.handle()) } else { table::task(pid).ok_or(Errno::ESRCH) }
}

fn setaffinity(c: &mut Ctx<'_>, pid: i32, len: u32, mask: VirtAddr) -> Result<()> {
    // Bits of CPUs that do not exist are dropped, whole words of them too.
    let mut bytes = [0u8; MAX_CPUS / 8];
    let len = (len as usize).min(bytes.len());
    if len > 0 {
        user::copy_from(&mut bytes[..len], mask)?;
    }
    let task = find(c, pid)?;
    if !crate::access::may_schedule(&task) {
        return Err(Errno::EPERM);
    }
    let mut words = [0u64; MAX_CPUS / 64];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    sched::affinity::set_asked(&task, CpuMask::from_words(&words))
}

/// The number of bytes written: as many words as the machine's CPU numbers need.
fn getaffinity(c: &mut Ctx<'_>, pid: i32, len: u32, mask: VirtAddr) -> Result<usize> {
    let len = len as usize;
    let cpus = crate::machine().cpu_ids();
    if len * 8 < cpus || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let task = find(c, pid)?;
    let allowed = sched::affinity::get(&task) & crate::boot::cpus::online();
    let bytes = len.min(cpus.div_ceil(64) * 8);
    user::copy_to(mask, &user::slice_bytes(allowed.words())[..bytes])?;
    Ok(bytes)
}
