//! Switching from one kernel stack to another.

use core::arch::naked_asm;

/// Saves the callee-saved registers on this stack, its pointer in `*save`, and continues where
/// `next` was saved.
///
/// # Safety
/// `next` was saved here or made by [`prepare_stack`], and nobody else runs on that stack.
/// Interrupts are off.
#[unsafe(naked)]
pub unsafe extern "C" fn switch_stacks(save: *mut u64, next: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Prepares the stack that ends at `top` so that the first switch to it calls `entry(arg)`;
/// returns the saved stack pointer.
///
/// # Safety
/// The stack is mapped, at least 128 bytes long and unused; `entry` never returns.
pub unsafe fn prepare_stack(top: u64, entry: extern "C" fn(u64) -> !, arg: u64) -> u64 {
    let slots = (top - 64) as *mut u64;
    // SAFETY: the caller's promise. Layout as popped by `switch_stacks`: r15 (arg), r14 (entry),
    // r13, r12, rbx, rbp (0: end of backtraces), return address.
    unsafe {
        slots.write(arg);
        slots.add(1).write(entry as usize as u64);
        for i in 2..6 {
            slots.add(i).write(0);
        }
        slots.add(6).write(first_run as *const () as u64);
    }
    top - 64
}

#[unsafe(naked)]
unsafe extern "C" fn first_run() -> ! {
    naked_asm!("mov rdi, r15", "xor ebp, ebp", "call r14", "ud2")
}

/// Loads the user's thread pointer and GS base for the task that runs next.
#[inline]
pub fn load_user_bases(fs: u64, gs: u64) {
    // SAFETY: user-half or zero values (checked where they are set); KERNEL_GS_BASE is what
    // SWAPGS brings on the way to user mode.
    unsafe {
        if super::cpu::features().fsgsbase() {
            core::arch::asm!("wrfsbase {}", in(reg) fs);
        } else {
            super::cpu::wrmsr(0xc000_0100, fs);
        }
        super::cpu::wrmsr(0xc000_0102, gs);
    }
}

/// The user's present thread pointer and GS base (user code may change them itself).
#[inline]
pub fn read_user_bases() -> (u64, u64) {
    let fs = if super::cpu::features().fsgsbase() {
        let fs;
        // SAFETY: CR4.FSGSBASE is set where the feature is present.
        unsafe { core::arch::asm!("rdfsbase {}", out(reg) fs) };
        fs
    } else {
        super::cpu::rdmsr(0xc000_0100)
    };
    (fs, super::cpu::rdmsr(0xc000_0102))
}

/// Where a task's stack pointer is kept while it does not run. Whoever switches keeps the task alive.
pub struct SaveSlot(*mut u64);

impl SaveSlot {
    /// The slot of a task, from its field.
    #[inline]
    pub fn of(field: &core::sync::atomic::AtomicU64) -> Self {
        Self(field.as_ptr())
    }
}

/// [`switch_stacks`] as the scheduler calls it.
///
/// The scheduler's promises: `save` is the running task's, `next` was saved by a switch or made by
/// [`new_stack`], its task is on this CPU alone, interrupts are off.
#[inline]
pub fn switch_to(save: SaveSlot, next: u64) {
    // SAFETY: the scheduler's promises above: `on_cpu` keeps a stack from running twice.
    unsafe { switch_stacks(save.0, next) }
}

/// [`prepare_stack`] for a fresh kernel stack that ends at `top`.
pub fn new_stack(top: u64, entry: extern "C" fn(u64) -> !, arg: u64) -> u64 {
    // SAFETY: kernel stacks are mapped, 16 KiB, and this one has never run.
    unsafe { prepare_stack(top, entry, arg) }
}

/// Copies `frame` to the top of the fresh kernel stack that ends at `top`; where it lies.
pub fn place_frame(top: u64, frame: &super::trap::TrapFrame) -> u64 {
    // The entry code builds its frame at the very top, so that is where user frames live.
    let at = top - size_of::<super::trap::TrapFrame>() as u64;
    // SAFETY: inside a mapped kernel stack that nobody runs on yet.
    unsafe { (at as *mut super::trap::TrapFrame).write(*frame) };
    at
}

/// The bytes from `bottom` up, of `size`, that are zeroes still: of a kernel stack, whose memory was
/// zeroed when it was made, those that it never reached. What is not mapped counts as written.
pub fn never_written(bottom: crate::VirtAddr, size: u64) -> u64 {
    const CHUNK: u64 = 256;
    for at in (0..size).step_by(CHUNK as usize) {
        let mut bytes = [0u8; CHUNK as usize];
        let from = bottom.raw() + at;
        // SAFETY: the copy is fixed up if the address is not mapped; bytes of any value are valid.
        let left = unsafe {
            super::usercopy::raw_copy(bytes.as_mut_ptr(), from as *const u8, CHUNK as usize)
        };
        let zeroes = bytes.iter().take_while(|byte| **byte == 0).count() as u64;
        if left > 0 || zeroes < CHUNK {
            return at + zeroes;
        }
    }
    size
}

/// The frame pointer with which, and the address at which a task goes on whose stack pointer was
/// saved as `sp`; None if there is nothing sensible.
pub fn resumes_at(sp: u64) -> Option<(u64, u64)> {
    // Below the return address lies what `switch_stacks` pushed last but for it: rbp.
    super::trap::read_frame(crate::VirtAddr::new(sp.checked_add(5 * 8)?))
}

/// The user's registers as they lie at the top of the kernel stack that ends at `top`: those with
/// which its task last entered the kernel. While the task runs they may change or be half written.
pub fn user_frame(top: u64) -> super::trap::TrapFrame {
    let at = top - size_of::<super::trap::TrapFrame>() as u64;
    // SAFETY: kernel stacks stay mapped for ever; the frame is plain integers, of which any value
    // is valid.
    unsafe { (at as *const super::trap::TrapFrame).read_volatile() }
}

/// Leaves for user mode, for good, with the frame at `frame` (at the top of this task's kernel
/// stack), after `last` has had its look at it.
pub fn leave_to_user(frame: u64, last: fn(&mut super::trap::TrapFrame)) -> ! {
    crate::irq::disable();
    // SAFETY: the frame was placed by `place_frame` (or entry code) on this task's own stack, and
    // nothing else refers to it now.
    unsafe {
        last(&mut *(frame as *mut super::trap::TrapFrame));
        super::trap::enter_user(frame as *const super::trap::TrapFrame)
    }
}
