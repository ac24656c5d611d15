//! What wait(2) reports of tracees.

use super::links;
use crate::task::process::{Event, Use};
use crate::task::{Process, TaskRef, current, usage_of_task};
use crate::wait::{self, Found, Options, Report, Which};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Looks for an event of `process`'s tracees. The tree is locked.
pub fn look(process: &Arc<Process>, which: Which, options: Options) -> Found {
    if process.tracees.is_empty() {
        return Found::NoSuchChild;
    }
    if let Which::Pid(tid) = which {
        let Some((task, ended)) = process.tracees.get(tid) else { return Found::NoSuchChild };
        return examine(process, &task, ended, options);
    }
    let mut outcome = Found::NoSuchChild;
    let mut after = 0;
    while let Some((tid, task, ended)) = process.tracees.next(after) {
        after = tid;
        if !which.includes(&task.process) {
            continue;
        }
        match examine(process, &task, ended, options) {
            Found::Event(report) => return Found::Event(report),
            Found::NoneYet => outcome = Found::NoneYet,
            Found::NoSuchChild => {}
        }
    }
    outcome
}

/// Looks at one tracee; takes its event unless that is to be reported again.
fn examine(process: &Arc<Process>, task: &TaskRef, ended: bool, options: Options) -> Found {
    let (mine, stop) = {
        let mut inner = task.trace.lock();
        let Some(traced) = inner.now.as_mut() else { return Found::NoSuchChild };
        let mine = core::ptr::eq(&*traced.tracer.0, &*current());
        let wanted = mine || !options.own_thread;
        (wanted, if wanted && !ended { traced.state.report(options.keep) } else { None })
    };
    if !mine {
        return Found::NoSuchChild;
    }
    if ended {
        return examine_dead(process, task, options);
    }
    let uid = task.creds.lock().uid;
    let report =
        |event, status| Report { pid: task.tid(), uid, event, status, used: Use::default() };
    if let Some(code) = stop {
        let used = usage_of_task(task);
        return Found::Event(Report { used, ..report(Event::Trapped(code), code << 8 | 0x7f) });
    }
    let mut change = task.process.change.lock();
    if options.continued && *change == Some(Event::Continued) {
        if !options.keep {
            *change = None;
        }
        return Found::Event(report(Event::Continued, 0xffff));
    }
    Found::NoneYet
}

/// A tracee has ended: a thread as soon as it has, a process with its last thread.
fn examine_dead(process: &Arc<Process>, task: &TaskRef, options: Options) -> Found {
    let whole = task.is_leader();
    if whole && !wait::is_over(&task.process) {
        return Found::NoneYet;
    }
    if !options.exited {
        return Found::NoSuchChild;
    }
    if whole && links::foreign_tracer(&task.process).is_none() {
        // It is reported as the child that it is, too.
        return Found::NoneYet;
    }
    let status = if whole {
        task.process.exit_status.load(Ordering::Acquire)
    } else {
        wait::status_of_thread(task)
    };
    let used = if whole { wait::total_use(&task.process) } else { usage_of_task(task) };
    let (pid, uid) = (task.tid(), task.creds.lock().uid);
    if !options.keep {
        links::reaped(process, task);
    }
    Found::Event(Report { pid, uid, event: wait::ended(status), status, used })
}
