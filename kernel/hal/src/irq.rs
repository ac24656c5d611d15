//! The interrupt flag of this CPU.

/// Interrupts are off until dropped (restored to what they were).
#[must_use]
pub struct IrqOff {
    #[cfg(target_os = "none")]
    were_on: bool,
}

#[cfg(target_os = "none")]
impl IrqOff {
    /// Turns interrupts off on this CPU.
    #[inline(always)]
    pub fn new() -> Self {
        let flags: u64;
        // SAFETY: reads RFLAGS and clears IF; no memory but the stack is touched.
        unsafe { core::arch::asm!("pushfq", "pop {}", "cli", out(reg) flags) };
        #[cfg(feature = "latency")]
        if flags & (1 << 9) != 0 {
            crate::latency::begin(crate::latency::Off::Interrupts, crate::latency::here());
        }
        Self { were_on: flags & (1 << 9) != 0 }
    }
}

#[cfg(target_os = "none")]
impl Drop for IrqOff {
    #[inline(always)]
    fn drop(&mut self) {
        if self.were_on {
            #[cfg(feature = "latency")]
            crate::latency::end(crate::latency::Off::Interrupts, crate::latency::here());
            // SAFETY: interrupts were on when the guard was made.
            unsafe { core::arch::asm!("sti") };
        }
    }
}

#[cfg(not(target_os = "none"))]
impl IrqOff {
    /// On the host there are no interrupts to turn off.
    pub fn new() -> Self {
        Self {}
    }
}

impl Default for IrqOff {
    fn default() -> Self {
        Self::new()
    }
}

/// True when this CPU takes interrupts.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn enabled() -> bool {
    let flags: u64;
    // SAFETY: reads RFLAGS through the stack.
    unsafe { core::arch::asm!("pushfq", "pop {}", out(reg) flags) };
    flags & (1 << 9) != 0
}

/// Turns interrupts on.
///
/// # Safety
/// The caller is in a context that interrupts may enter (stack, GS and locks are in order).
#[cfg(target_os = "none")]
#[inline(always)]
pub unsafe fn enable() {
    #[cfg(feature = "latency")]
    crate::latency::end(crate::latency::Off::Interrupts, crate::latency::here());
    // SAFETY: the caller's promise.
    unsafe { core::arch::asm!("sti") };
}

/// Turns interrupts off.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn disable() {
    // SAFETY: clearing IF is always sound.
    unsafe { core::arch::asm!("cli") };
    #[cfg(feature = "latency")]
    crate::latency::begin(crate::latency::Off::Interrupts, crate::latency::here());
}

/// Turns interrupts on where the kernel's code knows that they may come: with the per-CPU data
/// installed, the handlers registered, and no lock held that a handler takes.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn allow() {
    // SAFETY: the conditions above hold wherever the kernel calls this.
    unsafe { enable() }
}
