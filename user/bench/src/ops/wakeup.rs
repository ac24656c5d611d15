//! How late a FIFO task runs when its time has come, as cyclictest asks: from the moment that a
//! sleep was to end until the clock read right after it.

use super::{Op, op};
use crate::clock::Samples;
use crate::memory::Region;
use crate::place::{machine, pin};
use crate::sys::{Error, Result, at, call, exit, fork, wait};

pub const OPS: &[Op] = &[
    op("wakeup/fifo_idle", || late(Load::None)),
    op("wakeup/fifo_beside_user_code", || late(Load::User)),
    op("wakeup/fifo_beside_calls", || late(Load::Calls)),
    op("wakeup/fifo_beside_forks", || late(Load::Forks)),
];

/// What an ordinary task does on the same CPU.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    None,
    User,
    /// Maps, touches and unmaps memory, and reads a file that the kernel makes.
    Calls,
    /// Forks and reaps.
    Forks,
}

/// Moments, and the time between them: not a multiple of what the load takes.
const COUNT: usize = 400;
const STEP: i64 = 1_003_001;

fn late(load: Load) -> Result<Samples> {
    pin(machine().home)?;
    let noise = match load {
        Load::None => None,
        _ => Some(match fork()? {
            0 => disturb(load),
            child => child,
        }),
    };
    let priority = 80;
    call(
        "sched_setscheduler",
        libc::SYS_sched_setscheduler,
        [0, libc::SCHED_FIFO as usize, at(&raw const priority)],
    )?;
    let result = misses();
    if let Some(child) = noise {
        call("kill", libc::SYS_kill, [child, libc::SIGKILL as usize])?;
        let _ = wait(child);
    }
    result
}

fn misses() -> Result<Samples> {
    let mut taken = vec![1.0; COUNT];
    let mut due = now()? + 20 * STEP;
    for miss in &mut taken {
        let until = libc::timespec { tv_sec: due / SECOND, tv_nsec: due % SECOND };
        call(
            "clock_nanosleep",
            libc::SYS_clock_nanosleep,
            [libc::CLOCK_MONOTONIC as usize, libc::TIMER_ABSTIME as usize, at(&raw const until), 0],
        )?;
        let woken = now()?;
        *miss = (woken - due) as f64;
        due = woken + STEP;
    }
    Ok(Samples::new(taken))
}

const SECOND: i64 = 1_000_000_000;

fn now() -> Result<i64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a structure of this frame.
    match unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } {
        0 => Ok(time.tv_sec * SECOND + time.tv_nsec),
        _ => Err(Error { what: "clock_gettime", errno: libc::EINVAL }),
    }
}

fn disturb(load: Load) -> ! {
    loop {
        let done = match load {
            Load::None | Load::User => {
                (0..1000).for_each(|_| std::hint::black_box(()));
                Ok(())
            }
            Load::Calls => Region::touched(64).map(|region| {
                let _ = std::fs::read("/proc/self/maps");
                drop(region);
            }),
            Load::Forks => fork().and_then(|child| match child {
                0 => exit(0),
                child => wait(child),
            }),
        };
        if done.is_err() {
            exit(1);
        }
    }
}
