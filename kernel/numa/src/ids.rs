//! Names for nodes and CPUs, and the two limits of the whole kernel.
//!
//! A node or a CPU is never a bare integer between crates: these newtypes are what keeps a CPU
//! number from being taken for a node number. The ids are Linux's: the node numbers that
//! /sys/devices/system/node shows, the logical CPU numbers that getcpu(2) returns. How they are
//! given to ACPI proximity domains and APIC ids is the boot code's business.

use core::fmt;

/// The most nodes that a machine may have; every node mask is this wide.
pub const MAX_NODES: usize = 64;

/// The most CPUs that a machine may have; every CPU mask is this wide.
pub const MAX_CPUS: usize = 256;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $max:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u16);

        impl $name {
            /// Names number `index`. An index past the limit is a bug of the caller: whoever
            /// takes numbers from a program or from firmware asks `try_new`.
            ///
            /// # Panics
            /// When `index` is not below the limit.
            #[must_use]
            pub const fn new(index: u16) -> Self {
                assert!((index as usize) < $max, "id beyond the kernel's limit");
                Self(index)
            }

            /// Names number `index`, or `None` when the kernel has no such id.
            #[must_use]
            pub const fn try_new(index: usize) -> Option<Self> {
                if index < $max { Some(Self(index as u16)) } else { None }
            }

            /// The number, always below the limit: an index for arrays of that length.
            #[must_use]
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// A memory node: what ACPI calls a proximity domain, by Linux's number.
    NodeId, MAX_NODES
}

id! {
    /// A logical CPU, by Linux's number.
    CpuId, MAX_CPUS
}
