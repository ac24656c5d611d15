//! What a handler finds on its stack, exactly as Linux lays it out on x86_64: debuggers, unwinders
//! and language runtimes read it.
//!
//! From low to high addresses: return address (the restorer), `ucontext`, `siginfo`, padding, then
//! the vector state in XSAVE's own format between two magic words.

use super::action::{Action, flag};
use super::deliver::REWRITTEN;
use super::info::SigInfo;
use super::mask::{AUTO_DISARM, AltStack, set_blocked};
use super::set::SigSet;
use crate::task::current;
use abi::{Errno, Result};
use alloc::vec::Vec;
use hal::VirtAddr;
use hal::preempt::PreemptGuard;
use hal::trap::TrapFrame;
use hal::user::USER_END;

/// Words of the frame: return address, 38 of `ucontext`, 16 of `siginfo`.
const WORDS: usize = 1 + 38 + 16;
/// Bytes below the stack pointer that leaf functions use (System V ABI, AMD64).
const RED_ZONE: u64 = 128;

/// uc_flags: vector state in XSAVE format; `ss` is saved, and restored as saved.
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// Before and after the XSAVE area.
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Where the software's words are in the legacy area.
const SW_BYTES: usize = 464;
/// The legacy area of FXSAVE.
const LEGACY: usize = 512;

// Word indices in the frame.
const UC: usize = 1;
const UC_STACK: usize = UC + 2;
const REGS: usize = UC + 5;
const FLAGS: usize = REGS + 17;
const SEGMENTS: usize = FLAGS + 1;
const ERROR: usize = FLAGS + 2;
const FPSTATE: usize = FLAGS + 6;
const MASK: usize = FPSTATE + 9;
const INFO: usize = MASK + 1;

/// RFLAGS that a program may set through its frame: AC, OF, DF, TF, SF, ZF, AF, PF, CF, RF.
const USER_FLAGS: u64 = 0x5_0dd5;
/// Cleared for a handler: direction, resume, trap.
const CLEARED: u64 = 0x400 | 0x1_0000 | 0x100;

/// The vector state as it goes to user space.
fn vector_state() -> Vec<u8> {
    let task = current();
    let size = hal::fpu::size();
    let mut bytes = Vec::with_capacity(size + size_of_val(&MAGIC2));
    {
        // The scheduler saves into the same place.
        let _stay = PreemptGuard::new();
        let mut fpu = task.fpu();
        fpu.save_whole();
        bytes.extend_from_slice(fpu.bytes());
    }
    if !hal::cpu::features().xsave() {
        return bytes;
    }
    bytes[LEGACY] |= 3;
    let mut sw = [0u32; 12];
    let components = hal::fpu::components();
    sw[0] = MAGIC1;
    sw[1] = size as u32 + 4;
    sw[2] = components as u32;
    sw[3] = (components >> 32) as u32;
    sw[4] = size as u32;
    bytes[SW_BYTES..LEGACY].copy_from_slice(hal::user::slice_bytes(&sw));
    bytes.extend_from_slice(&MAGIC2.to_le_bytes());
    bytes
}

/// The code of a SIGFPE: the first exception that was raised and is not masked, in the legacy
/// registers or in the vector ones.
pub fn float_code(vector: bool) -> i32 {
    let _stay = PreemptGuard::new();
    let task = current();
    let mut fpu = task.fpu();
    fpu.save();
    let half = |at: usize| u16::from_le_bytes([fpu.bytes()[at], fpu.bytes()[at + 1]]);
    let raised = if vector {
        let mxcsr = half(24);
        mxcsr & !(mxcsr >> 7)
    } else {
        half(2) & !half(0)
    };
    // Invalid, division, overflow, underflow or denormal, inexact: FPE_FLT*.
    [(0x01, 7), (0x04, 3), (0x08, 4), (0x12, 5), (0x20, 6)]
        .into_iter()
        .find(|(bits, _)| raised & bits != 0)
        .map_or(0, |(_, code)| code)
}

