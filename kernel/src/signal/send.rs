//! Sending signals: permission, what is ignored, which thread takes it.

use super::attention::{FREEZE, INTERRUPTS, KILL, SIGNAL};
use super::info::{SigInfo, code};
use super::pending::{Pushed, Queued, Receiver};
use super::set::{DUMPS, HARMLESS, STOPS, SYNCHRONOUS, bit, sig};
use super::{Group, action, stop};
use crate::sched;
use crate::task::process::{Event, limit};
use crate::task::{Process, State, Task, TaskRef, current, table};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use fs::Cap;
use hal::apic::Ipi;

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is pending now.
    Pending,
    /// It was pending already and is not counted twice.
    Merged,
    /// Nobody wants it.
    Ignored,
}

/// Ticks of user space's clock per second (USER_HZ).
const USER_HZ: u64 = 100;

/// Has `task` look at its attention word: ends an interruptible sleep, or interrupts user mode.
pub fn nudge(task: &TaskRef) {
    if sched::wake_if(task, |state| state == State::Interruptible) {
        return;
    }
    let _stay = hal::preempt::PreemptGuard::new();
    let at = task.last_cpu();
    if !task.run_state.is_off_cpu()
        && at != hal::percpu::cpu()
        && let Some(area) = hal::cpu_area::of(at)
    {
        hal::apic::send_ipi(area, Ipi::Look);
    }
}

/// Has `thread` end, wherever it sleeps or stands still.
pub fn kill_thread(thread: &TaskRef) {
    thread.signals.ask(KILL);
    if !sched::wake_if(thread, |s| matches!(s, State::Interruptible | State::Stopped)) {
        nudge(thread);
    }
    crate::ptrace::stop::end(thread);
}

/// Sends a signal to a process: any thread that does not block it may take it.
pub fn to_process(process: &Process, entry: Queued) -> Result<Sent> {
    post(process, None, None, entry)
}

/// As [`to_process`]; `preferred`, a thread of it, takes the signal if it would.
pub fn to_process_by(
    process: &Process,
    preferred: Option<&TaskRef>,
    entry: Queued,
) -> Result<Sent> {
    post(process, None, preferred, entry)
}

/// Sends a signal to one thread.
pub fn to_thread(task: &Task, entry: Queued) -> Result<Sent> {
    let Some(handle) = task.handle() else { return Ok(Sent::Ignored) };
    post(&task.process, Some(&handle), None, entry)
}

fn post(
    process: &Process,
    thread: Option<&TaskRef>,
    preferred: Option<&TaskRef>,
    entry: Queued,
) -> Result<Sent> {
    let mut event = None;
    let sent = {
        let mut group = process.signals.group.lock();
        // Who is dying takes no more signals.
        if process.exiting.load(Ordering::Acquire) {
            return Ok(Sent::Ignored);
        }
        let first = process.place.lock().threads.first().cloned();
        // A zombie has no threads.
        let Some(judge) = thread.cloned().or(first) else { return Ok(Sent::Ignored) };
        event = stop::before_send(process, &mut group, entry.signal()).or(event);
        post_locked(process, &mut group, thread, preferred, &judge, entry)
    };
    if let Some(event) = event {
        stop::tell_parent(process, event);
    }
    if matches!(sent, Ok(Sent::Pending)) {
        process.signals.arrivals.wake_one();
    }
    sent
}

