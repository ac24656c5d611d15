//! Tasks: one per thread of execution. A [`Process`](process::Process) is a group of them.

pub mod current;
pub mod env;
pub mod kept;
pub mod process;
pub mod stack;
pub mod table;
mod threads;

pub use current::{Current, current};
pub use process::Process;
pub use threads::Threads;

use crate::signal::TaskSignals;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use current::Own;
use fs::{FdTable, FsContext};
use hal::fpu::FpuState;
use numa::CpuMask;
pub use sched::State;
use sched::{Entity, Handle, QueueLink, RunState};
use stack::KernelStack;
use sync::{IrqLock, SpinLock};
use vm::Mm;
use vm::env::TaskNuma;

/// Credentials of a task (copied on change).
#[derive(Clone, Debug)]
pub struct Creds {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Option<Arc<[u32]>>,
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
    pub securebits: u32,
    pub no_new_privs: bool,
    /// The same, as file permissions need it.
    pub fs: Arc<fs::Creds>,
    /// What is counted for the real user.
    pub user: Arc<crate::signal::user::User>,
}

/// Counters of a task that only it changes while it runs.
#[derive(Default)]
pub struct Counters {
    /// Time in user and kernel mode, in cycles of the time-stamp counter.
    pub user: AtomicU64,
    pub system: AtomicU64,
    pub minor_faults: AtomicU64,
    pub major_faults: AtomicU64,
    pub voluntary: AtomicU64,
    pub involuntary: AtomicU64,
    pub migrations: AtomicU64,
    /// What it had used when a timer of its process's processor time last chose it.
    pub chosen_at: AtomicU64,
    /// Bytes that it read and wrote by read(2), write(2) and their kin, and how many such calls.
    pub read_bytes: AtomicU64,
    pub written_bytes: AtomicU64,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
}

impl Counters {
    /// Counts a read(2) of the running task, whose counters these are, and what it gave.
    #[inline(always)]
    pub fn read(&self, bytes: usize) {
        add(&self.read_bytes, bytes as u64);
        add(&self.reads, 1);
    }

    /// As [`Counters::read`], a write(2).
    #[inline(always)]
    pub fn wrote(&self, bytes: usize) {
        add(&self.written_bytes, bytes as u64);
        add(&self.writes, 1);
    }
}

/// Adds to a counter that the running task alone changes.
#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// A thread.
pub struct Task {
    me: Weak<Task>,
    /// Its id: exec gives the leader's to the thread that called it.
    tid: AtomicI32,
    pub process: Arc<Process>,
    /// None for a CPU's idle task, which runs on the stack it was started on.
    stack: Option<KernelStack>,
    /// Where it was switched away from.
    pub(crate) saved_sp: AtomicU64,
    queue_link: QueueLink,
    /// Its scheduling state while it is on no queue. The lock also serializes waking with sleeping.
    pub(crate) entity: IrqLock<Option<Entity<TaskRef>>>,
    /// Whether it sleeps, is on a CPU, and which.
    pub(crate) run_state: RunState,
    /// The CPUs it may run on: of what its user asked for, those that its cpuset has.
    pub(crate) affinity: IrqLock<CpuMask>,
    /// What sched_setaffinity(2) asked for, if it was ever called.
    pub(crate) asked_affinity: IrqLock<Option<CpuMask>>,
    /// It stands still with its control group.
    pub is_frozen: AtomicBool,
    /// Its control group. Written with `table::TREE` locked.
    pub cgroup: AtomicU64,
    pub numa: SpinLock<TaskNuma>,
    own_mm: Own<Option<Arc<Mm>>>,
    pub(crate) fpu: Own<FpuState>,
    /// User FS and GS base, while it does not run.
    pub(crate) bases: Own<(u64, u64)>,
    pub files: SpinLock<Arc<FdTable>>,
    pub fs: SpinLock<Arc<FsContext>>,
    pub creds: SpinLock<Arc<Creds>>,
    /// Tells these credentials from all others; threads share those that they began with.
    pub creds_id: AtomicU64,
    pub signals: TaskSignals,
    pub comm: SpinLock<[u8; 16]>,
    /// set_tid_address: cleared and woken at the thread's end.
    pub clear_child_tid: AtomicU64,
    /// CLONE_CHILD_SETTID: where the child writes its id before it starts.
    pub set_child_tid: AtomicU64,
    /// Robust futex list: head and length.
    pub robust_list: AtomicU64,
    /// Locks with priority inheritance.
    pub pi: crate::futex::pi::PiState,
    /// rseq area, length and signature.
    pub rseq: SpinLock<(u64, u32, u32)>,
    pub counters: Counters,
    /// Cycles when user or kernel time was last counted.
    pub(crate) stamp: AtomicU64,
    /// The locks it holds, for the checker of their order.
    #[cfg(feature = "checks")]
    pub held: sync::order::Held,
    /// Which of its allocations is to fail.
    #[cfg(feature = "checks")]
    pub faults: crate::faults::TaskFaults,
    pub exit_code: AtomicI32,
    /// Nanoseconds since boot.
    pub start_time: u64,
    pub timer_slack: AtomicU64,
    /// What PR_SET_TIMERSLACK with 0 goes back to: what its maker had.
    pub default_timer_slack: AtomicU64,
    /// SCHED_RESET_ON_FORK: children begin as ordinary tasks.
    pub reset_on_fork: AtomicBool,
    /// The nice value that a real-time task has when it is none any more.
    pub nice_when_fair: AtomicI32,
    /// Kernel function it sleeps in, for /proc/PID/wchan.
    pub kernel_thread: bool,
    /// vfork: the parent waits until this is set.
    pub vfork_done: SpinLock<Option<Arc<VforkDone>>>,
    pub parent_death_signal: AtomicI32,
    /// It became a user that had more threads than RLIMIT_NPROC allows: exec asks.
    pub too_many_tasks: AtomicBool,
    /// What to do when the interrupted call is restarted with its time gone (restart_syscall).
    pub restart: SpinLock<Option<Restart>>,
    /// Being traced: ptrace(2).
    pub trace: crate::ptrace::TaskTrace,
    /// Performance events that observe it.
    pub perf: crate::perf::TaskPerf,
    /// The next of the dead that wait to be freed.
    pub(crate) next_dead: crate::chain::Link<Task>,
}

