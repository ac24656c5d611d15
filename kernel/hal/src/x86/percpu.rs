//! This CPU's own data, reached through GS.
//!
//! [`CpuLocal`] is what entry code and the hottest paths need; it lies on the CPU's own node.
//! Anything else that is per CPU is an array indexed by `CpuId` in the crate that owns it.

use crate::requests::Requests;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};
use numa::{CpuId, NodeId};

/// Set in the count while NO reschedule is wanted (inverted, see `hal::preempt`).
pub const NO_RESCHED: u32 = 1 << 31;

/// The head of a CPU's own data. Field order is fixed by the entry code.
#[repr(C, align(64))]
pub struct CpuLocal {
    /// Its own address: `gs:[0]` gives a pointer.
    this: u64,
    /// Top of the running task's kernel stack: where a system call begins.
    pub(super) kernel_stack: u64,
    /// Scratch for the user's stack pointer on entry.
    pub(super) user_rsp: u64,
    /// The running task, as the kernel's own pointer.
    pub(super) current: u64,
    /// Preemption count with the folded flag. Only its own CPU writes it: counting is one instruction
    /// without a lock prefix, which a write from elsewhere could be lost under.
    preempt: AtomicU32,
    cpu: u32,
    node: u32,
    /// Depth of hardware interrupts.
    pub(super) irq_depth: u32,
    /// Top of the stack that interrupts of the kernel run on.
    pub(super) irq_stack: u64,
    /// This CPU's TSS.
    pub(super) tss: u64,
    /// Local APIC id.
    pub(super) apic_id: u32,
    /// Requests from other CPUs (see [`super::apic::Ipi`]), one bit each.
    pub(super) ipi_pending: Requests,
    /// Where KVM keeps this CPU's time (see [`super::kvmclock`]).
    pub(super) kvm_time: super::kvmclock::Place,
}

/// Offsets for assembly.
pub const KERNEL_STACK: usize = offset_of!(CpuLocal, kernel_stack);
pub const USER_RSP: usize = offset_of!(CpuLocal, user_rsp);

impl CpuLocal {
    /// The data of CPU `cpu` on `node`, before the CPU runs.
    pub fn new(cpu: CpuId, node: NodeId, apic_id: u32, irq_stack: u64) -> Self {
        Self {
            this: 0,
            kernel_stack: 0,
            user_rsp: 0,
            current: 0,
            preempt: AtomicU32::new(NO_RESCHED + 1),
            cpu: cpu.index() as u32,
            node: node.index() as u32,
            irq_depth: 0,
            irq_stack,
            tss: 0,
            apic_id,
            ipi_pending: Requests::new(),
            kvm_time: super::kvmclock::Place::new(),
        }
    }

    /// The id of its interrupt controller.
    pub fn apic_id(&self) -> u32 {
        self.apic_id
    }

    /// Says whether it is about to reschedule. A hint, but for who has had the lock of its run queue:
    /// the flag is cleared before the switch takes that lock, so what was put on the queue under the
    /// lock is seen by the switch that a flag still set stands for.
    #[inline]
    pub fn needs_resched(&self) -> bool {
        self.preempt.load(Ordering::Relaxed) & NO_RESCHED == 0
    }
}

/// Makes `local` the running CPU's data.
///
/// # Safety
/// Called once per CPU, on it, with data that lives for ever and belongs to this CPU.
pub unsafe fn install(local: *mut CpuLocal) {
    // SAFETY: the caller's promise; MSR 0xc0000101 is GS.base, 0xc0000102 what SWAPGS brings.
    unsafe {
        (*local).this = local as u64;
        super::cpu::wrmsr(0xc000_0101, local as u64);
        super::cpu::wrmsr(0xc000_0102, 0);
    }
}

/// This CPU's data. Only the fields that are atomic or this CPU's own may be touched.
#[inline(always)]
pub(super) fn local() -> *mut CpuLocal {
    let this;
    // SAFETY: GS.base points to this CPU's data from the first lines of boot on.
    unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly)) };
    this
}

/// The running CPU. Stable only while preemption is off.
#[inline(always)]
pub fn cpu() -> CpuId {
    let id: u32;
    // SAFETY: as `local`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) id, const offset_of!(CpuLocal, cpu),
             options(nostack, preserves_flags, readonly))
    };
    CpuId::new(id as u16)
}

