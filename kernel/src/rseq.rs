//! Restartable sequences (rseq(2)): a thread's area in user memory that tells it its CPU, and
//! critical sections that are aborted when the thread is preempted, moved or signalled in them.
//!
//! The work is done on the way to user mode, only for threads that have an area and only after
//! something happened: the switch sets a bit of the attention word.

use crate::signal::attention::RSEQ;
use crate::signal::{SigInfo, sig};
use crate::task::{Task, current};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::VirtAddr;
use hal::trap::TrapFrame;
use hal::user::USER_END;

/// Smallest area, and its alignment (Linux's first version of the structure).
const SIZE: u32 = 32;
/// Bytes of the area that this kernel knows (AT_RSEQ_FEATURE_SIZE).
pub const FEATURE_SIZE: u32 = 28;
/// RSEQ_FLAG_UNREGISTER.
const UNREGISTER: u32 = 1;
/// RSEQ_CPU_ID_UNINITIALIZED.
const NO_CPU: u32 = u32::MAX;

// Offsets in the area.
const CPU_ID_START: u64 = 0;
const CPU_ID: u64 = 4;
const SECTION: u64 = 8;
const NODE_ID: u64 = 20;
const CONCURRENCY_ID: u64 = 24;

/// The thread was switched away from: it must look at its area before it runs user code again.
#[inline]
pub fn note_switch(task: &Task) {
    if task.signals.has_rseq.load(Ordering::Relaxed) {
        task.signals.attention.fetch_or(RSEQ, Ordering::Relaxed);
    }
}

/// rseq(2). EINVAL, EBUSY, EPERM, EFAULT as Linux answers.
pub fn register(addr: u64, len: u32, flags: u32, signature: u32) -> Result<()> {
    let task = current();
    let (old_addr, old_len, old_signature) = *task.rseq.lock();
    if flags & UNREGISTER != 0 {
        if flags != UNREGISTER || old_addr == 0 || old_addr != addr || old_len != len {
            return Err(Errno::EINVAL);
        }
        if old_signature != signature {
            return Err(Errno::EPERM);
        }
        write_ids(addr, (0, NO_CPU, 0, 0))?;
        task.signals.has_rseq.store(false, Ordering::Relaxed);
        *task.rseq.lock() = (0, 0, 0);
        return Ok(());
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if old_addr != 0 {
        return Err(if old_addr != addr || old_len != len {
            Errno::EINVAL
        } else if old_signature != signature {
            Errno::EPERM
        } else {
            Errno::EBUSY
        });
    }
    let aligned = addr.is_multiple_of(u64::from(SIZE));
    if len < SIZE || !aligned {
        return Err(Errno::EINVAL);
    }
    if !hal::user::range_ok(VirtAddr::new(addr), len as usize) {
        return Err(Errno::EFAULT);
    }
    *task.rseq.lock() = (addr, len, signature);
    task.signals.has_rseq.store(true, Ordering::Relaxed);
    // The ids are there before the call returns.
    task.signals.attention.fetch_or(RSEQ, Ordering::Relaxed);
    Ok(())
}

/// Start id, id, node, concurrency id.
fn write_ids(area: u64, (start, cpu, node, concurrency): (u32, u32, u32, u32)) -> Result<()> {
    for (offset, value) in
        [(CPU_ID_START, start), (CPU_ID, cpu), (NODE_ID, node), (CONCURRENCY_ID, concurrency)]
    {
        hal::user::write(VirtAddr::new(area + offset), &value)?;
    }
    Ok(())
}

/// Before user mode, after a switch: aborts an interrupted section, and tells the thread where it
/// is.
pub fn on_return(frame: &mut TrapFrame) {
    let task = current();
    loop {
        // A copy may fault and the thread be moved by it: then the bit is set again.
        task.signals.attention.fetch_and(!RSEQ, Ordering::SeqCst);
        let (area, _, signature) = *task.rseq.lock();
        if area == 0 {
            return;
        }
        let (cpu, node) = {
            let _stay = hal::preempt::PreemptGuard::new();
            (hal::percpu::cpu().index() as u32, hal::percpu::node().index() as u32)
        };
        let done = abort_section(frame, area, signature)
            .and_then(|()| write_ids(area, (cpu, cpu, node, cpu)));
        if done.is_err() {
            return fail();
        }
        if task.signals.attention.load(Ordering::SeqCst) & RSEQ == 0 {
            return;
        }
    }
}

/// A signal is delivered: a section under way is aborted, so that the handler returns to its abort
/// handler.
pub fn on_signal(frame: &mut TrapFrame) {
    let task = current();
    if !task.signals.has_rseq.load(Ordering::Relaxed) {
        return;
    }
    let (area, _, signature) = *task.rseq.lock();
    if area != 0 && abort_section(frame, area, signature).is_err() {
        fail();
    }
}

fn fail() {
    crate::signal::send::force(SigInfo::kernel(sig::SEGV), false);
}

/// If the area names a critical section: forgets it, and when the thread is in it continues at its
/// abort handler, in front of which the signature must stand.
fn abort_section(frame: &mut TrapFrame, area: u64, signature: u32) -> Result<()> {
    let section: u64 = hal::user::read(VirtAddr::new(area + SECTION))?;
    if section == 0 {
        return Ok(());
    }
    if section >= USER_END {
        return Err(Errno::EINVAL);
    }
    // struct rseq_cs: version and flags, start, length, abort handler.
    let [head, start, length, abort]: [u64; 4] = hal::user::read(VirtAddr::new(section))?;
    let end = start.checked_add(length).ok_or(Errno::EINVAL)?;
    let abort_inside = (start..end).contains(&abort);
    if start >= USER_END || end >= USER_END || abort >= USER_END || head as u32 != 0 || abort_inside
    {
        return Err(Errno::EINVAL);
    }
    let before: u32 = hal::user::read(VirtAddr::new(abort.wrapping_sub(4)))?;
    if before != signature {
        return Err(Errno::EINVAL);
    }
    // The flags once turned single causes off; Linux has given them up, they must be 0.
    if head >> 32 != 0 {
        return Err(Errno::EINVAL);
    }
    hal::user::write(VirtAddr::new(area + SECTION), &0u64)?;
    if (start..end).contains(&frame.rip) {
        frame.rip = abort;
        if frame.vector == hal::trap::SYSCALL {
            frame.vector = crate::signal::deliver::REWRITTEN;
        }
    }
    Ok(())
}
