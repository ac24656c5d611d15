//! Blocked signals and the alternate stack: what a thread sets for itself.

use super::attention::{RESTORE_MASK, SIGNAL};
use super::set::{SigSet, UNBLOCKABLE};
use super::{TaskSignals, pending_for};
use crate::task::{Task, current};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::VirtAddr;

/// SS_ONSTACK.
const ON_STACK: u32 = 1;
/// SS_DISABLE.
const DISABLE: u32 = 2;
/// SS_AUTODISARM.
pub const AUTO_DISARM: u32 = 1 << 31;
/// Linux's MINSIGSTKSZ.
const MIN_SIZE: u64 = 2048;

/// A stack for handlers with SA_ONSTACK.
#[derive(Clone, Copy, Debug)]
pub struct AltStack {
    pub base: u64,
    pub size: u64,
    pub flags: u32,
}

impl Default for AltStack {
    fn default() -> Self {
        Self { base: 0, size: 0, flags: DISABLE }
    }
}

impl AltStack {
    /// From `stack_t`.
    pub fn from_words(words: [u64; 3]) -> Self {
        Self { base: words[0], flags: words[1] as u32, size: words[2] }
    }

    /// As `stack_t`.
    pub fn words(&self) -> [u64; 3] {
        [self.base, u64::from(self.flags), self.size]
    }

    /// The stack pointer lies in it, whatever its flags say.
    pub fn holds(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }

    /// The thread runs on it. One that disarms itself is never "in use".
    pub fn in_use(&self, sp: u64) -> bool {
        self.flags & AUTO_DISARM == 0 && self.holds(sp)
    }

    /// What sigaltstack(2) reports as flags.
    pub fn state(&self, sp: u64) -> u32 {
        match self.size {
            0 => DISABLE,
            _ if self.in_use(sp) => ON_STACK,
            _ => 0,
        }
    }
}

impl TaskSignals {
    /// The alternate stack.
    pub fn alt_stack(&self) -> AltStack {
        *self.stack.lock()
    }

    pub(super) fn disarm_stack(&self) {
        *self.stack.lock() = AltStack::default();
    }

    /// sigaltstack(2) with the stack pointer at `sp`. EINVAL, EPERM while it is in use, ENOMEM.
    pub fn set_alt_stack(&self, new: AltStack, sp: u64) -> Result<()> {
        let mut stack = self.stack.lock();
        if stack.in_use(sp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !AUTO_DISARM;
        match mode {
            DISABLE => *stack = AltStack { base: 0, size: 0, flags: new.flags },
            0 | ON_STACK if new.size < MIN_SIZE => return Err(Errno::ENOMEM),
            0 | ON_STACK => *stack = new,
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// The blocked signals once the call under way has ended.
    pub fn mask_to_come(&self) -> SigSet {
        self.saved.lock().unwrap_or_else(|| self.blocked())
    }

    /// Replaces them for a task that stands still.
    pub fn replace_mask(&self, set: SigSet) {
        self.take_saved();
        self.blocked.store(set & !UNBLOCKABLE, Ordering::SeqCst);
    }

    pub(super) fn take_saved(&self) -> Option<SigSet> {
        self.attention.fetch_and(!RESTORE_MASK, Ordering::SeqCst);
        self.saved.lock().take()
    }
}

/// Looks again whether `task`, the running one, has something to deliver.
pub fn recalculate(task: &Task) {
    // Cleared first: a signal that comes in between sets it again.
    task.signals.attention.fetch_and(!SIGNAL, Ordering::SeqCst);
    if pending_for(task) & !task.signals.blocked() != 0 {
        task.signals.attention.fetch_or(SIGNAL, Ordering::SeqCst);
    }
}

/// Sets the running task's blocked signals.
pub fn set_blocked(set: SigSet) {
    let task = current();
    let newly_blocked = !task.signals.blocked() & set & !UNBLOCKABLE;
    task.signals.blocked.store(set & !UNBLOCKABLE, Ordering::SeqCst);
    recalculate(&task);
    // A signal that was meant for this thread may be taken by another one now.
    if newly_blocked & task.process.signals.pending.set() != 0 {
        super::group::hand_over(&task);
    }
}

/// Reads a mask argument: EINVAL for another size than a signal set's.
pub fn read(at: VirtAddr, size: usize) -> Result<SigSet> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    hal::user::read(at)
}

/// As [`read`], for calls whose mask may be left out.
pub fn read_optional(at: VirtAddr, size: usize) -> Result<Option<SigSet>> {
    if at.raw() == 0 { Ok(None) } else { read(at, size).map(Some) }
}

/// Replaces the mask until the way back to user mode: a handler runs with the new one, and the old
/// one returns after it (sigsuspend).
pub fn set_until_return(set: SigSet) {
    let task = current();
    *task.signals.saved.lock() = Some(task.signals.blocked());
    set_blocked(set);
    task.signals.ask(RESTORE_MASK);
}

/// Runs `call` with another mask (ppoll, pselect, epoll_pwait). When a signal ended it, the old
/// mask returns only after the handler.
pub fn with<R>(set: Option<SigSet>, call: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(set) = set else { return call() };
    set_until_return(set);
    let result = call();
    let interrupted = matches!(&result, Err(e) if e.is_restart() || *e == Errno::EINTR);
    if !interrupted && let Some(old) = current().signals.take_saved() {
        set_blocked(old);
    }
    result
}
