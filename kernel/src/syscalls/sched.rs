//! Scheduling policies, priorities and nice values.

use super::Ctx;
use crate::creds::SYS_NICE;
use crate::task::Process;
use crate::task::process::limit;
use crate::task::{TaskRef, table};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use frames::fallible::{TryVec, copied};
use hal::VirtAddr;
use sched::{Class, FairKind, MAX_RT_PRIORITY, Nice, Params};

crate::syscalls! {
    140 getpriority(which: i32, who: i32) => getpriority;
    141 setpriority(which: i32, who: i32, nice: i32) => setpriority;
    142 sched_setparam(pid: i32, param: VirtAddr) => setparam;
    143 sched_getparam(pid: i32, param: VirtAddr) => getparam;
    144 sched_setscheduler(pid: i32, policy: i32, param: VirtAddr) => setscheduler;
    145 sched_getscheduler(pid: i32) => getscheduler;
    146 sched_get_priority_max(policy: i32) => priority_max;
    147 sched_get_priority_min(policy: i32) => priority_min;
    148 sched_rr_get_interval(pid: i32, at: VirtAddr) => rr_get_interval;
    314 sched_setattr(pid: i32, attr: VirtAddr, flags: u32) => setattr;
    315 sched_getattr(pid: i32, attr: VirtAddr, size: u32, flags: u32) => getattr;
}

const OTHER: i32 = 0;
const FIFO: i32 = 1;
const RR: i32 = 2;
const BATCH: i32 = 3;
const IDLE: i32 = 5;
const DEADLINE: i32 = 6;
/// SCHED_RESET_ON_FORK in the policy of sched_setscheduler.
const RESET_ON_FORK: i32 = 0x4000_0000;
/// Nanoseconds of a tick: intervals of the fair class are told in whole ones (HZ = 250).
const TICK: u64 = 4_000_000;

fn find(c: &Ctx<'_>, pid: i32) -> Result<TaskRef> {
    match pid {
        0 => Ok(c.task.handle()),
        p if p < 0 => Err(Errno::EINVAL),
        p => table::task(p).ok_or(Errno::ESRCH),
    }
}

/// What the program set, not what it inherits through a lock.
fn params_of(task: &TaskRef) -> Params {
    task.pi.own_params().unwrap_or_else(|| crate::sched::stats_of(task).1)
}

fn set_params(task: &TaskRef, params: Params) {
    if !task.pi.set_own_params(params) {
        crate::sched::set_params(task, params);
    }
}

fn policy_of(class: Class) -> i32 {
    match class {
        Class::Fair { kind: FairKind::Normal, .. } => OTHER,
        Class::Fair { kind: FairKind::Batch, .. } => BATCH,
        Class::Fair { kind: FairKind::Idle, .. } => IDLE,
        Class::Fifo { .. } => FIFO,
        Class::RoundRobin { .. } => RR,
    }
}

/// The nice value, which a real-time task keeps for later.
fn nice_of(task: &TaskRef, class: Class) -> Nice {
    match class {
        Class::Fair { nice, .. } => nice,
        _ => Nice::clamped(task.nice_when_fair.load(Ordering::Relaxed)),
    }
}

/// What a call asks for.
struct Wanted {
    policy: i32,
    priority: u32,
    nice: Option<i32>,
    slice: Option<u64>,
    reset_on_fork: bool,
}

/// Changes a task's policy. EINVAL for what does not exist, EPERM for what the caller may not.
fn change(c: &Ctx<'_>, task: &TaskRef, wanted: &Wanted) -> Result<()> {
    let present = params_of(task);
    let old_nice = nice_of(task, present.class);
    let nice = wanted.nice.map_or(old_nice, Nice::clamped);
    let priority = wanted.priority as u8;
    let class = match wanted.policy {
        FIFO | RR if !(1..=u32::from(MAX_RT_PRIORITY)).contains(&wanted.priority) => {
            return Err(Errno::EINVAL);
        }
        FIFO => Class::Fifo { priority },
        RR => Class::RoundRobin { priority },
        _ if wanted.priority != 0 => return Err(Errno::EINVAL),
        OTHER => Class::Fair { kind: FairKind::Normal, nice },
        BATCH => Class::Fair { kind: FairKind::Batch, nice },
        IDLE => Class::Fair { kind: FairKind::Idle, nice },
        _ => return Err(Errno::EINVAL),
    };
    let own = c.task.credentials();
    if !own.has(SYS_NICE) {
        check(task, &present, class, wanted.reset_on_fork)?;
    }
    task.nice_when_fair.store(nice.value(), Ordering::Relaxed);
    task.reset_on_fork.store(wanted.reset_on_fork, Ordering::Relaxed);
    let slice = match wanted.slice {
        Some(0) | None => crate::sched::default_slice(),
        Some(ns) => ns,
    };
    set_params(task, Params::new(class, slice));
    Ok(())
}

