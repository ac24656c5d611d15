//! The hardware's events on this CPU's counters: who has one, what it counted, when it overflows.
//!
//! A group is on as a whole or not at all, and its software events with it. Those of the CPU come
//! before those of the running task; groups that do not fit take turns, a tick each ([`tick`]).
//! Everything here runs on the CPU whose counters it is about, with interrupts off.
//!
//! Overflows come by an ordinary interrupt: contexts are guarded by locks that a non-maskable one
//! could find taken. The price: a sample in code that runs with interrupts off is charged to where
//! they come on again. The unit stands still while one is handled.

use super::context::{self, Inner};
use super::hw::{self, Ports};
use super::sample::{self, Extra, Regs};
use super::slot::Slot;
use crate::sched::timers::{self, Action};
use crate::task::{Task, current};
use ::perf::attr::flag;
use ::perf::counter::{Pace, State, WINDOW};
use ::perf::group::{Fate, Round, Wants, order};
use ::perf::pmu::{Config, Pmu};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use hal::percpu;
use numa::MAX_CPUS;

/// A counter that an event has.
pub struct HwIndex {
    index: usize,
    /// Up to here it is in the event's count.
    value: u64,
}

/// CPUs whose tick is set.
static TICKING: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Adds what an event's counter has counted to the event.
pub fn fold(slot: &mut Slot) {
    let (Some(hw), Some(pmu)) = (&mut slot.hw, hw::here()) else { return };
    let value = pmu.value(&Ports, hw.index);
    let passed = pmu.passed(hw.index, core::mem::replace(&mut hw.value, value), value);
    slot.event.count.fetch_add(passed, Relaxed);
    if slot.event.attr.is_sampling() && slot.throttle.until().is_none() {
        slot.due += slot.period.add(passed);
    }
}

/// Takes an event off its counter; what it counted was folded in.
pub fn stop(slot: &mut Slot) {
    if let (Some(hw), Some(pmu)) = (slot.hw.take(), hw::here()) {
        pmu.stop(&Ports, hw.index);
    }
    slot.placed = false;
}

/// Takes every event of a context off its counter, all at one moment.
pub fn take_off(inner: &mut Inner, now: u64) {
    let Some(pmu) = hw::here().filter(|_| inner.has_hw_counters()) else {
        inner.slots.iter_mut().for_each(|slot| slot.placed = false);
        return;
    };
    pmu.freeze(&Ports);
    take_off_frozen(inner, now);
    pmu.thaw(&Ports);
}

/// The same, while the unit stands still.
fn take_off_frozen(inner: &mut Inner, now: u64) {
    inner.touch(now);
    inner.slots.iter_mut().for_each(stop);
}

/// Sets a counter going: to the end of the event's period, or as far as it can go.
fn start(slot: &mut Slot, pmu: &Pmu) {
    let Some(code) = slot.code() else { return };
    let Some(hw) = &mut slot.hw else { return };
    let attr = &slot.event.attr;
    let config = Config {
        code,
        user: !attr.has(flag::EXCLUDE_USER),
        kernel: !attr.has(flag::EXCLUDE_KERNEL),
    };
    let samples = attr.is_sampling() && slot.throttle.until().is_none();
    let period = if samples { slot.period.remaining() } else { u64::MAX };
    pmu.start(&Ports, hw.index, &config, period);
    hw.value = pmu.value(&Ports, hw.index);
}

