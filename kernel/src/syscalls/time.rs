//! Clocks, sleeping, timers, resource use.

use super::Ctx;
use crate::task::process::Use;
use crate::task::{Restart, usage_of_process, usage_of_task};
use crate::time::clock::{self, Clock, Counted};
use crate::time::itimer::{self, Setting};
use crate::time::{posix, sleep};
use abi::uapi::{Timespec, Timeval};
use abi::{Errno, Result};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use hal::VirtAddr;

crate::syscalls! {
    35 nanosleep(time: VirtAddr, remaining: u64) => nanosleep;
    36 getitimer(which: u32, at: VirtAddr) => getitimer;
    37 alarm(seconds: u32) => alarm;
    38 setitimer(which: u32, new: VirtAddr, old: VirtAddr) => setitimer;
    96 gettimeofday(time: VirtAddr, zone: VirtAddr) => gettimeofday;
    98 getrusage(who: i32, at: VirtAddr) => getrusage;
    100 times(at: VirtAddr) => times;
    159 adjtimex(at: VirtAddr) => adjtimex;
    164 settimeofday(time: VirtAddr, zone: VirtAddr) => settimeofday;
    201 time(at: VirtAddr) => time;
    219 restart_syscall() => restart_syscall;
    222 timer_create(id: i32, event: VirtAddr, timer: VirtAddr) => timer_create;
    223 timer_settime(timer: i32, flags: u32, new: VirtAddr, old: VirtAddr) => timer_settime;
    224 timer_gettime(timer: i32, at: VirtAddr) => timer_gettime;
    225 timer_getoverrun(timer: i32) => timer_getoverrun;
    226 timer_delete(timer: i32) => timer_delete;
    227 clock_settime(id: i32, time: VirtAddr) => clock_settime;
    228 clock_gettime(id: i32, time: VirtAddr) => clock_gettime;
    229 clock_getres(id: i32, time: VirtAddr) => clock_getres;
    230 clock_nanosleep(id: i32, flags: u32, time: VirtAddr, remaining: u64) => clock_nanosleep;
    305 clock_adjtime(id: i32, at: VirtAddr) => clock_adjtime;
}

const SECOND: u64 = Timespec::SECOND;
/// TIMER_ABSTIME.
const ABSTIME: u32 = 1;
/// CAP_SYS_TIME, CAP_WAKE_ALARM.
const SYS_TIME: u32 = 25;
const WAKE_ALARM: u32 = 35;

fn read_ns(at: VirtAddr) -> Result<u64> {
    hal::user::read::<Timespec>(at)?.to_ns()
}

fn nanosleep(_: &mut Ctx<'_>, time: VirtAddr, remaining: u64) -> Result<()> {
    let ns = read_ns(time)?;
    sleep::relative(hal::time::now().saturating_add(ns), remaining)
}

fn clock_nanosleep(
    _: &mut Ctx<'_>,
    id: i32,
    flags: u32,
    time: VirtAddr,
    remaining: u64,
) -> Result<()> {
    let clock = Clock::from_id(id)?;
    clock.can_wait()?;
    // A thread cannot use processor time while it sleeps.
    if id == 3 {
        return Err(Errno::EINVAL);
    }
    let ns = read_ns(time)?;
    if clock.is_alarm() && !crate::creds::has(WAKE_ALARM) {
        return Err(Errno::EPERM);
    }
    let absolute = flags & ABSTIME != 0;
    sleep::on_clock(&clock, absolute, ns, if absolute { 0 } else { remaining })
}

fn restart_syscall(c: &mut Ctx<'_>) -> Result<u64> {
    let restart = c.task.restart.lock().take();
    match restart {
        None => Err(Errno::EINTR),
        Some(Restart::Sleep { until, remaining }) => sleep::relative(until, remaining).map(|()| 0),
        Some(Restart::Futex { addr, value, until, bits, shared }) => {
            super::futex::again(c, addr, value, until, bits, shared)
        }
        Some(Restart::Poll { fds, count, until }) => {
            super::poll::restart(c, fds, count, until).map(|n| n as u64)
        }
    }
}

fn clock_gettime(_: &mut Ctx<'_>, id: i32, time: VirtAddr) -> Result<()> {
    let now = Clock::from_id(id)?.now().map_err(|_| Errno::EINVAL)?;
    hal::user::write(time, &Timespec::from_ns(now))
}

