//! Signals: actions, masks, sending, waiting, returning from handlers.

use super::Ctx;
use crate::signal::action::Action;
use crate::signal::info::code;
use crate::signal::set::{COUNT, SigSet, UNBLOCKABLE, bit, is_valid};
use crate::signal::{AltStack, SigInfo, deliver, frame, mask, pending_for, send, sig};
use abi::uapi::Timespec;
use abi::{Errno, Result};
use hal::VirtAddr;
use sync::WaitError;

crate::syscalls! {
    13 rt_sigaction(signal: i32, new: VirtAddr, old: VirtAddr, size: usize) => rt_sigaction;
    14 rt_sigprocmask(how: i32, new: VirtAddr, old: VirtAddr, size: usize) => rt_sigprocmask;
    15 rt_sigreturn() => rt_sigreturn;
    34 pause() => pause;
    62 kill(pid: i32, signal: i32) => kill;
    127 rt_sigpending(set: VirtAddr, size: usize) => rt_sigpending;
    128 rt_sigtimedwait(set: VirtAddr, info: VirtAddr, timeout: VirtAddr, size: usize) => rt_sigtimedwait;
    129 rt_sigqueueinfo(pid: i32, signal: i32, info: VirtAddr) => rt_sigqueueinfo;
    130 rt_sigsuspend(set: VirtAddr, size: usize) => rt_sigsuspend;
    131 sigaltstack(new: VirtAddr, old: VirtAddr) => sigaltstack;
    200 tkill(tid: i32, signal: i32) => tkill;
    234 tgkill(tgid: i32, tid: i32, signal: i32) => tgkill;
    297 rt_tgsigqueueinfo(tgid: i32, tid: i32, signal: i32, info: VirtAddr) => rt_tgsigqueueinfo;
}

const SIG_BLOCK: i32 = 0;
const SIG_UNBLOCK: i32 = 1;
const SIG_SETMASK: i32 = 2;

fn rt_sigaction(
    c: &mut Ctx<'_>,
    signal: i32,
    new: VirtAddr,
    old: VirtAddr,
    size: usize,
) -> Result<()> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let action =
        if new.raw() == 0 { None } else { Some(Action::from_words(hal::user::read(new)?)) };
    if !is_valid(signal) || action.is_some() && UNBLOCKABLE & bit(signal) != 0 {
        return Err(Errno::EINVAL);
    }
    let before = match action {
        None => c.task.process.signals.action(signal),
        Some(action) => c.task.process.set_action(signal, action),
    };
    if old.raw() != 0 {
        hal::user::write(old, &before.words())?;
    }
    Ok(())
}

fn rt_sigprocmask(
    c: &mut Ctx<'_>,
    how: i32,
    new: VirtAddr,
    old: VirtAddr,
    size: usize,
) -> Result<()> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let before = c.task.signals.blocked();
    if new.raw() != 0 {
        let set: SigSet = hal::user::read(new)?;
        let after = match how {
            SIG_BLOCK => before | set,
            SIG_UNBLOCK => before & !set,
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        mask::set_blocked(after);
    }
    if old.raw() != 0 {
        hal::user::write(old, &before)?;
    }
    Ok(())
}

fn rt_sigreturn(c: &mut Ctx<'_>) -> Result<u64> {
    match frame::pop(c.frame) {
        Ok(()) => {
            if c.frame.rip >= hal::user::USER_END {
                // The CPU would fault on it in the kernel: the signal comes first.
                send::force(SigInfo::kernel(sig::SEGV), false);
            }
        }
        Err(_) => {
            c.frame.vector = deliver::REWRITTEN;
            send::force(SigInfo::kernel(sig::SEGV), false);
            return Ok(0);
        }
    }
    *c.task.restart.lock() = None;
    Ok(c.frame.rax)
}

/// Sleeps until a signal is to be delivered.
fn sleep_for_signal() -> Errno {
    let never = sync::WaitQueue::new();
    // It ends with a signal only.
    let _ended = never.wait_interruptible(None, || None::<()>);
    Errno::ERESTARTNOHAND
}

fn pause(_: &mut Ctx<'_>) -> Result<()> {
    Err(sleep_for_signal())
}

