//! Who traces whom. All of this happens with `table::TREE` locked, so that nobody comes or goes.

use super::state::{Entry, Inner, TRAP_FLAG, Traced, wake};
use super::{special, stop};
use crate::access::{self, Mode};
use crate::signal::attention::{KILL, SIGNAL, TRACE, TRACE_EXIT};
use crate::signal::info::code;
use crate::signal::pending::Receiver;
use crate::signal::{self, SigInfo, send, sig};
use crate::task::{Process, Task, TaskRef, current, table};
use crate::wait;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use frames::fallible::{TryMap, boxed};
use ptrace::{Attach, Options, Tracee};

/// Makes `tracer` the tracer of `task`. EPERM when that has one, or has ended; ENOMEM. The tree is
/// locked.
fn link(task: &TaskRef, tracer: &TaskRef, traced: Traced) -> Result<()> {
    let present = table::task(task.tid()).is_some_and(|found| Arc::ptr_eq(&found.0, &task.0));
    if !present || task.trace.is_traced() {
        return Err(Errno::EPERM);
    }
    let traced = boxed(traced)?;
    let entry = Entry { task: task.clone(), ended: false };
    tracer.process.tracees.0.lock().try_insert_in(task.tid(), entry)?;
    let mut inner = task.trace.lock();
    inner.now = Some(traced);
    task.trace.publish(&inner);
    drop(inner);
    note_tracer(task, Some(tracer));
    Ok(())
}

/// A process's end goes by the tracer of its first thread.
fn note_tracer(task: &Task, tracer: Option<&TaskRef>) {
    if task.is_leader() {
        let tracer = tracer.map_or_else(alloc::sync::Weak::new, |t| Arc::downgrade(&t.process));
        task.process.place.lock().tracer = tracer;
    }
}

/// PTRACE_TRACEME: the thread that made the running process traces this thread. EPERM.
pub fn trace_me() -> Result<()> {
    let task = current();
    let _tree = table::TREE.lock();
    let parent = task.process.place.lock().parent.upgrade().ok_or(Errno::EPERM)?;
    let maker = table::task(task.process.maker.load(Ordering::Relaxed))
        .filter(|maker| Arc::ptr_eq(&maker.process, &parent));
    let tracer = match maker {
        Some(maker) => maker,
        None => parent.place.lock().threads.first().cloned().ok_or(Errno::EPERM)?,
    };
    let (own, theirs) = (task.credentials(), tracer.credentials());
    let covers = own.cap_permitted & !theirs.cap_permitted == 0;
    if !covers && !theirs.has(fs::Cap::SysPtrace as u32) {
        return Err(Errno::EPERM);
    }
    let state = Tracee::new(Attach::Stopping, Options::default());
    link(&task.handle(), &tracer.clone(), Traced::new(state, tracer, own))
}

/// PTRACE_ATTACH and PTRACE_SEIZE of `task` by the running one. EPERM; ENOMEM.
pub fn attach(task: &TaskRef, how: Attach, options: Options) -> Result<()> {
    let own = current();
    if task.kernel_thread || Arc::ptr_eq(&task.process, &own.process) {
        return Err(Errno::EPERM);
    }
    let stopped = {
        let _tree = table::TREE.lock();
        access::check_task(task, Mode::AttachReal)?;
        let tracer = own.handle();
        let state = Tracee::new(how, options);
        link(task, &tracer, Traced::new(state, tracer.clone(), own.credentials()))?;
        if how == Attach::Stopping {
            // Never refused.
            let _ = send::to_thread(task, SigInfo::kernel(sig::STOP).into());
        }
        signal::stop::trap_if_stopped(task)
    };
    if stopped {
        await_trap(task);
    }
    Ok(())
}

/// A task that was stopped becomes a tracee in a stop of its own: its tracer never sees it run.
fn await_trap(task: &TaskRef) {
    let own = current();
    let settled = || {
        let inner = task.trace.lock();
        let runs = inner.now.as_ref().is_some_and(|traced| !traced.state.stands());
        (!runs || signal::killed(task)).then_some(())
    };
    // Only the end of the tracer ends this early.
    let _ended =
        signal::killable(&own, || own.process.child_events.wait_interruptible(None, settled));
}