/// A sleep that goes on after a signal stopped it (ERESTART_RESTARTBLOCK).
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// nanosleep and clock_nanosleep: until this monotonic time, remaining time to this address.
    Sleep { until: u64, remaining: u64 },
    /// poll(2): descriptors, count, until.
    Poll { fds: u64, count: u64, until: u64 },
    /// FUTEX_WAIT with a relative time.
    Futex { addr: u64, value: u32, until: u64, bits: u32, shared: bool },
}

/// A parent waiting for its vfork child to exec or exit.
#[derive(Default)]
pub struct VforkDone {
    pub done: AtomicBool,
    pub waiters: sync::WaitQueue,
}

impl VforkDone {
    /// Lets the parent go on.
    pub fn complete(&self) {
        self.done.store(true, Ordering::Release);
        self.waiters.wake_all();
    }
}

/// A counted pointer to a task.
#[derive(Clone)]
pub struct TaskRef(pub Arc<Task>);

impl Deref for TaskRef {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.0
    }
}

impl Handle for TaskRef {
    fn queue_link(&self) -> &QueueLink {
        &self.0.queue_link
    }
}

impl core::fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "task {} ({})", self.tid(), self.name())
    }
}

/// What a new task is made of; the rest begins empty.
pub struct NewTask {
    pub tid: i32,
    pub process: Arc<Process>,
    pub stack: Option<KernelStack>,
    pub params: sched::Params,
    pub affinity: CpuMask,
    pub numa: TaskNuma,
    pub mm: Option<Arc<Mm>>,
    pub fpu: FpuState,
    pub bases: (u64, u64),
    pub files: Arc<FdTable>,
    pub fs: Arc<FsContext>,
    pub creds: Arc<Creds>,
    pub signals: TaskSignals,
    pub comm: [u8; 16],
    pub kernel_thread: bool,
}

