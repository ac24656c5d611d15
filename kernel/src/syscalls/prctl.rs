//! prctl(2): what a process or thread sets about itself.

use super::Ctx;
use crate::creds::ALL_CAPS;
use crate::creds_calls::{self as calls, SETPCAP, secure};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::VirtAddr;

crate::syscalls! {
    157 prctl(option: u32, a: u64, b: u64, c: u64, d: u64) => prctl;
}

/// Options of prctl(2).
mod option {
    pub const SET_PDEATHSIG: u32 = 1;
    pub const GET_PDEATHSIG: u32 = 2;
    pub const GET_DUMPABLE: u32 = 3;
    pub const SET_DUMPABLE: u32 = 4;
    pub const GET_KEEPCAPS: u32 = 7;
    pub const SET_KEEPCAPS: u32 = 8;
    pub const GET_TIMING: u32 = 13;
    pub const SET_TIMING: u32 = 14;
    pub const SET_NAME: u32 = 15;
    pub const GET_NAME: u32 = 16;
    pub const GET_SECCOMP: u32 = 21;
    pub const CAPBSET_READ: u32 = 23;
    pub const CAPBSET_DROP: u32 = 24;
    pub const GET_TSC: u32 = 25;
    pub const SET_TSC: u32 = 26;
    pub const GET_SECUREBITS: u32 = 27;
    pub const SET_SECUREBITS: u32 = 28;
    pub const SET_TIMERSLACK: u32 = 29;
    pub const GET_TIMERSLACK: u32 = 30;
    pub const MCE_KILL_GET: u32 = 34;
    pub const SET_CHILD_SUBREAPER: u32 = 36;
    pub const GET_CHILD_SUBREAPER: u32 = 37;
    pub const SET_NO_NEW_PRIVS: u32 = 38;
    pub const GET_NO_NEW_PRIVS: u32 = 39;
    pub const GET_TID_ADDRESS: u32 = 40;
    pub const SET_MM: u32 = 35;
    pub const SET_THP_DISABLE: u32 = 41;
    pub const GET_THP_DISABLE: u32 = 42;
    pub const CAP_AMBIENT: u32 = 47;
    pub const GET_SPECULATION_CTRL: u32 = 52;
}

/// The highest capability that there is.
const LAST_CAP: u64 = 40;

fn has_cap(caps: u64, cap: u64) -> bool {
    caps & 1 << cap != 0
}

fn flag(value: u64) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// The arguments that an option does not use have to be 0.
fn none(rest: &[u64]) -> Result<()> {
    if rest.iter().all(|&v| v == 0) { Ok(()) } else { Err(Errno::EINVAL) }
}

