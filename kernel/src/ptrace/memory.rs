//! A stopped tracee's memory.

use super::state::Traced;
use crate::task::Task;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vm::Mm;

/// The address space. EIO if the tracer may not look into it (any more): an exec that gained
/// something, or PR_SET_DUMPABLE.
pub fn of(task: &Task, traced: &Traced) -> Result<Arc<Mm>> {
    let dumpable = task.process.dumpable.load(Ordering::Relaxed) == 1;
    if !dumpable && !traced.creds.has(fs::Cap::SysPtrace as u32) {
        return Err(Errno::EIO);
    }
    task.process.mm.lock().clone().filter(|mm| mm.users() > 0).ok_or(Errno::EIO)
}

/// PTRACE_PEEKDATA: the word at `addr`. EIO.
pub fn peek(mm: &Mm, addr: u64) -> Result<u64> {
    let mut word = [0; 8];
    if mm.read_remote(addr, &mut word, true) < word.len() {
        return Err(Errno::EIO);
    }
    Ok(u64::from_ne_bytes(word))
}

/// PTRACE_POKEDATA. EIO.
pub fn poke(mm: &Mm, addr: u64, value: u64) -> Result<()> {
    let word = value.to_ne_bytes();
    if mm.write_remote(addr, &word, true) < word.len() { Err(Errno::EIO) } else { Ok(()) }
}
