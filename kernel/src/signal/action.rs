//! What a process does on each signal.

use alloc::boxed::Box;

use super::set::{HARMLESS, SigSet, UNBLOCKABLE, bit};

/// Flags of sigaction(2).
pub mod flag {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const EXPOSE_TAGBITS: u64 = 0x800;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
    /// What this kernel knows; others read back as 0, so that programs can ask.
    pub const KNOWN: u64 = NOCLDSTOP
        | NOCLDWAIT
        | SIGINFO
        | EXPOSE_TAGBITS
        | RESTORER
        | ONSTACK
        | RESTART
        | NODEFER
        | RESETHAND;
}

/// SIG_DFL.
pub const DEFAULT: u64 = 0;
/// SIG_IGN.
pub const IGNORE: u64 = 1;

/// One signal's action, as rt_sigaction(2) passes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: SigSet,
}

impl Action {
    /// From the four words of `struct sigaction`.
    pub fn from_words([handler, flags, restorer, mask]: [u64; 4]) -> Self {
        Self { handler, flags: flags & flag::KNOWN, restorer, mask: mask & !UNBLOCKABLE }
    }

    /// The four words of `struct sigaction`.
    pub fn words(&self) -> [u64; 4] {
        [self.handler, self.flags, self.restorer, self.mask]
    }

    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// `signal` has no effect under this action.
    pub fn ignores(&self, signal: i32) -> bool {
        self.handler == IGNORE || self.handler == DEFAULT && HARMLESS & bit(signal) != 0
    }
}

/// All signals' actions: 2 KiB, in a block of their own, so that none of it is ever on a stack.
#[derive(Clone)]
pub struct Actions(Box<[Action]>);

impl Default for Actions {
    fn default() -> Self {
        Self(alloc::vec![Action::default(); 64].into_boxed_slice())
    }
}

impl Actions {
    pub fn get(&self, signal: i32) -> Action {
        self.0[signal as usize - 1]
    }

    pub fn set(&mut self, signal: i32, action: Action) {
        self.0[signal as usize - 1] = action;
    }

    /// Brings what is caught back to default; what is ignored stays ignored (exec, and
    /// CLONE_CLEAR_SIGHAND).
    pub fn clear(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// The signals that are caught, and those that are ignored (SigCgt, SigIgn of
    /// /proc/PID/status).
    pub fn caught_and_ignored(&self) -> (SigSet, SigSet) {
        let mut sets = (0, 0);
        for (i, action) in self.0.iter().enumerate() {
            match action.handler {
                DEFAULT => {}
                IGNORE => sets.1 |= 1 << i,
                _ => sets.0 |= 1 << i,
            }
        }
        sets
    }
}
