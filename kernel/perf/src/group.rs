//! Which groups of events are on the hardware, and whose turn is next.
//!
//! A group is on as a whole or not at all. Pinned groups come first and fail when they do not fit;
//! the others take what is left in turns, so that over time each gets its share and its count can
//! be scaled by the time it was on. What fits is the caller's to find out: he assigns a group on
//! counters when he is asked to.

/// What a group asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// It has events of the hardware; software needs no counter, and always is on.
    pub hardware: bool,
    pub pinned: bool,
    /// Wants the hardware for itself.
    pub exclusive: bool,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    On,
    /// Waits for its turn: as long as one does, the turn must go round.
    Waits,
    /// Pinned, and there was no room.
    Failed,
}

/// The hardware while groups are put on it, one after the other: the pinned ones first.
#[derive(Debug, Default)]
pub struct Round {
    taken: bool,
    exclusive: bool,
    over: bool,
}

impl Round {
    /// The fate of the next group; `assign` tries to give it its counters (all or none).
    pub fn put(&mut self, group: Wants, assign: impl FnOnce() -> bool) -> Fate {
        if !group.hardware {
            return Fate::On;
        }
        let closed = self.over || self.exclusive || group.exclusive && self.taken;
        if !closed && assign() {
            self.taken = true;
            self.exclusive = group.exclusive;
            return Fate::On;
        }
        if group.pinned {
            return Fate::Failed;
        }
        // The first that does not fit ends the round: else small groups would pass a large one for
        // ever.
        self.over = true;
        Fate::Waits
    }

    /// Other groups come, with turns of their own: those of a task after those of its CPU.
    pub fn next_groups(&mut self) {
        self.over = false;
    }
}

/// The order in which `count` groups that take turns are put on: number `turn` (modulo their
/// number) is the first.
pub fn order(count: usize, turn: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |step| (turn + step) % count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counters that are needed, pinned, exclusive.
    type Group = (usize, bool, bool);

    /// The fates of groups on a machine with `counters`, as the kernel goes about it.
    fn place(groups: &[Group], counters: usize, turn: usize) -> Vec<Fate> {
        let mut fates = vec![Fate::Waits; groups.len()];
        let mut free = counters;
        let mut round = Round::default();
        for pinned in [true, false] {
            round.next_groups();
            let chosen: Vec<usize> =
                (0..groups.len()).filter(|&at| groups[at].1 == pinned).collect();
            for nth in order(chosen.len(), if pinned { 0 } else { turn }) {
                let at = chosen[nth];
                let (need, pinned, exclusive) = groups[at];
                let wants = Wants { hardware: need > 0, pinned, exclusive };
                fates[at] = round.put(wants, || {
                    let fits = need <= free;
                    free -= if fits { need } else { 0 };
                    fits
                });
            }
        }
        fates
    }

    fn flexible(counters: usize) -> Group {
        (counters, false, false)
    }

    #[test]
    fn turns_are_shared_equally() {
        // Six single events on four counters: each is on for four of six turns.
        let groups = [flexible(1); 6];
        let mut on = [0; 6];
        for turn in 0..6 {
            let fates = place(&groups, 4, turn);
            assert!(fates.contains(&Fate::Waits));
            for (count, fate) in on.iter_mut().zip(&fates) {
                *count += usize::from(*fate == Fate::On);
            }
        }
        assert_eq!(on, [4; 6]);
    }

    #[test]
    fn pinned_groups_come_first_and_may_fail() {
        let pinned = (3, true, false);
        let fates = place(&[flexible(2), pinned, pinned], 4, 0);
        assert_eq!(fates, [Fate::Waits, Fate::On, Fate::Failed]);
        // One that fails does not stand in the way of the next.
        let small = (1, true, false);
        assert_eq!(place(&[pinned, pinned, small], 4, 0), [Fate::On, Fate::Failed, Fate::On]);
    }

    #[test]
    fn exclusive_groups_are_alone() {
        let alone = (1, false, true);
        assert_eq!(place(&[alone, flexible(1)], 4, 0), [Fate::On, Fate::Waits]);
        assert_eq!(place(&[alone, flexible(1)], 4, 1), [Fate::Waits, Fate::On]);
        assert_eq!(place(&[flexible(0), alone], 4, 0), [Fate::On, Fate::On]);
    }

    #[test]
    fn a_task_gets_what_its_cpu_leaves() {
        let group = Wants { hardware: true, pinned: false, exclusive: false };
        let mut round = Round::default();
        assert_eq!(round.put(group, || true), Fate::On);
        assert_eq!(round.put(group, || false), Fate::Waits);
        assert_eq!(round.put(group, || unreachable!("the round is over")), Fate::Waits);
        round.next_groups();
        assert_eq!(round.put(group, || true), Fate::On);
    }

    proptest! {
        #[test]
        fn the_hardware_is_never_overcommitted(
            groups in proptest::collection::vec((0usize..4, any::<bool>(), any::<bool>()), 0..12),
            counters in 0usize..8,
            turn in 0usize..20,
        ) {
            let fates = place(&groups, counters, turn);
            let used: usize = groups.iter().zip(&fates)
                .filter(|(_, f)| **f == Fate::On).map(|(g, _)| g.0).sum();
            prop_assert!(used <= counters);
            for ((need, pinned, _), fate) in groups.iter().zip(&fates) {
                prop_assert_eq!(*fate == Fate::Failed, *pinned && *fate != Fate::On);
                prop_assert!(*need > 0 || *fate == Fate::On);
            }
            let alone = groups.iter().zip(&fates)
                .any(|((need, _, exclusive), f)| *need > 0 && *exclusive && *f == Fate::On);
            let on = groups.iter().zip(&fates).filter(|(g, f)| g.0 > 0 && **f == Fate::On).count();
            prop_assert!(!alone || on == 1);
        }

        #[test]
        fn who_fits_alone_gets_a_turn(sizes in proptest::collection::vec(1usize..5, 1..10)) {
            let groups: Vec<Group> = sizes.iter().map(|&n| flexible(n)).collect();
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
