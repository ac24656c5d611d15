//! Addresses and frame numbers as types, so that physical, virtual and user addresses never mix.

use abi::{PAGE_SHIFT, PAGE_SIZE};
use core::fmt;
use core::ops::{Add, Sub};

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// From the raw number.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }
            /// The raw number.
            pub const fn raw(self) -> u64 {
                self.0
            }
            /// Rounded down to a page boundary.
            pub const fn page_down(self) -> Self {
                Self(self.0 & !(PAGE_SIZE as u64 - 1))
            }
            /// Rounded up to a page boundary (wraps to 0 at the very top).
            pub const fn page_up(self) -> Self {
                Self(self.0.wrapping_add(PAGE_SIZE as u64 - 1) & !(PAGE_SIZE as u64 - 1))
            }
            /// Bytes past the page boundary below.
            pub const fn page_offset(self) -> usize {
                (self.0 & (PAGE_SIZE as u64 - 1)) as usize
            }
            /// True on a page boundary.
            pub const fn is_page_aligned(self) -> bool {
                self.page_offset() == 0
            }
        }

        impl Sub<$name> for $name {
            type Output = u64;
            fn sub(self, other: Self) -> u64 {
                self.0 - other.0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address!(
    /// A physical address.
    PhysAddr
);
address!(
    /// A virtual address, kernel or user.
    VirtAddr
);

impl Add<u64> for PhysAddr {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// Wraps, as a pointer does in C: a user's address and length are anything, and each access is
/// checked by itself.
impl Add<u64> for VirtAddr {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// A physical frame's number: its address divided by the page size.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Pfn(u64);

impl Pfn {
    /// From the raw number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn raw(self) -> u64 {
        self.0
    }
    /// The frame's first byte.
    pub const fn addr(self) -> PhysAddr {
        PhysAddr::new(self.0 << PAGE_SHIFT)
    }
    /// The frame that holds `addr`.
    pub const fn containing(addr: PhysAddr) -> Self {
        Self(addr.raw() >> PAGE_SHIFT)
    }
}

impl Add<u64> for Pfn {
    type Output = Self;
    fn add(self, frames: u64) -> Self {
        Self(self.0 + frames)
    }
}
