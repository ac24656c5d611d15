//! Signals.
//!
//! * [`set`], [`info`], [`action`], [`pending`]: numbers, what a signal tells, what is done on it,
//!   what was sent and not yet delivered; [`user`]: how many each user has queued.
//! * [`send`]: who may send, and whom it reaches. [`deliver`]: the way back to user mode, default
//!   actions, restart of interrupted calls; [`frame`]: what a handler finds on its stack.
//! * [`stop`]: job control. [`group`]: the end of a process's other threads, orphaned groups.
//! * [`tty`], [`fd`]: signals as terminals and signalfd(2) see them; [`sigio`]: signals about files.
//!
//! Lock order: a process's `group`, its `place`, a queue of pending signals, a task's `entity`.
//! Nothing of this is called in an interrupt.

pub mod action;
pub mod deliver;
pub mod fd;
pub mod frame;
pub mod group;
pub mod info;
pub mod mask;
pub mod pending;
pub mod send;
pub mod set;
pub mod sigio;
pub mod stop;
pub mod tty;
pub mod user;

pub use deliver::{Fault, deliver, fault};
pub use group::{end_other_threads, kill_threads, on_process_end, on_thread_exit};
pub use info::SigInfo;
pub use mask::AltStack;
pub use send::{send_child_event, send_kernel};
pub use set::{SigSet, sig};

use crate::task::{Process, Task};
use action::{Action, Actions};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use pending::Pending;
use set::bit;
use sync::{SpinLock, WaitQueue};

/// What a task has to look at before it enters user mode again: bits of
/// [`TaskSignals::attention`].
pub mod attention {
    /// A signal is pending that is not blocked.
    pub const SIGNAL: u32 = 1;
    /// The thread ends.
    pub const KILL: u32 = 2;
    /// The thread takes part in a stop of its process.
    pub const STOP: u32 = 4;
    /// The mask from before the call has to be brought back.
    pub const RESTORE_MASK: u32 = 8;
    /// It was preempted or moved since it was last in user mode, and has an rseq area.
    pub const RSEQ: u32 = 16;
    /// It has used the reserve of memory, which is to be filled up.
    pub const MEMORY: u32 = 32;
    /// Its control group is frozen: it stands still.
    pub const FREEZE: u32 = 64;
    /// Its tracer wants it to trap.
    pub const TRACE: u32 = 128;
    /// Its tracer wants to hear of the end of the system call under way.
    pub const TRACE_EXIT: u32 = 256;
    /// These end an interruptible sleep.
    pub const INTERRUPTS: u32 = SIGNAL | KILL | STOP | FREEZE | TRACE;
}

/// What the CPU said about the last fault, for the signal frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastTrap {
    pub vector: u64,
    pub error: u64,
    pub addr: u64,
}

/// A task's own signal state.
#[derive(Default)]
pub struct TaskSignals {
    /// Something is to be looked at before user mode is entered again: bits of [`attention`].
    pub attention: AtomicU32,
    /// Written by the task alone.
    blocked: AtomicU64,
    pub pending: Pending,
    /// The mask to restore when the call that replaced it has ended.
    saved: SpinLock<Option<SigSet>>,
    stack: SpinLock<AltStack>,
    /// Sleeps end only for KILL.
    only_fatal: AtomicBool,
    last_trap: SpinLock<LastTrap>,
    /// Has an rseq area: preemption and migration must be noticed.
    pub has_rseq: AtomicBool,
}

/// State that all threads of a process share.
pub struct Group {
    /// Shared with other processes by CLONE_SIGHAND.
    pub actions: Arc<SpinLock<Actions>>,
    stop: stop::Stop,
    /// A thread is becoming the only one (exec).
    execing: bool,
    /// Whose turn it is among the threads that would take a signal: of this id, or the next.
    turn: i32,
}

/// A process's signal state.
pub struct ProcessSignals {
    pub pending: Pending,
    group: SpinLock<Group>,
    /// The signal that stops the process; 0 while it may run.
    stopping: AtomicI32,
    /// Told when a signal becomes pending: signalfd, sigtimedwait.
    arrivals: Arc<WaitQueue>,
}

impl Default for ProcessSignals {
    fn default() -> Self {
        Self::with(Arc::default())
    }
}

impl ProcessSignals {
    fn with(actions: Arc<SpinLock<Actions>>) -> Self {
        Self {
            pending: Pending::default(),
            group: SpinLock::new(Group {
                actions,
                stop: stop::Stop::default(),
                execing: false,
                turn: 0,
            }),
            stopping: AtomicI32::new(0),
            arrivals: Arc::new(WaitQueue::new()),
        }
    }

    /// A new process takes its parent's actions over: a copy, or shared with CLONE_SIGHAND.
    pub fn inherit(parent: &Self, clone_flags: u64) -> Self {
        let from = parent.group.lock().actions.clone();
        let actions = if clone_flags & u64::from(abi::raw::general::CLONE_SIGHAND) != 0 {
            from
        } else {
            let mut copy = from.lock().clone();
            if clone_flags & abi::raw::general::CLONE_CLEAR_SIGHAND != 0 {
                copy.clear();
            }
            Arc::new(SpinLock::new(copy))
        };
        Self::with(actions)
    }