fn clock_getres(_: &mut Ctx<'_>, id: i32, time: VirtAddr) -> Result<()> {
    let clock = Clock::from_id(id)?;
    if time.raw() == 0 {
        return Ok(());
    }
    hal::user::write(time, &Timespec::from_ns(clock.resolution()))
}

fn set_wall(ns: u64) -> Result<()> {
    clock::check_wall(ns)?;
    if !crate::creds::has(SYS_TIME) {
        return Err(Errno::EPERM);
    }
    clock::set_wall(ns)
}

fn clock_settime(_: &mut Ctx<'_>, id: i32, time: VirtAddr) -> Result<()> {
    match id {
        0 => set_wall(read_ns(time)?),
        id if id < 0 => Clock::from_id(id).and(Err(Errno::EPERM)),
        _ => Err(Errno::EINVAL),
    }
}

/// Minutes west of Greenwich and kind of daylight saving: kept for those who ask.
static ZONE: [AtomicI32; 2] = [AtomicI32::new(0), AtomicI32::new(0)];

fn gettimeofday(_: &mut Ctx<'_>, time: VirtAddr, zone: VirtAddr) -> Result<()> {
    if time.raw() != 0 {
        hal::user::write(time, &Timeval::from_ns(clock::wall()))?;
    }
    if zone.raw() != 0 {
        hal::user::write(zone, &[0, 1].map(|i: usize| ZONE[i].load(Ordering::Relaxed)))?;
    }
    Ok(())
}

fn settimeofday(_: &mut Ctx<'_>, time: VirtAddr, zone: VirtAddr) -> Result<()> {
    let ns = if time.raw() == 0 { None } else { Some(hal::user::read::<Timeval>(time)?.to_ns()?) };
    let zone: Option<[i32; 2]> = if zone.raw() == 0 { None } else { Some(hal::user::read(zone)?) };
    ns.map_or(Ok(()), clock::check_wall)?;
    if !crate::creds::has(SYS_TIME) {
        return Err(Errno::EPERM);
    }
    if let Some(zone) = zone {
        if !(-15 * 60..=15 * 60).contains(&zone[0]) {
            return Err(Errno::EINVAL);
        }
        for (cell, value) in ZONE.iter().zip(zone) {
            cell.store(value, Ordering::Relaxed);
        }
    }
    ns.map_or(Ok(()), clock::set_wall)
}

fn time(_: &mut Ctx<'_>, at: VirtAddr) -> Result<u64> {
    let now = clock::wall() / SECOND;
    if at.raw() != 0 {
        hal::user::write(at, &now)?;
    }
    Ok(now)
}

/// What adjtimex(2) keeps: status, maximum and estimated error, time constant, TAI offset.
static ADJUST: [AtomicU64; 5] = [
    AtomicU64::new(0x40),
    AtomicU64::new(16_000_000),
    AtomicU64::new(16_000_000),
    AtomicU64::new(2),
    AtomicU64::new(0),
];

