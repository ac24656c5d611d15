//! The end of threads and processes.

use crate::chain::{Chain, Chained, Link};
use crate::task::kept::KeptMemory;
use crate::task::process::Remains;
use crate::task::{Process, State, Task, TaskRef, current, table};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use numa::MAX_CPUS;
use sync::IrqLock;

/// Dead tasks whose last switch is over, per CPU: freed where sleeping locks may be taken.
static DELAYED: [IrqLock<Chain<Task, ()>>; MAX_CPUS] =
    [const { IrqLock::new(Chain::new()) }; MAX_CPUS];

impl Chained<()> for Task {
    fn link(&self) -> &Link<Self> {
        &self.next_dead
    }
}

/// Keeps a dead task until [`put_delayed_tasks`] (called by the switch, with interrupts off).
pub fn delayed_put_task(task: TaskRef) {
    DELAYED[hal::percpu::cpu().index()].lock().push(task.0);
}

/// Frees this CPU's dead tasks.
pub fn put_delayed_tasks() {
    let dead = DELAYED[hal::percpu::cpu().index()].lock().take();
    drop(dead);
}

/// exit_group(2), or a fatal signal: `status` as wait(2) reports it. Ends the running task too.
pub fn exit_group(status: i32) -> ! {
    let task = current();
    let process = &task.process;
    if !process.exiting.swap(true, Ordering::AcqRel) {
        process.exit_status.store(status, Ordering::Release);
        crate::signal::kill_threads(process);
    }
    exit_thread(process.exit_status.load(Ordering::Acquire))
}

/// The running task's policy left it without memory: it is killed, as the OOM killer would.
pub fn out_of_memory() {
    let task = current();
    log::error!(
        "Out of memory: Killed process {} ({}), its policy's nodes are full",
        task.pid(),
        task.name()
    );
    crate::signal::send_kernel(&task.process, 9);
}

/// exit(2): the end of the running thread, and of its process with the last one.
pub fn exit_thread(status: i32) -> ! {
    let task = current();
    crate::ptrace::events::exiting(status);
    task.exit_code.store(status, Ordering::Relaxed);
    before_exit();
    crate::signal::on_thread_exit();
    let process = task.process.clone();
    let handle = task.handle();
    release_memory();
    let files = core::mem::replace(&mut *handle.files.lock(), crate::files::no_files());
    drop(files);
    // Where it worked may be unmounted as soon as its end is known.
    let context = core::mem::replace(&mut *handle.fs.lock(), crate::files::no_fs());
    drop(context);
    crate::perf::on_exit();
    crate::traffic::ended();
    let last = leave_group(&process, &handle);
    if last {
        end_process(&process, status);
    }
    #[cfg(feature = "checks")]
    task.faults.end(u64::from(abi::raw::general::__NR_exit));
    drop(process);
    // Off until the next task runs: one that is preempted is put back into the queue, dead or not.
    hal::irq::disable();
    handle.run_state.set_state(State::Dead);
    drop(handle);
    crate::sched::schedule();
    unreachable!("a dead task ran again")
}

/// What must happen while the thread's memory is still there: robust futexes, the thread id that
/// waiters look at, vfork's parent.
fn before_exit() {
    crate::futex::on_thread_exit();
    if let Some(done) = current().vfork_done.lock().take() {
        done.complete();
    }
}

/// Leaves the address space; the last user unmaps it.
fn release_memory() {
    let task = current();
    let old = task.set_mm(None);
    vm::tlb::leave();
    if let Some(mm) = old {
        mm.note_peak();
        {
            let mut dead = task.process.dead_threads.lock();
            let peak = mm.peak_rss.load(Ordering::Relaxed).max(0) as u64;
            dead.max_rss = dead.max_rss.max(peak);
        }
        if mm.users() == 1 {
            if task.process.keep_memory.load(Ordering::Relaxed) {
                let policy = task.numa.lock().policy;
                *task.process.kept.lock() = Some(KeptMemory::new(&mm, policy));
            }
            *task.process.mm.lock() = None;
        }
        mm.quit();
    }
}

