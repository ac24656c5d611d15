//! New threads and processes: fork, vfork, clone, clone3.

use crate::ptrace::{events, links};
use crate::signal::attention::{KILL, STOP};
use crate::signal::{ProcessSignals, TaskSignals};
use crate::task::process::{Place, Use};
use crate::task::stack::KernelStack;
use crate::task::{NewTask, Process, Task, TaskRef, Threads, VforkDone, current, process, table};
use abi::raw::general as g;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use frames::fallible::{arc, ready_arc};
use hal::VirtAddr;
use hal::trap::TrapFrame;
use ptrace::Event;
use sched::{Class, FairKind, Nice, Params};
use sync::{SpinLock, WaitQueue};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub exit_signal: i32,
    /// Top of the child's stack; 0 for the parent's.
    pub stack: u64,
    pub tls: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    pub pidfd: u64,
    /// The control group to begin in; None for the maker's.
    pub cgroup: Option<cgroup::Id>,
}

const NAMESPACES: u64 = g::CLONE_NEWNS as u64
    | g::CLONE_NEWCGROUP as u64
    | g::CLONE_NEWUTS as u64
    | g::CLONE_NEWIPC as u64
    | g::CLONE_NEWUSER as u64
    | g::CLONE_NEWPID as u64
    | g::CLONE_NEWNET as u64
    | g::CLONE_NEWTIME as u64;

fn has(flags: u64, flag: u32) -> bool {
    flags & u64::from(flag) != 0
}

