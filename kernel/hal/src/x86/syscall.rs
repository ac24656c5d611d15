//! The SYSCALL entry: the same frame as a trap, then one Rust call; SYSRET back when it may.

use super::cpu::wrmsr;
use super::gdt::{KERNEL_CODE, USER_CODE, USER_DATA};
use super::percpu::{KERNEL_STACK, USER_RSP};
use super::trap::{SYSCALL, TrapFrame, handlers};
use core::arch::global_asm;

// SYSCALL leaves RIP in rcx and RFLAGS in r11. `dispatch` returns non-zero when the frame must be
// restored in full (signal return, exec): SYSRET cannot restore rcx and r11 to anything else, and
// faults in ring 0 on a non-canonical RIP.
global_asm!(
    r#"
.section .text.entry, "ax"
.balign 16
.global syscall_entry
syscall_entry:
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
    sti
    xor ebp, ebp
    mov rdi, rsp
    call {dispatch}
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
.text
"#,
    user_rsp = const USER_RSP,
    kernel_stack = const KERNEL_STACK,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    syscall = const SYSCALL,
    dispatch = sym dispatch,
);

extern "C" fn dispatch(frame: &mut TrapFrame) -> u32 {
    let Some(h) = handlers() else { super::power::halt() };
    (h.syscall)(frame);
    crate::irq::disable();
    (h.return_to_user)(frame);
    let sysret_ok = frame.vector == SYSCALL
        && frame.rcx == frame.rip
        && frame.r11 == frame.rflags
        && frame.rip < crate::user::USER_END
        && frame.rflags & 0x1_0100 == 0;
    u32::from(!sysret_ok)
}

unsafe extern "C" {
    fn syscall_entry();
}

/// Points this CPU's SYSCALL at the entry.
pub fn init() {
    // SAFETY: STAR, LSTAR and FMASK with this kernel's selectors and entry. FMASK clears IF, DF,
    // TF, AC and NT on entry.
    unsafe {
        let star = u64::from(KERNEL_CODE) << 32 | (u64::from(USER_DATA) - 8) << 48;
        wrmsr(0xc000_0081, star);
        wrmsr(0xc000_0082, syscall_entry as *const () as u64);
        wrmsr(0xc000_0084, 0x4_7700);
    }
}