/// Puts the groups of this CPU and of the running task on the counters anew, as of `now`.
pub fn place(now: u64) {
    if super::HARDWARE.load(Relaxed) == 0 {
        return;
    }
    let Some(pmu) = hw::here() else { return };
    let task = current();
    let mine = task.perf.context();
    let mut mine = mine.as_ref().map(|context| context.lock());
    let mut cpus = context::here().map(|context| context.lock());
    let mut both: [Option<&mut Inner>; 2] = [cpus.as_deref_mut(), mine.as_deref_mut()];
    if !both.iter().flatten().any(|inner| inner.has_hardware()) {
        return;
    }
    pmu.freeze(&Ports);
    for inner in both.iter_mut().flatten().filter(|inner| inner.is_placeable()) {
        take_off_frozen(inner, now);
        inner.waits = false;
    }
    let (mut round, mut used) = (Round::default(), 0);
    for pinned in [true, false] {
        for inner in both.iter_mut().flatten().filter(|inner| inner.is_placeable()) {
            round.next_groups();
            put_groups(inner, pinned, &mut round, &mut used, pmu, now);
        }
    }
    let mut ticks = false;
    for inner in both.iter_mut().flatten().filter(|inner| inner.is_placeable()) {
        // Before anybody looks at what they counted.
        inner.slots.iter_mut().for_each(|slot| start(slot, pmu));
        inner.settle(now);
        ticks |= inner.waits || inner.slots.iter().any(needs_tick);
        // What ran out was found before its own interrupt came.
        let regs = Regs::here();
        for at in 0..inner.slots.len() {
            if inner.slots[at].due > 0 && !deliver(inner, at, &task, &regs, now) {
                context::stop(inner, at, now);
            }
        }
    }
    pmu.thaw(&Ports);
    let ticking = &TICKING[percpu::cpu().index()];
    if ticks && !ticking.swap(true, Relaxed) {
        timers::arm(now + WINDOW, Action::PerfTick);
    }
}

/// Puts the pinned groups of a context on, or those that take turns.
fn put_groups(
    inner: &mut Inner,
    pinned: bool,
    round: &mut Round,
    used: &mut u64,
    pmu: &Pmu,
    now: u64,
) {
    let is_one = |inner: &Inner, at: usize| {
        let slot = &inner.slots[at];
        slot.leads()
            && slot.event.attr.has(flag::PINNED) == pinned
            && inner.is_here(slot)
            && inner.needs_counters(slot.leader)
    };
    let mut put = |inner: &mut Inner, at: usize| {
        let leader = inner.slots[at].leader;
        let exclusive = inner.slots[at].event.attr.has(flag::EXCLUSIVE);
        let wants = Wants { hardware: true, pinned, exclusive };
        match round.put(wants, || assign(inner, leader, used, pmu)) {
            Fate::On => {}
            Fate::Waits => inner.waits = true,
            Fate::Failed => inner.fail(at, now),
        }
    };
    if pinned {
        for at in 0..inner.slots.len() {
            if is_one(inner, at) {
                put(inner, at);
            }
        }
        return;
    }
    let count = (0..inner.slots.len()).filter(|at| is_one(inner, *at)).count();
    for nth in order(count, inner.turn) {
        let at = (0..inner.slots.len()).filter(|at| is_one(inner, *at)).nth(nth);
        if let Some(at) = at {
            put(inner, at);
        }
    }
}

/// Gives each event of a group that needs one a counter: all of them, or none.
fn assign(inner: &mut Inner, leader: u64, used: &mut u64, pmu: &Pmu) -> bool {
    let before = *used;
    let group = |slot: &&mut Slot| slot.leader == leader && slot.times.state() >= State::Inactive;
    for slot in inner.slots.iter_mut().filter(group) {
        slot.placed = true;
        let Some(code) = slot.code() else { continue };
        let Some(index) = pmu.choose(code, *used) else {
            *used = before;
            for slot in inner.slots.iter_mut().filter(|slot| slot.leader == leader) {
                slot.placed = false;
                slot.hw = None;
            }
            return false;
        };
        *used |= 1 << index;
        slot.hw = Some(HwIndex { index, value: 0 });
    }
    true
}

/// It has a frequency to keep, or was throttled.
fn needs_tick(slot: &Slot) -> bool {
    slot.hw.is_some() && slot.event.attr.is_sampling() && {
        slot.event.attr.has(flag::FREQ) || slot.throttle.until().is_some()
    }
}

