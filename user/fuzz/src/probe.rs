//! Accesses that may fault, and what the kernel said when they did.
//!
//! Two instructions are known to the SIGSEGV and SIGBUS handler. When one of them faults, signal
//! and code come back in registers; a fault anywhere else ends the worker.

use std::arch::{asm, global_asm};

use crate::sys::{exit_group, sys};

/// The exit code of a worker that faulted by itself.
pub const OWN_FAULT: i32 = 97;

global_asm!(
    ".globl fuzz_probe_read",
    "fuzz_probe_read:",
    "mov rax, qword ptr [rdi]",
    "xor edx, edx",
    "ret",
    ".globl fuzz_probe_write",
    "fuzz_probe_write:",
    "mov qword ptr [rdi], rsi",
    "xor edx, edx",
    "ret",
    ".globl fuzz_probe_ret",
    "fuzz_probe_ret:",
    "ret",
);

unsafe extern "C" {
    fn fuzz_probe_read();
    fn fuzz_probe_write();
    fn fuzz_probe_ret();
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO its own siginfo and ucontext.
    unsafe {
        let registers = &mut (*context).uc_mcontext.gregs;
        let ip = registers[libc::REG_RIP as usize] as usize;
        let ours = ip == fuzz_probe_read as *const () as usize
            || ip == fuzz_probe_write as *const () as usize;
        if !ours {
            exit_group(OWN_FAULT);
        }
        registers[libc::REG_RIP as usize] = fuzz_probe_ret as *const () as i64;
        registers[libc::REG_RDX as usize] = i64::from(signal);
        registers[libc::REG_RCX as usize] = i64::from((*info).si_code);
    }
}

/// Installs the handlers; they are inherited by fork and lost by exec.
pub fn install() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all zeroes is a valid sigaction, and the library adds the restorer.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
    // Whoever started this program may have blocked them.
    let none = 0u64;
    sys!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, 8);
}

/// Signal and code of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
}

/// The word at `address`.
pub fn read(address: u64) -> Result<u64, Fault> {
    let (value, signal, code): (u64, u64, u64);
    // SAFETY: the probe touches the one word; if that faults, the handler returns from it.
    unsafe {
        asm!("call {probe}", probe = sym fuzz_probe_read, in("rdi") address,
            out("rax") value, out("rdx") signal, out("rcx") code);
    }
    if signal == 0 { Ok(value) } else { Err(Fault { signal: signal as i32, code: code as i32 }) }
}

pub fn write(address: u64, value: u64) -> Result<(), Fault> {
    let (signal, code): (u64, u64);
    // SAFETY: as in `read`; the arena holds nothing that this program relies on.
    unsafe {
        asm!("call {probe}", probe = sym fuzz_probe_write, in("rdi") address, in("rsi") value,
            out("rdx") signal, out("rcx") code);
    }
    if signal == 0 { Ok(()) } else { Err(Fault { signal: signal as i32, code: code as i32 }) }
}
