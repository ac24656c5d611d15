//! `pmu=model`: a unit in software behind the registers, for machines that have none.
//!
//! It is there so that everything between a register and a sample runs where only emulation is to
//! be had: placing groups, overflows, their interrupt, multiplexing. Its counters keep the time:
//! every event happens once in a tick of the time-stamp counter, in user or kernel mode by the
//! CPU's accounts (idle time is neither). A timer stands for the overflow, and raises the interrupt
//! of a real one.

use crate::boot::cmdline;
use crate::sched::accounts;
use crate::sched::timers::{self, Action, TimerId};
use ::perf::pmu::model::{Kind, Model};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use hal::irq::IrqOff;
use hal::percpu;
use numa::MAX_CPUS;
use sync::{IrqLock, Once};

/// Four general counters and three fixed ones: few enough to be too few.
const KIND: Kind = Kind::Intel { version: 4, general: 4, width: 48, fixed: 3, full: true };

/// The shortest time to an overflow that a timer is set for, in nanoseconds.
const SHORTEST: u64 = 1_000;

struct State {
    model: Model,
    /// Ticks in user mode and kernel that it has counted.
    fed: (u64, u64),
    /// Interrupts that were raised.
    raised: u64,
    timer: Option<(TimerId, u64)>,
}

static CPUS: [IrqLock<State>; MAX_CPUS] = [const {
    IrqLock::new(State { model: Model::new(KIND), fed: (0, 0), raised: 0, timer: None })
}; MAX_CPUS];

static CHOSEN: Once<Option<Model>> = Once::new();
static STANDS_IN: AtomicBool = AtomicBool::new(false);

/// The model, when the command line asks for it.
pub fn chosen() -> Option<&'static Model> {
    let choose = || {
        let asked = cmdline::value("pmu") == Some("model");
        STANDS_IN.store(asked, Relaxed);
        asked.then(|| Model::new(KIND))
    };
    CHOSEN.get_or_init(choose).as_ref()
}

/// True when registers are the model's.
pub fn stands_in() -> bool {
    STANDS_IN.load(Relaxed)
}

/// RDMSR of this CPU.
pub fn read(msr: u32) -> u64 {
    with(|model| model.read(msr))
}

/// WRMSR of this CPU.
pub fn write(msr: u32, value: u64) {
    with(|model| model.write(msr, value));
}

/// The time has come at which a counter may have overflowed.
pub fn timer_fired() {
    CPUS[percpu::cpu().index()].lock().timer = None;
    with(|_| {});
}

/// The model of this CPU, brought up to the present; afterwards its interrupt is raised or its
/// timer set.
fn with<R>(f: impl FnOnce(&mut Model) -> R) -> R {
    let _irq = IrqOff::new();
    let cpu = percpu::cpu();
    let times = accounts::of_cpu(cpu);
    let mut state = CPUS[cpu.index()].lock();
    state.feed(times.user + times.nice, times.system);
    let result = f(&mut state.model);
    state.follow();
    result
}

impl State {
    fn feed(&mut self, user: u64, system: u64) {
        self.model.tick(user.saturating_sub(self.fed.0), true);
        self.model.tick(system.saturating_sub(self.fed.1), false);
        self.fed = (self.fed.0.max(user), self.fed.1.max(system));
    }

    fn follow(&mut self) {
        let raised = self.model.interrupts();
        if raised > self.raised {
            self.raised = raised;
            hal::apic::raise_counter_interrupt();
        }
        let Some(ticks) = self.model.until_overflow() else { return };
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(hal::time::tsc_hz());
        // A period without end needs no timer.
        let Ok(nanos) = u64::try_from(nanos) else { return };
        let deadline = hal::time::now().saturating_add(nanos.max(SHORTEST));
        // One that comes too early finds out and is set again.
        if self.timer.as_ref().is_some_and(|(_, set)| *set <= deadline) {
            return;
        }
        if let Some((timer, _)) = self.timer.take() {
            timers::cancel(timer);
        }
        self.timer = Some((timers::arm(deadline, Action::Model), deadline));
    }
}
