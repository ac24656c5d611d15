//! `struct user` of x86-64 (sys/user.h): the registers by their places, and what a tracer may write.

use abi::{Errno, Result};

/// Words of `struct user_regs_struct`.
pub const COUNT: usize = 27;

/// The registers in the order of `struct user_regs_struct`.
pub type Words = [u64; COUNT];

/// Bytes of `struct user_fpregs_struct`: the layout of FXSAVE.
pub const FP_SIZE: usize = 512;

/// Bytes of `struct user`.
pub const USER_SIZE: u64 = 928;
/// Where the debug registers lie in it.
const DEBUG: core::ops::Range<u64> = 848..912;

/// Places in [`Words`].
pub mod place {
    pub const R15: usize = 0;
    pub const R14: usize = 1;
    pub const R13: usize = 2;
    pub const R12: usize = 3;
    pub const RBP: usize = 4;
    pub const RBX: usize = 5;
    pub const R11: usize = 6;
    pub const R10: usize = 7;
    pub const R9: usize = 8;
    pub const R8: usize = 9;
    pub const RAX: usize = 10;
    pub const RCX: usize = 11;
    pub const RDX: usize = 12;
    pub const RSI: usize = 13;
    pub const RDI: usize = 14;
    pub const ORIG_RAX: usize = 15;
    pub const RIP: usize = 16;
    pub const CS: usize = 17;
    pub const FLAGS: usize = 18;
    pub const RSP: usize = 19;
    pub const SS: usize = 20;
    pub const FS_BASE: usize = 21;
    pub const GS_BASE: usize = 22;
    pub const DS: usize = 23;
    pub const ES: usize = 24;
    pub const FS: usize = 25;
    pub const GS: usize = 26;
}

/// RFLAGS that a tracer may change: RF, AC, NT, OF, DF, TF, SF, ZF, AF, PF, CF.
pub const USER_FLAGS: u64 = 0x5_4dd5;

/// What lies at an address in `struct user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A register, by its place in [`Words`].
    Register(usize),
    /// Debug register 0 to 7.
    Debug(usize),
    /// Reads as 0, and cannot be written.
    Other,
}

/// The field at `addr`. EIO for no word of `struct user`.
pub fn field(addr: u64) -> Result<Field> {
    if !addr.is_multiple_of(8) || addr >= USER_SIZE {
        return Err(Errno::EIO);
    }
    let word = addr as usize / 8;
    Ok(match word {
        0..COUNT => Field::Register(word),
        _ if DEBUG.contains(&addr) => Field::Debug((addr - DEBUG.start) as usize / 8),
        _ => Field::Other,
    })
}

/// A selector that user code may not load: of another privilege.
fn is_invalid(selector: u64) -> bool {
    let selector = selector & 0xffff;
    selector != 0 && selector & 3 != 3
}

/// The value that register `place` may be set to when a tracer writes `value`; `user_end` is where
/// user addresses end. EIO for what must not be loaded.
///
/// What RIP, RSP and general registers hold harms none but the tracee: a bad RIP is found on the way
/// to user mode.
pub fn checked(place: usize, value: u64, user_end: u64) -> Result<u64> {
    match place {
        place::CS | place::SS if is_invalid(value) || value & 0xffff == 0 => Err(Errno::EIO),
        place::CS | place::SS => Ok(value & 0xffff),
        place::DS | place::ES | place::FS | place::GS if is_invalid(value) => Err(Errno::EIO),
        place::DS | place::ES | place::FS | place::GS => Ok(value & 0xffff),
        place::FS_BASE | place::GS_BASE if value >= user_end => Err(Errno::EIO),
        place::FLAGS => Ok(value & USER_FLAGS),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 0x7fff_ffff_f000;

    #[test]
    fn fields_lie_where_the_header_says() {
        assert_eq!(field(0), Ok(Field::Register(place::R15)));
        assert_eq!(field(15 * 8), Ok(Field::Register(place::ORIG_RAX)));
        assert_eq!(field(26 * 8), Ok(Field::Register(place::GS)));
        assert_eq!(field(27 * 8), Ok(Field::Other));
        assert_eq!(field(848), Ok(Field::Debug(0)));
        assert_eq!(field(848 + 56), Ok(Field::Debug(7)));
        assert_eq!(field(912), Ok(Field::Other));
        for bad in [4, 928, !7, u64::MAX] {
            assert_eq!(field(bad), Err(Errno::EIO), "{bad:#x}");
        }
    }

    #[test]
    fn nothing_privileged_is_loaded() {
        for place in [place::CS, place::SS, place::DS, place::ES, place::FS, place::GS] {
            for bad in [0x08, 0x10, 0x31, 0x32] {
                assert_eq!(checked(place, bad, END), Err(Errno::EIO), "{place} {bad:#x}");
            }
            assert_eq!(checked(place, 0x33, END), Ok(0x33));
        }
        assert_eq!(checked(place::CS, 0, END), Err(Errno::EIO));
        assert_eq!(checked(place::DS, 0, END), Ok(0));
        for place in [place::FS_BASE, place::GS_BASE] {
            for bad in [END, 1 << 47, 1 << 63, u64::MAX] {
                assert_eq!(checked(place, bad, END), Err(Errno::EIO));
            }
            assert_eq!(checked(place, END - 1, END), Ok(END - 1));
        }
        let iopl_if_vif = 0x3000 | 0x200 | 1 << 19 | 1 << 17;
        assert_eq!(checked(place::FLAGS, iopl_if_vif | 0x101, END), Ok(0x101));
    }
}
