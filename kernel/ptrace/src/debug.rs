//! Debug registers as a tracer sets them: four addresses, what to watch there, and what was hit.

use abi::{Errno, Result};

/// What of DR6 a tracee sees: the four addresses, single step.
const HITS: u64 = 0xf;
const STEP: u64 = 1 << 14;
/// Bits of DR7 that are kept: enables, exactness, kinds and lengths.
const CONTROL: u64 = 0xffff_03ff;
/// Bits that DR6 has set while nothing happens.
const DR6_IDLE: u64 = 0xffff_0ff0;

/// A task's debug registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    addr: [u64; 4],
    /// What was hit, in the polarity of DR6's bits 0 to 3 and 14.
    hit: u64,
    /// As the tracer wrote it; [`CONTROL`] of it counts.
    control: u64,
}

/// Kind of address `n` in `control`: 0 execution, 1 writing, 3 reading and writing; and bytes.
fn watched(control: u64, n: usize) -> (u64, u64) {
    let bits = control >> (16 + 4 * n);
    let bytes = match bits >> 2 & 3 {
        0 => 1,
        1 => 2,
        2 => 8,
        _ => 4,
    };
    (bits & 3, bytes)
}

fn is_enabled(control: u64, n: usize) -> bool {
    control >> (2 * n) & 3 != 0
}

impl Registers {
    /// Register `n` (0 to 7) as PTRACE_PEEKUSER reads it.
    pub fn get(&self, n: usize) -> u64 {
        match n {
            0..=3 => self.addr[n],
            6 => self.hit ^ DR6_IDLE,
            7 => self.control,
            _ => 0,
        }
    }

    /// PTRACE_POKEUSER of register `n`; `user_end` is where user addresses end. EIO for registers that
    /// are none; EINVAL for what cannot be watched or is not the tracee's. Refused, nothing changes.
    pub fn set(&mut self, n: usize, value: u64, user_end: u64) -> Result<()> {
        let mut new = *self;
        match n {
            0..=3 => new.addr[n] = value,
            6 => new.hit = (value ^ DR6_IDLE) & (HITS | STEP),
            7 => new.control = value,
            _ => return Err(Errno::EIO),
        }
        for i in (0..4).filter(|&i| n == i || is_enabled(new.control, i)) {
            new.check(i, user_end)?;
        }
        *self = new;
        Ok(())
    }

    /// Address `i` can be watched as DR7 says.
    fn check(&self, i: usize, user_end: u64) -> Result<()> {
        let (kind, bytes) = watched(self.control, i);
        let addr = self.addr[i];
        if addr >= user_end || user_end - addr < bytes {
            return Err(Errno::EINVAL);
        }
        if !is_enabled(self.control, i) {
            return Ok(());
        }
        // Kind 2 watches ports; one byte is all of an instruction that can be named.
        if kind == 2 || kind == 0 && bytes != 1 || !addr.is_multiple_of(bytes) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Something is watched: they are to be loaded while the task runs.
    pub fn is_active(&self) -> bool {
        (0..4).any(|n| is_enabled(self.control, n))
    }

    /// The four addresses, and DR7 with its fixed bit.
    pub fn loaded(&self) -> ([u64; 4], u64) {
        (self.addr, self.control & CONTROL | 1 << 10)
    }

    /// Notes what DR6 said; whether an address was hit.
    pub fn note(&mut self, dr6: u64) -> bool {
        self.hit |= dr6 & (HITS | STEP);
        dr6 & HITS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 0x7fff_ffff_f000;

    /// Watches four bytes at address 0, locally, for writing.
    const WRITE4: u64 = 1 | 0b1101 << 16;

    #[test]
    fn what_is_set_is_read_back() {
        let mut regs = Registers::default();
        assert_eq!(regs.set(0, 0x1000, END), Ok(()));
        assert!(!regs.is_active());
        assert_eq!(regs.set(7, WRITE4, END), Ok(()));
        assert!(regs.is_active());
        assert_eq!((regs.get(0), regs.get(7), regs.get(4)), (0x1000, WRITE4, 0));
        assert_eq!(regs.loaded(), ([0x1000, 0, 0, 0], WRITE4 | 0x400));
        assert!(regs.note(0xffff_0ff1));
        assert_eq!(regs.get(6) & 0xf, 1);
        assert_eq!(regs.set(6, 0, END), Ok(()));
    }

    #[test]
    fn nothing_of_the_kernels_is_watched() {
        let mut regs = Registers::default();
        for addr in [END, END - 3, 1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
            let mut regs = Registers::default();
            let set = regs.set(0, addr, END).and_then(|()| regs.set(7, WRITE4, END));
            assert_eq!(set, Err(Errno::EINVAL), "{addr:#x}");
            assert!(!regs.is_active());
        }
        assert_eq!(regs.set(7, WRITE4, END), Ok(()));
        assert_eq!(regs.set(0, 1 << 63, END), Err(Errno::EINVAL));
        assert_eq!(regs.set(0, 2, END), Err(Errno::EINVAL), "not aligned");
        assert_eq!(regs.set(4, 0, END), Err(Errno::EIO));
        assert_eq!(regs.set(7, 1 | 2 << 16, END), Err(Errno::EINVAL), "ports");
        assert_eq!(regs.set(7, 1 | 4 << 16, END), Err(Errno::EINVAL), "two bytes of code");
        // General detect (bit 13) would make each access to a debug register trap.
        assert_eq!(regs.set(7, 1 << 13, END), Ok(()));
        assert_eq!((regs.get(7), regs.loaded().1), (1 << 13, 0x400));
    }
}