/// A child that the running task is making gets its tracer, if `wanted` and there is one. ENOMEM. The
/// tree is locked, and the child is in no table yet.
pub fn inherit(child: &TaskRef, wanted: bool) -> Result<()> {
    let parent = current();
    if !wanted || !parent.trace.is_traced() {
        return Ok(());
    }
    let (state, tracer, creds) = {
        let inner = parent.trace.lock();
        let Some(now) = inner.now.as_ref() else { return Ok(()) };
        (now.state.of_child(), now.tracer.clone(), now.creds.clone())
    };
    let seized = state.is_seized();
    let traced = boxed(Traced::new(state, tracer.clone(), creds))?;
    let entry = Entry { task: child.clone(), ended: false };
    tracer.process.tracees.0.lock().try_insert_in(child.tid(), entry)?;
    let mut inner = child.trace.lock();
    inner.now = Some(traced);
    child.trace.publish(&inner);
    drop(inner);
    note_tracer(child, Some(&tracer));
    if seized {
        child.signals.ask(TRACE);
    } else {
        let creds = child.credentials();
        let receiver = Receiver { user: &creds.user, limit: u64::MAX };
        let info = SigInfo::from_process(sig::STOP, code::USER, 0, 0);
        // Below 32 and new: never refused.
        let _ = child.signals.pending.push(info.into(), receiver);
        child.signals.ask(SIGNAL);
    }
    Ok(())
}

/// A child that was given a tracer is not started after all. The tree is locked.
pub fn disown(child: &TaskRef) {
    if let Some(tracer) = child.trace.tracer() {
        let gone = tracer.process.tracees.remove(child.tid());
        release(child, None);
        drop(gone);
    }
}

/// `task` has no tracer any more; it goes on from a stop with the signal that the tracer gives, or as its
/// end leaves it (None). The tree is locked.
fn release(task: &TaskRef, signal: Option<i32>) {
    signal::stop::with_group(&task.process, |group| {
        let mut inner = task.trace.lock();
        let Some(mut traced) = inner.now.take() else { return };
        task.signals.attention.fetch_and(!(TRACE | TRACE_EXIT), Ordering::SeqCst);
        special::set_calls(task, false);
        if traced.state.stands() {
            traced.set_step(false);
            match signal {
                Some(signal) => traced.state.let_go(signal),
                None => traced.state.abandon(),
            }
            inner.left = Some(traced);
        }
        task.trace.publish(&inner);
        if task.signals.attention.load(Ordering::SeqCst) & KILL == 0 {
            // What its group does it does, too, from now on.
            signal::stop::rejoin(&task.process, group, task);
        }
        wake(task);
    });
    note_tracer(task, None);
}

/// PTRACE_DETACH of a tracee of the running task, with a signal. ESRCH; EIO for what is no signal.
pub fn detach(task: &TaskRef, signal: u64) -> Result<()> {
    let own = current();
    let gone = {
        let _tree = table::TREE.lock();
        {
            let mut inner = task.trace.lock();
            let mine = |t: &&mut alloc::boxed::Box<Traced>| core::ptr::eq(&*t.tracer.0, &*own);
            inner.now.as_mut().filter(mine).ok_or(Errno::ESRCH)?.state.stopped()?;
        }
        let signal = ptrace::checked_signal(signal)?;
        let gone = own.process.tracees.remove(task.tid());
        release(task, Some(signal));
        gone
    };
    drop(gone);
    Ok(())
}

/// The running thread ends: its tracees are let go, or end with it. The tree is locked.
pub fn tracer_ends(tracer: &TaskRef) {
    let mut after = 0;
    while let Some((tid, task, ended)) = tracer.process.tracees.next(after) {
        after = tid;
        let is_mine = |inner: &Inner| {
            inner.now.as_ref().is_some_and(|traced| Arc::ptr_eq(&traced.tracer.0, &tracer.0))
        };
        let (mine, kills) = {
            let inner = task.trace.lock();
            let kills = |t: &alloc::boxed::Box<Traced>| t.state.options.kills_at_exit();
            (is_mine(&inner), inner.now.as_ref().is_some_and(kills))
        };
        if !mine {
            continue;
        }
        let gone = tracer.process.tracees.remove(tid);
        if ended {
            let_go_of_dead(&tracer.process, &task);
        } else {
            if kills {
                send::send_kernel(&task.process, sig::KILL);
            }
            release(&task, None);
        }
        drop(gone);
    }
}

/// What is left of an ended tracee is nobody's any more, or its parent's. The tree is locked.
fn let_go_of_dead(tracer: &Arc<Process>, task: &TaskRef) {
    forget(task);
    let process = &task.process;
    if !task.is_leader() {
        process.place.lock().dead_tracees -= 1;
        table::DEAD_TRACEES.fetch_sub(1, Ordering::Relaxed);
        return crate::exit::announce(process);
    }
    process.place.lock().tracer = alloc::sync::Weak::new();
    if !wait::is_over(process) {
        return;
    }
    let parent = process.place.lock().parent.upgrade();
    match parent.filter(|parent| Arc::ptr_eq(parent, tracer)) {
        // It knows already; but whether it is reaped at once was not asked while it was traced.
        Some(parent) => wait::reap_if_ignored(process, &parent),
        None => crate::exit::announce(process),
    }
}

