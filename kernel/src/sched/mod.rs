//! Scheduling: per-CPU run queues, switching, waking.
//!
//! The decisions are the `sched` crate's; here are the locks, the switch itself and what goes with
//! it. Lock order: a task's `entity`, then a run queue. A task that is being switched away from
//! (`on_cpu`) is on no other CPU's queue: whoever wakes or moves it waits until it is off.

pub mod accounts;
pub mod affinity;
mod balance;
pub mod hooks;
pub mod idle;
mod params;
mod switch;
mod tell;
pub mod timers;
mod wake;

pub use accounts::{charge_kernel, charge_return};
pub use balance::{look_again, on_exec, tick};
pub use params::{set_params, stats_of};
pub use switch::{first_run, preempt, schedule, yield_now};
pub use tell::tell;
pub use wake::{start, wake, wake_if};

use crate::task::TaskRef;
use crate::task::current::set_current;
use ::sched::{Domains, Entity, IdleMasks, RunQueue};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use hal::apic::Ipi;
use hal::{cpu_area, percpu};
use numa::{AtomicCpuMask, CpuId, CpuMask, MAX_CPUS};
use sync::{IrqLock, Once};

/// One CPU's queue and what others may know of it without its lock.
#[repr(align(64))]
pub struct Cpu {
    queue: IrqLock<Queue>,
    load: AtomicU64,
    priority: AtomicU8,
    pub switches: AtomicU64,
    /// Nanoseconds idle.
    pub idle_time: AtomicU64,
    /// What it has loaded for the running task beside registers (`ptrace::special`).
    special: AtomicU32,
    /// What tasks have used of it.
    pub accounts: accounts::Accounts,
}

struct Queue {
    ready: RunQueue<TaskRef>,
    idle: TaskRef,
    /// The task that was switched away from last, until the switch is over.
    before: Option<TaskRef>,
    /// The running task would be nearer to its memory elsewhere.
    off_preferred: bool,
    /// The running task is to leave for another CPU at the next switch.
    leaves: bool,
    /// It leaves this CPU: to be put on another one's queue after the switch.
    forced_out: Option<Entity<TaskRef>>,
    /// When periodic balancing is due.
    balance_at: u64,
    /// When busy CPUs are asked again to take something from here.
    offer_at: u64,
}

static CPUS: [Once<Box<Cpu>>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static IDLE_MASKS: IdleMasks<AtomicCpuMask> =
    IdleMasks::new(AtomicCpuMask::new(), AtomicCpuMask::new());
static DOMAINS: Once<Domains> = Once::new();

/// A CPU's scheduler.
pub fn cpu(id: CpuId) -> Option<&'static Cpu> {
    CPUS[id.index()].get().map(|c| &**c)
}

fn domains() -> &'static Domains {
    DOMAINS.get_or_init(|| Domains::new(crate::machine()))
}

/// The slice of a fair task that asks for none.
pub fn default_slice() -> u64 {
    ::sched::base_slice(crate::boot::cpus::online().count())
}

/// Makes a CPU's queue; `idle` is the task that the CPU already runs.
pub fn start_cpu(id: CpuId, idle: TaskRef) {
    idle.run_state.set_runnable();
    idle.run_state.set_on_cpu();
    idle.run_state.lock_allowed_queue(id, |_| (), |_| true, || id);
    CPUS[id.index()].get_or_init(|| {
        Box::new(Cpu {
            queue: IrqLock::new(Queue {
                ready: RunQueue::new(id),
                idle,
                before: None,
                off_preferred: false,
                leaves: false,
                forced_out: None,
                balance_at: 0,
                offer_at: 0,
            }),
            load: AtomicU64::new(0),
            priority: AtomicU8::new(0),
            special: AtomicU32::new(0),
            switches: AtomicU64::new(0),
            idle_time: AtomicU64::new(0),
            accounts: accounts::Accounts::new(),
        })
    });
}

/// The loads of all CPUs, as the placement decisions see them.
struct Hints;

impl ::sched::Loads for Hints {
    fn is_idle(&self, cpu: CpuId) -> bool {
        IDLE_MASKS.idle().test(cpu, Ordering::Relaxed)
    }
    fn idle(&self) -> CpuMask {
        IDLE_MASKS.idle().load(Ordering::Relaxed)
    }
    fn overloaded(&self) -> CpuMask {
        IDLE_MASKS.overloaded().load(Ordering::Relaxed)
    }
    fn load(&self, id: CpuId) -> u64 {
        cpu(id).map_or(u64::MAX, |c| c.load.load(Ordering::Relaxed))
    }
    fn running_priority(&self, id: CpuId) -> u8 {
        cpu(id).map_or(u8::MAX, |c| c.priority.load(Ordering::Relaxed))
    }
}

impl Cpu {
    /// Tells the others how things stand here. Writes only what changed: these lines are read by
    /// every CPU.
    fn publish(&self, queue: &Queue) {
        // One that waits for an idle CPU has been given that one, and it will come.
        IDLE_MASKS.update(queue.ready.cpu(), queue.ready.is_empty(), queue.ready.len() > 1);
        self.load.store(queue.ready.load(), Ordering::Relaxed);
        let priority =
            queue.ready.current_params().and_then(|p| p.class.rt_priority()).unwrap_or(0);
        self.priority.store(priority, Ordering::Relaxed);
    }
}

/// Has `id` look for something better to run. After the caller has had the lock of that queue.
fn reschedule(id: CpuId) {
    if id == percpu::cpu() {
        percpu::set_need_resched();
    } else if let Some(area) = cpu_area::of(id)
        && !area.needs_resched()
    {
        hal::apic::send_ipi(area, Ipi::Reschedule);
    }
}

/// The task that runs on a CPU; None while that idles.
pub fn running_on(id: CpuId) -> Option<TaskRef> {
    cpu(id)?.queue.lock().ready.current().cloned()
}

/// Tasks that are ready or running, over all CPUs.
pub fn running() -> usize {
    (0..MAX_CPUS).filter_map(|i| CPUS[i].get()).map(|c| c.queue.lock().ready.len()).sum()
}

/// The code that runs on `id` since its start becomes its idle task.
pub fn adopt_idle(id: CpuId) {
    if let Some(here) = cpu(id) {
        let idle = here.queue.lock().idle.clone();
        set_current(&idle);
        here.publish(&here.queue.lock());
    }
}
