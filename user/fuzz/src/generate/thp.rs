//! Sequences with transparent huge pages: of two kinds, for what Linux has split it still moves as one
//! page. In the one all memory is in whole huge pages, and moves; in the other it is cut anywhere,
//! shared by forks, and stays.

use super::Maker;
use crate::arena;
use crate::ops::Kind;
use crate::random::Random;

/// Pages of a huge page.
pub const HUGE: u64 = 512;
/// Huge pages of a mapping at most.
const MOST: u64 = 4;

/// What a sequence has of transparent huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thp {
    None,
    Whole,
    Parts,
}

impl Thp {
    pub fn any(random: &mut Random) -> Self {
        match random.below(6) {
            0 => Self::Whole,
            1 => Self::Parts,
            _ => Self::None,
        }
    }
}

impl Maker<'_> {
    /// Pages that ranges consist of.
    pub(super) fn unit(&self) -> u64 {
        if self.thp == Thp::Whole { HUGE } else { 1 }
    }

    /// A length in whole huge pages: always, or now and then, or never.
    pub(super) fn pages_thp(&mut self) -> Option<u64> {
        let whole = match self.thp {
            Thp::None => false,
            Thp::Whole => true,
            Thp::Parts => self.random.chance(1, 4),
        };
        whole.then(|| (1 + self.random.below(MOST)) * HUGE)
    }

    /// A place at the boundary of a huge page. Few places, so that things meet.
    pub(super) fn fresh_thp(&mut self) -> Option<u64> {
        let aligned = match self.thp {
            Thp::None => false,
            Thp::Whole => true,
            Thp::Parts => self.random.chance(1, 2),
        };
        aligned.then(|| {
            let region = self.random.below(arena::REGIONS);
            arena::at(region, self.random.below(2 * MOST) * HUGE)
        })
    }

    pub(super) fn allow_thp(&mut self, worker: u64) {
        let allowed = self.random.of(&[0, 1, 1]);
        self.push(worker, Kind::Thp, &[allowed]);
    }
}
