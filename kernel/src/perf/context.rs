//! Contexts: the events of one task, or of one CPU, and whether they count now.
//!
//! A task's context is locked before its CPU's.

use super::event::{Event, Source};
use super::sample::{self, Extra, Regs};
pub use super::slot::Slot;
use super::{counters, sideband};
use crate::task::{Task, TaskRef, current};
use ::perf::attr::flag;
use ::perf::attr::software::{CONTEXT_SWITCHES, CPU_MIGRATIONS};
use ::perf::counter::{Pace, State};
use abi::Result;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use frames::fallible::{Grow, TryVec};
use hal::percpu;
use hal::trap::TrapFrame;
use numa::{CpuId, CpuMask, MAX_CPUS};
use sync::{IrqGuard, IrqLock, Once};

/// The events of a task or a CPU.
pub struct Context {
    inner: IrqLock<Inner>,
    task: Option<Weak<Task>>,
}

/// What a context's lock guards.
pub struct Inner {
    pub slots: Vec<Slot>,
    /// Nanoseconds on a CPU up to `since`.
    time: u64,
    since: Option<u64>,
    /// The CPU that it is on.
    on: Option<CpuId>,
    over: bool,
    /// Changes under way elsewhere: meanwhile nothing of it is put on counters.
    held: u32,
    /// Which of the groups that take turns on the counters is the first.
    pub turn: usize,
    /// One of them waits.
    pub waits: bool,
}

static CPUS: [Once<Arc<Context>>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// The context of this CPU, if it ever had an event.
pub fn here() -> Option<&'static Arc<Context>> {
    CPUS[percpu::cpu().index()].get()
}

/// The context of a CPU.
pub fn of_cpu(cpu: CpuId) -> Arc<Context> {
    let make = || Context::new(None, Some((cpu, hal::time::now())));
    CPUS[cpu.index()].get_or_init(make).clone()
}

impl Inner {
    fn time(&self, now: u64) -> u64 {
        self.time + self.since.map_or(0, |since| now.saturating_sub(since))
    }

    fn leader_state(&self, at: usize) -> State {
        let leader = self.slots[at].leader;
        // Itself, or one before it.
        let found = self.slots[..=at].iter().rev().find(|s| s.event.id == leader);
        found.map_or(State::Inactive, |s| s.times.state())
    }

    /// It is on this CPU, and its groups may be put on the counters.
    pub fn is_placeable(&self) -> bool {
        self.held == 0 && self.on == Some(percpu::cpu())
    }

    /// True when any event is one of the hardware.
    pub fn has_hardware(&self) -> bool {
        super::HARDWARE.load(Relaxed) != 0 && self.slots.iter().any(|slot| slot.code().is_some())
    }

    /// True when any event has a counter.
    pub fn has_hw_counters(&self) -> bool {
        super::HARDWARE.load(Relaxed) != 0 && self.slots.iter().any(|slot| slot.hw.is_some())
    }

    /// True when the group of this leader needs counters now.
    pub fn needs_counters(&self, leader: u64) -> bool {
        let mut group = self.slots.iter().filter(|slot| slot.leader == leader);
        group.any(|slot| slot.code().is_some() && slot.times.state() >= State::Inactive)
    }

    /// The event may count on the CPU where its context is.
    pub fn is_here(&self, slot: &Slot) -> bool {
        self.on.is_some() && slot.event.cpu.is_none_or(|cpu| Some(cpu) == self.on)
    }

    /// A pinned group found no room.
    pub fn fail(&mut self, leader: usize, now: u64) {
        let time = self.time(now);
        self.slots[leader].times.set_state(State::Error, time, true);
    }

    /// Counts times, clocks and counters up to `now`.
    pub fn touch(&mut self, now: u64) {
        let time = self.time(now);
        for at in 0..self.slots.len() {
            let with_leader = self.leader_state(at) >= State::Inactive;
            let slot = &mut self.slots[at];
            slot.times.update(time, with_leader);
            if slot.times.state() == State::Active && slot.event.source == Source::Clock {
                slot.event.count.fetch_add(now.saturating_sub(slot.counted), Relaxed);
                slot.counted = now;
            }
        }
        if self.has_hw_counters() && self.on == Some(percpu::cpu()) {
            self.slots.iter_mut().for_each(counters::fold);
        }
    }