impl Task {
    /// A task that has not run yet.
    pub fn create(new: NewTask) -> TaskRef {
        TaskRef(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            tid: AtomicI32::new(new.tid),
            process: new.process,
            stack: new.stack,
            saved_sp: AtomicU64::new(0),
            queue_link: QueueLink::new(),
            entity: IrqLock::new(Some(Entity::new(new.params))),
            run_state: RunState::new(hal::percpu::cpu()),
            affinity: IrqLock::new(new.affinity),
            asked_affinity: IrqLock::new(None),
            is_frozen: AtomicBool::new(false),
            cgroup: AtomicU64::new(cgroup::ROOT),
            numa: SpinLock::new(new.numa),
            own_mm: Own::new(new.mm),
            fpu: Own::new(new.fpu),
            bases: Own::new(new.bases),
            files: SpinLock::new(new.files),
            fs: SpinLock::new(new.fs),
            creds: SpinLock::new(new.creds),
            creds_id: AtomicU64::new(crate::creds::new_id()),
            signals: new.signals,
            comm: SpinLock::new(new.comm),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            pi: crate::futex::pi::PiState::default(),
            rseq: SpinLock::new((0, 0, 0)),
            counters: Counters::default(),
            stamp: AtomicU64::new(hal::cpu::rdtsc()),
            #[cfg(feature = "checks")]
            held: sync::order::Held::new(),
            #[cfg(feature = "checks")]
            faults: crate::faults::TaskFaults::default(),
            exit_code: AtomicI32::new(0),
            start_time: hal::time::now(),
            timer_slack: AtomicU64::new(50_000),
            default_timer_slack: AtomicU64::new(50_000),
            reset_on_fork: AtomicBool::new(false),
            nice_when_fair: AtomicI32::new(0),
            kernel_thread: new.kernel_thread,
            vfork_done: SpinLock::new(None),
            parent_death_signal: AtomicI32::new(0),
            too_many_tasks: AtomicBool::new(false),
            restart: SpinLock::new(None),
            trace: crate::ptrace::TaskTrace::default(),
            perf: crate::perf::TaskPerf::default(),
            next_dead: IrqLock::new(None),
        }))
    }

    /// What it is doing.
    #[inline]
    pub fn state(&self) -> State {
        self.run_state.state()
    }

    /// Top of its kernel stack.
    pub(crate) fn stack_top(&self) -> u64 {
        self.stack.as_ref().map_or(0, KernelStack::top)
    }

    /// Its name, as /proc/PID/comm shows it.
    pub fn name(&self) -> String {
        let comm = self.comm.lock();
        let len = comm.iter().position(|&b| b == 0).unwrap_or(16);
        String::from_utf8_lossy(&comm[..len]).into_owned()
    }

    /// Its name's bytes, unless somebody is changing it: for a panic, which waits for nobody and
    /// takes no memory.
    pub fn try_comm(&self) -> Option<[u8; 16]> {
        self.comm.try_lock().map(|comm| *comm)
    }

    /// Sets its name (cut to 15 bytes).
    pub fn set_name(&self, name: &[u8]) {
        let mut comm = [0; 16];
        let len = name.len().min(15);
        comm[..len].copy_from_slice(&name[..len]);
        *self.comm.lock() = comm;
    }

    /// Its id.
    #[inline]
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// exec: the calling thread becomes its group's leader. The table of tasks is the caller's.
    pub(crate) fn take_leaders_tid(&self) {
        self.tid.store(self.process.pid, Ordering::Relaxed);
    }

    /// Its process's id.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// The first thread of its process?
    pub fn is_leader(&self) -> bool {
        self.tid() == self.process.pid
    }

    /// CPU it runs on or ran on last.
    pub fn last_cpu(&self) -> numa::CpuId {
        self.run_state.cpu()
    }

    /// A counted pointer to it; None when it is on its way out.
    pub fn handle(&self) -> Option<TaskRef> {
        self.me.upgrade().map(TaskRef)
    }

    /// Its credentials.
    pub fn credentials(&self) -> Arc<Creds> {
        self.creds.lock().clone()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The first thread's id is its process's: it is free again once that is reaped.
        if self.tid() != self.process.pid {
            table::free_tid(self.tid());
        }
    }
}

/// What a process's threads have used so far, those that are gone included.
pub fn usage_of_process(process: &Process) -> process::Use {
    let mut used = *process.dead_threads.lock();
    for thread in process.threads() {
        used.add(&usage_of_task(&thread));
    }
    used
}

/// What a task has used so far.
pub fn usage_of_task(task: &Task) -> process::Use {
    let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
    let c = &task.counters;
    let (user, system) = crate::sched::accounts::of_task(task);
    process::Use {
        user,
        system,
        minor: get(&c.minor_faults),
        major: get(&c.major_faults),
        voluntary: get(&c.voluntary),
        involuntary: get(&c.involuntary),
        max_rss: 0,
        io: [&c.read_bytes, &c.written_bytes, &c.reads, &c.writes].map(get),
    }
}