/// adjtimex(2) on `struct timex` as words. The clock keeps its rate: only steps are possible, and
/// what is asked beyond them is refused.
fn adjust(at: VirtAddr) -> Result<i32> {
    const OFFSET: u32 = 1;
    const FREQUENCY: u32 = 2;
    const MAX_ERROR: u32 = 4;
    const EST_ERROR: u32 = 8;
    const STATUS: u32 = 0x10;
    const CONSTANT: u32 = 0x20;
    const TAI: u32 = 0x80;
    const SET_OFFSET: u32 = 0x100;
    const NANO: u32 = 0x2000;
    const TICK: u32 = 0x4000;
    /// STA_UNSYNC; and the result that goes with it.
    const UNSYNC: u64 = 0x40;
    const TIME_ERROR: i32 = 5;
    /// Microseconds of a tick with HZ = 100, which is what the field means.
    const USUAL_TICK: u64 = 10_000;
    let mut words: [u64; 26] = hal::user::read(at)?;
    let modes = words[0] as u32;
    if modes & !0x8000 != 0 && !crate::creds::has(SYS_TIME) {
        return Err(Errno::EPERM);
    }
    let changes_rate = modes & FREQUENCY != 0 && words[2] != 0
        || modes & TICK != 0 && words[11] != USUAL_TICK
        || modes & OFFSET != 0 && words[1] != 0;
    if changes_rate && modes & 0x8000 == 0 {
        return Err(Errno::EINVAL);
    }
    if modes & SET_OFFSET != 0 {
        let unit = if modes & NANO != 0 { 1 } else { 1000 };
        let (seconds, part) = (words[9] as i64, words[10] as i64);
        if !(0..SECOND as i64 / unit).contains(&part) {
            return Err(Errno::EINVAL);
        }
        let step = i128::from(seconds) * i128::from(SECOND) + i128::from(part * unit);
        let to = i128::from(clock::wall()) + step;
        clock::set_wall(u64::try_from(to).map_err(|_| Errno::EINVAL)?)?;
    }
    for (bit, at, cell) in
        [(STATUS, 5, 0), (MAX_ERROR, 3, 1), (EST_ERROR, 4, 2), (CONSTANT, 6, 3), (TAI, 6, 4)]
    {
        if modes & bit != 0 {
            ADJUST[cell].store(words[at], Ordering::Relaxed);
        }
    }
    let kept = |i: usize| ADJUST[i].load(Ordering::Relaxed);
    let status = kept(0) & 0xffff;
    let now = Timeval::from_ns(clock::wall());
    words[1] = 0;
    words[2] = 0;
    words[3] = kept(1);
    words[4] = kept(2);
    words[5] = status;
    words[6] = kept(3);
    words[7] = 1;
    words[8] = 32_768_000;
    words[9] = now.sec as u64;
    words[10] = now.usec as u64;
    words[11] = USUAL_TICK;
    words[12..20].fill(0);
    words[20] = kept(4) & 0xffff_ffff;
    hal::user::write(at, &words)?;
    Ok(if status & UNSYNC != 0 { TIME_ERROR } else { 0 })
}

fn adjtimex(_: &mut Ctx<'_>, at: VirtAddr) -> Result<i32> {
    adjust(at)
}

fn clock_adjtime(_: &mut Ctx<'_>, id: i32, at: VirtAddr) -> Result<i32> {
    match id {
        0 => adjust(at),
        id if id < 0 => Err(Errno::EOPNOTSUPP),
        id => Clock::from_id(id).and(Err(Errno::EOPNOTSUPP)),
    }
}

/// `struct itimerval`.
fn read_itimerval(at: VirtAddr) -> Result<Setting> {
    let [interval, value]: [Timeval; 2] = hal::user::read(at)?;
    Ok(Setting { value: value.to_ns()?, interval: interval.to_ns()? })
}

fn write_itimerval(at: VirtAddr, setting: Setting) -> Result<()> {
    hal::user::write(at, &[setting.interval, setting.value].map(Timeval::from_ns))
}

fn getitimer(c: &mut Ctx<'_>, which: u32, at: VirtAddr) -> Result<()> {
    let process = &c.task.process;
    let setting = match which {
        0 => itimer::real(process),
        1 => itimer::cpu(process, Counted::User),
        2 => itimer::cpu(process, Counted::All),
        _ => return Err(Errno::EINVAL),
    };
    write_itimerval(at, setting)
}

fn setitimer(c: &mut Ctx<'_>, which: u32, new: VirtAddr, old: VirtAddr) -> Result<()> {
    let new = if new.raw() == 0 { Setting::default() } else { read_itimerval(new)? };
    let process = &c.task.process;
    let before = match which {
        0 => itimer::set_real(process, new),
        1 => itimer::set_cpu(process, Counted::User, new),
        2 => itimer::set_cpu(process, Counted::All, new),
        _ => return Err(Errno::EINVAL),
    };
    if old.raw() != 0 {
        write_itimerval(old, before)?;
    }
    Ok(())
}

fn alarm(c: &mut Ctx<'_>, seconds: u32) -> Result<u64> {
    let new = Setting { value: u64::from(seconds) * SECOND, interval: 0 };
    let before = itimer::set_real(&c.task.process, new).value;
    // Rounded, but never to 0 while an alarm was set.
    Ok(match (before / SECOND, before % SECOND) {
        (0, part) if part > 0 => 1,
        (whole, part) => whole + u64::from(part >= SECOND / 2),
    })
}

/// `struct itimerspec`.
fn read_itimerspec(at: VirtAddr) -> Result<Setting> {
    let [interval, value]: [Timespec; 2] = hal::user::read(at)?;
    Ok(Setting { value: value.to_ns()?, interval: interval.to_ns()? })
}

