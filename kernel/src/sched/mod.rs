//! Scheduling: per-CPU run queues, switching, waking.
//!
//! The decisions are the `sched` crate's; here are the locks, the switch itself and what goes with
//! it. Lock order: a task's `entity`, then a run queue. A task that is being switched away from
//! (`on_cpu`) is on no other CPU's queue: whoever wakes or moves it waits until it is off.

pub mod accounts;
pub mod affinity;
pub mod hooks;
pub mod idle;
pub mod timers;

use crate::task::current::set_current;
use crate::task::{State, Task, TaskRef, current};
use ::sched::{Dequeue, Domains, Enqueue, Entity, Params, RunQueue};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use hal::apic::Ipi;
use hal::irq::IrqOff;
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
    /// What tasks have used of it.
    pub accounts: accounts::Accounts,
}

struct Queue {
    ready: RunQueue<TaskRef>,
    idle: TaskRef,
    /// The task that was switched away from last, until the switch is over.
    before: Option<TaskRef>,
    /// It may not stay on this CPU: to be put on another one's queue after the switch.
    exile: Option<Entity<TaskRef>>,
    /// When periodic balancing is due.
    balance_at: u64,
    /// When busy CPUs are asked again to take something from here.
    offer_at: u64,
}

static CPUS: [Once<Box<Cpu>>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static IDLE: AtomicCpuMask = AtomicCpuMask::new();
static OVERLOADED: AtomicCpuMask = AtomicCpuMask::new();
static DOMAINS: Once<Domains> = Once::new();

/// Nanoseconds between looks at the balance, on a busy CPU.
const BALANCE: u64 = 8_000_000;

/// A CPU's scheduler.
pub fn cpu(id: CpuId) -> Option<&'static Cpu> {
    CPUS[id.index()].get().map(|c| &**c)
}

fn domains() -> &'static Domains {
    DOMAINS.call_once(|| Domains::new(crate::machine()))
}

/// The slice of a fair task that asks for none.
pub fn default_slice() -> u64 {
    ::sched::base_slice(crate::boot::cpus::online().count())
}

