//! Virtual time: the time that a task of nice 0 would have had.
//!
//! A nanosecond on the CPU is `1024 / weight` virtual nanoseconds. The clock of a queue starts
//! anywhere and may wrap: only differences mean something, and they are far below 2^63.

use core::cmp::Ordering;

/// The weight of nice 0, for which virtual time goes as fast as real time.
pub(crate) const UNIT_WEIGHT: u64 = 1024;

/// A point in a queue's virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VTime(u64);

impl VTime {
    pub(crate) const ZERO: Self = Self(0);

    /// This point, `by` later (earlier when negative).
    #[must_use]
    pub(crate) const fn plus(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }

    /// How much later this is than `other`.
    #[must_use]
    pub(crate) const fn since(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Earlier is less. An order only among points less than 2^63 apart, which those of a queue are.
impl Ord for VTime {
    fn cmp(&self, other: &Self) -> Ordering {
        self.since(*other).cmp(&0)
    }
}

impl PartialOrd for VTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `time` on the CPU as virtual time for `weight`, and what the division left (in units of
/// 1/1024 weight), which the next charge adds as `carried`: otherwise short charges would favour
/// heavy tasks.
#[inline]
pub(crate) fn virtual_time(time: u64, weight: u64, carried: u64) -> (i64, u64) {
    if weight == UNIT_WEIGHT && carried == 0 {
        return (time as i64, 0);
    }
    let scaled = time.saturating_mul(UNIT_WEIGHT).saturating_add(carried);
    ((scaled / weight) as i64, scaled % weight)
}

/// `time` as virtual time for `weight`, rounded down.
#[inline]
pub(crate) fn virtual_span(time: u64, weight: u64) -> i64 {
    virtual_time(time, weight, 0).0
}

/// The real time that takes `span` of virtual time at `weight`, rounded up; 0 when negative.
pub(crate) fn real_span(span: i64, weight: u64) -> u64 {
    u64::try_from(span).unwrap_or(0).saturating_mul(weight).div_ceil(UNIT_WEIGHT)
}

/// `value * by / over` without overflow on the way.
pub(crate) fn scale(value: i64, by: u64, over: u64) -> i64 {
    match value.checked_mul(by as i64) {
        Some(product) => product / over as i64,
        None => (i128::from(value) * i128::from(by) / i128::from(over)) as i64,
    }
}
