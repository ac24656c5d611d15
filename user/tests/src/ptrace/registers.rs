//! A tracee's registers.

use std::arch::asm;

use super::*;
use crate::harness::{Test, tests};
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    registers_are_read_and_written_whole,
    words_of_the_user_structure_are_found_at_their_places,
    what_must_not_be_loaded_is_refused,
    flags_of_the_kernel_stay_its_own,
    a_bad_instruction_pointer_ends_in_a_signal,
    sets_of_registers_have_their_sizes,
    vector_registers_are_read_and_written,
    the_whole_vector_state_goes_there_and_back,
    a_step_is_one_instruction,
    a_step_over_a_system_call_ends_behind_it,
    a_step_into_a_handler_ends_at_its_first_instruction,
    thread_pointers_are_set,
];

const NT_PRSTATUS: usize = 1;
const NT_PRFPREG: usize = 2;
const NT_X86_XSTATE: usize = 0x202;

/// Two values, given to `int3` in rbx and r12 and taken from there after it.
fn through_registers(first: u64, second: u64) -> (u64, u64) {
    let (mut one, mut two) = (first, second);
    // SAFETY: the trap is its tracer's, which gives back what it likes in two registers.
    unsafe {
        asm!(
            "push rbx", "mov rbx, {one}", "int3", "mov {one}, rbx", "pop rbx",
            one = inout(reg) one, inout("r12") two,
        );
    }
    (one, two)
}