/// `judge` is the thread whose mask says whether an ignored signal is worth keeping, and whose user
/// it is counted for.
fn post_locked(
    process: &Process,
    group: &mut Group,
    thread: Option<&TaskRef>,
    preferred: Option<&TaskRef>,
    judge: &TaskRef,
    entry: Queued,
) -> Result<Sent> {
    let signal = entry.signal();
    let action = group.actions.lock().get(signal);
    let blocked = judge.signals.blocked() & bit(signal) != 0;
    // A tracer sees what its tracee ignores.
    if !blocked && action.ignores(signal) && (!judge.trace.is_traced() || signal == sig::KILL) {
        return Ok(Sent::Ignored);
    }
    // The first process gets only what it has a handler for, or what the kernel insists on.
    let forced = !entry.info.is_from_user() || SYNCHRONOUS & bit(signal) != 0;
    if process.pid == 1 && action.handler == action::DEFAULT && !blocked && !forced {
        return Ok(Sent::Ignored);
    }
    if signal == sig::KILL {
        end_process(process, sig::KILL);
        return Ok(Sent::Pending);
    }
    let queue = thread.map_or(&process.signals.pending, |t| &t.signals.pending);
    let creds = judge.credentials();
    let limit = process.soft_limit(limit::SIGPENDING);
    if queue.push(entry, Receiver { user: &creds.user, limit })? == Pushed::Merged {
        return Ok(Sent::Merged);
    }
    let taker = match thread {
        Some(thread) => takes(thread, signal).then(|| thread.clone()),
        None => choose(process, group, preferred, signal),
    };
    if let Some(taker) = taker {
        taker.signals.ask(SIGNAL);
        let freezes = taker.signals.attention.load(Ordering::SeqCst) & FREEZE != 0;
        let ends =
            action.handler == action::DEFAULT && (HARMLESS | STOPS | DUMPS) & bit(signal) == 0;
        if freezes && ends && process.pid != 1 && !taker.trace.is_traced() {
            // It would look at the signal only when it is let go on.
            end_process(process, signal);
        } else {
            nudge(&taker);
        }
    }
    Ok(Sent::Pending)
}

/// Ends the process with the status of `signal`: its group of threads is locked.
fn end_process(process: &Process, signal: i32) {
    process.exit_status.store(signal, Ordering::Release);
    process.exiting.store(true, Ordering::Release);
    process.place.lock().threads.iter().for_each(kill_thread);
}

/// True when `thread` would take `signal` now.
pub fn takes(thread: &TaskRef, signal: i32) -> bool {
    thread.signals.blocked() & bit(signal) == 0
        && thread.signals.attention.load(Ordering::SeqCst) & KILL == 0
}

/// The thread to take a signal of the process: `preferred`, else the first, if it would; else in
/// turns. One that has nothing else to look at is preferred.
fn choose(
    process: &Process,
    group: &mut Group,
    preferred: Option<&TaskRef>,
    signal: i32,
) -> Option<TaskRef> {
    let place = process.place.lock();
    let threads = &place.threads;
    if let Some(wanted) = preferred.filter(|t| takes(t, signal))
        && threads.get(wanted.tid()).is_some_and(|t| Arc::ptr_eq(&t.0, &wanted.0))
    {
        return Some(wanted.clone());
    }
    let free = |t: &TaskRef| {
        takes(t, signal) && t.signals.attention.load(Ordering::SeqCst) & INTERRUPTS == 0
    };
    if let Some(first) = threads.first().filter(|t| free(t)) {
        return Some(first.clone());
    }
    let mut in_turn = threads.from(group.turn);
    let taker = in_turn
        .find(|t| free(t))
        .or_else(|| threads.from(group.turn).find(|t| takes(t, signal)))?;
    group.turn = taker.tid() + 1;
    Some(taker.clone())
}

/// Sends a signal of the kernel to a process.
pub fn send_kernel(process: &Arc<Process>, signal: i32) {
    // Signals of the kernel are never refused.
    let _ = to_process(process, SigInfo::kernel(signal).into());
}

/// Cycles in clock ticks.
fn ticks(cycles: u64) -> u64 {
    let hz = u128::from(hal::time::tsc_hz().max(1));
    (u128::from(cycles) * u128::from(USER_HZ) / hz) as u64
}

/// What a child's event tells its parent.
pub fn child_info(child: &Process, signal: i32, event: Event) -> SigInfo {
    let used = crate::task::usage_of_process(child);
    let uid = child.uid.load(Ordering::Relaxed);
    SigInfo::child(signal, child.pid, uid, event, ticks(used.user), ticks(used.system))
}

/// What a tracee's event tells its tracer.
pub fn thread_info(task: &Task, event: Event) -> SigInfo {
    let used = crate::task::usage_of_task(task);
    let uid = task.creds.lock().uid;
    SigInfo::child(sig::CHLD, task.tid(), uid, event, ticks(used.user), ticks(used.system))
}

/// Sends the parent what happened to its child.
pub fn send_child_event(parent: &Arc<Process>, child: &Arc<Process>, signal: i32, event: Event) {
    let _ = to_process(parent, child_info(child, signal, event).into());
}

/// Real and saved user of a process, for which others may send it signals.
pub fn target_ids(process: &Process) -> (u32, u32) {
    let first = process.place.lock().threads.first().cloned();
    first.map_or_else(
        || {
            let uid = process.uid.load(Ordering::Relaxed);
            (uid, uid)
        },
        |t| {
            let theirs = t.credentials();
            (theirs.uid, theirs.suid)
        },
    )
}

