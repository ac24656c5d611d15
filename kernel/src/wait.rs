//! Waiting for children: what wait4(2) and waitid(2) look for and report.

use crate::task::process::{Event, Use};
use crate::task::{Process, Task, current, kept, table};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Any,
    Pid(i32),
    Group(i32),
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub exited: bool,
    pub stopped: bool,
    pub continued: bool,
    pub no_hang: bool,
    /// WNOWAIT: leave it to be reported again.
    pub keep: bool,
    /// __WNOTHREAD: only children that the running thread made.
    pub own_thread: bool,
    /// __WCLONE, __WALL: children whose end sends another signal than SIGCHLD, or all.
    pub clone_children: Option<bool>,
}

/// A child's event.
#[derive(Clone, Debug)]
pub struct Report {
    pub pid: i32,
    pub uid: u32,
    pub event: Event,
    /// As wait4 stores it.
    pub status: i32,
    pub used: Use,
}

/// The event in a wait status of an ended process.
pub fn ended(status: i32) -> Event {
    match status & 0x7f {
        0 => Event::Exited(status >> 8 & 0xff),
        signal => Event::Killed { signal, core: status & 0x80 != 0 },
    }
}

/// Tells the parent that `process` has ended: signal, and wake-up; a parent that ignores SIGCHLD
/// has it reaped at once.
pub fn notify_parent(process: &Arc<Process>, parent: &Arc<Process>) {
    let wanted = process.exit_signal.load(Ordering::Relaxed);
    let same_program =
        process.execs_of_parent.load(Ordering::Relaxed) == parent.execs.load(Ordering::Relaxed);
    // 0 is no signal at all, which an exec does not change.
    let signal = if same_program || wanted == 0 { wanted } else { 17 };
    // Who is traced has a tracer to see its end, be it the parent that ignores such.
    let traced = process.place.lock().tracer.strong_count() > 0;
    let ignored = signal == 17 && !traced && crate::signal::ignores_children(parent);
    // clone(2) takes any number; only a signal is sent.
    if (1..=64).contains(&signal) && !crate::signal::is_ignored(parent, signal) {
        crate::signal::send_child_event(
            parent,
            process,
            signal,
            ended(process.exit_status.load(Ordering::Acquire)),
        );
    }
    if ignored {
        // Only children that are waited for count in RUSAGE_CHILDREN: getrusage(2).
        reap(parent, process, Use::default());
    }
    parent.child_events.wake_all();
}

/// An ended child that was traced by its parent is not any more: it is reaped if it would have been at
/// once. The tree is locked.
pub fn reap_if_ignored(process: &Arc<Process>, parent: &Arc<Process>) {
    if process.exit_signal.load(Ordering::Relaxed) == 17 && crate::signal::ignores_children(parent)
    {
        reap(parent, process, Use::default());
        parent.child_events.wake_all();
    }
}

/// The process has ended, and so its tracers have seen of its threads: it may be reported.
pub fn is_over(process: &Process) -> bool {
    process.zombie.load(Ordering::Acquire) && process.place.lock().dead_tracees == 0
}

/// The status with which a thread ended: its process's, if that ended as a whole.
pub fn status_of_thread(task: &Task) -> i32 {
    let process = &task.process;
    if process.exiting.load(Ordering::Acquire) {
        process.exit_status.load(Ordering::Acquire)
    } else {
        task.exit_code.load(Ordering::Relaxed)
    }
}

/// What a dead process and its waited-for children used.
pub fn total_use(process: &Process) -> Use {
    let mut used = *process.dead_threads.lock();
    used.add(&process.reaped_children.lock());
    used
}

fn reap(parent: &Process, child: &Arc<Process>, used: Use) {
    parent.reaped_children.lock().add(&used);
    {
        let mut place = parent.place.lock();
        let gone = (place.children.remove(&child.pid), place.dead.remove(&child.pid));
        drop(place);
        drop(gone);
    }
    crate::ptrace::links::reaped_by_parent(parent, child.pid);
    table::remove_process(child.pid);
    crate::cgroup::end::forget_leader(child);
    if let Some(kept) = child.kept.lock().take() {
        kept::discard(kept);
    }
    child.ended.wake_all();
    table::free_tid(child.pid);
}

/// Waits for a child. None: no event yet, and `no_hang`. ECHILD without such a child.
pub fn wait(which: Which, options: Options) -> Result<Option<Report>> {
    let process = current().process.clone();
    crate::exit::put_delayed_tasks();
    let look = || match look(&process, which, options) {
        Ok(None) if !options.no_hang => None,
        other => Some(other),
    };
    let found = process.child_events.wait_interruptible(None, look)?;
    kept::free_discarded();
    found
}