/// The running CPU's node. Stable only while preemption is off.
#[inline(always)]
pub fn node() -> NodeId {
    let id: u32;
    // SAFETY: as `local`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) id, const offset_of!(CpuLocal, node),
             options(nostack, preserves_flags, readonly))
    };
    NodeId::new(id as u16)
}

/// The running task's pointer, as given to [`set_current`].
#[inline(always)]
pub fn current() -> u64 {
    let p: u64;
    // SAFETY: as `local`. Not `pure`: the value changes across switches.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) p, const offset_of!(CpuLocal, current),
             options(nostack, preserves_flags, readonly))
    };
    p
}

/// Names the running task and where its system calls and interrupts from user mode begin.
///
/// # Safety
/// `stack_top` is the top of a mapped kernel stack that this CPU alone uses until the next call.
pub unsafe fn set_current(task: u64, stack_top: u64) {
    let local = local();
    // SAFETY: this CPU's own fields; interrupts are off around a switch.
    unsafe {
        (*local).current = task;
        (*local).kernel_stack = stack_top;
        super::gdt::set_kernel_stack((*local).tss, stack_top);
    }
}

/// Disables preemption (nests).
#[inline(always)]
pub fn preempt_disable() {
    // SAFETY: this CPU's counter; one instruction, so no interrupt can come in between.
    unsafe {
        asm!("inc dword ptr gs:[{}]", const offset_of!(CpuLocal, preempt), options(nostack));
    }
    #[cfg(feature = "latency")]
    if preempt_state().0 == 1 {
        super::latency::begin(super::latency::Off::Preemption, super::latency::here());
    }
}

/// Preemption is about to be possible again.
#[cfg(feature = "latency")]
#[inline(always)]
fn note_enable() {
    if preempt_state().0 == 1 {
        super::latency::end(super::latency::Off::Preemption, super::latency::here());
    }
}

/// Undoes one [`preempt_disable`]; reschedules when it was the last and a reschedule is wanted.
#[inline(always)]
pub fn preempt_enable() {
    #[cfg(feature = "latency")]
    note_enable();
    // SAFETY: as `preempt_disable`.
    unsafe {
        asm!("dec dword ptr gs:[{}]", "jz {}", const offset_of!(CpuLocal, preempt),
             label { super::trap::preempt_point() }, options(nostack));
    }
}

/// Undoes one [`preempt_disable`] without looking for a reschedule.
#[inline(always)]
pub fn preempt_enable_no_resched() {
    #[cfg(feature = "latency")]
    note_enable();
    // SAFETY: as `preempt_disable`.
    unsafe {
        asm!("dec dword ptr gs:[{}]", const offset_of!(CpuLocal, preempt), options(nostack));
    }
}

/// The count and the flag: how deep preemption is disabled, and whether a reschedule is wanted.
#[inline(always)]
pub fn preempt_state() -> (u32, bool) {
    let v: u32;
    // SAFETY: as `local`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) v, const offset_of!(CpuLocal, preempt),
             options(nostack, preserves_flags, readonly))
    };
    (v & !NO_RESCHED, v & NO_RESCHED == 0)
}

/// Wants a reschedule on this CPU at the next preemption point.
#[inline]
pub fn set_need_resched() {
    // SAFETY: this CPU's own field, which other CPUs only read; one instruction, so no interrupt can
    // come in between.
    unsafe {
        asm!("and dword ptr gs:[{}], {}", const offset_of!(CpuLocal, preempt),
             const !NO_RESCHED as i32, options(nostack));
    }
}

/// Takes the wish back (the scheduler has run).
#[inline]
pub fn clear_need_resched() {
    // SAFETY: as `set_need_resched`.
    unsafe {
        asm!("or dword ptr gs:[{}], {}", const offset_of!(CpuLocal, preempt),
             const NO_RESCHED as i32, options(nostack));
    }
}

/// True inside a hardware interrupt.
#[inline]
pub fn in_interrupt() -> bool {
    // SAFETY: this CPU's own field.
    unsafe { (*local()).irq_depth > 0 }
}