fn prctl(ctx: &mut Ctx<'_>, option: u32, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
    use self::option as o;
    let task = ctx.task;
    let process = &task.process;
    let at = VirtAddr::new(a);
    match option {
        o::SET_PDEATHSIG => {
            if a > 64 {
                return Err(Errno::EINVAL);
            }
            task.parent_death_signal.store(a as i32, Ordering::Relaxed);
            Ok(0)
        }
        o::GET_PDEATHSIG => {
            hal::user::write(at, &task.parent_death_signal.load(Ordering::Relaxed))?;
            Ok(0)
        }
        o::GET_DUMPABLE => Ok(process.dumpable.load(Ordering::Relaxed) as u64),
        o::SET_DUMPABLE => {
            process.dumpable.store(i32::from(flag(a)?), Ordering::Relaxed);
            Ok(0)
        }
        o::GET_TIMING => Ok(0),
        o::SET_TIMING => none(&[a]).map(|()| 0),
        o::SET_NAME => set_name(ctx, at),
        o::GET_NAME => {
            let comm = *task.comm.lock();
            hal::user::write(at, &comm)?;
            Ok(0)
        }
        // No filter is set, and none can be.
        o::GET_SECCOMP => Ok(0),
        o::GET_TSC => {
            hal::user::write(at, &1u32)?;
            Ok(0)
        }
        // The counter cannot be taken away: a kernel without that feature answers so, too.
        o::SET_TSC => {
            if a == 1 {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        o::SET_TIMERSLACK => {
            let default = task.default_timer_slack.load(Ordering::Relaxed);
            let slack = if a as i64 <= 0 { default } else { a };
            task.timer_slack.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        o::GET_TIMERSLACK => Ok(task.timer_slack.load(Ordering::Relaxed)),
        // PR_MCE_KILL_DEFAULT.
        o::MCE_KILL_GET => none(&[a, b, c, d]).map(|()| 2),
        o::SET_CHILD_SUBREAPER => {
            process.place.lock().subreaper = a != 0;
            Ok(0)
        }
        o::GET_CHILD_SUBREAPER => {
            let is = i32::from(process.place.lock().subreaper);
            hal::user::write(at, &is)?;
            Ok(0)
        }
        o::GET_TID_ADDRESS => {
            hal::user::write(at, &task.clear_child_tid.load(Ordering::Relaxed))?;
            Ok(0)
        }
        o::SET_THP_DISABLE => {
            none(&[b, c, d])?;
            if let Some(mm) = crate::task::current().mm() {
                mm.no_huge_pages.store(a != 0, Ordering::Relaxed);
            }
            Ok(0)
        }
        o::GET_THP_DISABLE => {
            none(&[a, b, c, d])?;
            let current = crate::task::current();
            Ok(u64::from(current.mm().is_some_and(|mm| mm.no_huge_pages.load(Ordering::Relaxed))))
        }
        // The CPU is not known to be affected by what could be controlled.
        o::GET_SPECULATION_CTRL => none(&[b, c, d]).and(Err(Errno::ENODEV)),
        // Checked first; none of the fields can be set.
        o::SET_MM => super::set_mm::set(ctx, [a, b, c, d]),
        _ => privileges(option, [a, b, c, d]),
    }
}

fn set_name(ctx: &Ctx<'_>, at: VirtAddr) -> Result<u64> {
    let name = match hal::user::read_cstr(at, 15) {
        Ok(name) => name,
        // A longer name is cut.
        Err(Errno::ENAMETOOLONG) => hal::user::read_vec(at, 15)?,
        Err(error) => return Err(error),
    };
    ctx.task.set_name(&name);
    crate::perf::on_rename(&ctx.task);
    crate::traffic::renamed(&ctx.task);
    Ok(0)
}

/// The options about capabilities.
fn privileges(option: u32, [a, b, c, d]: [u64; 4]) -> Result<u64> {
    use self::option as o;
    let mut creds = calls::copy();
    match option {
        o::GET_KEEPCAPS => return Ok(u64::from(creds.securebits & secure::KEEP_CAPS != 0)),
        o::SET_KEEPCAPS => {
            let keep = flag(a)?;
            if creds.securebits & secure::KEEP_CAPS_LOCKED != 0 {
                return Err(Errno::EPERM);
            }
            creds.securebits &= !secure::KEEP_CAPS;
            creds.securebits |= if keep { secure::KEEP_CAPS } else { 0 };
        }
        o::CAPBSET_READ => {
            if a > LAST_CAP {
                return Err(Errno::EINVAL);
            }
            return Ok(u64::from(has_cap(creds.cap_bounding, a)));
        }
        o::CAPBSET_DROP => {
            if !creds.has(SETPCAP) {
                return Err(Errno::EPERM);
            }
            if a > LAST_CAP {
                return Err(Errno::EINVAL);
            }
            creds.cap_bounding &= !(1 << a);
        }
        o::GET_SECUREBITS => return Ok(u64::from(creds.securebits)),
        o::SET_SECUREBITS => {
            let (old, new) = (u64::from(creds.securebits), a);
            let locked = old & u64::from(secure::LOCKS);
            let changes_locked = (locked >> 1) & (old ^ new) != 0;
            if changes_locked || locked & !new != 0 || !creds.has(SETPCAP) {
                return Err(Errno::EPERM);
            }
            if new & !u64::from(secure::ALL) != 0 {
                return Err(Errno::EPERM);
            }
            creds.securebits = new as u32;
        }
        o::SET_NO_NEW_PRIVS => {
            if a != 1 {
                return Err(Errno::EINVAL);
            }
            none(&[b, c, d])?;
            creds.no_new_privs = true;
        }
        o::GET_NO_NEW_PRIVS => {
            none(&[a, b, c, d])?;
            return Ok(u64::from(creds.no_new_privs));
        }
        o::CAP_AMBIENT => return ambient(creds, a, b, &[c, d]),
        _ => return Err(Errno::EINVAL),
    }
    calls::commit(creds);
    Ok(0)
}

fn ambient(mut creds: crate::task::Creds, what: u64, cap: u64, rest: &[u64]) -> Result<u64> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    none(rest)?;
    if what == CLEAR_ALL {
        none(&[cap])?;
        creds.cap_ambient = 0;
        calls::commit(creds);
        return Ok(0);
    }
    if cap > LAST_CAP || !has_cap(ALL_CAPS, cap) {
        return Err(Errno::EINVAL);
    }
    match what {
        IS_SET => return Ok(u64::from(has_cap(creds.cap_ambient, cap))),
        RAISE => {
            let both = creds.cap_permitted & creds.cap_inheritable;
            if !has_cap(both, cap) || creds.securebits & secure::NO_CAP_AMBIENT_RAISE != 0 {
                return Err(Errno::EPERM);
            }
            creds.cap_ambient |= 1 << cap;
        }
        LOWER => creds.cap_ambient &= !(1 << cap),
        _ => return Err(Errno::EINVAL),
    }
    calls::commit(creds);
    Ok(0)
}
