//! The end of a thread: its robust locks are marked, its id is cleared, and who waits is woken.

use super::key;
use super::{ANY, OWNER_DIED, TID_MASK, WAITERS, pi, wait};
use crate::task::current;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::VirtAddr;

/// Locks that a list may have: more is a ring.
const MAX_LOCKS: usize = 2048;
/// Bit of a list entry's address: the lock is a PI lock.
const PI: u64 = 1;

/// Marks the lock at `addr` if the running thread owns it. `pending`: it was about to lock or
/// unlock it.
fn mark(addr: VirtAddr, is_pi: bool, pending: bool) -> Result<()> {
    if !addr.raw().is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let tid = current().tid() as u32;
    let mut word: u32 = hal::user::read(addr)?;
    loop {
        let owner = word & TID_MASK;
        if pending && !is_pi && owner == 0 {
            // It unlocked and died before it could wake.
            wait::wake(addr, 1, ANY, true)?;
            return Ok(());
        }
        if owner != tid {
            return Ok(());
        }
        let new = word & WAITERS | OWNER_DIED;
        let seen = match key::exchange(addr, word, new) {
            Some(seen) => seen,
            None => {
                key::make_present(addr, true)?;
                continue;
            }
        };
        if seen == word {
            if !is_pi && word & WAITERS != 0 {
                wait::wake(addr, 1, ANY, true)?;
            }
            return Ok(());
        }
        word = seen;
    }
}

/// Walks the list of robust locks (see get_robust_list(2)). A list that cannot be read, or does not
/// end, is left where it breaks.
fn walk(head: u64) -> Result<()> {
    let [first, offset, pending]: [u64; 3] = hal::user::read(VirtAddr::new(head))?;
    let lock_of = |entry: u64| VirtAddr::new((entry & !PI).wrapping_add(offset));
    let mut entry = first;
    for _ in 0..MAX_LOCKS {
        if entry & !PI == head {
            break;
        }
        // Read before the lock is given away: its memory may go.
        let next: Result<u64> = hal::user::read(VirtAddr::new(entry & !PI));
        if entry & !PI != pending & !PI {
            mark(lock_of(entry), entry & PI != 0, false)?;
        }
        entry = next?;
    }
    if pending & !PI != 0 {
        mark(lock_of(pending), pending & PI != 0, true)?;
    }
    Ok(())
}

fn release() {
    let task = current();
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // As far as the list can be followed.
        let _ = walk(head);
    }
    pi::on_exit();
    let clear = task.clear_child_tid.swap(0, Ordering::Relaxed);
    let shared = task.mm().is_some_and(|mm| mm.users() > 1);
    if clear != 0 && shared {
        let addr = VirtAddr::new(clear);
        // A bad address is the program's own doing.
        if hal::user::write(addr, &0u32).is_ok() {
            let _ = wait::wake(addr, 1, ANY, true);
        }
    }
}

/// A thread ends; its memory is still there.
pub fn on_thread_exit() {
    release();
}

/// The thread executes another program: for its locks that is the end.
pub fn on_exec() {
    release();
}
