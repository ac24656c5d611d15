//! Which groups of events are on the hardware, and whose turn is next.
//!
//! A group is on as a whole or not at all. Pinned groups come first and fail when they do not fit;
//! the others take what is left in turns, so that over time each gets its share and its count can
//! be scaled by the time it was on.

use alloc::vec::Vec;

/// What a group asks of the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Counters that it needs; 0 for events that need none (software).
    pub counters: usize,
    pub pinned: bool,
    /// Wants the hardware for itself.
    pub exclusive: bool,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    On,
    /// Waits for its turn.
    Waits,
    /// Pinned, and there was no room.
    Failed,
}

/// The fate of each group (in the order given) on a machine with `counters`, when it is the turn of
/// flexible group number `turn` (modulo their number) to be first.
pub fn place(groups: &[Wants], counters: usize, turn: usize) -> Vec<Fate> {
    let mut fates = alloc::vec![Fate::Waits; groups.len()];
    let mut free = counters;
    let mut taken = false;
    let mut closed = false;
    let mut put = |at: usize, free: &mut usize| {
        let group = groups[at];
        if group.counters == 0 {
            return true;
        }
        if closed || group.counters > *free || group.exclusive && taken {
            return false;
        }
        *free -= group.counters;
        taken = true;
        closed = group.exclusive;
        true
    };
    for (at, _) in groups.iter().enumerate().filter(|(_, g)| g.pinned) {
        fates[at] = if put(at, &mut free) { Fate::On } else { Fate::Failed };
    }
    let flexible: Vec<usize> =
        (0..groups.len()).filter(|&at| !groups[at].pinned && groups[at].counters > 0).collect();
    // The first that does not fit ends the round: else small groups would pass a large one for ever.
    for step in 0..flexible.len() {
        let at = flexible[(turn + step) % flexible.len()];
        if !put(at, &mut free) {
            break;
        }
        fates[at] = Fate::On;
    }
    for (at, group) in groups.iter().enumerate() {
        if group.counters == 0 && !group.pinned {
            fates[at] = Fate::On;
        }
    }
    fates
}

/// True when some group waits: the turn must go round.
pub fn must_rotate(fates: &[Fate]) -> bool {
    fates.contains(&Fate::Waits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flexible(counters: usize) -> Wants {
        Wants { counters, pinned: false, exclusive: false }
    }

    #[test]
    fn turns_are_shared_equally() {
        // Six single events on four counters: each is on for four of six turns.
        let groups = [flexible(1); 6];
        let mut on = [0; 6];
        for turn in 0..6 {
            let fates = place(&groups, 4, turn);
            assert!(must_rotate(&fates));
            for (count, fate) in on.iter_mut().zip(&fates) {
                *count += usize::from(*fate == Fate::On);
            }
        }
        assert_eq!(on, [4; 6]);
    }

    #[test]
    fn pinned_groups_come_first_and_may_fail() {
        let pinned = Wants { counters: 3, pinned: true, exclusive: false };
        let fates = place(&[flexible(2), pinned, pinned], 4, 0);
        assert_eq!(fates, [Fate::Waits, Fate::On, Fate::Failed]);
    }

    #[test]
    fn exclusive_groups_are_alone() {
        let alone = Wants { counters: 1, pinned: false, exclusive: true };
        assert_eq!(place(&[alone, flexible(1)], 4, 0), [Fate::On, Fate::Waits]);
        assert_eq!(place(&[alone, flexible(1)], 4, 1), [Fate::Waits, Fate::On]);
        assert_eq!(place(&[flexible(0), alone], 4, 0), [Fate::On, Fate::On]);
    }

    proptest! {
        #[test]
        fn the_hardware_is_never_overcommitted(
            wants in proptest::collection::vec((0usize..4, any::<bool>(), any::<bool>()), 0..12),
            counters in 0usize..8,
            turn in 0usize..20,
        ) {
            let groups: Vec<Wants> = wants.iter()
                .map(|&(counters, pinned, exclusive)| Wants { counters, pinned, exclusive }).collect();
            let fates = place(&groups, counters, turn);
            let used: usize = groups.iter().zip(&fates)
                .filter(|(_, f)| **f == Fate::On).map(|(g, _)| g.counters).sum();
            prop_assert!(used <= counters);
            for (group, fate) in groups.iter().zip(&fates) {
                prop_assert_eq!(*fate == Fate::Failed, group.pinned && *fate != Fate::On);
                prop_assert!(group.counters > 0 || *fate == Fate::On);
            }
        }

        #[test]
        fn who_fits_alone_gets_a_turn(sizes in proptest::collection::vec(1usize..5, 1..10)) {
            let groups: Vec<Wants> = sizes.iter().map(|&n| flexible(n)).collect();
            let mut seen = vec![false; groups.len()];
            for turn in 0..groups.len() {
                for (seen, fate) in seen.iter_mut().zip(place(&groups, 4, turn)) {
                    *seen |= fate == Fate::On;
                }
            }
            prop_assert!(seen.iter().all(|&s| s));
        }
    }
}
