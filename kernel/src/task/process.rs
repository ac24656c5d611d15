//! A process: threads that share an address space, signals, limits and a place in the tree.

use super::kept::KeptMemory;
use super::{TaskRef, Threads};
use crate::signal::ProcessSignals;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};
use sync::{SpinLock, WaitQueue};
use vm::Mm;

/// Number of resource limits.
pub const LIMITS: usize = 16;

/// Soft and hard limit.
pub type Rlimit = (u64, u64);

/// Indices of the limits (asm-generic/resource.h).
pub mod limit {
    pub const CPU: usize = 0;
    pub const FSIZE: usize = 1;
    pub const DATA: usize = 2;
    pub const STACK: usize = 3;
    pub const CORE: usize = 4;
    pub const RSS: usize = 5;
    pub const NPROC: usize = 6;
    pub const NOFILE: usize = 7;
    pub const MEMLOCK: usize = 8;
    pub const AS: usize = 9;
    pub const LOCKS: usize = 10;
    pub const SIGPENDING: usize = 11;
    pub const MSGQUEUE: usize = 12;
    pub const NICE: usize = 13;
    pub const RTPRIO: usize = 14;
    pub const RTTIME: usize = 15;
}

/// Linux's limits of the first process.
pub fn initial_limits() -> [Rlimit; LIMITS] {
    const NONE: u64 = u64::MAX;
    let mut limits = [(NONE, NONE); LIMITS];
    limits[limit::STACK] = (8 << 20, NONE);
    limits[limit::CORE] = (0, NONE);
    limits[limit::NPROC] = (7823, 7823);
    limits[limit::NOFILE] = (1024, 4096);
    limits[limit::MEMLOCK] = (8 << 20, 8 << 20);
    limits[limit::SIGPENDING] = (7823, 7823);
    limits[limit::MSGQUEUE] = (819_200, 819_200);
    limits[limit::NICE] = (0, 0);
    limits[limit::RTPRIO] = (0, 0);
    limits
}

/// Place in the tree of processes. Guarded by [`super::table::TREE`].
pub struct Place {
    pub parent: Weak<Process>,
    /// The children by their ids, which is mostly by age.
    pub children: BTreeMap<i32, Arc<Process>>,
    /// Those of them that have ended and wait to be reaped.
    pub dead: BTreeMap<i32, Arc<Process>>,
    pub threads: Threads,
    pub pgid: i32,
    pub sid: i32,
    /// The process of which a thread traces this one's first thread.
    pub tracer: Weak<Process>,
    /// Threads that have ended and that a tracer has not seen end.
    pub dead_tracees: usize,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: bool,
    /// Has called execve since it was forked (setpgid refuses then).
    pub has_execed: bool,
}

/// Resource use: cycles of user and system time, faults, switches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    pub user: u64,
    pub system: u64,
    pub minor: u64,
    pub major: u64,
    pub voluntary: u64,
    pub involuntary: u64,
    pub max_rss: u64,
    /// Bytes read and written, calls that read and wrote.
    pub io: [u64; 4],
}

impl Use {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.user += other.user;
        self.system += other.system;
        self.minor += other.minor;
        self.major += other.major;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
        self.max_rss = self.max_rss.max(other.max_rss);
        self.io.iter_mut().zip(other.io).for_each(|(sum, n)| *sum += n);
    }
}

impl Use {
    /// As `struct rusage`: user and system time, then fourteen counters.
    pub fn as_rusage(&self) -> [i64; 18] {
        let mut out = [0i64; 18];
        let hz = u128::from(hal::time::tsc_hz().max(1));
        for (i, cycles) in [self.user, self.system].into_iter().enumerate() {
            let us = u128::from(cycles) * 1_000_000 / hz;
            out[i * 2] = (us / 1_000_000) as i64;
            out[i * 2 + 1] = (us % 1_000_000) as i64;
        }
        out[4] = (self.max_rss * 4) as i64;
        out[8] = self.minor as i64;
        out[9] = self.major as i64;
        out[16] = self.voluntary as i64;
        out[17] = self.involuntary as i64;
        out
    }
}

