//! Accesses that may fault, and what the kernel said when they did.
//!
//! Three instructions are known to the SIGSEGV and SIGBUS handler. When one of them faults, it puts
//! the signal's number, code and address into the registers in which the access returns, so that
//! any number of threads can try at once. Any other fault kills the process as usual.

use std::arch::{asm, global_asm};

use crate::sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub signal: i32,
    pub code: i32,
    pub address: usize,
}

pub const MAPERR: i32 = 1;
pub const ACCERR: i32 = 2;
pub const BUS_ADRERR: i32 = 2;

global_asm!(
    ".globl tests_probe_read",
    "tests_probe_read:",
    "movzx eax, byte ptr [rdi]",
    "xor edx, edx",
    "ret",
    ".globl tests_probe_write",
    "tests_probe_write:",
    "mov byte ptr [rdi], sil",
    "xor edx, edx",
    "ret",
    ".globl tests_probe_exec",
    "tests_probe_exec:",
    "call rdi",
    "xor edx, edx",
    "ret",
    ".globl tests_probe_ret",
    "tests_probe_ret:",
    "ret",
);

unsafe extern "C" {
    fn tests_probe_read();
    fn tests_probe_write();
    fn tests_probe_exec();
    fn tests_probe_ret();
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO its own siginfo and ucontext.
    unsafe {
        let registers = &mut (*context).uc_mcontext.gregs;
        let ip = registers[libc::REG_RIP as usize] as usize;
        let target = registers[libc::REG_RDI as usize] as usize;
        let stack = registers[libc::REG_RSP as usize] as usize;
        let exec = tests_probe_exec as *const () as usize;
        let ours = ip == tests_probe_read as *const () as usize
            || ip == tests_probe_write as *const () as usize;
        // The jump has happened, and the return address lies on the stack.
        let jumped = ip == target && {
            let back = *(stack as *const usize);
            (exec..exec + 8).contains(&back)
        };
        if !ours && !jumped {
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        if jumped {
            registers[libc::REG_RSP as usize] += 8;
        }
        registers[libc::REG_RIP as usize] = tests_probe_ret as *const () as i64;
        registers[libc::REG_RAX as usize] = (*info).si_addr() as i64;
        registers[libc::REG_RCX as usize] = i64::from((*info).si_code);
        registers[libc::REG_RDX as usize] = i64::from(signal);
    }
}

/// Installs the handlers; they are inherited by fork.
fn ready() {
    let flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        sys::on_signal_with(signal, handler as *const () as usize, flags);
    }
}

fn probe(function: unsafe extern "C" fn(), at: usize, value: u8) -> Result<u8, Fault> {
    let (address, code, signal): (usize, i64, i64);
    // SAFETY: the three functions touch the registers named here and the byte at `at`, whose fault
    // the handler turns into a return.
    unsafe {
        asm!(
            "call {f}",
            f = in(reg) function,
            in("rdi") at,
            in("rsi") value as usize,
            out("rax") address,
            lateout("rcx") code,
            out("rdx") signal,
            clobber_abi("C"),
        );
    }
    if signal == 0 {
        return Ok(address as u8);
    }
    Err(Fault { signal: signal as i32, code: code as i32, address })
}

pub fn try_read(at: usize) -> Result<u8, Fault> {
    ready();
    probe(tests_probe_read, at, 0)
}

pub fn try_write(at: usize, value: u8) -> Result<(), Fault> {
    ready();
    probe(tests_probe_write, at, value).map(|_| ())
}

/// Calls what stands at `at`, which should be a `ret` (0xc3).
pub fn try_exec(at: usize) -> Result<(), Fault> {
    ready();
    probe(tests_probe_exec, at, 0).map(|_| ())
}

/// As the above without installing the handlers again: for loops that watch a page.
pub fn still_readable(at: usize) -> bool {
    probe(tests_probe_read, at, 0).is_ok()
}

#[track_caller]
pub fn segv<T: std::fmt::Debug>(result: Result<T, Fault>, code: i32, address: usize) {
    let expected = Fault { signal: libc::SIGSEGV, code, address };
    match result {
        Ok(_) => panic!("the access succeeded instead of {expected:x?}"),
        Err(fault) => assert!(fault == expected, "{fault:x?} instead of {expected:x?}"),
    }
}

#[track_caller]
pub fn bus<T: std::fmt::Debug>(result: Result<T, Fault>, address: usize) {
    let expected = Fault { signal: libc::SIGBUS, code: BUS_ADRERR, address };
    match result {
        Ok(_) => panic!("the access succeeded instead of {expected:x?}"),
        Err(fault) => assert!(fault == expected, "{fault:x?} instead of {expected:x?}"),
    }
}