    /// Brings every event to the state that it should have now; a CPU whose timers must be set by
    /// itself.
    pub fn settle(&mut self, now: u64) -> Option<CpuId> {
        self.touch(now);
        let time = self.time(now);
        let mut remote = None;
        let hardware = self.has_hardware();
        for at in 0..self.slots.len() {
            let leader = self.leader_state(at);
            let on = self.on;
            let here = self.is_here(&self.slots[at]);
            let waits =
                hardware && !self.slots[at].placed && self.needs_counters(self.slots[at].leader);
            let slot = &mut self.slots[at];
            let state = slot.times.state();
            if state < State::Inactive {
                slot.stop_timer();
                counters::stop(slot);
                continue;
            }
            let leads = slot.leader == slot.event.id;
            let wanted = here && !waits && (leads || leader == State::Active);
            match (wanted, state) {
                (true, State::Inactive) => {
                    slot.times.set_state(State::Active, time, true);
                    slot.counted = now;
                }
                (false, State::Active) => slot.times.set_state(State::Inactive, time, true),
                _ => {}
            }
            if !wanted {
                slot.stop_timer();
                counters::stop(slot);
            } else if slot.wants_timer() && slot.timer.is_none() {
                if on == Some(percpu::cpu()) {
                    slot.start_timer(now);
                } else {
                    remote = on;
                }
            }
        }
        remote
    }

    /// Stops every event that may not go on: what its task's context did on this CPU is over.
    fn leave(&mut self, now: u64) {
        counters::take_off(self, now);
        self.on = None;
        self.settle(now);
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.slots.iter().position(|s| s.event.id == id)
    }
}

impl Context {
    fn new(task: Option<Weak<Task>>, on: Option<(CpuId, u64)>) -> Arc<Self> {
        let inner = Inner {
            slots: Vec::new(),
            time: 0,
            since: on.map(|(_, now)| now),
            on: on.map(|(cpu, _)| cpu),
            over: false,
            held: 0,
            turn: 0,
            waits: false,
        };
        Arc::new(Self { inner: IrqLock::new(inner), task })
    }

    /// An empty one for a task, which may be running.
    pub fn of_task(task: &TaskRef) -> Arc<Self> {
        let running = core::ptr::eq(&*task.0, &*current());
        let on = running.then(|| {
            let _stay = hal::preempt::PreemptGuard::new();
            (percpu::cpu(), hal::time::now())
        });
        Self::new(Some(Arc::downgrade(&task.0)), on)
    }

    /// True when it is a task's (else a CPU's).
    pub fn has_task(&self) -> bool {
        self.task.is_some()
    }

    /// True when both are of one task, or neither is of any.
    pub fn same_target(&self, other: &Self) -> bool {
        core::ptr::eq(self, other) || !self.has_task() && !other.has_task()
    }

