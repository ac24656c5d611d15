//! The kinds of stops of a tracee.

use crate::Event;

/// SIGTRAP.
const TRAP: i32 = 5;
/// What TRACESYSGOOD adds to it.
const MARK: i32 = 0x80;

/// Where in a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Entry,
    Exit,
}

/// Why a tracee stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Before a signal is delivered (signal-delivery-stop).
    Signal(i32),
    /// At a system call; `marked`: PTRACE_O_TRACESYSGOOD.
    Call { at: Call, marked: bool },
    /// For an event that was asked for, [`Event::Stop`] excepted.
    Event(Event),
    /// Its group is stopped by this signal; `seized`: its tracer is told so by [`Event::Stop`].
    Group { signal: i32, seized: bool },
    /// At the first instruction of a signal's handler, while it goes by single steps.
    Handler,
    /// It was seized, and interrupted, or has a tracer from its birth (PTRACE_EVENT_STOP).
    Interrupt,
}

impl Kind {
    /// What wait(2) gives in bits 8 and up of the status, and waitid(2) as `si_status`.
    pub fn code(self) -> i32 {
        match self {
            Self::Signal(signal) => signal,
            Self::Call { marked, .. } => {
                if marked {
                    TRAP | MARK
                } else {
                    TRAP
                }
            }
            Self::Handler => TRAP,
            Self::Event(event) => TRAP | (event as i32) << 8,
            Self::Group { signal, seized: false } => signal,
            Self::Group { signal, seized: true } => signal | (Event::Stop as i32) << 8,
            Self::Interrupt => TRAP | (Event::Stop as i32) << 8,
        }
    }

    /// The signal that is left of a stop of which a tracer that ended had not been told: of one for a
    /// signal that, and a bare trap of one at a system call.
    pub(crate) fn unseen(self) -> i32 {
        match self {
            Self::Signal(signal) => signal,
            Self::Call { marked: false, .. } => TRAP,
            _ => 0,
        }
    }

    /// One of those that PTRACE_LISTEN is for.
    pub fn is_event_stop(self) -> bool {
        matches!(self, Self::Interrupt | Self::Group { seized: true, .. })
    }

    /// Has no `siginfo_t`: PTRACE_GETSIGINFO is refused, which tells it from a signal's.
    pub fn is_plain_group_stop(self) -> bool {
        matches!(self, Self::Group { seized: false, .. })
    }

    /// Stands for a stop of the group, so that it counts for one.
    pub fn is_group_stop(self) -> bool {
        matches!(self, Self::Group { .. })
    }

    /// The signal that the `siginfo_t` of a stop made by the kernel names, and its code.
    pub fn trap_info(self) -> (i32, i32) {
        let signal = match self {
            Self::Group { signal, .. } => signal,
            _ => TRAP,
        };
        (signal, self.code())
    }
}

/// A stop under way.
#[derive(Clone, Copy, Debug)]
pub struct Stop<I> {
    pub kind: Kind,
    /// PTRACE_GETEVENTMSG.
    pub message: u64,
    /// PTRACE_GETSIGINFO.
    pub info: Option<I>,
    /// wait(2) has reported it.
    pub(crate) seen: bool,
}

impl<I> Stop<I> {
    /// One that nobody has been told of.
    pub fn new(kind: Kind, message: u64, info: Option<I>) -> Self {
        Self { kind, message, info, seen: false }
    }
}
