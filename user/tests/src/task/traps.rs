//! What the processor objects to, as signals.

use std::arch::asm;
use std::sync::atomic::Ordering::SeqCst;

use crate::child::end_of;
use crate::harness::{Test, tests};
use crate::sys;

pub const TESTS: &[Test] = tests![
    division_by_zero_is_sigfpe,
    an_undefined_instruction_is_sigill,
    a_breakpoint_is_sigtrap,
    a_single_step_is_sigtrap,
    a_privileged_instruction_is_sigsegv,
    an_interrupt_that_is_not_the_programs_is_sigsegv,
];

static WANTED: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn exit_with_the_code(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a siginfo.
    let code = unsafe { (*info).si_code };
    let right = code == WANTED.load(SeqCst);
    sys::exit_group(if right { signal } else { 100 });
}

/// Runs an instruction and asserts which signal and code come of it, and what kills without a
/// handler.
#[track_caller]
fn traps(signal: i32, code: i32, instruction: fn()) {
    WANTED.store(code, SeqCst);
    let caught = end_of(|| {
        let handler = exit_with_the_code as *const () as usize;
        sys::on_signal_with(signal, handler, libc::SA_SIGINFO);
        instruction();
    });
    assert_eq!(caught, signal, "100 means another code than {code}");
    let killed = end_of(|| {
        sys::on_signal_with(signal, libc::SIG_DFL, 0);
        instruction();
    });
    assert_eq!(killed, 128 + signal);
}

fn division_by_zero_is_sigfpe() {
    // SAFETY: the trap ends the child.
    traps(libc::SIGFPE, 1, || unsafe {
        asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx",
            out("eax") _, out("edx") _, out("ecx") _);
    });
}

fn an_undefined_instruction_is_sigill() {
    // SAFETY: the trap ends the child.
    traps(libc::SIGILL, 2, || unsafe { asm!("ud2") });
}

fn a_breakpoint_is_sigtrap() {
    // SAFETY: the trap ends the child.
    traps(libc::SIGTRAP, 128, || unsafe { asm!("int3") });
}

fn a_single_step_is_sigtrap() {
    // SAFETY: the trap ends the child.
    traps(libc::SIGTRAP, 2, || unsafe {
        asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop");
    });
}

fn a_privileged_instruction_is_sigsegv() {
    // SAFETY: the traps end the child.
    traps(libc::SIGSEGV, 128, || unsafe { asm!("hlt") });
    // SAFETY: as above.
    traps(libc::SIGSEGV, 128, || unsafe { asm!("cli") });
    // SAFETY: as above.
    traps(libc::SIGSEGV, 128, || unsafe { asm!("mov rax, cr3", out("rax") _) });
    // SAFETY: as above.
    traps(libc::SIGSEGV, 128, || unsafe {
        asm!("in al, dx", in("dx") 0x3f8u16, out("al") _);
    });
}

fn an_interrupt_that_is_not_the_programs_is_sigsegv() {
    // SAFETY: the trap ends the child.
    traps(libc::SIGSEGV, 128, || unsafe { asm!("int 0x21") });
}
