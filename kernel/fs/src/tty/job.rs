//! Sessions, controlling terminals, foreground process groups.

use super::Tty;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use sync::{Once, SpinLock};

const SIGHUP: u32 = 1;
const SIGCONT: u32 = 18;
pub(super) const SIGTTIN: u32 = 21;
pub(super) const SIGTTOU: u32 = 22;

/// The running process as job control sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    pub session: u32,
    pub group: u32,
    /// It leads its session.
    pub leader: bool,
}

/// The kernel's processes as seen by terminals.
pub trait TtyHooks: Sync {
    /// The running process.
    fn current(&self) -> Job;
    /// Sends a signal to a process group.
    fn signal_group(&self, group: u32, signal: u32);
    /// Sends a signal to the leader of a session.
    fn signal_leader(&self, session: u32, signal: u32);
    /// True when no process of the group has a parent in another group of the same session.
    fn is_orphaned(&self, group: u32) -> bool;
    /// True when the running task ignores or blocks the signal.
    fn ignores(&self, signal: u32) -> bool;
    /// The session that a process group belongs to; None when there is no such group.
    fn session_of(&self, group: u32) -> Option<u32>;
    /// Has [`Tty::process_input`] called soon, in task context. Callable in interrupt context; a
    /// terminal that is waiting already need not be entered twice.
    fn defer(&self, tty: &Arc<Tty>);
}

static HOOKS: Once<&'static dyn TtyHooks> = Once::new();

/// Registers the kernel's processes, once. Before that there is no job control.
pub fn register_hooks(hooks: &'static dyn TtyHooks) {
    HOOKS.get_or_init(|| hooks);
}

pub(super) fn hooks() -> Option<&'static dyn TtyHooks> {
    HOOKS.get().copied()
}

pub(super) fn current() -> Job {
    hooks().map_or_else(Job::default, |hooks| hooks.current())
}

static SESSIONS: SpinLock<BTreeMap<u32, Arc<Tty>>> = SpinLock::new(BTreeMap::new());

/// The controlling terminal of a session.
pub fn controlling(session: u32) -> Option<Arc<Tty>> {
    SESSIONS.lock().get(&session).cloned()
}

/// The leader of `session` has exited: its terminal loses the session; the foreground group gets
/// SIGHUP and SIGCONT.
pub fn session_ended(session: u32) {
    let tty = SESSIONS.lock().remove(&session);
    if let Some(tty) = tty {
        release(&tty, session, false);
    }
}

fn release(tty: &Tty, session: u32, hang_up: bool) {
    let _ = tty.session.compare_exchange(session, 0, Relaxed, Relaxed);
    let group = tty.foreground.swap(0, Relaxed);
    if let Some(hooks) = hooks() {
        if hang_up {
            hooks.signal_leader(session, SIGHUP);
            hooks.signal_leader(session, SIGCONT);
        }
        if group != 0 {
            hooks.signal_group(group, SIGHUP);
            hooks.signal_group(group, SIGCONT);
        }
    }
}

/// The terminal was hung up: its session loses it.
pub(super) fn detach_session(tty: &Tty) {
    let session = tty.session();
    if session == 0 {
        return;
    }
    let gone = SESSIONS.lock().remove(&session);
    release(tty, session, true);
    drop(gone);
}

/// TIOCSCTTY: `tty` becomes the controlling terminal of the running process's session. EPERM for
/// a process that does not lead a session without a terminal, or when another session has the
/// terminal (unless `steal`).
pub(super) fn acquire(tty: &Arc<Tty>, job: Job, steal: bool) -> Result<()> {
    if job.leader && tty.session() == job.session && job.session != 0 {
        return Ok(());
    }
    let mut sessions = SESSIONS.lock();
    if !job.leader || sessions.contains_key(&job.session) {
        return Err(Errno::EPERM);
    }
    let holder = tty.session();
    let mut robbed = None;
    if holder != 0 {
        if !steal {
            return Err(Errno::EPERM);
        }
        robbed = sessions.remove(&holder);
    }
    let old = sessions.insert(job.session, tty.clone());
    tty.session.store(job.session, Relaxed);
    tty.foreground.store(job.group, Relaxed);
    drop(sessions);
    drop((robbed, old));
    Ok(())
}

/// Opening a terminal without O_NOCTTY: takes it if it is free and the opener may.
pub(super) fn acquire_on_open(tty: &Arc<Tty>) {
    let job = current();
    if job.leader && job.session != 0 && tty.session() == 0 {
        // A session that has a terminal keeps it: then there is nothing to do.
        let _ = acquire(tty, job, false);
    }
}

/// TIOCNOTTY: ENOTTY when it is not the caller's terminal.
pub(super) fn give_up(tty: &Tty) -> Result<()> {
    let job = current();
    if job.session == 0 || tty.session() != job.session {
        return Err(Errno::ENOTTY);
    }
    if job.leader {
        session_ended(job.session);
    }
    Ok(())
}

/// May the caller go on with what `signal` guards? A background process gets it and ERESTARTSYS;
/// EIO where a signal would be pointless.
pub(super) fn check(tty: &Tty, signal: u32) -> Result<()> {
    let Some(hooks) = hooks() else { return Ok(()) };
    let job = hooks.current();
    if job.session == 0 || tty.session() != job.session {
        return Ok(());
    }
    let foreground = tty.foreground();
    if foreground == 0 || foreground == job.group {
        return Ok(());
    }
    if hooks.ignores(signal) {
        return if signal == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if hooks.is_orphaned(job.group) {
        return Err(Errno::EIO);
    }
    hooks.signal_group(job.group, signal);
    Err(Errno::ERESTARTSYS)
}

/// TIOCSPGRP.
pub(super) fn set_foreground(tty: &Tty, group: u32) -> Result<()> {
    check(tty, SIGTTOU)?;
    let job = current();
    if job.session == 0 || tty.session() != job.session {
        return Err(Errno::ENOTTY);
    }
    let Some(hooks) = hooks() else { return Err(Errno::ENOTTY) };
    match hooks.session_of(group) {
        None => return Err(Errno::ESRCH),
        Some(session) if session != job.session => return Err(Errno::EPERM),
        Some(_) => {}
    }
    tty.foreground.store(group, Relaxed);
    Ok(())
}