    /// Locks the context. Interrupts stay off on return.
    pub fn lock(&self) -> IrqGuard<'_, Inner> {
        self.inner.lock()
    }

    fn change(&self, f: impl FnOnce(&mut Inner, u64)) {
        let mut f = Some(f);
        let mut held = 0;
        let remote = loop {
            let irq = hal::irq::IrqOff::new();
            let mut inner = self.inner.lock();
            let here = Some(percpu::cpu());
            // Only their own CPU can take events off its counters.
            if inner.on != here && inner.has_hw_counters() {
                inner.held += 1;
                held += 1;
                let on = inner.on;
                drop(inner);
                drop(irq);
                if let Some(cpu) = on {
                    crate::interrupts::call_on(CpuMask::single(cpu), let_go, 0);
                }
                continue;
            }
            let now = hal::time::now();
            inner.touch(now);
            counters::take_off(&mut inner, now);
            if let Some(f) = f.take() {
                f(&mut inner, now);
            }
            inner.held -= held;
            let timers = inner.settle(now);
            let counters = inner.on.filter(|_| held > 0 || inner.has_hardware());
            drop(inner);
            if counters.is_some() && counters == here {
                counters::place(now);
            }
            break timers.or(counters.filter(|cpu| Some(*cpu) != here));
        };
        if let Some(cpu) = remote {
            crate::interrupts::call_on(CpuMask::single(cpu), settle_here, 0);
        }
    }

    /// Enters an event. A task that runs elsewhere unobserved so far is found by its CPU.
    pub fn add(&self, event: &Arc<Event>) {
        self.change(|inner, now| {
            let time = inner.time(now);
            if !inner.over {
                inner.slots.push(Slot::new(event, time));
            }
        });
        let elsewhere =
            self.task.as_ref().and_then(Weak::upgrade).filter(|task| {
                !core::ptr::eq(&**task, &*current()) && !task.run_state.is_off_cpu()
            });
        if let Some(task) = elsewhere {
            crate::interrupts::call_on(CpuMask::single(task.last_cpu()), settle_here, 0);
        }
    }

    /// Makes room for one more event. ENOMEM.
    pub fn room_for_one(&self) -> Result<()> {
        self.inner.lock().slots.room_for(1)
    }

    /// Enters events of a task that has not run yet. ENOMEM.
    pub fn add_all(self: &Arc<Self>, events: &BTreeMap<u64, Arc<Event>>) -> Result<()> {
        self.inner.lock().slots.room_for(events.len())?;
        events.values().for_each(|event| event.join(self));
        self.change(|inner, now| {
            let time = inner.time(now);
            inner.slots.extend(events.values().map(|event| Slot::new(event, time)));
        });
        Ok(())
    }

    /// Takes an event out. The members of a group that it led go on alone.
    pub fn remove(&self, id: u64) -> Option<Slot> {
        let mut gone = None;
        self.change(|inner, _| {
            let Some(at) = inner.position(id) else { return };
            let mut slot = inner.slots.remove(at);
            slot.stop_timer();
            for other in inner.slots.iter_mut().filter(|s| s.leader == id) {
                other.leader = other.event.id;
            }
            gone = Some(slot);
        });
        gone
    }

    /// Its task is gone: everything leaves.
    pub fn end(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        self.change(|inner, _| {
            inner.over = true;
            slots = core::mem::take(&mut inner.slots);
            slots.iter_mut().for_each(Slot::stop_timer);
        });
        slots
    }

    /// The events of a kind with their states. ENOMEM.
    pub fn events_that(&self, wanted: impl Fn(&Event) -> bool) -> Result<Vec<(Arc<Event>, State)>> {
        let inner = self.inner.lock();
        let slots = || inner.slots.iter().filter(|slot| wanted(&slot.event));
        let mut events = Vec::with_room(slots().count())?;
        events.extend(slots().map(|slot| (slot.event.clone(), slot.times.state())));
        Ok(events)
    }

    /// The first event of a kind.
    pub fn first_that(&self, wanted: impl Fn(&Event) -> bool) -> Option<Arc<Event>> {
        let inner = self.inner.lock();
        inner.slots.iter().map(|slot| &slot.event).find(|event| wanted(event)).cloned()
    }

    /// An event's state.
    pub fn state_of(&self, id: u64) -> Option<State> {
        let inner = self.inner.lock();
        inner.position(id).map(|at| inner.slots[at].times.state())
    }

    /// Nanoseconds that an event was enabled and counting, up to now; its count is up to date then.
    pub fn times_of(&self, id: u64) -> (u64, u64) {
        self.fold_elsewhere();
        let mut inner = self.inner.lock();
        inner.touch(hal::time::now());
        inner.position(id).map_or((0, 0), |at| inner.slots[at].times.totals())
    }

    /// Enables or disables an event.
    pub fn set_enabled(&self, id: u64, on: bool) {
        self.change(|inner, now| {
            let time = inner.time(now);
            let Some(at) = inner.position(id) else { return };
            let slot = &mut inner.slots[at];
            match (on, slot.times.state()) {
                (true, State::Off | State::Error) => {
                    slot.times.set_state(State::Inactive, time, true);
                }
                (false, State::Inactive | State::Active | State::Error) => {
                    slot.times.set_state(State::Off, time, true);
                }
                _ => {}
            }
        });
    }

    /// exec: enables the events that waited for it.
    pub fn enable_on_exec(&self) {
        if !self.inner.lock().slots.iter().any(|slot| slot.waits_for_exec) {
            return;
        }
        self.change(|inner, now| {
            let time = inner.time(now);
            for slot in inner.slots.iter_mut().filter(|slot| slot.waits_for_exec) {
                slot.waits_for_exec = false;
                if matches!(slot.times.state(), State::Off | State::Error) {
                    slot.times.set_state(State::Inactive, time, true);
                }
            }
        });
    }

    /// Begins a new period.
    pub fn set_period(&self, id: u64, period: u64) {
        self.change(|inner, _| {
            if let Some(at) = inner.position(id) {
                let slot = &mut inner.slots[at];
                slot.stop_timer();
                slot.left = None;
                let freq = slot.event.attr.has(flag::FREQ);
                let clock = slot.event.source == Source::Clock;
                slot.period.restart(if freq && !clock { 1 } else { period });
            }
        });
    }

    /// Counters of another CPU can be read only there.
    fn fold_elsewhere(&self) {
        if super::HARDWARE.load(Relaxed) == 0 {
            return;
        }
        let elsewhere = {
            let inner = self.inner.lock();
            inner.on.filter(|cpu| inner.has_hw_counters() && *cpu != percpu::cpu())
        };
        if let Some(cpu) = elsewhere {
            crate::interrupts::call_on(CpuMask::single(cpu), fold_here, 0);
        }
    }

    /// Sets an event's count to 0 and keeps its times.
    pub fn reset(&self, event: &Event) {
        self.fold_elsewhere();
        let mut inner = self.inner.lock();
        inner.touch(hal::time::now());
        event.count.store(0, Relaxed);
    }

    /// Calls `f` for every event that gets records now, on this CPU.
    pub fn for_records(&self, f: &mut dyn FnMut(&Arc<Event>)) {
        let here = percpu::cpu();
        let inner = self.inner.lock();
        for slot in &inner.slots {
            let fits = slot.event.cpu.is_none_or(|cpu| cpu == here);
            if slot.times.state() >= State::Inactive && fits {
                f(&slot.event);
            }
        }
    }
}