fn check(args: &CloneArgs) -> Result<()> {
    let f = args.flags;
    if has(f, g::CLONE_SIGHAND) && !has(f, g::CLONE_VM)
        || has(f, g::CLONE_THREAD) && !has(f, g::CLONE_SIGHAND)
        || has(f, g::CLONE_FS) && has(f, g::CLONE_NEWNS)
    {
        return Err(Errno::EINVAL);
    }
    if has(f, g::CLONE_SETTLS) && args.tls >= hal::user::USER_END {
        return Err(Errno::EPERM);
    }
    // Namespaces are not there, and threads have no descriptors of their own.
    if f & NAMESPACES != 0 || has(f, g::CLONE_PIDFD) && has(f, g::CLONE_THREAD) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Makes a child of the running task and starts it; its id. The parent of a vfork child returns
/// when the child has executed another program or ended.
pub fn clone(args: CloneArgs, frame: &mut TrapFrame) -> Result<i32> {
    check(&args)?;
    crate::exit::put_delayed_tasks();
    let f = args.flags;
    let parent = current();
    // What was sent before the fork is handled before it, by the parent alone.
    if crate::signal::interrupts(&parent) {
        return Err(Errno::ERESTARTNOINTR);
    }
    let thread = has(f, g::CLONE_THREAD);
    let event = events::of_clone(f, args.exit_signal);
    let traced = event.is_some() || has(f, g::CLONE_PTRACE);
    if crate::limits::too_many_tasks() {
        return Err(Errno::EAGAIN);
    }
    // What can be refused comes before the child has an id and memory.
    let mut birth = crate::cgroup::birth::Birth::begin(args.cgroup)?;
    let mut files = parent.files.lock().clone();
    if !has(f, g::CLONE_FILES) {
        files = arc(files.duplicate()?)?;
    }
    let mut fs = parent.fs.lock().clone();
    if !has(f, g::CLONE_FS) {
        fs = arc(fs.duplicate()?)?;
    }
    if !thread {
        ready_arc::<Process>()?;
    }
    ready_arc::<Task>()?;
    let stack = KernelStack::new(vm::env::local_node()).ok_or(Errno::ENOMEM)?;
    let mm = {
        let own = parent.mm().map(|mm| mm.clone()).ok_or(Errno::EINVAL)?;
        if has(f, g::CLONE_VM) {
            own.join();
            own
        } else {
            own.fork()?
        }
    };
    let tid = table::alloc_tid();
    let fpu = {
        // The scheduler saves into the same place.
        let _stay = hal::preempt::PreemptGuard::new();
        let mut state = parent.fpu();
        state.save();
        state.clone()
    };
    let (user_fs, user_gs) = hal::switch::read_user_bases();
    let bases = (if has(f, g::CLONE_SETTLS) { args.tls } else { user_fs }, user_gs);
    let process = if thread { parent.process.clone() } else { new_process(tid, &args, &mm) };
    let handle = parent.handle();
    let params = child_params(&handle);
    // Each lock for its own copy only: in the expression below they would all be held to its end.
    let affinity = *parent.affinity.lock();
    let asked_affinity = *parent.asked_affinity.lock();
    let numa = parent.numa.lock().clone();
    let creds = parent.creds.lock().clone();
    let comm = *parent.comm.lock();
    let child = Task::create(NewTask {
        tid,
        process: process.clone(),
        stack: Some(stack),
        params,
        affinity,
        numa,
        mm: Some(mm),
        fpu,
        bases,
        files,
        fs,
        creds,
        signals: TaskSignals::inherit(
            &parent,
            thread,
            has(f, g::CLONE_VM) && !has(f, g::CLONE_VFORK),
        ),
        comm,
        kernel_thread: false,
    });
    *child.asked_affinity.lock() = asked_affinity;
    child.nice_when_fair.store(parent.nice_when_fair.load(Ordering::Relaxed), Ordering::Relaxed);
    let slack = parent.timer_slack.load(Ordering::Relaxed);
    child.timer_slack.store(slack, Ordering::Relaxed);
    child.default_timer_slack.store(slack, Ordering::Relaxed);
    if thread {
        child.creds_id.store(parent.creds_id.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    if has(f, g::CLONE_CHILD_CLEARTID) {
        child.clear_child_tid.store(args.child_tid, Ordering::Relaxed);
    }
    if !has(f, g::CLONE_VM) {
        *child.rseq.lock() = *parent.rseq.lock();
    }
    if let Err(error) = crate::perf::on_clone(&child, thread) {
        abandon(&child);
        return Err(error);
    }
    let pidfd = if has(f, g::CLONE_PIDFD) {
        match give_pidfd(&process, args.pidfd) {
            Ok(fd) => Some(fd),
            Err(error) => {
                abandon(&child);
                return Err(error);
            }
        }
    } else {
        None
    };
    if has(f, g::CLONE_PARENT_SETTID) {
        // A bad address is the program's own doing; Linux ignores it too.
        let _ = hal::user::write(VirtAddr::new(args.parent_tid), &tid);
    }
    prepare_context(&child, frame, &args);
    if has(f, g::CLONE_CHILD_SETTID) {
        // In the child's memory: a shared one is written here, a copied one by the child itself.
        child.set_child_tid.store(args.child_tid, Ordering::Relaxed);
    }
    let vfork = has(f, g::CLONE_VFORK).then(|| Arc::new(VforkDone::default()));
    *child.vfork_done.lock() = vfork.clone();
    {
        let _tree = table::TREE.lock();
        // A stop or the end of the group misses no thread.
        let joined = if parent.signals.attention.load(Ordering::SeqCst) & (KILL | STOP) != 0 {
            Err(Errno::ERESTARTNOINTR)
        } else {
            links::inherit(&child, traced)
                .and_then(|()| birth.join(&child).inspect_err(|_| links::disown(&child)))
        };
        if let Err(error) = joined {
            drop(_tree);
            abandon(&child);
            if let Some(fd) = pidfd {
                // Another thread may have closed it already.
                let _ = parent.files.lock().clone().close(fd);
            }
            return Err(error);
        }
        process.place.lock().threads.join(child.clone());
        if !thread {
            let real_parent = if has(f, g::CLONE_PARENT) {
                parent.process.place.lock().parent.upgrade()
            } else {
                None
            }
            .unwrap_or_else(|| parent.process.clone());
            {
                let from = parent.process.place.lock();
                let (pgid, sid) = (from.pgid, from.sid);
                drop(from);
                {
                    let mut place = process.place.lock();
                    place.parent = Arc::downgrade(&real_parent);
                    place.sid = sid;
                }
                table::join_group(&process, pgid);
            }
            real_parent.place.lock().children.insert(process.pid, process.clone());
            table::add_process(&process);
        }
        table::add_task(&child);
    }
    birth.settle(&child);
    if !thread {
        crate::time::itimer::on_start(&child);
    }
    crate::perf::on_fork(&child);
    crate::traffic::cloned(&child);
    crate::sched::start(&child);
    if let Some(event) = event {
        events::report(frame, event, tid);
    }
    if let Some(vfork) = vfork {
        let done = || vfork.done.load(Ordering::Acquire).then_some(());
        // Only the end of the parent ends this wait early.
        let waited =
            crate::signal::killable(&parent, || vfork.waiters.wait_interruptible(None, done));
        if waited.is_ok() {
            events::report(frame, Event::VforkDone, tid);
        }
    }
    Ok(tid)
}

/// CLONE_PIDFD: a descriptor of the new process for its parent, stored at `at`.
fn give_pidfd(process: &Arc<Process>, at: u64) -> Result<i32> {
    let parent = current();
    let files = parent.files.lock().clone();
    let most = parent.process.soft_limit(process::limit::NOFILE);
    let fd = files.insert(crate::pidfd::file(process, false)?, true, most)?;
    if let Err(error) = hal::user::write(VirtAddr::new(at), &fd) {
        // Just made; another thread may have closed it already.
        let _ = files.close(fd);
        return Err(error);
    }
    Ok(fd)
}

/// A child's scheduling: its parent's own (not what that inherits through a lock), or an ordinary
/// task's if the parent wants that.
fn child_params(parent: &TaskRef) -> Params {
    let params = parent.pi.own_params().unwrap_or_else(|| crate::sched::stats_of(parent).1);
    if !parent.reset_on_fork.load(Ordering::Relaxed) {
        return params;
    }
    let nice = match params.class {
        Class::Fair { nice, .. } => nice.max(Nice::default()),
        _ => Nice::default(),
    };
    let kind = match params.class {
        Class::Fair { kind, .. } => kind,
        _ => FairKind::Normal,
    };
    Params::new(Class::Fair { kind, nice }, crate::sched::default_slice())
}

/// Gives back what a child that never started holds.
fn abandon(child: &TaskRef) {
    crate::perf::on_abandon(child);
    if let Some(mm) = child.switching_mm().as_ref() {
        mm.quit();
    }
    // A new process's id is not its task's to give back.
    if child.is_leader() {
        table::free_tid(child.tid());
    }
}

fn new_process(pid: i32, args: &CloneArgs, mm: &Arc<vm::Mm>) -> Arc<Process> {
    let parent = current();
    let from = &parent.process;
    let signals = ProcessSignals::inherit(&from.signals, args.flags);
    let process = bare_process(pid, signals);
    *process.mm.lock() = Some(mm.clone());
    *process.limits.lock() = *from.limits.lock();
    *process.exe.lock() = from.exe.lock().clone();
    process.uid.store(parent.creds.lock().uid, Ordering::Relaxed);
    process.maker.store(parent.tid(), Ordering::Relaxed);
    process.exit_signal.store(args.exit_signal, Ordering::Relaxed);
    let execs = if has(args.flags, g::CLONE_PARENT) { &from.execs_of_parent } else { &from.execs };
    process.execs_of_parent.store(execs.load(Ordering::Relaxed), Ordering::Relaxed);
    process.execs.store(from.execs.load(Ordering::Relaxed), Ordering::Relaxed);
    if args.flags & u64::from(g::CLONE_VM) != 0 {
        process.membarrier.store(from.membarrier.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    process.personality.store(from.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    process.dumpable.store(from.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    process.oom_score_adj.store(from.oom_score_adj.load(Ordering::Relaxed), Ordering::Relaxed);
    process
}

/// A process without parent, memory or threads.
///
/// Not inlined, so that the value is built where the caller moves it from: it is over 1 KiB, and
/// is on the stack once.
#[inline(never)]
fn blank_process(pid: i32, signals: ProcessSignals) -> Process {
    Process {
        pid,
        place: SpinLock::new(Place {
            parent: alloc::sync::Weak::new(),
            children: BTreeMap::new(),
            dead: BTreeMap::new(),
            tracer: alloc::sync::Weak::new(),
            dead_tracees: 0,
            threads: Threads::new(pid),
            pgid: 0,
            sid: 0,
            subreaper: false,
            has_execed: false,
        }),
        mm: SpinLock::new(None),
        signals,
        limits: SpinLock::new(process::initial_limits()),
        exe: SpinLock::new(None),
        exiting: AtomicBool::new(false),
        exit_status: AtomicI32::new(0),
        uid: AtomicU32::new(0),
        maker: AtomicI32::new(0),
        zombie: AtomicBool::new(false),
        change: SpinLock::new(None),
        exit_signal: AtomicI32::new(17),
        execs: AtomicU32::new(0),
        execs_of_parent: AtomicU32::new(0),
        ended: Arc::new(WaitQueue::new()),
        child_events: WaitQueue::new(),
        tracees: crate::ptrace::Tracees::default(),
        thread_events: WaitQueue::new(),
        dead_threads: SpinLock::new(Use::default()),
        cgroup_at_end: AtomicU64::new(cgroup::ROOT),
        remains: SpinLock::new(None),
        reaped_children: SpinLock::new(Use::default()),
        start_time: hal::time::now(),
        timers: crate::time::ProcessTimers::default(),
        membarrier: AtomicU64::new(0),
        personality: AtomicU32::new(0),
        dumpable: AtomicI32::new(1),
        oom_score_adj: AtomicI32::new(0),
        keep_memory: AtomicBool::new(false),
        kept: SpinLock::new(None),
    }
}

fn bare_process(pid: i32, signals: ProcessSignals) -> Arc<Process> {
    Arc::new(blank_process(pid, signals))
}

/// The process of the kernel's own tasks: id 0, in no table.
pub fn kernel_process() -> Arc<Process> {
    bare_process(0, ProcessSignals::default())
}

/// The first process of user space.
pub fn first_process() -> Arc<Process> {
    let process = bare_process(table::alloc_tid(), ProcessSignals::default());
    table::add_process(&process);
    table::join_group(&process, 0);
    process
}

/// Prepares the child's kernel stack: it begins in [`child_start`], which leaves to user mode with
/// the parent's registers, 0 as the call's result, and its own stack if one was given.
fn prepare_context(child: &TaskRef, frame: &TrapFrame, args: &CloneArgs) {
    let mut user = *frame;
    user.rax = 0;
    user.rflags = links::childs_flags(user.rflags);
    if args.stack != 0 {
        user.rsp = args.stack;
    }
    let at = hal::switch::place_frame(child.stack_top(), &user);
    let sp = hal::switch::new_stack(at, child_start, at);
    child.saved_sp.store(sp, Ordering::Release);
}

/// A new user task's first function, on its own kernel stack below its user frame.
extern "C" fn child_start(frame: u64) -> ! {
    crate::sched::first_run();
    let task = current();
    let set_tid = task.set_child_tid.swap(0, Ordering::Relaxed);
    if set_tid != 0 {
        // A bad address is the program's own doing; Linux ignores it too.
        let _ = hal::user::write(VirtAddr::new(set_tid), &task.tid());
    }
    hal::switch::leave_to_user(frame, crate::trap::HANDLERS.return_to_user)
}

/// Starts a thread of the kernel: `run(arg)` on a stack of its own.
pub fn spawn_kernel(
    name: &str,
    affinity: numa::CpuMask,
    run: extern "C" fn(u64) -> !,
    arg: u64,
) -> Result<TaskRef> {
    let stack = KernelStack::new(vm::env::local_node()).ok_or(Errno::ENOMEM)?;
    let task = crate::boot::kernel_task(name, Some(stack), affinity, table::alloc_tid());
    let sp = hal::switch::new_stack(task.stack_top() - 64, run, arg);
    task.saved_sp.store(sp, Ordering::Release);
    crate::sched::start(&task);
    Ok(task)
}
