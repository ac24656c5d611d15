//! Signal numbers and sets of them: bit N - 1 stands for signal N.

/// A set of signals, as `sigset_t` has it.
pub type SigSet = u64;

/// Number of signals.
pub const COUNT: i32 = 64;
/// The first real-time signal: from here on each sending is queued.
pub const FIRST_RT: i32 = 32;

/// Signal numbers.
pub mod sig {
    pub const HUP: i32 = 1;
    pub const QUIT: i32 = 3;
    pub const ILL: i32 = 4;
    pub const TRAP: i32 = 5;
    pub const ABRT: i32 = 6;
    pub const BUS: i32 = 7;
    pub const FPE: i32 = 8;
    pub const KILL: i32 = 9;
    pub const SEGV: i32 = 11;
    pub const PIPE: i32 = 13;
    pub const ALRM: i32 = 14;
    pub const CHLD: i32 = 17;
    pub const CONT: i32 = 18;
    pub const STOP: i32 = 19;
    pub const TSTP: i32 = 20;
    pub const TTIN: i32 = 21;
    pub const TTOU: i32 = 22;
    pub const URG: i32 = 23;
    pub const XCPU: i32 = 24;
    pub const XFSZ: i32 = 25;
    pub const VTALRM: i32 = 26;
    pub const PROF: i32 = 27;
    pub const WINCH: i32 = 28;
    pub const IO: i32 = 29;
    pub const SYS: i32 = 31;
}

/// The set of one signal (1 to 64).
pub const fn bit(signal: i32) -> SigSet {
    1 << (signal - 1)
}

/// SIGKILL and SIGSTOP can be neither blocked nor caught nor ignored.
pub const UNBLOCKABLE: SigSet = bit(sig::KILL) | bit(sig::STOP);
/// Stop their process by default.
pub const STOPS: SigSet = bit(sig::STOP) | bit(sig::TSTP) | bit(sig::TTIN) | bit(sig::TTOU);
/// Do nothing by default.
pub const HARMLESS: SigSet = bit(sig::CHLD) | bit(sig::CONT) | bit(sig::URG) | bit(sig::WINCH);
/// End the process with a core dump by default.
pub const DUMPS: SigSet =
    SYNCHRONOUS | bit(sig::QUIT) | bit(sig::ABRT) | bit(sig::XCPU) | bit(sig::XFSZ);
/// Caused by an instruction: delivered before others.
pub const SYNCHRONOUS: SigSet =
    bit(sig::SEGV) | bit(sig::BUS) | bit(sig::ILL) | bit(sig::TRAP) | bit(sig::FPE) | bit(sig::SYS);

/// True for a number that names a signal.
pub const fn is_valid(signal: i32) -> bool {
    1 <= signal && signal <= COUNT
}

/// The lowest signal of a set that is not empty.
pub const fn lowest(set: SigSet) -> i32 {
    set.trailing_zeros() as i32 + 1
}