fn write_itimerspec(at: VirtAddr, setting: Setting) -> Result<()> {
    hal::user::write(at, &[setting.interval, setting.value].map(Timespec::from_ns))
}

fn timer_create(c: &mut Ctx<'_>, id: i32, event: VirtAddr, timer: VirtAddr) -> Result<()> {
    const THREAD_ID: i32 = 4;
    const NONE: i32 = 1;
    let clock = Clock::from_id(id)?;
    clock.can_wait()?;
    if clock.is_alarm() && !crate::creds::has(WAKE_ALARM) {
        return Err(Errno::EPERM);
    }
    // struct sigevent: value, signal, kind, thread.
    let given = if event.raw() == 0 {
        None
    } else {
        let words: [i32; 16] = hal::user::read(event)?;
        let (signal, kind, tid) = (words[2], words[3], words[4]);
        let thread = if kind & THREAD_ID != 0 {
            let task = crate::task::table::task(tid).ok_or(Errno::EINVAL)?;
            if !alloc::sync::Arc::ptr_eq(&task.process, &c.task.process) {
                return Err(Errno::EINVAL);
            }
            Some(alloc::sync::Arc::downgrade(&task.0))
        } else {
            None
        };
        let signal = match kind {
            NONE => None,
            0 | 2 | THREAD_ID if crate::signal::set::is_valid(signal) => Some(signal),
            _ => return Err(Errno::EINVAL),
        };
        let value = u64::from(words[0] as u32) | u64::from(words[1] as u32) << 32;
        Some(posix::Event { signal, value, thread })
    };
    let made = posix::create(clock, |id| {
        given.unwrap_or(posix::Event {
            signal: Some(crate::signal::sig::ALRM),
            value: id as u64,
            thread: None,
        })
    })?;
    hal::user::write(timer, &made).inspect_err(|_| {
        // Just made, so it is there.
        let _ = posix::delete(made);
    })
}

fn timer_settime(
    _: &mut Ctx<'_>,
    timer: i32,
    flags: u32,
    new: VirtAddr,
    old: VirtAddr,
) -> Result<()> {
    if new.raw() == 0 {
        return Err(Errno::EINVAL);
    }
    let new = read_itimerspec(new)?;
    let before = posix::set(timer, flags & ABSTIME != 0, new)?;
    if old.raw() != 0 {
        write_itimerspec(old, before)?;
    }
    Ok(())
}

fn timer_gettime(_: &mut Ctx<'_>, timer: i32, at: VirtAddr) -> Result<()> {
    write_itimerspec(at, posix::get(timer)?)
}

fn timer_getoverrun(_: &mut Ctx<'_>, timer: i32) -> Result<i32> {
    posix::overrun(timer)
}

fn timer_delete(_: &mut Ctx<'_>, timer: i32) -> Result<()> {
    posix::delete(timer)
}

/// What the running process has used, with its memory's peak.
fn own_use(c: &Ctx<'_>) -> Use {
    let mut used = usage_of_process(&c.task.process);
    let mm = c.mm();
    mm.note_peak();
    used.max_rss = used.max_rss.max(mm.peak_rss.load(Ordering::Relaxed).max(0) as u64);
    used
}

fn getrusage(c: &mut Ctx<'_>, who: i32, at: VirtAddr) -> Result<()> {
    let used = match who {
        0 => own_use(c),
        -1 => *c.task.process.reaped_children.lock(),
        1 => Use { max_rss: own_use(c).max_rss, ..usage_of_task(&c.task) },
        _ => return Err(Errno::EINVAL),
    };
    hal::user::write(at, &used.as_rusage())
}

fn times(c: &mut Ctx<'_>, at: VirtAddr) -> Result<u64> {
    /// Nanoseconds of a tick of user space's clock (USER_HZ = 100).
    const TICK: u64 = 10_000_000;
    if at.raw() != 0 {
        let own = usage_of_process(&c.task.process);
        let children = *c.task.process.reaped_children.lock();
        let ticks = [own.user, own.system, children.user, children.system]
            .map(|cycles| clock::cycles_to_ns(cycles) / TICK);
        hal::user::write(at, &ticks)?;
    }
    Ok(hal::time::now() / TICK)
}