/// Takes the thread out of its group; true when it was the last.
fn leave_group(process: &Arc<Process>, task: &TaskRef) -> bool {
    let _tree = table::TREE.lock();
    crate::ptrace::links::tracer_ends(task);
    crate::ptrace::links::tracee_ends(task);
    crate::cgroup::end::leave(task);
    {
        let _irq = hal::irq::IrqOff::new();
        crate::sched::charge_kernel(task);
    }
    let last = {
        let mut dead = process.dead_threads.lock();
        dead.add(&crate::task::usage_of_task(task));
        let comm = *task.comm.lock();
        let remains = Remains {
            comm,
            creds: task.credentials(),
            cpu: task.last_cpu(),
            timer_slack: task.timer_slack.load(Ordering::Relaxed),
        };
        *process.remains.lock() = Some(remains);
        let mut place = process.place.lock();
        let gone = place.threads.leave(task.tid());
        let last = place.threads.is_empty();
        drop(place);
        drop(gone);
        last
    };
    table::remove_task(task.tid());
    process.thread_events.wake_all();
    last
}

/// The last thread is gone: children go to the reaper, the parent is told.
fn end_process(process: &Arc<Process>, status: i32) {
    let mm = process.mm.lock().take();
    let exe = process.exe.lock().take();
    drop((mm, exe));
    let status = if process.exiting.load(Ordering::Acquire) {
        process.exit_status.load(Ordering::Acquire)
    } else {
        status
    };
    process.exit_status.store(status, Ordering::Release);
    if process.pid == 1 {
        panic!("Attempted to kill init! exitcode={status:#010x}");
    }
    crate::time::on_process_end(process);
    crate::ipc::sem::on_process_end(process);
    crate::signal::on_process_end(process);
    let _tree = table::TREE.lock();
    reparent_children(process);
    process.zombie.store(true, Ordering::Release);
    process.ended.wake_all();
    announce(process);
}

/// Tells of the end of a process whose threads are all gone: its tracer first, if that is not its
/// parent. Not while a tracer has ends of its threads to see. The tree is locked.
pub fn announce(process: &Arc<Process>) {
    if !crate::wait::is_over(process) {
        return;
    }
    if let Some(tracer) = crate::ptrace::links::foreign_tracer(process) {
        let event = crate::wait::ended(process.exit_status.load(Ordering::Acquire));
        crate::signal::send_child_event(&tracer, process, 17, event);
        tracer.child_events.wake_all();
        return;
    }
    let parent = process.place.lock().parent.upgrade();
    if let Some(parent) = parent {
        parent.place.lock().dead.insert(process.pid, process.clone());
        crate::wait::notify_parent(process, &parent);
    }
}

/// Gives the children to the nearest subreaper above, or to init. The tree is locked.
fn reparent_children(process: &Arc<Process>) {
    let children = {
        let mut place = process.place.lock();
        place.dead.clear();
        core::mem::take(&mut place.children)
    };
    if children.is_empty() {
        return;
    }
    let mut heir = process.place.lock().parent.upgrade();
    while let Some(candidate) = &heir {
        let (is_reaper, parent) = {
            let place = candidate.place.lock();
            (place.subreaper || candidate.pid == 1, place.parent.upgrade())
        };
        if is_reaper && !candidate.exiting.load(Ordering::Acquire) {
            break;
        }
        heir = parent;
    }
    let Some(heir) = heir.or_else(|| table::process(1)) else { return };
    for child in children.into_values() {
        child.place.lock().parent = Arc::downgrade(&heir);
        for thread in child.threads() {
            let signal = thread.parent_death_signal.load(Ordering::Relaxed);
            if signal != 0 {
                crate::signal::send_kernel(&child, signal);
                break;
            }
        }
        child.exit_signal.store(17, Ordering::Relaxed);
        let zombie =
            crate::wait::is_over(&child) && crate::ptrace::links::foreign_tracer(&child).is_none();
        {
            let mut theirs = heir.place.lock();
            theirs.children.insert(child.pid, child.clone());
            if zombie {
                theirs.dead.insert(child.pid, child.clone());
            }
        }
        if zombie {
            crate::wait::notify_parent(&child, &heir);
        }
    }
}