/// How a process ended, or that it stopped or went on: what wait(2) reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Exited(i32),
    Killed {
        signal: i32,
        core: bool,
    },
    Stopped(i32),
    /// A tracee stands still: the code of its stop.
    Trapped(i32),
    Continued,
}

/// What is kept of the last thread until the process is reaped: ps(1) shows it.
pub struct Remains {
    pub comm: [u8; 16],
    pub creds: Arc<super::Creds>,
    /// CPU it ran on last.
    pub cpu: numa::CpuId,
    /// How late its timers might fire.
    pub timer_slack: u64,
}

/// The program that a process runs: the file, which nobody may write meanwhile.
pub struct Exe {
    pub file: Arc<fs::File>,
    pub _closed: fs::inode::DenyWrite,
}

/// A thread group.
pub struct Process {
    pub pid: i32,
    pub place: SpinLock<Place>,
    pub mm: SpinLock<Option<Arc<Mm>>>,
    pub signals: ProcessSignals,
    pub limits: SpinLock<[Rlimit; LIMITS]>,
    pub exe: SpinLock<Option<Arc<Exe>>>,
    /// Set once: the group is ending with this wait status.
    pub exiting: AtomicBool,
    pub exit_status: AtomicI32,
    /// Real user id of the first thread (what wait and kill(2) show).
    pub uid: AtomicU32,
    /// The thread that made it.
    pub maker: AtomicI32,
    /// All threads are gone; the parent may reap it.
    pub zombie: AtomicBool,
    /// A stop or continue that the parent has not seen yet.
    pub change: SpinLock<Option<Event>>,
    /// The signal its parent gets when it ends.
    pub exit_signal: AtomicI32,
    /// How often it has executed a program.
    pub execs: AtomicU32,
    /// `execs` of its parent when it was made: a parent that executed another program since gets
    /// SIGCHLD, whatever `exit_signal` says.
    pub execs_of_parent: AtomicU32,
    /// Told when it has ended (pidfds).
    pub ended: Arc<WaitQueue>,
    /// Its parent waits here for it and its siblings.
    pub child_events: WaitQueue,
    /// Tasks that its threads trace.
    pub tracees: crate::ptrace::Tracees,
    /// Threads that wait for others of the group to be gone (exec, exit of the leader).
    pub thread_events: WaitQueue,
    pub dead_threads: SpinLock<Use>,
    /// The control group in which the first thread ended; the root's while it lives.
    pub cgroup_at_end: AtomicU64,
    /// Of a zombie's last thread.
    pub remains: SpinLock<Option<Remains>>,
    pub reaped_children: SpinLock<Use>,
    pub start_time: u64,
    /// Timers of setitimer, timer_create and alarm.
    pub timers: crate::time::ProcessTimers,
    /// membarrier registrations.
    pub membarrier: AtomicU64,
    /// personality(2).
    pub personality: AtomicU32,
    pub dumpable: AtomicI32,
    pub oom_score_adj: AtomicI32,
    /// Its memory is to be kept until it is reaped, and is then in `kept`.
    pub keep_memory: AtomicBool,
    pub kept: SpinLock<Option<KeptMemory>>,
}

impl Process {
    /// The threads, by id, one after the other: those that are there when their turn comes.
    pub fn threads(&self) -> impl Iterator<Item = TaskRef> {
        let next = |tid: i32| self.place.lock().threads.next(tid).cloned();
        core::iter::successors(next(0), move |task| next(task.tid() + 1))
    }

    /// As [`Process::threads`], of a process that is kept meanwhile.
    pub fn into_threads(self: Arc<Self>) -> impl Iterator<Item = TaskRef> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let task = self.place.lock().threads.next(next).cloned()?;
            next = task.tid() + 1;
            Some(task)
        })
    }

    /// The parent's id; 0 for none.
    pub fn ppid(&self) -> i32 {
        self.place.lock().parent.upgrade().map_or(0, |p| p.pid)
    }

    /// A soft limit.
    pub fn soft_limit(&self, which: usize) -> u64 {
        self.limits.lock()[which].0
    }
}
