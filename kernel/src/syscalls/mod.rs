//! System calls: one table, one short function per call.
//!
//! Each area has a file with its part of the table. A function copies arguments in, calls a typed
//! operation, and returns a value or an errno; it knows nothing of registers. A number that is not
//! in the table is ENOSYS, and said once in the log.

mod affinity;
mod attributes;
mod creds;
mod epoll;
mod fcntl;
mod fds;
mod futex;
mod ids;
mod io;
mod ipc;
mod limits;
mod lookup;
mod memory;
mod message;
mod misc;
mod mount;
mod numa;
mod paths;
mod pidfd;
mod poll;
mod prctl;
mod process;
mod ptrace;
pub mod quick;
mod random;
mod sched;
mod set_mm;
mod signal;
mod socket;
mod syslog;
mod system;
pub mod table;
mod time;
mod transfer;
mod xattr;

use crate::task::{Current, current};
use abi::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering};
use hal::VirtAddr;
use hal::trap::TrapFrame;
pub use table::Entry;

/// One call under way.
pub struct Ctx<'a> {
    pub task: Current,
    pub frame: &'a mut TrapFrame,
}

impl Ctx<'_> {
    /// Argument `n` (0 to 5) as it came.
    #[inline(always)]
    pub fn arg(&self, n: usize) -> u64 {
        let f = &self.frame;
        [f.rdi, f.rsi, f.rdx, f.r10, f.r8, f.r9][n]
    }

    /// The running task's address space.
    pub fn mm(&self) -> alloc::sync::Arc<vm::Mm> {
        self.task.mm().map(|mm| mm.clone()).expect("user tasks have an address space")
    }
}

/// An argument's type, made from its register.
pub trait FromReg {
    fn from_reg(reg: u64) -> Self;
}

macro_rules! from_reg {
    ($($t:ty),*) => {
        $(impl FromReg for $t {
            #[inline(always)]
            fn from_reg(reg: u64) -> Self {
                reg as $t
            }
        })*
    };
}
from_reg!(i32, u32, i64, u64, usize);

impl FromReg for VirtAddr {
    #[inline(always)]
    fn from_reg(reg: u64) -> Self {
        VirtAddr::new(reg)
    }
}

/// A result's type, as its register shows it.
pub trait IntoRet {
    fn into_ret(self) -> u64;
}

macro_rules! into_ret {
    ($($t:ty),*) => {
        $(impl IntoRet for $t {
            #[inline(always)]
            fn into_ret(self) -> u64 {
                self as i64 as u64
            }
        })*
    };
}
into_ret!(i32, u32, i64, u64, usize);

impl IntoRet for () {
    #[inline(always)]
    fn into_ret(self) -> u64 {
        0
    }
}

/// Calls that were logged as missing, one bit each; the last is that of all greater numbers.
static MISSED: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

fn missing(nr: u64) -> Result<u64> {
    let slot = (nr as usize).min(1023);
    let bit = 1 << (slot % 64);
    if MISSED[slot / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        log::warn!("system call {nr} is not there (asked for by {})", current().name());
        crate::missing::note(crate::missing::Asked::Syscall(nr), b"");
    }
    Err(Errno::ENOSYS)
}

/// The entry from `hal`: the frame is a system call's. Interrupts are off, and on from then on.
pub fn enter(frame: &mut TrapFrame) {
    let task = current();
    crate::sched::charge_kernel(&task);
    hal::irq::allow();
    carry_out(task, frame);
}

/// As [`enter`], of a task whose tracer stops it at system calls, or lets it go by single steps.
pub fn enter_traced(frame: &mut TrapFrame) {
    let task = current();
    crate::sched::charge_kernel(&task);
    hal::irq::allow();
    if crate::ptrace::call::at_entry(frame) {
        carry_out(task, frame);
        crate::ptrace::call::note_exit();
    }
}

/// Makes the call that the frame names, which gets its result.
#[inline(always)]
fn carry_out(task: Current, frame: &mut TrapFrame) {
    let nr = frame.rax;
    #[cfg(feature = "checks")]
    task.faults.begin();
    let mut ctx = Ctx { task, frame };
    let result = match table::find(nr) {
        Some(entry) => (entry.call)(&mut ctx),
        None => missing(nr),
    };
    #[cfg(feature = "checks")]
    ctx.task.faults.end(nr);
    ctx.frame.rax = match result {
        Ok(value) => value,
        Err(error) => {
            if error.is_restart() {
                crate::signal::note_restart(&task);
            }
            error.to_ret()
        }
    };
}
