//! The SYSCALL entry: the same frame as a trap, then one Rust call; SYSRET back when it may.
//!
//! Quick calls (see [`set_quick`]) are functions of their arguments alone: they are called with the
//! registers as the program set them, and return past everything but a last look for pending work.
//! A CPU that runs a task which is stopped at its system calls has another entry ([`set_traced`]): so
//! nobody else asks.

use super::cpu::wrmsr;
use super::gdt::{KERNEL_CODE, USER_CODE, USER_DATA};
use super::percpu::{KERNEL_STACK, USER_RSP};
use super::trap::{Handlers, SYSCALL, TrapFrame, handlers};
use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What a quick call answers.
#[repr(C)]
pub struct Answer {
    /// The program's rax.
    pub value: u64,
    /// Non-zero: something has to be done before the return to user mode.
    pub pending: u64,
}

/// A quick call: takes the six argument registers and returns with interrupts off.
pub type Quick = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Answer;

/// Numbers that may be quick.
const QUICK_CALLS: usize = 512;

static QUICK: [AtomicUsize; QUICK_CALLS] = [const { AtomicUsize::new(0) }; QUICK_CALLS];

/// Makes a system call a quick one.
pub fn set_quick(number: usize, call: Quick) {
    QUICK[number].store(call as usize, Ordering::Relaxed);
}

// SYSCALL leaves RIP in rcx and RFLAGS in r11. `dispatch` returns non-zero when the frame must be
// restored in full (signal return, exec): SYSRET cannot restore rcx and r11 to anything else, and
// faults in ring 0 on a non-canonical RIP.
global_asm!(
    r#"
.section .text.entry, "ax"
.macro SYSCALL_FRAME
    swapgs
    mov gs:[{user_rsp}], rsp
    mov rsp, gs:[{kernel_stack}]
    push {user_data}
    push gs:[{user_rsp}]
    push r11
    push {user_code}
    push rcx
    push rax
    push {syscall}
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    xor ebp, ebp
.endm
.balign 16
.global syscall_entry
syscall_entry:
    SYSCALL_FRAME
    test r11d, {no_sysret}
    jnz 2f
    cmp rax, {quick_calls}
    jae 2f
    mov r11, [{quick} + rax * 8]
    test r11, r11
    jnz 4f
2:
    mov rdi, rsp
    call {dispatch}
3:
    test eax, eax
    jnz trap_return
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    add rsp, 8                  // r11 is RFLAGS
    pop r10
    pop r9
    pop r8
    pop rax
    add rsp, 8                  // rcx is RIP
    pop rdx
    pop rsi
    pop rdi
    mov rcx, [rsp + 16]
    mov r11, [rsp + 32]
    mov rsp, [rsp + 40]
    swapgs
    sysretq
4:
    sti
    mov rcx, r10
    call r11
    test edx, edx
    jnz 5f
    mov rbp, [rsp + {rbp}]
    add rsp, 56                 // what calls preserve, and r11
    pop r10
    pop r9
    pop r8
    add rsp, 16                 // rax and rcx
    pop rdx
    pop rsi
    pop rdi
    mov rcx, [rsp + 16]
    mov r11, [rsp + 32]
    mov rsp, [rsp + 40]
    swapgs
    sysretq
5:
    mov [rsp + {rax}], rax
    mov rdi, rsp
    call {finish}
    jmp 3b
.balign 16
.global syscall_entry_traced
syscall_entry_traced:
    SYSCALL_FRAME
    mov rdi, rsp
    call {dispatch_traced}
    jmp 3b
.text
"#,
    user_rsp = const USER_RSP,
    kernel_stack = const KERNEL_STACK,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    syscall = const SYSCALL,
    dispatch = sym dispatch,
    dispatch_traced = sym dispatch_traced,
    finish = sym finish,
    quick = sym QUICK,
    quick_calls = const QUICK_CALLS,
    no_sysret = const NO_SYSRET,
    rax = const core::mem::offset_of!(TrapFrame, rax),
    rbp = const core::mem::offset_of!(TrapFrame, rbp),
);

/// Flags that SYSRET does not bring back as they should be: trap and resume.
const NO_SYSRET: u64 = 0x1_0100;

extern "C" fn dispatch(frame: &mut TrapFrame) -> u32 {
    let Some(h) = handlers() else { super::power::halt() };
    (h.syscall)(frame);
    crate::irq::disable();
    leave(h, frame)
}

/// As [`dispatch`], of a task that is stopped at system calls: none of them is quick.
extern "C" fn dispatch_traced(frame: &mut TrapFrame) -> u32 {
    let Some(h) = handlers() else { super::power::halt() };
    (h.traced_syscall)(frame);
    crate::irq::disable();
    leave(h, frame)
}

/// The way back from a quick call when something is pending.
extern "C" fn finish(frame: &mut TrapFrame) -> u32 {
    let Some(h) = handlers() else { super::power::halt() };
    leave(h, frame)
}

/// What stands before a return to user mode; non-zero when SYSRET cannot do it.
#[inline(always)]
fn leave(h: &Handlers, frame: &mut TrapFrame) -> u32 {
    (h.return_to_user)(frame);
    #[cfg(feature = "latency")]
    super::latency::end(super::latency::Off::Interrupts, super::latency::here());
    let sysret_ok = frame.vector == SYSCALL
        && frame.rcx == frame.rip
        && frame.r11 == frame.rflags
        && frame.rip < crate::user::USER_END
        && frame.rflags & NO_SYSRET == 0;
    u32::from(!sysret_ok)
}

unsafe extern "C" {
    fn syscall_entry();
    fn syscall_entry_traced();
}

/// LSTAR.
const LSTAR: u32 = 0xc000_0082;

/// Has this CPU's SYSCALL enter by the way of tracees, or by the usual one. Interrupts are off.
pub fn set_traced(traced: bool) {
    let entry = if traced { syscall_entry_traced } else { syscall_entry };
    // SAFETY: one of the two entries, which make the same frame.
    unsafe { wrmsr(LSTAR, entry as *const () as u64) };
}

/// Points this CPU's SYSCALL at the entry.
pub fn init() {
    // SAFETY: STAR, LSTAR and FMASK with this kernel's selectors and entry. FMASK clears IF, DF,
    // TF, AC and NT on entry.
    unsafe {
        let star = u64::from(KERNEL_CODE) << 32 | (u64::from(USER_DATA) - 8) << 48;
        wrmsr(0xc000_0081, star);
        wrmsr(LSTAR, syscall_entry as *const () as u64);
        wrmsr(0xc000_0084, 0x4_7700);
    }
}
