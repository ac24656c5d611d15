//! What a tracer wants to hear of: PTRACE_SETOPTIONS.

use abi::{Errno, Result};

/// What a tracee stops for beside signals and system calls (`PTRACE_EVENT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Event {
    Fork = 1,
    Vfork = 2,
    Clone = 3,
    Exec = 4,
    VforkDone = 5,
    Exit = 6,
    /// A stop of the group, PTRACE_INTERRUPT, or the first one of a tracee's child: of those only that
    /// were seized.
    Stop = 128,
}

/// A set of options, as the system call passes it (`PTRACE_O_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options(u32);

/// PTRACE_O_TRACESYSGOOD.
const SYSGOOD: u32 = 1;
/// PTRACE_O_EXITKILL.
const EXITKILL: u32 = 1 << 20;
/// PTRACE_O_SUSPEND_SECCOMP, which wants a kernel with checkpoints.
const SUSPEND_SECCOMP: u32 = 1 << 21;
/// Bit E for event E, those of seccomp (7) among them, which never come.
const EVENTS: u32 = 0xfe;
const KNOWN: u32 = SYSGOOD | EVENTS | EXITKILL | SUSPEND_SECCOMP;

impl Options {
    /// The set of `data`: EINVAL for what is not known, or not there.
    pub fn new(data: u64) -> Result<Self> {
        if !Self::are_known(data) || data as u32 & SUSPEND_SECCOMP != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Self(data as u32))
    }

    /// Names no other options than Linux has.
    pub fn are_known(data: u64) -> bool {
        data & !u64::from(KNOWN) == 0
    }

    /// The tracee stops for `event`.
    pub fn wants(self, event: Event) -> bool {
        let event = event as u32;
        event < 8 && self.0 & 1 << event != 0
    }

    /// Stops for system calls are told from traps by bit 7 of their signal.
    pub fn marks_calls(self) -> bool {
        self.0 & SYSGOOD != 0
    }

    /// The tracee does not outlive its tracer.
    pub fn kills_at_exit(self) -> bool {
        self.0 & EXITKILL != 0
    }
}