    /// What the process does on a signal.
    pub fn action(&self, signal: i32) -> Action {
        self.group.lock().actions.lock().get(signal)
    }

    /// Signals that are caught, and those that are ignored.
    pub fn caught_and_ignored(&self) -> (SigSet, SigSet) {
        self.group.lock().actions.lock().caught_and_ignored()
    }

    /// Told when a signal becomes pending.
    pub fn arrivals(&self) -> &Arc<WaitQueue> {
        &self.arrivals
    }
}

impl TaskSignals {
    /// The state of a new task: mask inherited, nothing pending. `drop_stack`: the child gets no
    /// alternate stack when it shares memory without vfork.
    pub fn inherit(parent: &Task, _thread: bool, drop_stack: bool) -> Self {
        let from = &parent.signals;
        let stack = if drop_stack { AltStack::default() } else { *from.stack.lock() };
        Self {
            blocked: AtomicU64::new(from.blocked()),
            stack: SpinLock::new(stack),
            ..Self::default()
        }
    }

    /// The blocked signals.
    #[inline]
    pub fn blocked(&self) -> SigSet {
        self.blocked.load(Ordering::SeqCst)
    }

    /// Asks for attention; true when these bits were not all set before.
    pub fn ask(&self, bits: u32) -> bool {
        self.attention.fetch_or(bits, Ordering::SeqCst) & bits != bits
    }
}

/// True when a sleep of `task` should end: a signal is pending that is not blocked.
#[inline]
pub fn interrupts(task: &Task) -> bool {
    let bits = task.signals.attention.load(Ordering::SeqCst);
    if bits & attention::INTERRUPTS == 0 {
        return false;
    }
    bits & attention::KILL != 0 || !task.signals.only_fatal.load(Ordering::Relaxed)
}

/// True when `task` is about to end: a call that takes long is not carried on.
pub fn killed(task: &Task) -> bool {
    task.signals.attention.load(Ordering::Relaxed) & attention::KILL != 0
}

/// Runs `sleep`, whose interruptible waits are ended only by the end of the process.
pub fn killable<R>(task: &Task, sleep: impl FnOnce() -> R) -> R {
    let before = task.signals.only_fatal.swap(true, Ordering::Relaxed);
    let result = sleep();
    task.signals.only_fatal.store(before, Ordering::Relaxed);
    result
}

/// SIGCHLD is ignored, or has SA_NOCLDWAIT: children are reaped at once.
pub fn ignores_children(process: &Process) -> bool {
    let action = process.signals.action(sig::CHLD);
    action.handler == action::IGNORE || action.has(action::flag::NOCLDWAIT)
}

/// The signal is ignored by an explicit SIG_IGN.
pub fn is_ignored(process: &Process, signal: i32) -> bool {
    process.signals.action(signal).handler == action::IGNORE
}

/// A write found nobody to read (EPIPE): SIGPIPE for the running thread.
pub fn pipe() {
    let task = crate::task::current();
    let uid = task.creds.lock().uid;
    let info = SigInfo::from_process(sig::PIPE, info::code::USER, task.pid(), uid);
    // It cannot fail: SIGPIPE is not queued.
    let _ = send::to_thread(&task, info.into());
}

/// A write passed RLIMIT_FSIZE (EFBIG): SIGXFSZ for the running thread.
pub fn file_too_large() {
    let task = crate::task::current();
    let uid = task.creds.lock().uid;
    let info = SigInfo::from_process(sig::XFSZ, info::code::USER, task.pid(), uid);
    let _ = send::to_thread(&task, info.into());
}

/// True when `signal` is pending for the task or its process and blocked by the task or not.
pub fn pending_for(task: &Task) -> SigSet {
    task.signals.pending.set() | task.process.signals.pending.set()
}

/// A system call ended with a code that the way to user mode must turn into a restart or EINTR.
pub fn note_restart(task: &Task) {
    task.signals.ask(attention::SIGNAL);
}

/// exec: handlers go back to default, the alternate stack is forgotten, a shared table is copied.
pub fn on_exec() {
    let task = crate::task::current();
    let mut group = task.process.signals.group.lock();
    let mut fresh = group.actions.lock().clone();
    fresh.clear();
    group.actions = Arc::new(SpinLock::new(fresh));
    group.execing = false;
    drop(group);
    *task.signals.stack.lock() = AltStack::default();
    task.signals.has_rseq.store(false, Ordering::Relaxed);
}

/// Signals that `task` blocks or its process ignores (SIGTTOU of a background write).
pub fn blocks_or_ignores(task: &Task, signal: i32) -> bool {
    task.signals.blocked() & bit(signal) != 0 || is_ignored(&task.process, signal)
}

impl Process {
    /// Sets what the process does on `signal`; what it did before. Pending ones that have no effect
    /// any more are forgotten.
    pub fn set_action(&self, signal: i32, action: Action) -> Action {
        let group = self.signals.group.lock();
        let before = {
            let mut actions = group.actions.lock();
            let before = actions.get(signal);
            actions.set(signal, action);
            before
        };
        if action.ignores(signal) {
            self.signals.pending.flush(bit(signal));
            for thread in &self.place.lock().threads {
                thread.signals.pending.flush(bit(signal));
            }
        }
        before
    }
}