/// The rules without CAP_SYS_NICE: the limits RLIMIT_NICE and RLIMIT_RTPRIO, and the same user.
fn check(task: &TaskRef, present: &Params, class: Class, reset: bool) -> Result<()> {
    let old_nice = nice_of(task, present.class);
    let refused = match class {
        Class::Fair { nice, kind } => {
            let leaves_idle = present.class.is_idle() && kind != FairKind::Idle;
            (nice < old_nice || leaves_idle) && !may_nice(task, nice)
        }
        Class::Fifo { priority } | Class::RoundRobin { priority } => {
            let most = task.process.soft_limit(limit::RTPRIO);
            let now = present.class.rt_priority().unwrap_or(0);
            policy_of(class) != policy_of(present.class) && most == 0
                || priority > now && u64::from(priority) > most
        }
    };
    let forgets_reset = task.reset_on_fork.load(Ordering::Relaxed) && !reset;
    if refused || forgets_reset || !crate::access::may_schedule(task) {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

/// RLIMIT_NICE counts from 1 (nice 19) to 40 (nice -20).
fn may_nice(task: &TaskRef, nice: Nice) -> bool {
    (20 - nice.value()) as u64 <= task.process.soft_limit(limit::NICE)
}

fn setscheduler(c: &mut Ctx<'_>, pid: i32, policy: i32, param: VirtAddr) -> Result<()> {
    if policy < 0 || param.raw() == 0 || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority: u32 = hal::user::read(param)?;
    let task = find(c, pid)?;
    let wanted = Wanted {
        policy: policy & !RESET_ON_FORK,
        priority,
        nice: None,
        slice: None,
        reset_on_fork: policy & RESET_ON_FORK != 0,
    };
    change(c, &task, &wanted)
}

fn setparam(c: &mut Ctx<'_>, pid: i32, param: VirtAddr) -> Result<()> {
    if param.raw() == 0 || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority: u32 = hal::user::read(param)?;
    let task = find(c, pid)?;
    let present = params_of(&task);
    let wanted = Wanted {
        policy: policy_of(present.class),
        priority,
        nice: None,
        slice: Some(present.slice),
        reset_on_fork: task.reset_on_fork.load(Ordering::Relaxed),
    };
    change(c, &task, &wanted)
}

fn getparam(c: &mut Ctx<'_>, pid: i32, param: VirtAddr) -> Result<()> {
    if param.raw() == 0 {
        return Err(Errno::EINVAL);
    }
    let class = params_of(&find(c, pid)?).class;
    hal::user::write(param, &u32::from(class.rt_priority().unwrap_or(0)))
}

fn getscheduler(c: &mut Ctx<'_>, pid: i32) -> Result<i32> {
    let task = find(c, pid)?;
    let reset = if task.reset_on_fork.load(Ordering::Relaxed) { RESET_ON_FORK } else { 0 };
    Ok(policy_of(params_of(&task).class) | reset)
}

fn priority_max(_: &mut Ctx<'_>, policy: i32) -> Result<i32> {
    match policy {
        FIFO | RR => Ok(i32::from(MAX_RT_PRIORITY)),
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn priority_min(_: &mut Ctx<'_>, policy: i32) -> Result<i32> {
    match policy {
        FIFO | RR => Ok(1),
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn rr_get_interval(c: &mut Ctx<'_>, pid: i32, at: VirtAddr) -> Result<()> {
    let params = params_of(&find(c, pid)?);
    let ns = match params.class {
        Class::RoundRobin { .. } => sched::RR_SLICE,
        Class::Fifo { .. } => 0,
        Class::Fair { .. } => params.slice / TICK * TICK,
    };
    hal::user::write(at, &abi::uapi::Timespec::from_ns(ns))
}

/// Bytes of `struct sched_attr` in its first version, and in this one.
const ATTR_V0: u32 = 48;
const ATTR: u32 = 56;
/// SCHED_FLAG_RESET_ON_FORK, _KEEP_POLICY, _KEEP_PARAMS.
const FLAG_RESET: u64 = 1;
const KEEP_POLICY: u64 = 8;
const KEEP_PARAMS: u64 = 0x10;

fn setattr(c: &mut Ctx<'_>, pid: i32, attr: VirtAddr, flags: u32) -> Result<()> {
    if attr.raw() == 0 || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let given: u32 = hal::user::read(attr)?;
    let size = if given == 0 { ATTR_V0 } else { given };
    let too_big = || -> Result<()> {
        hal::user::write(attr, &ATTR)?;
        Err(Errno::E2BIG)
    };
    if !(ATTR_V0..=vm::PAGE as u32).contains(&size) {
        return too_big();
    }
    let mut bytes: Vec<u8> = hal::user::read_vec(attr, size as usize)?;
    if bytes.iter().skip(ATTR as usize).any(|&b| b != 0) {
        return too_big();
    }
    bytes.resize(ATTR as usize, 0);
    let words: [u32; 14] = hal::user::from_bytes(&bytes).ok_or(Errno::EINVAL)?;
    let policy = words[1] as i32;
    let bits = u64::from(words[2]) | u64::from(words[3]) << 32;
    let runtime = u64::from(words[6]) | u64::from(words[7]) << 32;
    if policy < 0 || bits & !(FLAG_RESET | KEEP_POLICY | KEEP_PARAMS) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = find(c, pid)?;
    let present = params_of(&task);
    let keep_params = bits & KEEP_PARAMS != 0;
    let wanted = Wanted {
        policy: if bits & KEEP_POLICY != 0 { policy_of(present.class) } else { policy },
        priority: if keep_params {
            u32::from(present.class.rt_priority().unwrap_or(0))
        } else {
            words[5]
        },
        nice: (!keep_params && !matches!(policy, FIFO | RR)).then_some(words[4] as i32),
        slice: Some(if keep_params { present.slice } else { runtime }),
        reset_on_fork: bits & FLAG_RESET != 0,
    };
    change(c, &task, &wanted)
}

fn getattr(c: &mut Ctx<'_>, pid: i32, attr: VirtAddr, size: u32, flags: u32) -> Result<()> {
    if attr.raw() == 0 || pid < 0 || !(ATTR_V0..=vm::PAGE as u32).contains(&size) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let task = find(c, pid)?;
    let params = params_of(&task);
    let size = size.min(ATTR);
    let mut words = [0u32; 14];
    words[0] = size;
    words[1] = policy_of(params.class) as u32;
    words[2] = u32::from(task.reset_on_fork.load(Ordering::Relaxed));
    match params.class {
        Class::Fair { nice, .. } => {
            words[4] = nice.value() as u32;
            words[6] = params.slice as u32;
            words[7] = (params.slice >> 32) as u32;
        }
        class => words[5] = u32::from(class.rt_priority().unwrap_or(0)),
    }
    hal::user::copy_to(attr, &hal::user::slice_bytes(&words)[..size as usize])
}

/// The tasks that PRIO_PROCESS, PRIO_PGRP and PRIO_USER name.
fn named(c: &Ctx<'_>, which: i32, who: i32) -> Result<Vec<TaskRef>> {
    let tasks = match which {
        0 if who == 0 => copied(&[c.task.handle()])?,
        0 => Vec::gather(table::task(who))?,
        1 => {
            let pgid = if who == 0 { c.task.process.place.lock().pgid } else { who };
            Vec::gather(table::group(pgid).flat_map(Process::into_threads))?
        }
        2 => {
            let own = c.task.credentials().uid;
            let uid = if who == 0 { own } else { who as u32 };
            let all = table::processes().flat_map(Process::into_threads);
            Vec::gather(all.filter(|t| t.creds.lock().uid == uid))?
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

/// The highest priority among them, as 40 (nice -20) to 1 (nice 19).
fn getpriority(c: &mut Ctx<'_>, which: i32, who: i32) -> Result<i32> {
    let tasks = named(c, which, who)?;
    Ok(tasks.iter().map(|t| 20 - nice_of(t, params_of(t).class).value()).max().unwrap_or(1))
}

fn setpriority(c: &mut Ctx<'_>, which: i32, who: i32, nice: i32) -> Result<()> {
    let nice = Nice::clamped(nice);
    let own = c.task.credentials();
    let mut result = Ok(());
    for task in named(c, which, who)? {
        let other = task.credentials();
        if other.uid != own.euid && other.euid != own.euid && !own.has(SYS_NICE) {
            result = Err(Errno::EPERM);
            continue;
        }
        let params = params_of(&task);
        if nice < nice_of(&task, params.class) && !may_nice(&task, nice) && !own.has(SYS_NICE) {
            result = Err(Errno::EACCES);
            continue;
        }
        if !crate::access::may_schedule(&task) {
            result = Err(Errno::EPERM);
            continue;
        }
        task.nice_when_fair.store(nice.value(), Ordering::Relaxed);
        if let Class::Fair { kind, .. } = params.class {
            set_params(&task, Params { class: Class::Fair { kind, nice }, ..params });
        }
    }
    result
}