/// Brings the events of the running task and of this CPU up to date (called on their CPU).
fn settle_here(_: u64) {
    let now = hal::time::now();
    let cpu = percpu::cpu();
    if let Some(context) = current().perf.context() {
        let mut inner = context.inner.lock();
        if inner.since.is_none() {
            inner.since = Some(now);
            inner.on = Some(cpu);
        }
        inner.settle(now);
    }
    if let Some(context) = here() {
        context.inner.lock().settle(now);
    }
    counters::place(now);
}

/// Calls `f` with the contexts that are on this CPU, the running task's first.
pub fn each_here(f: impl Fn(&mut Inner, u64)) {
    let now = hal::time::now();
    let mine = current().perf.context();
    for context in mine.iter().chain(here()) {
        let mut inner = context.inner.lock();
        if inner.on == Some(percpu::cpu()) {
            f(&mut inner, now);
        }
    }
}

/// Counters are read (called on their CPU).
fn fold_here(_: u64) {
    each_here(Inner::touch);
}

/// Contexts that are held lose their counters (called on their CPU).
fn let_go(_: u64) {
    each_here(|inner, now| {
        if inner.held > 0 {
            counters::take_off(inner, now);
            inner.settle(now);
        }
    });
}

/// See [`super::leaves`].
#[cold]
#[inline(never)]
pub fn task_leaves(prev: &Task, next: &Task, preempted: bool) {
    super::software(CONTEXT_SWITCHES, 1, None, 0);
    if super::wants_side() {
        sideband::switch(prev, next, true, preempted);
    }
    if let Some(context) = prev.perf.context() {
        let now = hal::time::now();
        let mut inner = context.inner.lock();
        inner.leave(now);
        inner.time = inner.time(now);
        inner.since = None;
    }
}

