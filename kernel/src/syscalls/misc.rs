//! Barriers between CPUs, restartable sequences, personality, hanging up.

use super::Ctx;
use crate::signal::attention::RSEQ;
use crate::signal::deliver::REWRITTEN;
use crate::task::current;
use crate::{creds, interrupts, rseq};
use abi::{Errno, Result};
use core::sync::atomic::{Ordering, fence};
use fs::Cap;
use numa::{CpuId, CpuMask};

crate::syscalls! {
    135 personality(persona: u32) => personality;
    153 vhangup() => vhangup;
    324 membarrier(cmd: i32, flags: u32, cpu: i32) => membarrier;
    334 rseq(area: u64, len: u32, flags: u32, signature: u32) => register_rseq;
}

/// Commands of membarrier(2).
mod barrier {
    pub const QUERY: i32 = 0;
    pub const GLOBAL: i32 = 1;
    pub const GLOBAL_EXPEDITED: i32 = 1 << 1;
    pub const REGISTER_GLOBAL_EXPEDITED: i32 = 1 << 2;
    pub const PRIVATE_EXPEDITED: i32 = 1 << 3;
    pub const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    pub const PRIVATE_SYNC_CORE: i32 = 1 << 5;
    pub const REGISTER_PRIVATE_SYNC_CORE: i32 = 1 << 6;
    pub const PRIVATE_RSEQ: i32 = 1 << 7;
    pub const REGISTER_PRIVATE_RSEQ: i32 = 1 << 8;
    pub const GET_REGISTRATIONS: i32 = 1 << 9;
    /// MEMBARRIER_CMD_FLAG_CPU.
    pub const FLAG_CPU: u32 = 1;
}

/// On another CPU, in an interrupt: the interrupt itself orders everything, and its return
/// serializes.
fn meet(_: u64) {
    fence(Ordering::SeqCst);
}

/// As [`meet`]; a restartable sequence that was interrupted is aborted.
fn meet_and_abort(_: u64) {
    fence(Ordering::SeqCst);
    let task = current();
    if task.signals.has_rseq.load(Ordering::Relaxed) {
        task.signals.attention.fetch_or(RSEQ, Ordering::Relaxed);
    }
}

fn on_cpus(cpus: CpuMask, run: fn(u64)) {
    fence(Ordering::SeqCst);
    interrupts::call_on(cpus, run, 0);
    fence(Ordering::SeqCst);
}

fn membarrier(c: &mut Ctx<'_>, cmd: i32, flags: u32, cpu: i32) -> Result<i32> {
    use barrier as b;
    if flags & !b::FLAG_CPU != 0 || flags != 0 && cmd != b::PRIVATE_RSEQ {
        return Err(Errno::EINVAL);
    }
    let registered = &c.task.process.membarrier;
    let need = |what: i32| {
        let has = registered.load(Ordering::SeqCst) & what as u64 != 0;
        if has { Ok(()) } else { Err(Errno::EPERM) }
    };
    let online = crate::boot::cpus::online();
    let own = || c.mm().flushes().cpus.load(Ordering::SeqCst);
    match cmd {
        b::QUERY => return Ok(2 * b::GET_REGISTRATIONS - 1),
        b::GLOBAL | b::GLOBAL_EXPEDITED => on_cpus(online, meet),
        b::REGISTER_GLOBAL_EXPEDITED
        | b::REGISTER_PRIVATE_EXPEDITED
        | b::REGISTER_PRIVATE_SYNC_CORE
        | b::REGISTER_PRIVATE_RSEQ => {
            registered.fetch_or(cmd as u64, Ordering::SeqCst);
        }
        b::PRIVATE_EXPEDITED => {
            need(b::REGISTER_PRIVATE_EXPEDITED)?;
            on_cpus(own(), meet);
        }
        b::PRIVATE_SYNC_CORE => {
            need(b::REGISTER_PRIVATE_SYNC_CORE)?;
            on_cpus(own(), meet);
            // This CPU serializes, too: by leaving through IRET.
            c.frame.vector = REWRITTEN;
        }
        b::PRIVATE_RSEQ => {
            need(b::REGISTER_PRIVATE_RSEQ)?;
            let mut cpus = own();
            if flags & b::FLAG_CPU != 0 {
                // A CPU that is not there runs none of the threads.
                let only = usize::try_from(cpu).ok().and_then(CpuId::try_new);
                cpus = only.map_or(CpuMask::default(), |cpu| cpus & CpuMask::single(cpu));
            }
            on_cpus(cpus, meet_and_abort);
        }
        b::GET_REGISTRATIONS => return Ok(registered.load(Ordering::SeqCst) as i32),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn register_rseq(_: &mut Ctx<'_>, area: u64, len: u32, flags: u32, signature: u32) -> Result<()> {
    rseq::register(area, len, flags, signature)
}

fn personality(c: &mut Ctx<'_>, persona: u32) -> Result<u32> {
    /// Only asks.
    const QUERY: u32 = u32::MAX;
    let cell = &c.task.process.personality;
    Ok(if persona == QUERY {
        cell.load(Ordering::Relaxed)
    } else {
        cell.swap(persona, Ordering::Relaxed)
    })
}

fn vhangup(c: &mut Ctx<'_>) -> Result<()> {
    if !creds::capable(Cap::SysTtyConfig) {
        return Err(Errno::EPERM);
    }
    let sid = c.task.process.place.lock().sid;
    if let Some(tty) = fs::tty::controlling(sid as u32) {
        tty.hang_up();
    }
    Ok(())
}