/// Makes a CPU's queue; `idle` is the task that the CPU already runs.
pub fn start_cpu(id: CpuId, idle: TaskRef) {
    idle.set_state(State::Runnable);
    idle.on_cpu.store(true, Ordering::Relaxed);
    idle.cpu.store(id.index() as u32, Ordering::Relaxed);
    CPUS[id.index()].call_once(|| {
        Box::new(Cpu {
            queue: IrqLock::new(Queue {
                ready: RunQueue::new(id),
                idle,
                before: None,
                exile: None,
                balance_at: 0,
                offer_at: 0,
            }),
            load: AtomicU64::new(0),
            priority: AtomicU8::new(0),
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
        IDLE.test(cpu, Ordering::Relaxed)
    }
    fn idle(&self) -> CpuMask {
        IDLE.load(Ordering::Relaxed)
    }
    fn overloaded(&self) -> CpuMask {
        OVERLOADED.load(Ordering::Relaxed)
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
        let id = queue.ready.cpu();
        let set = |mask: &AtomicCpuMask, on: bool| {
            if mask.test(id, Ordering::Relaxed) != on {
                if on {
                    mask.set(id, Ordering::SeqCst);
                } else {
                    mask.clear(id, Ordering::SeqCst);
                }
            }
        };
        set(&IDLE, queue.ready.is_empty());
        // One that waits for an idle CPU has been given that one, and it will come.
        set(&OVERLOADED, queue.ready.len() > 1);
        self.load.store(queue.ready.load(), Ordering::Relaxed);
        let priority =
            queue.ready.current_params().and_then(|p| p.class.rt_priority()).unwrap_or(0);
        self.priority.store(priority, Ordering::Relaxed);
    }
}

/// Has `id` look for something better to run.
fn reschedule(id: CpuId) {
    if id == percpu::cpu() {
        percpu::set_need_resched();
    } else if let Some(area) = cpu_area::of(id)
        && area.set_need_resched()
    {
        hal::apic::send_ipi(area, Ipi::Reschedule);
    }
}

/// Puts a task on a CPU's queue; on another one's if it may not use that one any more.
fn enqueue(mut id: CpuId, task: TaskRef, entity: Entity<TaskRef>, why: Enqueue) {
    let (cpu, mut queue, before) = loop {
        let Some(cpu) = cpu(id) else { return };
        let queue = cpu.queue.lock();
        let before = task.cpu.swap(id.index() as u32, Ordering::Relaxed);
        // The CPU is named before the mask is looked at, and sched_setaffinity writes the mask
        // before it looks where the task is: one of the two sees the other. The mask's lock
        // orders them.
        if task.affinity.lock().contains(id) {
            break (cpu, queue, before);
        }
        drop(queue);
        id = domains().for_exile(&Hints, &wish(&task, entity.params()));
    };
    let now = hal::time::now();
    if before != id.index() as u32 {
        task.counters.migrations.fetch_add(1, Ordering::Relaxed);
    }
    let preempts = queue.ready.enqueue(task, entity, why, now);
    // A running task whose slice nobody watched so far has competition now.
    let watch = queue.ready.waiting() == 1;
    cpu.publish(&queue);
    drop(queue);
    if preempts {
        reschedule(id);
    } else if watch {
        if id == percpu::cpu() {
            look_again();
        } else if let Some(area) = cpu_area::of(id) {
            hal::apic::send_ipi(area, Ipi::Reschedule);
        }
    }
}

fn wish(task: &Task, params: &Params) -> ::sched::Wish {
    ::sched::Wish {
        allowed: *task.affinity.lock() & crate::boot::cpus::online(),
        last: task.last_cpu(),
        home: None,
        weight: params.weight(),
        priority: params.class.rt_priority().unwrap_or(0),
    }
}

/// Starts a new task.
pub fn start(task: &TaskRef) {
    let mut slot = task.entity.lock();
    let Some(entity) = slot.take() else { return };
    task.set_state(State::Runnable);
    let id = domains().for_new(&Hints, &wish(task, entity.params()));
    enqueue(id, task.clone(), entity, Enqueue::New);
}

/// Wakes a sleeping task whose state `wakes` accepts; true when it did.
pub fn wake_if(task: &TaskRef, wakes: impl Fn(State) -> bool) -> bool {
    let mut slot = task.entity.lock();
    if !task.make_runnable(wakes) {
        return false;
    }
    // Without its entity it is still on its queue: it has not slept yet, and will not.
    if let Some(entity) = slot.take() {
        while task.on_cpu.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
        let id = domains().for_wakeup(&Hints, &wish(task, entity.params()), None);
        enqueue(id, task.clone(), entity, Enqueue::Wakeup);
    }
    true
}

/// Wakes a task that sleeps on a condition.
pub fn wake(task: &TaskRef) -> bool {
    wake_if(task, |s| matches!(s, State::Interruptible | State::Uninterruptible))
}

/// Gives the CPU to whoever should have it: returns when this task has it again.
///
/// The task's state says whether it sleeps. Not while spinning locks are held.
pub fn schedule() {
    assert!(
        percpu::preempt_state().0 == 0 && !percpu::in_interrupt(),
        "sleeping while a spinning lock is held"
    );
    switch(false);
}

/// As [`schedule`], for a task that did not ask for it: it stays ready whatever its state says.
pub fn preempt() {
    // The flag may have been cleared by a switch in between.
    if percpu::preempt_state() == (0, true) {
        switch(true);
    }
}

/// The switch.
fn switch(preempted: bool) {
    let irq = IrqOff::new();
    percpu::preempt_disable();
    let id = percpu::cpu();
    let here = cpu(id).expect("scheduling on a CPU that was not started");
    let task = current();
    let now = hal::time::now();
    percpu::clear_need_resched();

    let mut slot = task.entity.lock();
    let mut queue = here.queue.lock();
    let is_idle = core::ptr::eq(&*task, &*queue.idle.0);
    let is_nice = queue.ready.current_params().is_some_and(accounts::is_nice);
    let sleeps = !preempted && task.state() != State::Runnable;
    // Dequeueing lets go of the queue's reference, which is a dead task's last one.
    let prev = task.handle();
    if !is_idle {
        if sleeps {
            if let Some((_, entity)) = queue.ready.dequeue_current(Dequeue::Sleep, now) {
                *slot = Some(entity);
            }
        } else if !task.affinity.lock().contains(id)
            && let Some((_, entity)) = queue.ready.dequeue_current(Dequeue::Move, now)
        {
            queue.exile = Some(entity);
        }
    }
    drop(slot);
    if queue.ready.is_empty() || now >= queue.balance_at {
        queue.balance_at = now + BALANCE;
        drop(queue);
        pull_work(id, now);
        queue = here.queue.lock();
    }
    if queue.ready.is_empty() && !is_idle {
        here.publish(&queue);
        if !OVERLOADED.load(Ordering::SeqCst).is_empty() {
            // Since the look for work another CPU may have got too much without knowing that this
            // one idles. It does now: whoever comes after this look tells us.
            drop(queue);
            pull_work(id, now);
            queue = here.queue.lock();
        }
    }
    let next = match queue.ready.pick_next(now) {
        Some(next) => next.clone(),
        None => queue.idle.clone(),
    };
    here.publish(&queue);
    timers::arm_tick(queue.ready.next_tick(now), now);
    if core::ptr::eq(Arc_ptr(&next), &*task) {
        drop(queue);
        percpu::preempt_enable_no_resched();
        drop(irq);
        return;
    }
    let counter = if preempted { &task.counters.involuntary } else { &task.counters.voluntary };
    counter.fetch_add(1, Ordering::Relaxed);
    here.switches.fetch_add(1, Ordering::Relaxed);
    // Before anybody can take it for running: what it has used is counted from the stamp on.
    next.stamp.store(hal::cpu::rdtsc() & !IN_USER, Ordering::Relaxed);
    next.on_cpu.store(true, Ordering::Relaxed);
    let save = hal::switch::SaveSlot::of(&prev.saved_sp);
    queue.before = Some(prev.clone());
    charge_kernel(&prev);
    here.accounts.switched(&prev, !is_idle, is_nice, &next);
    drop(queue);
    crate::perf::leaves(&prev, &next, preempted);

    if !prev.kernel_thread {
        crate::rseq::note_switch(&prev);
        prev.fpu.switching().save();
        *prev.bases.switching() = hal::switch::read_user_bases();
    }
    vm::tlb::switch(next.switching_mm().as_ref());
    if !next.kernel_thread {
        next.fpu.switching().restore();
        let (fs, gs) = *next.bases.switching();
        hal::switch::load_user_bases(fs, gs);
    }
    set_current(&next);
    let to = next.saved_sp.load(Ordering::Relaxed);
    // The queue keeps both alive: the next as its running task, the previous as `before`.
    drop(next);
    drop(prev);
    hal::switch::switch_to(save, to);
    finish_switch();
    percpu::preempt_enable_no_resched();
    drop(irq);
}

#[allow(non_snake_case, reason = "reads as what it is: the address in the counted pointer")]
fn Arc_ptr(task: &TaskRef) -> *const Task {
    alloc::sync::Arc::as_ptr(&task.0)
}

/// What is left to do on the new task's stack: the previous one is off its own now.
fn finish_switch() {
    let here = cpu(percpu::cpu()).expect("this CPU was started");
    let (before, exile) = {
        let mut queue = here.queue.lock();
        (queue.before.take(), queue.exile.take())
    };
    let Some(before) = before else { return };
    crate::perf::enters(&before);
    before.on_cpu.store(false, Ordering::Release);
    if here.priority.load(Ordering::Relaxed) > 0 {
        // A real-time task may keep the CPU for long, without any tick. Now that nobody stands on
        // its stack any more, another CPU may take the one that gave way.
        offer_from(percpu::cpu());
    }
    if let Some(entity) = exile {
        let id = domains().for_exile(&Hints, &wish(&before, entity.params()));
        enqueue(id, before, entity, Enqueue::Move);
    } else if before.state() == State::Dead {
        // The last reference may go here, with the stack it ran on; frames are freed with
        // interrupts on by the idle loop's or this task's own exit path.
        crate::exit::bury(before);
    }
}

/// The first lines of a new task, after its first switch: `hal` calls its entry with this done.
pub fn first_run() {
    finish_switch();
    percpu::preempt_enable_no_resched();
    hal::irq::allow();
}

/// Takes a task from the nearest CPU that has one too many, and from a much busier one.
fn pull_work(id: CpuId, now: u64) {
    let Some(here) = cpu(id) else { return };
    let idle = here.queue.lock().ready.is_empty();
    let may =
        |task: &TaskRef| task.affinity.lock().contains(id) && !task.on_cpu.load(Ordering::Acquire);
    let take = |from: CpuId, may: &mut dyn FnMut(&TaskRef, &Params) -> bool| {
        let there = cpu(from)?;
        // An idle CPU has the time to wait; the other lets go soon, whoever has it.
        let mut queue = if idle { there.queue.lock() } else { there.queue.try_lock()? };
        let got = queue.ready.steal(now, |t, p| may(t, p));
        there.publish(&queue);
        got
    };
    let got = if idle {
        domains().victims(&Hints, id).find_map(|from| take(from, &mut |t, _| may(t)))
    } else {
        domains()
            .balance(&Hints, id)
            .find_map(|pull| take(pull.from, &mut |t, p| may(t) && pull.improves(p.weight())))
    };
    if let Some((task, entity)) = got {
        enqueue(id, task, entity, Enqueue::Move);
    }
}

/// The timer's tick: has another task run when the running one has had its slice, and other CPUs
/// take what waits here for too long.
pub fn tick() {
    look(true);
}

/// The run queue changed under the running task: as [`tick`], but what waits here just came, and
/// was not wanted elsewhere.
pub fn look_again() {
    look(false);
}

fn look(offers: bool) {
    let Some(here) = cpu(percpu::cpu()) else { return };
    let now = hal::time::now();
    let mut queue = here.queue.lock();
    let over = queue.ready.tick(now);
    let next = queue.ready.next_tick(now);
    let helper = if offers && queue.ready.waiting() > 0 { offer(&mut queue, now) } else { None };
    drop(queue);
    if let Some(helper) = helper {
        reschedule(helper);
    }
    timers::arm_tick(next, now);
    if over {
        percpu::set_need_resched();
    }
}

/// A CPU that should take one of the tasks that wait on `queue`: an idle one whenever there is one,
/// and one that only has less to do every [`BALANCE`]. The caller reschedules it when it has let
/// go of the queue.
fn offer(queue: &mut Queue, now: u64) -> Option<CpuId> {
    let from = queue.ready.cpu();
    let ready = &queue.ready;
    let may = |to: CpuId, gap: u64| {
        ready.any_waiting(|task, params| {
            params.weight() < gap
                && !task.on_cpu.load(Ordering::Relaxed)
                && task.affinity.lock().contains(to)
        })
    };
    let mut to = domains().idle_helpers(&Hints, from).find(|to| may(*to, u64::MAX));
    if to.is_none() && now >= queue.offer_at {
        let load = queue.ready.load();
        to = domains().helpers(&Hints, from, load).find(|(to, gap)| may(*to, *gap)).map(|h| h.0);
        queue.offer_at = now + BALANCE;
    }
    to
}

/// A task that waits on `id` may use more CPUs than before: one that idles takes it.
#[inline]
fn offer_from(id: CpuId) {
    if OVERLOADED.test(id, Ordering::Relaxed) {
        offer_to_idle(id);
    }
}

#[cold]
fn offer_to_idle(id: CpuId) {
    if !IDLE.load(Ordering::Relaxed).is_empty()
        && let Some(there) = cpu(id)
    {
        let helper = offer(&mut there.queue.lock(), hal::time::now());
        if let Some(helper) = helper {
            reschedule(helper);
        }
    }
}

/// sched_yield(2).
pub fn yield_now() {
    {
        let _irq = IrqOff::new();
        if let Some(here) = cpu(percpu::cpu()) {
            here.queue.lock().ready.yield_current(hal::time::now());
        }
    }
    schedule();
}

/// Bit of a task's stamp: since then it runs in user mode.
pub(crate) const IN_USER: u64 = 1;

/// Counts the time of the running task up to now, as user or kernel time by its stamp; `mode` is
/// how it goes on. Interrupts are off: nobody else writes these.
#[inline]
fn charge(task: &Task, mode: u64) {
    let now = hal::cpu::rdtsc();
    let since = task.stamp.load(Ordering::Relaxed);
    task.stamp.store(now & !IN_USER | mode, Ordering::Relaxed);
    let counters = &task.counters;
    let counter = if since & IN_USER != 0 { &counters.user } else { &counters.system };
    let sum = counter.load(Ordering::Relaxed) + now.saturating_sub(since);
    counter.store(sum, Ordering::Relaxed);
}

/// Counts the time of the running task up to now; it goes on in the kernel.
#[inline]
pub fn charge_kernel(task: &Task) {
    charge(task, 0);
}

/// As [`charge_kernel`]: the task is about to enter user mode.
#[inline]
pub fn charge_return(task: &Task) {
    charge(task, IN_USER);
}

/// A task's parameters and what was counted for it.
pub fn stats_of(task: &TaskRef) -> (::sched::Stats, Params) {
    loop {
        {
            let slot = task.entity.lock();
            if let Some(entity) = &*slot {
                return (entity.stats(), *entity.params());
            }
        }
        if let Some(here) = cpu(task.last_cpu()) {
            let mut queue = here.queue.lock();
            queue.ready.charge(hal::time::now());
            if let Some(found) = queue.ready.stats(task) {
                return found;
            }
        }
        core::hint::spin_loop();
    }
}

/// Gives a task other scheduling parameters.
pub fn set_params(task: &TaskRef, params: Params) {
    // As Linux: real-time tasks sleep exactly, others within 50 us.
    if params.class.rt_priority().is_some() {
        task.timer_slack.store(0, Ordering::Relaxed);
    } else if task.timer_slack.load(Ordering::Relaxed) == 0 {
        task.timer_slack.store(50_000, Ordering::Relaxed);
    }
    loop {
        {
            let mut slot = task.entity.lock();
            if let Some(entity) = &mut *slot {
                entity.set_params(params);
                return;
            }
        }
        let id = task.last_cpu();
        if let Some(here) = cpu(id) {
            let mut queue = here.queue.lock();
            let done = queue.ready.set_params(task, params, hal::time::now());
            here.publish(&queue);
            drop(queue);
            match done {
                Some(true) => return reschedule(id),
                Some(false) => return,
                None => {}
            }
        }
        core::hint::spin_loop();
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
