//! Plain-old-data structures that cross the user boundary by bytes.
//!
//! [`Pod`] marks structures whose every bit pattern is valid and that hold no padding the kernel
//! could leak: only those may be copied to or from user memory as bytes. The marker is implemented
//! in `hal::user` (the one place that turns such a structure into bytes).

/// `struct timespec` (64-bit): seconds and nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    /// Nanoseconds in a second.
    pub const SECOND: u64 = 1_000_000_000;

    /// From a count of nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / Self::SECOND) as i64, nsec: (ns % Self::SECOND) as i64 }
    }

    /// As nanoseconds (saturating); EINVAL for negative or denormal values, as Linux answers.
    pub fn to_ns(self) -> crate::Result<u64> {
        if self.sec < 0 || !(0..Self::SECOND as i64).contains(&self.nsec) {
            return Err(crate::Errno::EINVAL);
        }
        Ok((self.sec as u64).saturating_mul(Self::SECOND).saturating_add(self.nsec as u64))
    }
}

/// `struct timeval`: seconds and microseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

impl Timeval {
    /// From a count of nanoseconds, rounded down.
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / Timespec::SECOND) as i64, usec: (ns % Timespec::SECOND / 1000) as i64 }
    }

    /// As nanoseconds; EINVAL for negative or denormal values.
    pub fn to_ns(self) -> crate::Result<u64> {
        if self.sec < 0 || !(0..1_000_000).contains(&self.usec) {
            return Err(crate::Errno::EINVAL);
        }
        Ok((self.sec as u64)
            .saturating_mul(Timespec::SECOND)
            .saturating_add(self.usec as u64 * 1000))
    }
}

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Iovec {
    pub base: u64,
    pub len: u64,
}