fn registers_are_read_and_written_whole() {
    let pid = traced(|| {
        let got = through_registers(0x1111, 0x2222);
        assert_eq!(got, (0x3333, 0x4444));
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    assert_eq!(info(pid), Ok((SIGTRAP, 0x80)), "SI_KERNEL");
    let mut now = regs(pid);
    assert_eq!((now.rbx, now.r12), (0x1111, 0x2222));
    assert_eq!(now.orig_rax, u64::MAX, "in no system call");
    assert_eq!((now.cs, now.ss), (0x33, 0x2b));
    (now.rbx, now.r12) = (0x3333, 0x4444);
    set_regs(pid, &now).expect("SETREGS");
    assert_eq!(regs(pid).rbx, 0x3333);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn peek_user(pid: i32, at: usize) -> Result<u64> {
    let mut value = 0u64;
    ptrace(PTRACE_PEEKUSER, pid, at, (&raw mut value).expose_provenance()).map(|_| value)
}

fn words_of_the_user_structure_are_found_at_their_places() {
    let pid = traced(|| {
        let got = through_registers(5, 6);
        assert_eq!(got, (7, 6));
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    let rbx = std::mem::offset_of!(user_regs_struct, rbx);
    assert_eq!(peek_user(pid, rbx), Ok(5));
    ptrace(PTRACE_POKEUSER, pid, rbx, 7).expect("POKEUSER");
    assert_eq!(peek_user(pid, rbx), Ok(7));
    assert_eq!(peek_user(pid, 27 * 8), Ok(0));
    fails(ptrace(PTRACE_POKEUSER, pid, 27 * 8, 0), EIO);
    for bad in [4, 928, usize::MAX & !7] {
        fails(peek_user(pid, bad), EIO);
        fails(ptrace(PTRACE_POKEUSER, pid, bad, 0), EIO);
    }
    assert!(peek_user(pid, 920).is_ok(), "the last word");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

/// Sets one register through its word.
fn poke(pid: i32, at: usize, value: u64) -> Result<usize> {
    ptrace(PTRACE_POKEUSER, pid, at, value as usize)
}

fn what_must_not_be_loaded_is_refused() {
    use std::mem::offset_of;
    let pid = traced(|| {});
    let before = regs(pid);
    let (cs, ss) = (offset_of!(user_regs_struct, cs), offset_of!(user_regs_struct, ss));
    for place in [cs, ss] {
        for bad in [0, 0x8, 0x10, 0x30, 0x31] {
            fails(poke(pid, place, bad), EIO);
        }
    }
    for place in [offset_of!(user_regs_struct, ds), offset_of!(user_regs_struct, gs)] {
        fails(poke(pid, place, 0x10), EIO);
        poke(pid, place, 0).expect("no selector");
    }
    for place in [offset_of!(user_regs_struct, fs_base), offset_of!(user_regs_struct, gs_base)] {
        for bad in [1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
            fails(poke(pid, place, bad), EIO);
        }
    }
    let mut bad = before;
    bad.cs = 0x10;
    fails(set_regs(pid, &bad), EIO);
    let after = regs(pid);
    assert_eq!((after.cs, after.ss, after.fs_base), (before.cs, before.ss, before.fs_base));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn flags_of_the_kernel_stay_its_own() {
    let pid = traced(|| {
        through_registers(0, 0);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    let flags = std::mem::offset_of!(user_regs_struct, eflags);
    let before = regs(pid).eflags;
    // Interrupts off, I/O privilege, virtual 8086 mode, virtual interrupts.
    poke(pid, flags, before & !0x200 | 0x3000 | 1 << 17 | 1 << 19 | 1).expect("flags");
    assert_eq!(regs(pid).eflags, before | 1, "of these only the carry");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_bad_instruction_pointer_ends_in_a_signal() {
    for bad in [0x8000_0000_0000_0000u64, 1 << 47, 0xffff_8000_0000_0000, 0x7fff_ffff_f000] {
        let pid = traced(|| {});
        let mut now = regs(pid);
        now.rip = bad;
        set_regs(pid, &now).expect("any value");
        go_on(PTRACE_CONT, pid, 0);
        assert_eq!(stop_of(pid), SIGSEGV, "{bad:#x}");
        assert_eq!(regs(pid).rip, bad);
        go_on(PTRACE_CONT, pid, 0);
        assert_eq!(stop_of(pid), SIGSEGV, "as long as it stays so");
        kill(pid);
    }
    // And from a system call.
    let pid = traced(|| {
        sys::getpid();
    });
    set_options(pid, PTRACE_O_TRACESYSGOOD);
    for _ in 0..2 {
        go_on(PTRACE_SYSCALL, pid, 0);
        assert_eq!(stop_of(pid), CALL);
    }
    let mut now = regs(pid);
    now.rip = 0x8000_0000_0000_0000;
    now.rcx = now.rip;
    set_regs(pid, &now).expect("any value");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGSEGV);
    kill(pid);
}

/// PTRACE_GETREGSET into `bytes`; how many were written.
fn get_set(pid: i32, note: usize, bytes: &mut [u8]) -> Result<usize> {
    let mut iov = [bytes.as_mut_ptr().expose_provenance(), bytes.len()];
    ptrace(PTRACE_GETREGSET, pid, note, iov.as_mut_ptr().expose_provenance()).map(|_| iov[1])
}

fn set_set(pid: i32, note: usize, bytes: &[u8]) -> Result<usize> {
    let mut iov = [bytes.as_ptr().expose_provenance(), bytes.len()];
    ptrace(PTRACE_SETREGSET, pid, note, iov.as_mut_ptr().expose_provenance()).map(|_| iov[1])
}

fn sets_of_registers_have_their_sizes() {
    let pid = traced(|| {});
    let mut bytes = [0u8; 8192];
    assert_eq!(get_set(pid, NT_PRSTATUS, &mut bytes), Ok(27 * 8));
    let now = regs(pid);
    assert_eq!(bytes[16 * 8..17 * 8], now.rip.to_ne_bytes());
    assert_eq!(get_set(pid, NT_PRSTATUS, &mut bytes[..16]), Ok(16), "as far as there is room");
    fails(get_set(pid, NT_PRSTATUS, &mut bytes[..12]), EINVAL);
    assert_eq!(get_set(pid, NT_PRFPREG, &mut bytes), Ok(512));
    fails(get_set(pid, 0x999, &mut bytes), EINVAL);
    let whole = bytes[..27 * 8].to_vec();
    assert_eq!(get_set(pid, NT_PRSTATUS, &mut bytes), Ok(27 * 8));
    drop(whole);
    let words = bytes[..64].to_vec();
    assert_eq!(set_set(pid, NT_PRSTATUS, &words), Ok(64), "the first registers alone");
    fails(set_set(pid, NT_PRFPREG, &bytes[..256]), EINVAL);
    fails(set_set(pid, NT_X86_XSTATE, &bytes[..576]), EFAULT);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

/// What xmm3's low half holds after a trap at which it holds `value`.
fn through_xmm(value: u64) -> u64 {
    let mut after = value;
    // SAFETY: as `through_registers`.
    unsafe {
        asm!("movq xmm3, {v}", "int3", "movq {v}, xmm3", v = inout(reg) after, out("xmm3") _);
    }
    after
}

const XMM3: usize = 160 + 3 * 16;

fn vector_registers_are_read_and_written() {
    let pid = traced(|| {
        assert_eq!(through_xmm(0xabcd), 0xef01);
        assert_eq!(through_xmm(1), 2);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    let mut fp = [0u8; 512];
    let at = fp.as_mut_ptr().expose_provenance();
    ptrace(PTRACE_GETFPREGS, pid, 0, at).expect("GETFPREGS");
    assert_eq!(fp[XMM3..XMM3 + 8], 0xabcdu64.to_ne_bytes());
    assert_eq!(fp[24..28], 0x1f80u32.to_ne_bytes(), "mxcsr");
    fp[XMM3..XMM3 + 8].copy_from_slice(&0xef01u64.to_ne_bytes());
    let mut bad = fp;
    bad[26] = 1;
    let at = bad.as_ptr().expose_provenance();
    fails(ptrace(PTRACE_SETFPREGS, pid, 0, at), EINVAL);
    let at = fp.as_ptr().expose_provenance();
    ptrace(PTRACE_SETFPREGS, pid, 0, at).expect("SETFPREGS");
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    assert_eq!(get_set(pid, NT_PRFPREG, &mut fp), Ok(512));
    assert_eq!(fp[XMM3..XMM3 + 8], 1u64.to_ne_bytes());
    fp[XMM3] = 2;
    assert_eq!(set_set(pid, NT_PRFPREG, &fp), Ok(512));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn the_whole_vector_state_goes_there_and_back() {
    let pid = traced(|| {
        assert_eq!(through_xmm(0x77), 0x88);
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    let mut state = vec![0u8; 16384];
    let size = match get_set(pid, NT_X86_XSTATE, &mut state) {
        Ok(size) => size,
        Err(_) => crate::harness::skip!("this CPU has no XSAVE"),
    };
    assert!(size >= 576);
    assert_eq!(state[XMM3..XMM3 + 8], 0x77u64.to_ne_bytes());
    // The components that there are: x87 and SSE at least.
    assert_eq!(state[464] & 3, 3);
    let mut whole = state[..size].to_vec();
    whole[XMM3] = 0x88;
    let mut bad = whole.clone();
    bad[519] |= 0x40;
    fails(set_set(pid, NT_X86_XSTATE, &bad), EINVAL);
    let mut bad = whole.clone();
    bad[540] = 1;
    fails(set_set(pid, NT_X86_XSTATE, &bad), EINVAL);
    assert_eq!(set_set(pid, NT_X86_XSTATE, &whole), Ok(size));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_step_is_one_instruction() {
    let pid = traced(|| {
        // SAFETY: a trap for the tracer, and five instructions for it to count.
        unsafe { asm!("int3", "nop", "nop", "nop", "nop", "nop") };
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    let start = regs(pid).rip;
    for step in 1..=5 {
        go_on(PTRACE_SINGLESTEP, pid, 0);
        assert_eq!(stop_of(pid), SIGTRAP);
        assert_eq!(info(pid), Ok((SIGTRAP, TRAP_TRACE)));
        let now = regs(pid);
        assert_eq!(now.rip, start + step);
        assert_eq!(now.eflags & 0x100, 0, "the trap flag is the tracer's");
    }
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_step_over_a_system_call_ends_behind_it() {
    let pid = traced(|| {
        // SAFETY: getppid, after a trap for the tracer.
        unsafe {
            asm!("int3", "mov eax, 110", "syscall", "nop", out("rax") _, out("rcx") _, out("r11") _);
        }
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGTRAP);
    let start = regs(pid).rip;
    for (after, code) in [(5, TRAP_TRACE), (7, TRAP_BRKPT), (8, TRAP_TRACE)] {
        go_on(PTRACE_SINGLESTEP, pid, 0);
        assert_eq!(stop_of(pid), SIGTRAP);
        let now = regs(pid);
        assert_eq!(now.rip - start, after);
        assert_eq!(info(pid), Ok((SIGTRAP, code)), "at {after}");
        if after == 7 {
            assert_eq!(now.rax as i32, sys::getpid());
        }
    }
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn a_step_into_a_handler_ends_at_its_first_instruction() {
    extern "C" fn does_nothing(_: i32) {}
    // One address: the compiler may have several functions that do nothing.
    let handler: extern "C" fn(i32) = std::hint::black_box(does_nothing);
    let pid = traced(|| {
        crate::sys::on_signal(SIGUSR1, handler);
        sys::kill(sys::getpid(), SIGUSR1).expect("SIGUSR1");
    });
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(stop_of(pid), SIGUSR1);
    go_on(PTRACE_SINGLESTEP, pid, SIGUSR1);
    assert_eq!(stop_of(pid), SIGTRAP);
    assert_eq!(regs(pid).rip, handler as *const () as u64);
    assert_eq!(info(pid).map(|(_, code)| code), Ok(SIGTRAP));
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
}

fn thread_pointers_are_set() {
    let told = crate::memory::map_shared(1);
    let pid = traced(|| {
        let mut base = 0u64;
        sys!(SYS_arch_prctl, 0x1004, &raw mut base).expect("ARCH_GET_GS");
        crate::memory::word(told).store(base as u32, std::sync::atomic::Ordering::SeqCst);
    });
    poke(pid, std::mem::offset_of!(user_regs_struct, gs_base), 0x1234_5000).expect("gs_base");
    assert_eq!(regs(pid).gs_base, 0x1234_5000);
    assert_ne!(regs(pid).fs_base, 0);
    go_on(PTRACE_CONT, pid, 0);
    assert_eq!(end_of(pid), 0);
    let base = crate::memory::word(told).load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(base, 0x1234_5000);
}