/// May the running task send `signal` to `process`? EPERM.
pub fn permitted(process: &Arc<Process>, signal: i32) -> Result<()> {
    let task = current();
    if Arc::ptr_eq(&task.process, process) {
        return Ok(());
    }
    let own = task.credentials();
    let (uid, suid) = target_ids(process);
    let same_user = [own.uid, own.euid].iter().any(|id| *id == uid || *id == suid);
    if same_user || own.has(Cap::Kill as u32) {
        return Ok(());
    }
    let sid = task.process.place.lock().sid;
    if signal == sig::CONT && process.place.lock().sid == sid {
        return Ok(());
    }
    Err(Errno::EPERM)
}

fn checked(process: &Arc<Process>, info: SigInfo) -> Result<()> {
    permitted(process, info.signal())?;
    if info.signal() != 0 {
        to_process(process, info.into())?;
    }
    Ok(())
}

/// Sends to the process `pid`: ESRCH, EPERM, EAGAIN. Signal 0 only asks.
pub fn to_pid(pid: i32, info: SigInfo) -> Result<()> {
    let process = match table::process(pid) {
        Some(process) => process,
        // Any thread's id names its process.
        None => table::task(pid).map(|t| t.process.clone()).ok_or(Errno::ESRCH)?,
    };
    checked(&process, info)
}

/// Sends to several processes: fine when it reached one, else the last error; ESRCH for none.
pub fn to_many(processes: impl Iterator<Item = Arc<Process>>, info: SigInfo) -> Result<()> {
    let mut result = Err(Errno::ESRCH);
    for process in processes {
        let one = checked(&process, info);
        if result.is_err() {
            result = one;
        }
    }
    result
}

/// kill(2) with the kernel's own authority, to a process group.
pub fn kernel_to_group(pgid: i32, signal: i32) {
    for member in table::group(pgid) {
        send_kernel(&member, signal);
    }
}

/// tgkill(2): `tgid` 0 does not ask for the process. ESRCH, EPERM, EAGAIN.
pub fn to_tid(tgid: i32, tid: i32, info: SigInfo) -> Result<()> {
    let Some(task) = table::task(tid) else {
        // The leader may be gone before the others.
        let gone = table::process(tid).filter(|p| tgid <= 0 || p.pid == tgid);
        return gone.ok_or(Errno::ESRCH).and_then(|p| permitted(&p, info.signal()));
    };
    if tgid > 0 && task.pid() != tgid {
        return Err(Errno::ESRCH);
    }
    permitted(&task.process, info.signal())?;
    if info.signal() != 0 {
        to_thread(&task, info.into())?;
    }
    Ok(())
}

/// Raises a signal in the running thread that cannot be ignored or blocked away.
pub fn force(info: SigInfo, to_default: bool) {
    let task = current();
    let signal = info.signal();
    {
        let group = task.process.signals.group.lock();
        let mut actions = group.actions.lock();
        let mut action = actions.get(signal);
        let blocked = task.signals.blocked() & bit(signal) != 0;
        if blocked || to_default || action.handler == action::IGNORE {
            action.handler = action::DEFAULT;
            actions.set(signal, action);
        }
    }
    let blocked = task.signals.blocked();
    if blocked & bit(signal) != 0 {
        super::mask::set_blocked(blocked & !bit(signal));
    }
    // Below 32 and from the kernel: never refused.
    let creds = task.credentials();
    let receiver = Receiver { user: &creds.user, limit: u64::MAX };
    let _ = task.signals.pending.push(info.into(), receiver);
    task.signals.ask(SIGNAL);
}

/// The info of kill(2) and tgkill(2) by the running task.
pub fn own_info(signal: i32, code: i32) -> SigInfo {
    let task = current();
    let uid = task.creds.lock().uid;
    SigInfo::from_process(signal, code, task.pid(), uid)
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    let info = own_info(signal, code::USER);
    match pid {
        i32::MIN => Err(Errno::ESRCH),
        -1 => {
            let own = current().pid();
            to_many(table::processes().filter(|p| p.pid > 1 && p.pid != own), info)
        }
        0 => {
            let pgid = current().process.place.lock().pgid;
            to_many(table::group(pgid), info)
        }
        p if p < 0 => to_many(table::group(-p), info),
        p => to_pid(p, info),
    }
}