/// Puts a frame on the stack and sets the registers so that the handler runs. EFAULT when the
/// stack cannot take it.
pub fn push(frame: &mut TrapFrame, info: &SigInfo, action: &Action, saved: SigSet) -> Result<()> {
    if !action.has(flag::RESTORER) || action.handler >= USER_END {
        return Err(Errno::EFAULT);
    }
    let task = current();
    let stack = task.signals.alt_stack();
    let mut sp = frame.rsp.wrapping_sub(RED_ZONE);
    let mut on_alt = stack.in_use(frame.rsp);
    if action.has(flag::ONSTACK) && stack.size > 0 && !stack.in_use(sp) {
        sp = stack.base.wrapping_add(stack.size);
        on_alt = true;
    }
    let vectors = vector_state();
    let fp_at = sp.wrapping_sub(vectors.len() as u64) & !63;
    let at = (fp_at.wrapping_sub(WORDS as u64 * 8) & !15).wrapping_sub(8);
    if on_alt && !stack.holds(at) {
        return Err(Errno::EFAULT);
    }
    let mut words = [0u64; WORDS];
    words[0] = action.restorer;
    let xstate = if hal::cpu::features().xsave() { UC_FP_XSTATE } else { 0 };
    words[UC] = xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    words[UC_STACK..REGS].copy_from_slice(&stack.words());
    let f = &*frame;
    words[REGS..FLAGS].copy_from_slice(&[
        f.r8, f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15, f.rdi, f.rsi, f.rbp, f.rbx, f.rdx,
        f.rax, f.rcx, f.rsp, f.rip,
    ]);
    words[FLAGS] = f.rflags;
    words[SEGMENTS] = f.cs & 0xffff | (f.ss & 0xffff) << 48;
    let last = *task.signals.last_trap.lock();
    words[ERROR..FPSTATE].copy_from_slice(&[last.error, last.vector, saved, last.addr]);
    words[FPSTATE] = fp_at;
    words[MASK] = saved;
    for (word, pair) in words[INFO..].iter_mut().zip(info.0.chunks_exact(2)) {
        *word = u64::from(pair[0]) | u64::from(pair[1]) << 32;
    }
    hal::user::copy_to(VirtAddr::new(fp_at), &vectors)?;
    hal::user::copy_to(VirtAddr::new(at), hal::user::slice_bytes(&words))?;
    if stack.flags & AUTO_DISARM != 0 {
        task.signals.disarm_stack();
    }
    frame.rdi = info.signal() as u64;
    frame.rsi = at + INFO as u64 * 8;
    frame.rdx = at + UC as u64 * 8;
    frame.rax = 0;
    frame.rip = action.handler;
    frame.rsp = at;
    frame.rflags &= !CLEARED;
    frame.cs = u64::from(hal::gdt::USER_CODE);
    frame.ss = u64::from(hal::gdt::USER_DATA);
    Ok(())
}

/// Reads the vector state at `at` back: all of it if its magic words are there, else the legacy
/// part; the initial state when there is none.
fn restore_vectors(at: u64) -> Result<()> {
    let bytes = if at == 0 { Vec::new() } else { read_vectors(at)? };
    let task = current();
    let _stay = PreemptGuard::new();
    let mut fpu = task.fpu();
    if at == 0 {
        fpu.reset();
    } else {
        fpu.set_bytes(&bytes);
    }
    fpu.restore();
    Ok(())
}

/// The bytes at `at`: of the whole area if that is what this kernel wrote, else of its legacy part.
fn read_vectors(at: u64) -> Result<Vec<u8>> {
    let size = hal::fpu::size();
    if hal::cpu::features().xsave() {
        let sw: [u32; 5] = hal::user::read(VirtAddr::new(at + SW_BYTES as u64))?;
        if sw[0] == MAGIC1 && sw[4] as usize == size && sw[1] as usize >= size + 4 {
            let after: u32 = hal::user::read(VirtAddr::new(at + size as u64))?;
            if after == MAGIC2 {
                let mut bytes = hal::user::read_vec::<u8>(VirtAddr::new(at), size)?;
                let allowed = u64::from(sw[2]) | u64::from(sw[3]) << 32;
                for (byte, mask) in bytes[LEGACY..LEGACY + 8].iter_mut().zip(allowed.to_le_bytes())
                {
                    *byte &= mask;
                }
                return Ok(bytes);
            }
        }
    }
    hal::user::read_vec(VirtAddr::new(at), LEGACY)
}

/// rt_sigreturn(2): brings back what [`push`] saved, the mask included. EFAULT for a bad frame. The
/// instruction pointer is the program's to choose: the caller looks at it before it is used.
pub fn pop(frame: &mut TrapFrame) -> Result<()> {
    // The restorer's address was popped by the handler's return.
    let at = frame.rsp.wrapping_sub(8);
    let words: [u64; INFO] = hal::user::read(VirtAddr::new(at))?;
    let rip = words[REGS + 16];
    set_blocked(words[MASK]);
    restore_vectors(words[FPSTATE])?;
    let r = &words[REGS..];
    *frame = TrapFrame {
        r8: r[0],
        r9: r[1],
        r10: r[2],
        r11: r[3],
        r12: r[4],
        r13: r[5],
        r14: r[6],
        r15: r[7],
        rdi: r[8],
        rsi: r[9],
        rbp: r[10],
        rbx: r[11],
        rdx: r[12],
        rax: r[13],
        rcx: r[14],
        rsp: r[15],
        rip,
        vector: REWRITTEN,
        error: 0,
        cs: u64::from(hal::gdt::USER_CODE),
        ss: u64::from(hal::gdt::USER_DATA),
        rflags: frame.rflags & !USER_FLAGS | words[FLAGS] & USER_FLAGS,
    };
    let mut stack = [0u64; 3];
    stack.copy_from_slice(&words[UC_STACK..REGS]);
    // As Linux: a frame with a bad stack in it restores everything else.
    let _ = current().signals.set_alt_stack(AltStack::from_words(stack), frame.rsp);
    Ok(())
}
