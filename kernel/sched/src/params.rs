//! What sched_setattr(2) sets: class, nice value, priority, slice; and what follows from them.

/// The highest real-time priority; the lowest is 1.
pub const MAX_RT_PRIORITY: u8 = 99;

/// The weight of SCHED_IDLE, less than that of any nice value.
const IDLE_WEIGHT: u64 = 3;

/// Linux's weights for nice -20 to 19: each step is about a factor of 1.25, which makes about a
/// tenth of the CPU between two tasks one step apart.
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87,
    70, 56, 45, 36, 29, 23, 18, 15,
];

/// How much of the CPU a fair task wants, against others: -20 (most) to 19.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nice(i8);

impl Nice {
    /// The value that wants the most.
    pub const MIN: Self = Self(-20);
    /// The value that wants the least.
    pub const MAX: Self = Self(19);

    /// The nearest value that exists, as setpriority(2) takes it.
    #[must_use]
    pub fn clamped(value: i32) -> Self {
        Self(value.clamp(Self::MIN.0.into(), Self::MAX.0.into()) as i8)
    }

    /// The value, -20 to 19.
    #[must_use]
    pub const fn value(self) -> i32 {
        self.0 as i32
    }

    /// The share of the CPU against other weights; 1024 for nice 0.
    #[must_use]
    pub fn weight(self) -> u64 {
        WEIGHTS[(self.0 - Self::MIN.0) as usize].into()
    }
}

/// Which of the fair policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FairKind {
    /// SCHED_OTHER.
    #[default]
    Normal,
    /// SCHED_BATCH: never preempts when it wakes.
    Batch,
    /// SCHED_IDLE: a weight below nice 19, and any other fair task preempts it at once.
    Idle,
}

/// What decides between tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Shares what real-time tasks leave.
    Fair {
        /// The policy.
        kind: FairKind,
        /// The nice value.
        nice: Nice,
    },
    /// SCHED_FIFO: runs until it sleeps, yields, or a higher priority is there.
    Fifo {
        /// 1 (lowest) to [`MAX_RT_PRIORITY`].
        priority: u8,
    },
    /// SCHED_RR: as FIFO, in turns with others of its priority.
    RoundRobin {
        /// 1 (lowest) to [`MAX_RT_PRIORITY`].
        priority: u8,
    },
}

impl Default for Class {
    fn default() -> Self {
        Self::Fair { kind: FairKind::Normal, nice: Nice::default() }
    }
}

impl Class {
    /// The real-time priority; `None` for the fair class.
    #[must_use]
    #[inline]
    pub const fn rt_priority(self) -> Option<u8> {
        match self {
            Self::Fair { .. } => None,
            Self::Fifo { priority } | Self::RoundRobin { priority } => Some(priority),
        }
    }

    /// Whether this is SCHED_IDLE.
    #[must_use]
    pub const fn is_idle(self) -> bool {
        matches!(self, Self::Fair { kind: FairKind::Idle, .. })
    }
}

/// A task's scheduling parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The class, with nice value or priority.
    pub class: Class,
    /// How long a fair task runs at a stretch, in nanoseconds: sched_attr's sched_runtime, or
    /// [`base_slice`]. Shorter is sooner and oftener, not more.
    pub slice: u64,
}

impl Params {
    /// The shortest and the longest slice that a program may ask for (0.1 ms, 100 ms).
    pub const SLICES: core::ops::RangeInclusive<u64> = 100_000..=100_000_000;

    /// A task of `class` with a slice of `slice` nanoseconds, or the nearest that there is.
    #[must_use]
    pub fn new(class: Class, slice: u64) -> Self {
        Self { class, slice: slice.clamp(*Self::SLICES.start(), *Self::SLICES.end()) }
    }

    /// The weight with which the task counts as load and shares the CPU.
    #[must_use]
    pub fn weight(&self) -> u64 {
        match self.class {
            Class::Fair { kind: FairKind::Idle, .. } => IDLE_WEIGHT,
            Class::Fair { nice, .. } => nice.weight(),
            // A real-time task takes all that it wants; it counts as two of the greediest.
            Class::Fifo { .. } | Class::RoundRobin { .. } => 2 * Nice::MIN.weight(),
        }
    }
}

/// The slice of a fair task that asks for none, in nanoseconds, on a machine of `cpus` CPUs:
/// 0.75 ms, and as much again for each doubling up to 8 CPUs (3 ms), as Linux has it.
#[must_use]
pub fn base_slice(cpus: usize) -> u64 {
    750_000 * u64::from(1 + cpus.clamp(1, 8).ilog2())
}