/// What a wait found: an event, or that a child may still have one.
pub enum Found {
    Event(Report),
    NoneYet,
    NoSuchChild,
}

impl Options {
    /// Children that are waited for, whichever ids are asked for.
    fn wanted(&self, child: &Process) -> bool {
        let foreign = child.maker.load(Ordering::Relaxed) != current().tid();
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != 17;
        !(self.own_thread && foreign) && self.clone_children.is_none_or(|wanted| wanted == is_clone)
    }
}

impl Which {
    pub fn includes(self, child: &Process) -> bool {
        match self {
            Self::Any => true,
            Self::Pid(pid) => child.pid == pid,
            Self::Group(pgid) => child.place.lock().pgid == pgid,
        }
    }
}

/// The children, or those that have ended, by id. The tree is locked, so nobody comes or goes.
fn each_child(process: &Process, dead: bool) -> impl Iterator<Item = Arc<Process>> {
    let mut after = 0;
    core::iter::from_fn(move || {
        let place = process.place.lock();
        let children = if dead { &place.dead } else { &place.children };
        let (&pid, child) = children.range(after + 1..).next()?;
        after = pid;
        Some(child.clone())
    })
}

/// Looks for an event, in the order of the children's ids. Who waits for ends only looks at those
/// that have ended, and at the others only until one will do.
fn look(process: &Arc<Process>, which: Which, options: Options) -> Result<Option<Report>> {
    let _tree = table::TREE.lock();
    let mut any = match crate::ptrace::waiting::look(process, which, options) {
        Found::Event(report) => return Ok(Some(report)),
        Found::NoneYet => true,
        Found::NoSuchChild => false,
    };
    if let Which::Pid(pid) = which {
        let child = process.place.lock().children.get(&pid).cloned();
        let found = child.map_or(Found::NoSuchChild, |child| examine(process, &child, options));
        return outcome(if any && matches!(found, Found::NoSuchChild) {
            Found::NoneYet
        } else {
            found
        });
    }
    let only_ends = !options.stopped && !options.continued;
    for dead in if only_ends { [true, false].as_slice() } else { &[false] } {
        for child in each_child(process, *dead).filter(|child| which.includes(child)) {
            match examine(process, &child, options) {
                Found::Event(report) => return Ok(Some(report)),
                Found::NoneYet if only_ends => return Ok(None),
                Found::NoneYet => any = true,
                Found::NoSuchChild => {}
            }
        }
    }
    outcome(if any { Found::NoneYet } else { Found::NoSuchChild })
}

fn outcome(found: Found) -> Result<Option<Report>> {
    match found {
        Found::Event(report) => Ok(Some(report)),
        Found::NoneYet => Ok(None),
        Found::NoSuchChild => Err(Errno::ECHILD),
    }
}

/// Looks at one child; takes its event unless that is to be reported again.
fn examine(process: &Arc<Process>, child: &Arc<Process>, options: Options) -> Found {
    if !options.wanted(child) {
        return Found::NoSuchChild;
    }
    let uid = child.uid.load(Ordering::Relaxed);
    let tracer = child.place.lock().tracer.upgrade();
    let foreign = tracer.as_ref().is_some_and(|tracer| !Arc::ptr_eq(tracer, process));
    if child.zombie.load(Ordering::Acquire) && (foreign || !is_over(child)) {
        // A tracer sees its end first, or its threads'.
        return if options.exited { Found::NoneYet } else { Found::NoSuchChild };
    }
    if child.zombie.load(Ordering::Acquire) {
        // It will not stop or go on any more, so for who waits for that it is no child.
        if !options.exited {
            return Found::NoSuchChild;
        }
        let status = child.exit_status.load(Ordering::Acquire);
        let used = total_use(child);
        if !options.keep {
            reap(process, child, used);
        }
        return Found::Event(Report { pid: child.pid, uid, event: ended(status), status, used });
    }
    let mut change = child.change.lock();
    let (event, status) = match *change {
        // Of a tracee stops are told as the tracee's.
        Some(event @ Event::Stopped(signal))
            if options.stopped && (tracer.is_none() || foreign) =>
        {
            (event, signal << 8 | 0x7f)
        }
        Some(event @ Event::Continued) if options.continued => (event, 0xffff),
        _ => return Found::NoneYet,
    };
    if !options.keep {
        *change = None;
    }
    Found::Event(Report { pid: child.pid, uid, event, status, used: Use::default() })
}
