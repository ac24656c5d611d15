//! Tells where scheduling stands, for a panic: who runs, who waits, what the clocks are set to.

use super::{CPUS, cpu, timers};
use core::fmt::Arguments;
use core::sync::atomic::Ordering;
use numa::{CpuId, MAX_CPUS};

/// Prints each CPU's run queue and timer, without waiting for a lock: one line for a CPU and one for
/// each task on its queue.
pub fn tell(print: impl Fn(Arguments<'_>)) {
    let now = hal::time::now();
    for id in (0..MAX_CPUS).filter(|&i| CPUS[i].get().is_some()).map(|i| CpuId::new(i as u16)) {
        let Some(there) = cpu(id) else { continue };
        let asked = hal::cpu_area::of(id).is_some_and(|area| area.needs_resched());
        let switches = there.switches.load(Ordering::Relaxed);
        print(format_args!("CPU {id}: {switches} switches, asked to switch: {asked}; "));
        match timers::state(id) {
            Some(timers::State { timers, first, tick, armed }) => print(format_args!(
                "{timers} timers, ns from now: first {}, tick {}, armed {}\n",
                When(first, now),
                When(tick, now),
                When(armed, now)
            )),
            None => print(format_args!("timers locked\n")),
        }
        let Some(queue) = there.queue.try_lock() else {
            print(format_args!("  queue locked\n"));
            continue;
        };
        let ready = &queue.ready;
        print(format_args!("  {} ns of real time left\n", ready.real_time_left(now)));
        if let (Some(task), Some(params)) = (ready.current(), ready.current_params()) {
            print(format_args!("  runs {} {:?}\n", task.tid(), params.class));
        }
        ready.any_waiting(|task, params| {
            let mask = task.affinity.try_lock().map(|mask| *mask);
            print(format_args!("  waits {} {:?} {mask:?}\n", task.tid(), params.class));
            false
        });
    }
}

/// A moment on the clock, as nanoseconds from another.
struct When(u64, u64);

impl core::fmt::Display for When {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            u64::MAX => f.write_str("never"),
            at => write!(f, "{}", at.wrapping_sub(self.1) as i64),
        }
    }
}