/// A counter of this CPU overflowed.
pub fn on_overflow() {
    let Some(pmu) = hw::here() else { return };
    pmu.freeze(&Ports);
    let now = hal::time::now();
    let task = current();
    let regs = Regs::of(Some(&sample::interrupted()));
    let mut room = false;
    {
        let mine = task.perf.context();
        let mut mine = mine.as_ref().map(|context| context.lock());
        let mut cpus = context::here().map(|context| context.lock());
        let mut both: [Option<&mut Inner>; 2] = [cpus.as_deref_mut(), mine.as_deref_mut()];
        let slots = both.iter().flatten().flat_map(|inner| &inner.slots);
        let used = slots.filter_map(|slot| slot.hw.as_ref()).fold(0, |u, s| u | 1 << s.index);
        let over = pmu.overflowed(&Ports, used);
        for inner in both.iter_mut().flatten().filter(|inner| inner.is_placeable()) {
            inner.touch(now);
            for at in 0..inner.slots.len() {
                let slot = &inner.slots[at];
                let Some(hw) = &slot.hw else { continue };
                if slot.due == 0 && over & 1 << hw.index == 0 {
                    continue;
                }
                if deliver(inner, at, &task, &regs, now) {
                    start(&mut inner.slots[at], pmu);
                } else {
                    context::stop(inner, at, now);
                    room = true;
                }
            }
        }
    }
    pmu.thaw(&Ports);
    if room {
        place(now);
    } else {
        set_tick_if_throttled(now);
    }
}

/// An event that was just throttled goes on with the next tick.
fn set_tick_if_throttled(now: u64) {
    let mine = current().perf.context();
    let throttled = mine.iter().chain(context::here()).any(|context| {
        context.lock().slots.iter().any(|slot| slot.hw.is_some() && needs_tick(slot))
    });
    if throttled && !TICKING[percpu::cpu().index()].swap(true, Relaxed) {
        timers::arm(now + WINDOW, Action::PerfTick);
    }
}

/// Samples an event whose period ran out. False when it is to be disabled.
fn deliver(inner: &mut Inner, at: usize, task: &Task, regs: &Regs, now: u64) -> bool {
    let slot = &mut inner.slots[at];
    let attr = slot.event.attr;
    let periods = core::mem::take(&mut slot.due);
    if periods == 0 {
        return true;
    }
    let weight = periods.saturating_mul(slot.period.last);
    adapt(slot);
    let pace = slot.throttle.sample(now, super::settings::max_rate());
    if pace == Pace::Skip {
        return true;
    }
    sample::pace_record(inner, at, pace, task, now);
    // The counter counted what it should; the interrupt may have come a little later, elsewhere.
    let user;
    let regs = if regs.excluded(&attr) {
        match sample::user_registers(task, regs) {
            Some(frame) if !attr.has(flag::EXCLUDE_USER) => {
                user = Regs::Frame(frame);
                &user
            }
            _ => return true,
        }
    } else {
        regs
    };
    if attr.has(flag::EXCLUDE_IDLE) && task.pid() == 0 {
        return true;
    }
    sample::overflow(inner, at, weight, task, regs, &Extra::default())
}

/// Moves the period of an event towards its frequency.
fn adapt(slot: &mut Slot) {
    if !slot.event.attr.has(flag::FREQ) {
        return;
    }
    let (count, running) = (slot.event.count.load(Relaxed), slot.times.totals().1);
    let (count_before, before) = core::mem::replace(&mut slot.mark, (count, running));
    let (count, nanos) = (count.wrapping_sub(count_before), running.saturating_sub(before));
    // What happened long ago says nothing of the rate now.
    if count > 0 && nanos > 0 && nanos < 4 * WINDOW {
        slot.period.adapt(slot.event.rate.load(Relaxed), count, nanos);
    }
}

/// The turn goes to the next group that waits; frequencies are kept, throttled events go on.
pub fn tick() {
    TICKING[percpu::cpu().index()].store(false, Relaxed);
    let task = current();
    context::each_here(|inner, now| {
        inner.touch(now);
        if inner.waits {
            inner.turn = inner.turn.wrapping_add(1);
        }
        for at in 0..inner.slots.len() {
            let slot = &mut inner.slots[at];
            if slot.hw.is_none() || !slot.event.attr.is_sampling() {
                continue;
            }
            if slot.throttle.resume(now) {
                let period = slot.period.period;
                slot.period.restart(period);
                sample::pace_record(inner, at, Pace::Resume, &task, now);
            } else if slot.due == 0 {
                adapt(slot);
            }
        }
    });
    place(hal::time::now());
}