/// See [`super::enters`].
#[cold]
#[inline(never)]
pub fn task_enters(prev: &Task) {
    let task = current();
    let cpu = percpu::cpu();
    let now = hal::time::now();
    if let Some(context) = task.perf.context() {
        let mut inner = context.inner.lock();
        if !inner.over {
            inner.since = Some(now);
            inner.on = Some(cpu);
            inner.settle(now);
        }
    }
    counters::place(now);
    let moved = task.counters.migrations.load(Relaxed);
    if task.perf.migrations.swap(moved, Relaxed) < moved {
        super::software(CPU_MIGRATIONS, 1, None, 0);
    }
    if super::wants_side() {
        sideband::switch(&task, prev, false, false);
    }
}

/// `source` happened `n` times to `task`, which runs here: whoever counts it does.
pub fn count(task: &Task, source: Source, n: u64, regs: &Regs, extra: &Extra<'_>) {
    // On one CPU to the end: its own context must be that of where it happened.
    let _irq = hal::irq::IrqOff::new();
    let mine = task.perf.context();
    let cpus = CPUS[percpu::cpu().index()].get().cloned();
    for context in [mine, cpus].into_iter().flatten() {
        let mut inner = context.inner.lock();
        for at in 0..inner.slots.len() {
            let slot = &inner.slots[at];
            if slot.event.source != source || slot.times.state() != State::Active {
                continue;
            }
            if regs.excluded(&slot.event.attr) {
                continue;
            }
            slot.event.count.fetch_add(n, Relaxed);
            if slot.event.attr.is_sampling() {
                sample::soft(&mut inner, at, n, task, regs, extra);
            }
        }
    }
}

/// A clock's timer has fired, on this CPU, in an interrupt.
pub fn timer_fired(event: &Arc<Event>) {
    let Some(context) = event.context() else { return };
    let task = current();
    let mut inner = context.inner.lock();
    let now = hal::time::now();
    let Some(at) = inner.position(event.id) else { return };
    let Some((_, deadline)) = inner.slots[at].timer else { return };
    if deadline > now || inner.on != Some(percpu::cpu()) {
        return;
    }
    inner.slots[at].timer = None;
    if inner.slots[at].times.state() != State::Active {
        return;
    }
    let frame: TrapFrame = sample::interrupted();
    let regs = Regs::of(Some(&frame));
    let idle = event.attr.has(flag::EXCLUDE_IDLE) && task.pid() == 0;
    let mut go_on = true;
    let pace = inner.slots[at].throttle.sample(now, super::settings::max_rate());
    if pace != Pace::Skip {
        sample::pace_record(&inner, at, pace, &task, now);
        if !regs.excluded(&event.attr) && !idle {
            inner.touch(now);
            let interval = inner.slots[at].interval();
            go_on = sample::overflow(&mut inner, at, interval, &task, &regs, &Extra::default());
        }
    }
    if go_on {
        let slot = &mut inner.slots[at];
        let interval = slot.interval();
        // An interrupt that came late does not make the next one late too.
        let periods = (now - deadline) / interval + 1;
        let next = slot.throttle.until().unwrap_or(deadline + periods * interval);
        slot.arm(next);
    } else {
        stop(&mut inner, at, now);
    }
}

/// Disables an event from within (its limit of overflows is reached).
pub fn stop(inner: &mut Inner, at: usize, now: u64) {
    inner.touch(now);
    let time = inner.time(now);
    inner.slots[at].times.set_state(State::Off, time, true);
    inner.settle(now);
}
