//! /proc/proxima/latency: how long preemption and interrupts were off at most, and where. Writing
//! anything begins anew.

/// The kernel that is built for speed does not record: its locks would cost more.
#[cfg(not(feature = "checks"))]
pub fn show(out: &mut fs::pseudo::Text) -> abi::Result<()> {
    out.bytes(b"not recorded by this kernel: boot the checked one (--kernel checked)\n");
    Ok(())
}

#[cfg(not(feature = "checks"))]
pub fn reset(_: &[u8]) -> abi::Result<()> {
    Err(abi::Errno::EOPNOTSUPP)
}

#[cfg(feature = "checks")]
pub use recorded::{reset, show};

#[cfg(feature = "checks")]
mod recorded {
    use crate::proc::put;
    use alloc::vec::Vec;
    use fs::pseudo::Text;
    use hal::latency::{Off, longest};

    /// Lines of each kind: the places with the longest times.
    const LINES: usize = 20;

    pub fn show(out: &mut Text) -> abi::Result<()> {
        put!(out, "{:<10} {:>12} {:>10} from .. to\n", "off", "longest_ns", "times");
        for (what, name) in [(Off::Preemption, "preemption"), (Off::Interrupts, "interrupts")] {
            let places: Vec<_> = longest(what).collect();
            // References: a sort has room for 48 elements on the stack.
            let mut places: Vec<_> = places.iter().collect();
            places.sort_unstable_by_key(|place| core::cmp::Reverse(place.cycles));
            for place in places.iter().take(LINES) {
                let hz = u128::from(hal::time::tsc_hz().max(1));
                let ns = u128::from(place.cycles) * 1_000_000_000 / hz;
                put!(out, "{name:<10} {ns:>12} {:>10} ", place.times);
                symbol(out, place.from);
                out.bytes(b" .. ");
                symbol(out, place.to);
                out.bytes(b"\n");
            }
        }
        Ok(())
    }

    fn symbol(out: &mut Text, at: u64) {
        match hal::symbols::lookup(at) {
            Some((name, offset)) => put!(out, "{name}+{offset:#x}"),
            None => put!(out, "{at:#x}"),
        }
    }

    pub fn reset(_: &[u8]) -> abi::Result<()> {
        hal::latency::start();
        Ok(())
    }
}
