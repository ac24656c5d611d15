//! Clocks by id: reading, resolution, setting.

use crate::sched::accounts;
use crate::task::{Process, Task, current, table};
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use sync::{WaitError, WaitQueue};

/// Nanoseconds of a tick, the resolution of the coarse clocks (Linux with HZ=250).
const TICK: u64 = 4_000_000;

/// Which processor time a CPU clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// User time.
    User,
    /// User and system time.
    All,
}

/// Whose processor time.
#[derive(Clone)]
pub enum Whose {
    Process(Weak<Process>),
    Thread(Weak<Task>),
}

/// A clock that runs while programs do.
#[derive(Clone)]
pub struct CpuClock {
    pub whose: Whose,
    pub counted: Counted,
}

/// A clock.
#[derive(Clone)]
pub enum Clock {
    /// Wall-clock time (also as TAI: the offset is 0).
    Wall {
        coarse: bool,
        alarm: bool,
    },
    /// Time since boot: the machine never sleeps, and nobody slews it.
    Monotonic {
        coarse: bool,
        alarm: bool,
        raw: bool,
    },
    Cpu(CpuClock),
}

/// Cycles of the time-stamp counter in nanoseconds.
pub fn cycles_to_ns(cycles: u64) -> u64 {
    (u128::from(cycles) * 1_000_000_000 / u128::from(hal::time::tsc_hz().max(1))) as u64
}

/// Processor time of a thread, ns.
pub fn thread_time(task: &Task, counted: Counted) -> u64 {
    let (user, system) = accounts::of_task(task);
    cycles_to_ns(match counted {
        Counted::User => user,
        Counted::All => user + system,
    })
}

/// Processor time of a process with the threads that are gone, ns.
pub fn process_time(process: &Process, counted: Counted) -> u64 {
    let used = crate::task::usage_of_process(process);
    cycles_to_ns(match counted {
        Counted::User => used.user,
        Counted::All => used.user + used.system,
    })
}

impl CpuClock {
    /// From a negative clock id: a pid or tid (0 for the caller's own), and what is counted.
    fn decode(id: i32) -> Result<Self> {
        const PER_THREAD: i32 = 4;
        let counted = match id & 3 {
            1 => Counted::User,
            0 | 2 => Counted::All,
            // A clock device's descriptor: there are none.
            _ => return Err(Errno::EINVAL),
        };
        let pid = !(id >> 3);
        let task = current();
        let whose = if id & PER_THREAD != 0 {
            let thread = match pid {
                0 => task.handle(),
                tid => table::task(tid).ok_or(Errno::EINVAL)?,
            };
            if !Arc::ptr_eq(&thread.process, &task.process) {
                return Err(Errno::EINVAL);
            }
            Whose::Thread(Arc::downgrade(&thread.0))
        } else {
            let process = match pid {
                0 => task.process.clone(),
                pid => table::process(pid).ok_or(Errno::EINVAL)?,
            };
            Whose::Process(Arc::downgrade(&process))
        };
        Ok(Self { whose, counted })
    }

    fn of_caller(thread: bool) -> Self {
        let task = current();
        let whose = if thread {
            Whose::Thread(Arc::downgrade(&task.handle().0))
        } else {
            Whose::Process(Arc::downgrade(&task.process))
        };
        Self { whose, counted: Counted::All }
    }

    /// Its time, ns. ESRCH when the process or thread is gone.
    pub fn now(&self) -> Result<u64> {
        match &self.whose {
            Whose::Process(process) => {
                let process = process.upgrade().ok_or(Errno::ESRCH)?;
                Ok(process_time(&process, self.counted))
            }
            Whose::Thread(task) => {
                let task = task.upgrade().ok_or(Errno::ESRCH)?;
                Ok(thread_time(&task, self.counted))
            }
        }
    }

    /// Threads that may make it run at once.
    pub fn speed(&self) -> u64 {
        match &self.whose {
            Whose::Process(process) => {
                process.upgrade().map_or(1, |p| p.place.lock().threads.len().max(1) as u64)
            }
            Whose::Thread(_) => 1,
        }
    }
}

