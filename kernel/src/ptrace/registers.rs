//! A stopped tracee's registers, as its tracer reads and writes them.

use super::special;
use super::state::{TRAP_FLAG, Traced};
use crate::task::{Task, current};
use abi::{Errno, Result};
use hal::trap::{SYSCALL, TrapFrame};
use hal::user::USER_END;
use ptrace::regs::{Field, USER_FLAGS, Words, checked, field, place};

/// `orig_rax` of a task that is in no system call.
const NO_CALL: u64 = u64::MAX;

/// The registers, in the order of `struct user_regs_struct`.
pub fn read(task: &Task, traced: &Traced) -> Words {
    let f = &traced.frame;
    let (fs_base, gs_base) = *task.bases.switching();
    let call = if f.vector == SYSCALL { f.error } else { NO_CALL };
    // A step is the tracer's affair, not the program's.
    let flags = if traced.forced_step { f.rflags & !TRAP_FLAG } else { f.rflags };
    [
        f.r15, f.r14, f.r13, f.r12, f.rbp, f.rbx, f.r11, f.r10, f.r9, f.r8, f.rax, f.rcx, f.rdx,
        f.rsi, f.rdi, call, f.rip, f.cs, flags, f.rsp, f.ss, fs_base, gs_base, 0, 0, 0, 0,
    ]
}

/// Sets one register. EIO for what must not be loaded: nothing changes then.
pub fn write(task: &Task, traced: &mut Traced, at: usize, value: u64) -> Result<()> {
    let value = checked(at, value, USER_END)?;
    let f = &mut traced.frame;
    match at {
        place::ORIG_RAX => {
            f.error = value;
            f.vector = if value as i32 == -1 { crate::signal::deliver::REWRITTEN } else { SYSCALL };
        }
        place::FLAGS => {
            let step = if value & TRAP_FLAG != 0 {
                traced.forced_step = false;
                TRAP_FLAG
            } else if traced.forced_step {
                TRAP_FLAG
            } else {
                0
            };
            f.rflags = f.rflags & !USER_FLAGS | value & !TRAP_FLAG | step;
        }
        place::FS_BASE => task.bases.switching().0 = value,
        place::GS_BASE => task.bases.switching().1 = value,
        // Data segments mean nothing in 64-bit code, and are not kept.
        place::DS | place::ES | place::FS | place::GS => {
            if value != 0 {
                return Err(Errno::EIO);
            }
        }
        _ => *general(f, at).ok_or(Errno::EIO)? = value,
    }
    Ok(())
}

fn general(f: &mut TrapFrame, at: usize) -> Option<&mut u64> {
    Some(match at {
        place::R15 => &mut f.r15,
        place::R14 => &mut f.r14,
        place::R13 => &mut f.r13,
        place::R12 => &mut f.r12,
        place::RBP => &mut f.rbp,
        place::RBX => &mut f.rbx,
        place::R11 => &mut f.r11,
        place::R10 => &mut f.r10,
        place::R9 => &mut f.r9,
        place::R8 => &mut f.r8,
        place::RAX => &mut f.rax,
        place::RCX => &mut f.rcx,
        place::RDX => &mut f.rdx,
        place::RSI => &mut f.rsi,
        place::RDI => &mut f.rdi,
        place::RIP => &mut f.rip,
        place::CS => &mut f.cs,
        place::RSP => &mut f.rsp,
        place::SS => &mut f.ss,
        _ => return None,
    })
}

/// Sets registers from the first on, up to one that must not be loaded: EIO.
pub fn write_all(task: &Task, traced: &mut Traced, words: &[u64]) -> Result<()> {
    words.iter().enumerate().try_for_each(|(at, &value)| write(task, traced, at, value))
}

/// PTRACE_PEEKUSER. EIO.
pub fn peek_user(task: &Task, traced: &Traced, addr: u64) -> Result<u64> {
    Ok(match field(addr)? {
        Field::Register(at) => read(task, traced)[at],
        Field::Debug(n) => task.trace.debug.lock().get(n),
        Field::Other => 0,
    })
}

/// PTRACE_POKEUSER. EIO; EINVAL for what cannot be watched.
pub fn poke_user(task: &Task, traced: &mut Traced, addr: u64, value: u64) -> Result<()> {
    match field(addr)? {
        Field::Register(at) => write(task, traced, at, value),
        Field::Debug(n) => {
            let mut registers = task.trace.debug.lock();
            registers.set(n, value, USER_END)?;
            special::arm(task, &registers);
            Ok(())
        }
        Field::Other => Err(Errno::EIO),
    }
}

/// exec: the running task's debug registers meant another program.
pub fn forget_debug_registers() {
    let task = current();
    let mut registers = task.trace.debug.lock();
    if *registers != ptrace::debug::Registers::default() {
        *registers = ptrace::debug::Registers::default();
        special::arm(&task, &registers);
        hal::debug::unload();
    }
}