fn rt_sigsuspend(_: &mut Ctx<'_>, set: VirtAddr, size: usize) -> Result<()> {
    mask::set_until_return(mask::read(set, size)?);
    Err(sleep_for_signal())
}

fn rt_sigpending(c: &mut Ctx<'_>, set: VirtAddr, size: usize) -> Result<()> {
    if size > 8 {
        return Err(Errno::EINVAL);
    }
    let pending = pending_for(&c.task) & c.task.signals.blocked();
    hal::user::copy_to(set, &pending.to_le_bytes()[..size])
}

fn rt_sigtimedwait(
    c: &mut Ctx<'_>,
    set: VirtAddr,
    info: VirtAddr,
    timeout: VirtAddr,
    size: usize,
) -> Result<i32> {
    let wanted = mask::read(set, size)? & !UNBLOCKABLE;
    let deadline = if timeout.raw() == 0 {
        None
    } else {
        let time: Timespec = hal::user::read(timeout)?;
        Some(hal::time::now().saturating_add(time.to_ns()?))
    };
    let arrivals = c.task.process.signals.arrivals().clone();
    let got =
        arrivals.wait_interruptible(deadline, || deliver::take(wanted)).map_err(|e| match e {
            WaitError::TimedOut => Errno::EAGAIN,
            WaitError::Interrupted => Errno::EINTR,
        });
    // Signals of the set that are not blocked had this thread look up, too.
    mask::recalculate(&c.task);
    let got = got?;
    if info.raw() != 0 {
        hal::user::write(info, &got.0)?;
    }
    Ok(got.signal())
}

fn signal_or_zero(signal: i32) -> Result<i32> {
    if (0..=COUNT).contains(&signal) { Ok(signal) } else { Err(Errno::EINVAL) }
}

fn kill(_: &mut Ctx<'_>, pid: i32, signal: i32) -> Result<()> {
    // Linux looks for the process first, but a bad number names no effect on any.
    send::kill(pid, signal_or_zero(signal)?)
}

fn tkill(_: &mut Ctx<'_>, tid: i32, signal: i32) -> Result<()> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    send::to_tid(0, tid, send::own_info(signal_or_zero(signal)?, code::TKILL))
}

fn tgkill(_: &mut Ctx<'_>, tgid: i32, tid: i32, signal: i32) -> Result<()> {
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    send::to_tid(tgid, tid, send::own_info(signal_or_zero(signal)?, code::TKILL))
}

/// A `siginfo_t` of the user's. EPERM when it pretends to be the kernel's, or kill's, to others.
fn queued_info(c: &Ctx<'_>, pid: i32, signal: i32, at: VirtAddr) -> Result<SigInfo> {
    let mut info = SigInfo(hal::user::read(at)?);
    info.set_signal(signal);
    if (info.code() >= 0 || info.code() == code::TKILL) && pid != c.task.pid() {
        return Err(Errno::EPERM);
    }
    signal_or_zero(signal)?;
    Ok(info)
}

fn rt_sigqueueinfo(c: &mut Ctx<'_>, pid: i32, signal: i32, info: VirtAddr) -> Result<()> {
    let info = queued_info(c, pid, signal, info)?;
    send::to_pid(pid, info)
}

fn rt_tgsigqueueinfo(
    c: &mut Ctx<'_>,
    tgid: i32,
    tid: i32,
    signal: i32,
    info: VirtAddr,
) -> Result<()> {
    if tid <= 0 || tgid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = queued_info(c, tgid, signal, info)?;
    send::to_tid(tgid, tid, info)
}

fn sigaltstack(c: &mut Ctx<'_>, new: VirtAddr, old: VirtAddr) -> Result<()> {
    let sp = c.frame.rsp;
    let before = c.task.signals.alt_stack();
    if new.raw() != 0 {
        let stack = AltStack::from_words(hal::user::read(new)?);
        c.task.signals.set_alt_stack(stack, sp)?;
    }
    if old.raw() != 0 {
        let flags = before.state(sp) | before.flags & mask::AUTO_DISARM;
        hal::user::write(old, &AltStack { flags, ..before }.words())?;
    }
    Ok(())
}