impl Clock {
    /// The clock with this id; EINVAL.
    pub fn from_id(id: i32) -> Result<Self> {
        let wall = |coarse, alarm| Self::Wall { coarse, alarm };
        let monotonic = |coarse, alarm, raw| Self::Monotonic { coarse, alarm, raw };
        Ok(match id {
            0 | 11 => wall(false, false),
            1 | 7 => monotonic(false, false, false),
            2 => Self::Cpu(CpuClock::of_caller(false)),
            3 => Self::Cpu(CpuClock::of_caller(true)),
            4 => monotonic(false, false, true),
            5 => wall(true, false),
            6 => monotonic(true, false, false),
            8 => wall(false, true),
            9 => monotonic(false, true, false),
            id if id < 0 => Self::Cpu(CpuClock::decode(id)?),
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Its time, ns. Inlined, for clock_gettime(2).
    #[inline]
    pub fn now(&self) -> Result<u64> {
        Ok(match self {
            Self::Wall { .. } => wall(),
            Self::Monotonic { .. } => hal::time::now(),
            Self::Cpu(clock) => clock.now()?,
        })
    }

    /// ns.
    pub fn resolution(&self) -> u64 {
        match self {
            Self::Wall { coarse: true, .. } | Self::Monotonic { coarse: true, .. } => TICK,
            _ => 1,
        }
    }

    /// Sleeps and timers may use it; EOPNOTSUPP for those that are only read.
    pub fn can_wait(&self) -> Result<()> {
        match self {
            Self::Wall { coarse: true, .. }
            | Self::Monotonic { coarse: true, .. }
            | Self::Monotonic { raw: true, .. } => Err(Errno::EOPNOTSUPP),
            _ => Ok(()),
        }
    }

    /// It would wake a sleeping machine: CAP_WAKE_ALARM.
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Wall { alarm: true, .. } | Self::Monotonic { alarm: true, .. })
    }
}

/// Wall-clock time, ns since 1970.
pub fn wall() -> u64 {
    hal::time::wall_base() + hal::time::now()
}

/// The monotonic time at which the wall clock shows `wall`, as it is set now; 0 for the past.
pub fn monotonic_at(wall: u64) -> u64 {
    wall.saturating_sub(hal::time::wall_base())
}

/// How often the wall clock was set, and who waits for a time of it.
static SETTINGS: AtomicU64 = AtomicU64::new(0);
static SLEEPERS: WaitQueue = WaitQueue::new();

/// Where times begin that the wall clock cannot be set to, in nanoseconds: thirty years of 365 days
/// before they overflow a signed word, as on Linux.
const END: u64 = (i64::MAX as u64 / 1_000_000_000 - 30 * 365 * 86_400) * 1_000_000_000;

/// Looks whether the wall clock can be set to `ns`: EINVAL for a time too far away.
pub fn check_wall(ns: u64) -> Result<()> {
    if ns < END { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Sets the wall clock; all who wait for one of its times look again. EINVAL for a time from before
/// the machine was up, or too far away.
pub fn set_wall(ns: u64) -> Result<()> {
    check_wall(ns)?;
    let base = ns.checked_sub(hal::time::now()).ok_or(Errno::EINVAL)?;
    crate::vdso::change_clock(|| hal::time::set_wall_base(base));
    SETTINGS.fetch_add(1, Ordering::SeqCst);
    SLEEPERS.wake_all();
    fs::timerfd::clock_was_set();
    super::posix::clock_was_set();
    Ok(())
}

/// Sleeps until the wall clock shows `wall`, however it is set meanwhile.
pub fn sleep_until_wall(wall: u64) -> core::result::Result<(), WaitError> {
    loop {
        let seen = SETTINGS.load(Ordering::SeqCst);
        let changed = || (SETTINGS.load(Ordering::SeqCst) != seen).then_some(());
        match SLEEPERS.wait_interruptible(Some(monotonic_at(wall)), changed) {
            Ok(()) => {}
            Err(WaitError::TimedOut) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
