//! Which counter the clock goes by, and the arithmetic of KVM's: decisions only.
//!
//! Sources: Linux's Documentation/virt/kvm/x86/msr.rst (the layout and meaning of KVM's structure).

/// What counts the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The time-stamp counter: read by programs without a system call.
    Tsc = 0,
    /// The host's clock, as KVM tells it to each CPU.
    KvmClock = 1,
    /// The High Precision Event Timer: one counter for all CPUs.
    Hpet = 2,
}

impl Source {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Tsc, Self::KvmClock, Self::Hpet];

    /// Linux's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tsc => "tsc",
            Self::KvmClock => "kvm-clock",
            Self::Hpet => "hpet",
        }
    }
}

/// What was found out about the machine's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// A CPU's time-stamp counter was seen behind what another had read before.
    pub warped: bool,
    /// The counter's speed never changes (CPUID says it).
    pub invariant: bool,
    /// KVM is the host: without a promise the counter may jump when it moves a CPU to another one.
    pub kvm: bool,
    pub kvm_clock: bool,
    /// KVM promises that all CPUs' counters are one.
    pub kvm_stable: bool,
    pub hpet: bool,
}

impl Found {
    /// The clock can go by this source.
    pub fn offers(&self, source: Source) -> bool {
        match source {
            Source::Tsc => true,
            Source::KvmClock => self.kvm_clock,
            Source::Hpet => self.hpet,
        }
    }

    /// All CPUs' time-stamp counters are one, and stay so.
    fn tsc_is_one(&self) -> bool {
        !self.warped && (!self.kvm || self.invariant || self.kvm_stable)
    }

    /// The source to go by: the one that is `asked` for (clocksource=), if there is such a one; else the
    /// best that can be relied upon. The time-stamp counter is the last resort, too: the clock then
    /// stands still rather than going back.
    pub fn choose(&self, asked: Option<&str>) -> Source {
        let asked = Source::ALL.into_iter().find(|source| Some(source.name()) == asked);
        if let Some(source) = asked.filter(|source| self.offers(*source)) {
            return source;
        }
        let reliable = |source: &Source| *source != Source::Tsc || self.tsc_is_one();
        let mut offered = Source::ALL.into_iter().filter(|source| self.offers(*source));
        offered.find(reliable).unwrap_or(Source::Tsc)
    }
}

/// The structure that KVM keeps up to date for a CPU (`struct pvclock_vcpu_time_info`), without its
/// version.
#[derive(Clone, Copy, Debug, Default)]
pub struct PvTime {
    /// The CPU's time-stamp counter when it showed `system_time`, ns.
    pub tsc: u64,
    pub system_time: u64,
    /// Nanoseconds are cycles, shifted, times this / 2^32.
    pub mult: u32,
    pub shift: i8,
    pub flags: u8,
}

impl PvTime {
    /// In `flags`: all CPUs' counters are one.
    pub const STABLE: u8 = 1;

    /// The time when the CPU's counter shows `tsc`, ns.
    pub fn at(&self, tsc: u64) -> u64 {
        let cycles = tsc.saturating_sub(self.tsc);
        let shifted =
            if self.shift < 0 { cycles >> -i32::from(self.shift) } else { cycles << self.shift };
        self.system_time + ((u128::from(shifted) * u128::from(self.mult)) >> 32) as u64
    }

    /// The counter's frequency.
    pub fn hz(&self) -> Option<u64> {
        let mult = u128::from(self.mult);
        let per_second = (1_000_000_000u128 << 32).checked_div(mult)?;
        let hz = match self.shift {
            shift if shift < 0 => per_second << -i32::from(shift),
            shift => per_second >> shift,
        };
        u64::try_from(hz).ok().filter(|&hz| hz > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tsc_serves_while_all_cpus_agree_on_it() {
        let emulated = Found { hpet: true, ..Found::default() };
        assert_eq!(emulated.choose(None), Source::Tsc);
        assert_eq!(Found { warped: true, ..emulated }.choose(None), Source::Hpet);
        assert_eq!(Found { warped: true, ..Found::default() }.choose(None), Source::Tsc);
    }

    #[test]
    fn under_kvm_it_needs_a_promise() {
        let kvm = Found { kvm: true, kvm_clock: true, hpet: true, ..Found::default() };
        assert_eq!(kvm.choose(None), Source::KvmClock);
        for promised in [Found { invariant: true, ..kvm }, Found { kvm_stable: true, ..kvm }] {
            assert_eq!(promised.choose(None), Source::Tsc);
            assert_eq!(Found { warped: true, ..promised }.choose(None), Source::KvmClock);
        }
        assert_eq!(Found { kvm_clock: false, ..kvm }.choose(None), Source::Hpet);
    }

    #[test]
    fn what_is_asked_for_is_taken_where_it_is() {
        let emulated = Found { hpet: true, ..Found::default() };
        assert_eq!(emulated.choose(Some("hpet")), Source::Hpet);
        assert_eq!(emulated.choose(Some("kvm-clock")), Source::Tsc);
        assert_eq!(emulated.choose(Some("sundial")), Source::Tsc);
    }

    #[test]
    fn kvms_time_is_scaled_by_a_shift_and_a_fraction() {
        // 2.5 GHz: 0.4 ns a cycle, as 0.8 of half a cycle.
        let mult = (0.8 * 4_294_967_296.0) as u32;
        let time = PvTime { tsc: 1000, system_time: 5_000_000, mult, shift: -1, flags: 0 };
        assert_eq!(time.at(1000), 5_000_000);
        assert_eq!(time.at(1000 + 2_500_000_000), 5_000_000 + 999_999_999);
        assert_eq!(time.at(0), 5_000_000, "a counter behind the structure's");
        let hz = time.hz().unwrap();
        assert!(hz.abs_diff(2_500_000_000) < 10, "{hz}");
        assert_eq!(PvTime::default().hz(), None);
    }
}