/// A dead task has no tracer any more.
fn forget(task: &TaskRef) {
    let mut inner = task.trace.lock();
    let gone = inner.now.take();
    task.trace.publish(&inner);
    drop(inner);
    drop(gone);
}

/// The tracer has seen the end of `task`, whose entry is taken out: a thread is gone for good, a
/// process's parent hears of it now. The tree is locked.
pub fn reaped(tracer: &Arc<Process>, task: &TaskRef) {
    let gone = tracer.tracees.remove(task.tid());
    let_go_of_dead(tracer, task);
    drop(gone);
}

/// A process was reaped by its parent, which may have been its tracer, too. The tree is locked.
pub fn reaped_by_parent(parent: &Process, pid: i32) {
    if let Some(gone) = parent.tracees.remove(pid) {
        forget(&gone.task);
    }
}

/// The running thread leaves its process: a tracer hears of that, a process's first thread
/// excepted, which ends with all others. The tree is locked.
pub fn tracee_ends(task: &TaskRef) {
    let Some(tracer) = task.trace.tracer() else { return };
    if let Some(entry) = tracer.process.tracees.0.lock().get_mut(&task.tid()) {
        entry.ended = true;
    }
    if !task.is_leader() {
        task.process.place.lock().dead_tracees += 1;
        table::DEAD_TRACEES.fetch_add(1, Ordering::Relaxed);
        let event = wait::ended(wait::status_of_thread(task));
        signal::stop::tell_of_thread(&tracer.process, task, event);
        tracer.process.child_events.wake_all();
    }
}

/// Who traces a process whose last thread has ended, if that is not its parent.
pub fn foreign_tracer(process: &Process) -> Option<Arc<Process>> {
    let place = process.place.lock();
    let tracer = place.tracer.upgrade()?;
    let parent = place.parent.upgrade();
    (!parent.is_some_and(|parent| Arc::ptr_eq(&parent, &tracer))).then_some(tracer)
}

/// The running thread has executed a program as the only one, and takes the id of the process's first
/// thread over from `old`. What is left of that one is not reported. The tree is locked, and the
/// thread has its new id.
pub fn takes_leaders_id(task: &TaskRef, old: i32) {
    let former = task.process.place.lock().tracer.upgrade();
    if let Some(gone) = former.as_ref().and_then(|tracer| tracer.tracees.remove(task.tid())) {
        forget(&gone.task);
    }
    let tracer = task.trace.tracer();
    if let Some(tracer) = &tracer {
        let mut entries = tracer.process.tracees.0.lock();
        if let Some(entry) = entries.remove(&old) {
            // In the place of the one that was taken out.
            entries.insert(task.tid(), entry);
        }
    }
    note_tracer(task, tracer.as_ref());
    if let Some(former) = former {
        former.child_events.wake_all();
    }
}

/// The trap flag that the running task's tracer has set is not its children's.
pub fn childs_flags(flags: u64) -> u64 {
    let task = current();
    if !task.trace.is_traced() {
        return flags;
    }
    let forced = task.trace.lock().now.as_ref().is_some_and(|traced| traced.forced_step);
    if forced { flags & !TRAP_FLAG } else { flags }
}

/// The running task is traced by somebody who, when that attached, could not trace what an exec gains:
/// it gains nothing.
pub fn keeps_from_gaining() -> bool {
    let task = current();
    if !task.trace.is_traced() {
        return false;
    }
    let creds = task.trace.lock().now.as_ref().map(|traced| traced.creds.clone());
    creds.is_some_and(|creds| !creds.has(fs::Cap::SysPtrace as u32))
}

/// Asks `task`, which the running one traces, for a trap: PTRACE_INTERRUPT. ESRCH, EIO.
pub fn interrupt(task: &TaskRef) -> Result<()> {
    let own = current();
    let mut inner = task.trace.lock();
    let mine = |t: &&mut alloc::boxed::Box<Traced>| core::ptr::eq(&*t.tracer.0, &*own);
    let traced = inner.now.as_mut().filter(mine).ok_or(Errno::ESRCH)?;
    let wakes = traced.state.interrupt()?;
    stop::look_at_trap(task, wakes);
    Ok(())
}
