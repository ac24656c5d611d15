//! `siginfo_t`: what a signal tells about itself.

use super::set::{self, sig};
use crate::task::process::Event;
use fs::fasync::Band;

/// `si_code` of signals that nobody's code names better.
pub mod code {
    /// kill(2).
    pub const USER: i32 = 0;
    /// The kernel.
    pub const KERNEL: i32 = 0x80;
    /// A timer of timer_create(2).
    pub const TIMER: i32 = -2;
    /// A file, by a signal whose own codes mean something else.
    pub const SIGIO: i32 = -5;
    /// tkill(2), tgkill(2).
    pub const TKILL: i32 = -6;
}

/// The 128 bytes of the structure, as words of 32 bits.
#[derive(Clone, Copy)]
pub struct SigInfo(pub [u32; 32]);

impl SigInfo {
    fn new(signal: i32, code: i32) -> Self {
        let mut words = [0; 32];
        words[0] = signal as u32;
        words[2] = code as u32;
        Self(words)
    }

    fn set_long(&mut self, at: usize, value: u64) {
        self.0[at] = value as u32;
        self.0[at + 1] = (value >> 32) as u32;
    }

    fn long(&self, at: usize) -> u64 {
        u64::from(self.0[at]) | u64::from(self.0[at + 1]) << 32
    }

    /// Sent by the process `pid` of user `uid`.
    pub fn from_process(signal: i32, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.0[4] = pid as u32;
        info.0[5] = uid;
        info
    }

    /// Sent by the kernel for no process's sake.
    pub fn kernel(signal: i32) -> Self {
        Self::new(signal, code::KERNEL)
    }

    /// Raised by an instruction at, or for, `addr`.
    pub fn fault(signal: i32, code: i32, addr: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.set_long(4, addr);
        info
    }

    /// A child's event; times in clock ticks.
    pub fn child(signal: i32, pid: i32, uid: u32, event: Event, utime: u64, stime: u64) -> Self {
        let (code, status) = match event {
            Event::Exited(status) => (1, status),
            Event::Killed { signal, core: false } => (2, signal),
            Event::Killed { signal, core: true } => (3, signal),
            Event::Trapped(code) => (4, code),
            Event::Stopped(signal) => (5, signal),
            Event::Continued => (6, sig::CONT),
        };
        let mut info = Self::from_process(signal, code, pid, uid);
        info.0[6] = status as u32;
        info.set_long(8, utime);
        info.set_long(10, stime);
        info
    }

    /// An expiration of timer `id`, with the value that its maker gave.
    pub fn timer(signal: i32, id: i32, value: u64) -> Self {
        let mut info = Self::new(signal, code::TIMER);
        info.0[4] = id as u32;
        info.set_long(6, value);
        info
    }

    /// Something happened to the file that `fd` named.
    pub fn poll(signal: i32, band: Band, fd: i32) -> Self {
        let specific = (set::SYNCHRONOUS | set::bit(sig::CHLD)) & set::bit(signal) != 0;
        let mut info = Self::new(signal, if specific { code::SIGIO } else { band as i32 });
        info.set_long(4, band.events());
        info.0[6] = fd as u32;
        info
    }

    pub fn signal(&self) -> i32 {
        self.0[0] as i32
    }

    pub fn set_signal(&mut self, signal: i32) {
        self.0[0] = signal as u32;
    }

    pub fn code(&self) -> i32 {
        self.0[2] as i32
    }

    /// Missed expirations of a timer.
    pub fn set_overrun(&mut self, overrun: i32) {
        self.0[5] = overrun as u32;
    }

    /// From a user, not from the kernel.
    pub fn is_from_user(&self) -> bool {
        self.code() <= 0
    }

    /// As `struct signalfd_siginfo`: which fields hold something depends on the code.
    pub fn as_signalfd(&self) -> [u8; 128] {
        let mut out = [0u32; 32];
        out[..3].copy_from_slice(&self.0[..3]);
        let w = &self.0;
        let value = |out: &mut [u32; 32]| {
            out[11] = w[6];
            out[12] = w[6];
            out[13] = w[7];
        };
        let poll = |out: &mut [u32; 32]| {
            out[7] = w[4];
            out[5] = w[6];
        };
        let code = self.code();
        match code {
            code::TIMER => {
                out[6] = w[4];
                out[8] = w[5];
                value(&mut out);
            }
            code::SIGIO => poll(&mut out),
            _ if code > 0 && code != code::KERNEL => match self.signal() {
                sig::CHLD => {
                    out[3] = w[4];
                    out[4] = w[5];
                    out[10] = w[6];
                    out[14..18].copy_from_slice(&w[8..12]);
                }
                s if set::SYNCHRONOUS & set::bit(s) != 0 => {
                    out[18] = w[4];
                    out[19] = w[5];
                }
                _ if code <= Band::Hup as i32 => poll(&mut out),
                _ => {
                    out[3] = w[4];
                    out[4] = w[5];
                }
            },
            _ => {
                out[3] = w[4];
                out[4] = w[5];
                if code < 0 && code != code::TKILL {
                    value(&mut out);
                }
            }
        }
        let mut bytes = [0; 128];
        bytes.copy_from_slice(hal::user::slice_bytes(&out));
        bytes
    }

    /// `si_addr`, for messages.
    pub fn addr(&self) -> u64 {
        self.long(4)
    }
}
