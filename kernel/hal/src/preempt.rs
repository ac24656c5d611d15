//! The preemption count: while it is above zero the current task keeps its CPU.
//!
//! The need-resched flag is folded into the count (bit 31, inverted, so that "count is zero and a
//! reschedule is wanted" is the single value 0): enabling preemption is one decrement and one
//! test. On the host these are no-ops.

/// Disables preemption until dropped.
#[must_use]
pub struct PreemptGuard(());

impl PreemptGuard {
    /// Disables preemption on this CPU.
    #[inline(always)]
    pub fn new() -> Self {
        disable();
        Self(())
    }
}

impl Default for PreemptGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PreemptGuard {
    #[inline(always)]
    fn drop(&mut self) {
        enable();
    }
}

#[cfg(target_os = "none")]
pub use crate::x86::percpu::{preempt_disable as disable, preempt_enable as enable};

/// Disables preemption (nests).
#[cfg(not(target_os = "none"))]
pub fn disable() {}

/// Undoes one [`disable`]; reschedules when it was the last and a reschedule is wanted.
#[cfg(not(target_os = "none"))]
pub fn enable() {}

/// True when somebody else wants this CPU: what holds a spinning lock for long looks now and then,
/// and lets go of it.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn is_wanted() -> bool {
    crate::x86::percpu::preempt_state().1
}

/// True when somebody else wants this CPU.
#[cfg(not(target_os = "none"))]
pub fn is_wanted() -> bool {
    false
}
