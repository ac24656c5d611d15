//! Where a sleeping thread is: the system call, the kernel's functions on its stack.

use super::Who;
use crate::access::{self, Mode};
use crate::proc::put;
use crate::task::TaskRef;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use fs::pseudo::Text;
use hal::VirtAddr;

/// Frames that are shown.
const DEPTH: usize = 32;
/// Bytes from the saved stack pointer to the saved frame pointer: five registers lie below it
/// (`hal::switch`).
const SAVED_RBP: u64 = 5 * 8;

/// EPERM for those who may not trace it.
pub fn check(who: &Who) -> Result<()> {
    if access::may(&*who.find()?, Mode::AttachFs) { Ok(()) } else { Err(Errno::EPERM) }
}

fn is_off_cpu(task: &TaskRef) -> bool {
    task.run_state.is_off_cpu()
}

/// Return addresses of a thread that does not run, innermost first. It may begin to run meanwhile:
/// then the addresses mean nothing, but reading them harms nobody.
fn return_addresses(task: &TaskRef) -> Vec<u64> {
    let mut found = Vec::new();
    if task.stack_top() == 0 || !is_off_cpu(task) {
        return found;
    }
    let mut at = task.saved_sp.load(Ordering::Acquire) + SAVED_RBP;
    while found.len() < DEPTH {
        let in_stack = at < task.stack_top() && at + crate::task::stack::SIZE >= task.stack_top();
        let Some((next, address)) = hal::trap::read_frame(VirtAddr::new(at)).filter(|_| in_stack)
        else {
            break;
        };
        found.push(address);
        if next <= at {
            break;
        }
        at = next;
    }
    found
}

/// Functions of the scheduler and of locks: everybody sleeps in these.
fn is_scheduling(name: &str) -> bool {
    ["sched", "waitqueue", "WaitQueue", "sync::", "4sync"].iter().any(|part| name.contains(part))
}

/// The function in which the thread sleeps; 0 while it runs, when it is not known, and to those who
/// may not look.
pub fn wchan(who: &Who, out: &mut Text) -> Result<()> {
    let (process, task) = who.living()?;
    let task = task.filter(|_| access::may(&process, Mode::ReadFs));
    let name = task.and_then(|task| {
        return_addresses(&task)
            .into_iter()
            .filter_map(|address| hal::symbols::lookup(address.saturating_sub(1)))
            .map(|(name, _)| name)
            .find(|name| !is_scheduling(name))
    });
    put!(out, "{}", name.unwrap_or("0"));
    Ok(())
}

/// The functions on the thread's kernel stack. Only for those who may see all of the kernel.
pub fn stack(who: &Who, out: &mut Text) -> Result<()> {
    if !crate::creds::capable(fs::Cap::SysAdmin) {
        return Err(Errno::EACCES);
    }
    check(who)?;
    let task = who.living()?.1;
    for address in task.iter().flat_map(return_addresses) {
        match hal::symbols::lookup(address.saturating_sub(1)) {
            Some((name, offset)) => put!(out, "[<0>] {name}+{:#x}\n", offset + 1),
            None => put!(out, "[<0>] {address:#x}\n"),
        }
    }
    Ok(())
}

/// The call that the thread sleeps in, its arguments, stack and instruction pointer.
pub fn syscall(who: &Who, out: &mut Text) -> Result<()> {
    check(who)?;
    let Some(task) = who.living()?.1 else {
        out.bytes(b"-1 0x0 0x0\n");
        return Ok(());
    };
    if task.stack_top() == 0 || !is_off_cpu(&task) {
        out.bytes(b"running\n");
        return Ok(());
    }
    let frame = hal::switch::user_frame(task.stack_top());
    if frame.vector == hal::trap::SYSCALL {
        let args = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
        put!(out, "{}", frame.error);
        for arg in args {
            put!(out, " {arg:#x}");
        }
        put!(out, " {:#x} {:#x}\n", frame.rsp, frame.rip);
    } else {
        put!(out, "-1 {:#x} {:#x}\n", frame.rsp, frame.rip);
    }
    Ok(())
}
