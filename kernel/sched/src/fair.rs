//! The fair class: EEVDF over weights.
//!
//! Each task has had some virtual time; the weighted average of it all is the queue's own virtual
//! time, at which an ideal machine would have served everyone. A task that has had no more than
//! the average is eligible, and the eligible task with the earliest virtual deadline runs. What a
//! task is owed (its lag) when it leaves, it is owed when it comes back, within bounds.
//!
//! The running task is out of the tree but counts in the average. The average is kept as a sum
//! relative to `origin`, so that eligibility needs no division.

use crate::entity::{Key, Node};
use crate::queue::{Dequeue, Enqueue};
use crate::tree::Tree;
use crate::vtime::{VTime, real_span, scale, virtual_span, virtual_time};
use alloc::boxed::Box;
use numa::CpuId;

/// The least that the bound on lag allows, in nanoseconds: what a task can overrun when its CPU
/// looks at the clock only now and then.
const TICK: u64 = 4_000_000;

/// The most that one charge counts, in nanoseconds (18 minutes): a task that ran longer than that
/// without being looked at was alone, and the sum must not overflow.
const CHARGE_MAX: u64 = 1 << 40;

/// Who should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Best {
    Nobody,
    Running,
    Waiting(Key),
}

/// The fair tasks of a queue: those that wait, and the sums over all.
pub(crate) struct Fair<H> {
    pub(crate) waiting: Tree<H>,
    origin: VTime,
    /// Over all tasks, weight times (vruntime - origin).
    sum: i64,
    /// Over all tasks, weight.
    weight: u64,
    count: usize,
}

impl<H> Fair<H> {
    pub(crate) const fn new() -> Self {
        Self { waiting: Tree::new(), origin: VTime::ZERO, sum: 0, weight: 0, count: 0 }
    }

    /// How many tasks there are, the running one included.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Moves the origin to the average (rounded down) and returns it. Without tasks the average
    /// is where it was.
    fn average(&mut self) -> VTime {
        if self.weight > 0 {
            let weight = self.weight as i64;
            let above = self.sum.div_euclid(weight);
            self.origin = self.origin.plus(above);
            self.sum -= above * weight;
        }
        self.origin
    }

    /// Whether a task with this `vruntime` has had no more than the average.
    pub(crate) fn is_eligible(&self, vruntime: VTime) -> bool {
        let above = vruntime.since(self.origin);
        i128::from(above) * i128::from(self.weight) <= i128::from(self.sum)
    }

    /// Places `node` on this queue's clock and counts it. The caller puts it into the tree, or
    /// has it running.
    pub(crate) fn join(&mut self, node: &mut Node<H>, cpu: CpuId, why: Enqueue) {
        let average = self.average();
        let weight = node.weight();
        let span = virtual_span(node.params.slice, weight);
        node.vruntime = average.plus(-self.owed(node, cpu, why, average));
        node.deadline = match (why, node.to_deadline.take()) {
            (Enqueue::Move, Some(rest)) => node.vruntime.plus(rest),
            // A newcomer has half a slice at first, so as to come in at once.
            (Enqueue::New, _) => node.vruntime.plus(span / 2),
            _ => node.vruntime.plus(span),
        };
        node.carried = 0;
        node.protected = false;
        self.sum += node.vruntime.since(self.origin) * weight as i64;
        self.weight += weight;
        self.count += 1;
    }

    /// How much before the average `node` is to be placed.
    fn owed(&self, node: &Node<H>, cpu: CpuId, why: Enqueue, average: VTime) -> i64 {
        if self.weight == 0 || why == Enqueue::New {
            return 0;
        }
        let mut lag = node.lag;
        // A debt is paid off by having slept while the others caught up.
        if let (true, Enqueue::Wakeup, Some((queue, then))) = (lag < 0, why, node.left)
            && queue == cpu
        {
            lag = lag.saturating_add(average.since(then).max(0)).min(0);
        }
        // Joining draws the average towards the newcomer. This much more lag leaves it the lag
        // that it had.
        scale(lag, self.weight + node.weight(), self.weight)
    }

    /// Takes `node` (already out of the tree, or running) out of the count, and notes what it is
    /// owed.
    pub(crate) fn leave(&mut self, node: &mut Node<H>, cpu: CpuId, why: Dequeue) {
        let average = self.average();
        let weight = node.weight();
        let bound = virtual_span((2 * node.params.slice).max(TICK), weight);
        node.lag = average.since(node.vruntime).clamp(-bound, bound);
        node.left = Some((cpu, average));
        node.to_deadline = match why {
            Dequeue::Sleep => None,
            Dequeue::Move => Some(node.deadline.since(node.vruntime)),
        };
        self.sum -= node.vruntime.since(self.origin) * weight as i64;
        self.weight -= weight;
        self.count -= 1;
        if self.weight == 0 {
            self.sum = 0;
        }
    }

    /// Counts `time` for the running `node`; true when that ended its slice.
    pub(crate) fn charge(&mut self, node: &mut Node<H>, time: u64) -> bool {
        let weight = node.weight();
        let (had, carried) = virtual_time(time.min(CHARGE_MAX), weight, node.carried);
        node.carried = carried;
        node.vruntime = node.vruntime.plus(had);
        self.sum += had * weight as i64;
        let over = node.vruntime >= node.deadline;
        if over {
            node.deadline = node.vruntime.plus(virtual_span(node.params.slice, weight));
            node.protected = false;
            self.average();
        }
        over
    }

    /// Who should run, given which fair task is `running`.
    pub(crate) fn best(&self, running: Option<&Node<H>>) -> Best {
        let running = running.filter(|node| self.is_eligible(node.vruntime));
        if running.is_some_and(|node| node.protected) {
            return Best::Running;
        }
        let waiting = self.waiting.first_where(|vruntime| self.is_eligible(vruntime));
        match (running, waiting) {
            // Among equals whoever has not just run.
            (Some(running), Some(waiting)) if waiting.deadline <= running.deadline => {
                Best::Waiting(waiting.key)
            }
            (Some(_), _) => Best::Running,
            (None, Some(waiting)) => Best::Waiting(waiting.key),
            (None, None) => Best::Nobody,
        }
    }

    /// The running `node` gives up what is left of its slice, when others wait.
    pub(crate) fn yield_slice(&mut self, node: &mut Node<H>) {
        if self.waiting.len() == 0 {
            return;
        }
        let weight = node.weight();
        if self.is_eligible(node.vruntime) {
            let given = node.deadline.since(node.vruntime);
            node.vruntime = node.deadline;
            self.sum += given * weight as i64;
        }
        node.deadline = node.deadline.plus(virtual_span(node.params.slice, weight));
        node.protected = false;
    }

    /// How long the running `node` has until its slice ends, in nanoseconds.
    pub(crate) fn slice_left(&self, node: &Node<H>) -> u64 {
        real_span(node.deadline.since(node.vruntime), node.weight())
    }

    /// Puts a counted `node` among the waiting.
    pub(crate) fn wait(&mut self, node: Box<Node<H>>) {
        self.waiting.insert(node);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::entity::Entity;
    use crate::params::{Class, FairKind, Nice, Params};
    use proptest::prelude::*;
    use std::vec::Vec;

    /// (vruntime, deadline, turn, weight) of every waiting task.
    fn waiting(fair: &Fair<()>) -> Vec<(i64, i64, i64, u64)> {
        let mut all = Vec::new();
        let from_zero = |time: VTime| time.since(VTime::ZERO);
        fair.waiting.find(false, &mut |node| {
            let (v, d) = (from_zero(node.vruntime), from_zero(node.deadline));
            all.push((v, d, node.key.turn, node.weight()));
            false
        });
        all
    }

    /// The definition of EEVDF, word for word, over all tasks.
    fn naive(fair: &Fair<()>, running: Option<&Node<()>>) -> Best {
        let mut all = waiting(fair);
        if let Some(node) = running {
            let (v, d) = (node.vruntime.since(VTime::ZERO), node.deadline.since(VTime::ZERO));
            all.push((v, d, i64::MAX, node.weight()));
        }
        let weight: i128 = all.iter().map(|task| i128::from(task.3)).sum();
        let sum: i128 = all.iter().map(|task| i128::from(task.0) * i128::from(task.3)).sum();
        let eligible = all.into_iter().filter(|task| i128::from(task.0) * weight <= sum);
        match eligible.min_by_key(|task| (task.1, task.2)) {
            None => Best::Nobody,
            Some((.., i64::MAX, _)) => Best::Running,
            Some((_, deadline, turn, _)) => {
                Best::Waiting(Key { first: VTime::ZERO.plus(deadline), turn })
            }
        }
    }

    proptest! {
        #[test]
        fn the_best_is_the_eligible_with_the_earliest_deadline(
            steps in proptest::collection::vec((0u8..5, any::<i16>(), 0u64..8_000_000), 1..150),
        ) {
            let cpu = CpuId::new(0);
            let mut fair = Fair::<()>::new();
            let mut running: Option<Box<Node<()>>> = None;
            let mut asleep: Vec<Box<Node<()>>> = Vec::new();
            let mut turn = 0;
            for (action, number, time) in steps {
                let join = |fair: &mut Fair<()>, mut node: Box<Node<()>>, why, turn| {
                    fair.join(&mut node, cpu, why);
                    node.key = Key { first: node.deadline, turn };
                    fair.wait(node);
                };
                turn += 1;
                match action {
                    0 => {
                        let nice = Nice::clamped(i32::from(number) % 21);
                        let class = Class::Fair { kind: FairKind::Normal, nice };
                        let node = Entity::new(Params::new(class, time)).0;
                        join(&mut fair, node, Enqueue::New, turn);
                    }
                    1 => {
                        if let Some(node) = asleep.pop() {
                            let why = if number > 0 { Enqueue::Wakeup } else { Enqueue::Move };
                            join(&mut fair, node, why, turn);
                        }
                    }
                    2 => {
                        if let Some(mut node) = running.take() {
                            let why = if number > 0 { Dequeue::Sleep } else { Dequeue::Move };
                            fair.leave(&mut node, cpu, why);
                            asleep.push(node);
                        }
                    }
                    3 => {
                        if let Some(node) = running.as_deref_mut() {
                            fair.charge(node, time);
                        }
                    }
                    _ => {
                        if let Some(node) = running.as_deref_mut() {
                            fair.yield_slice(node);
                        }
                    }
                }
                let best = fair.best(running.as_deref());
                prop_assert_eq!(best, naive(&fair, running.as_deref()));
                let ready = waiting(&fair).len() + usize::from(running.is_some());
                prop_assert_eq!(fair.count(), ready);
                prop_assert_eq!(best == Best::Nobody, ready == 0);
                if let Best::Waiting(key) = best {
                    if let Some(mut node) = running.take() {
                        turn += 1;
                        node.key = Key { first: node.deadline, turn };
                        fair.wait(node);
                    }
                    running = fair.waiting.remove(&key);
                }
            }
            // When all have left nothing remains of them.
            let mut left: Vec<_> = running.into_iter().collect();
            while let Some(key) = fair.waiting.first().map(|node| node.key) {
                left.extend(fair.waiting.remove(&key));
            }
            for mut node in left {
                fair.leave(&mut node, cpu, Dequeue::Sleep);
            }
            prop_assert_eq!((fair.sum, fair.weight, fair.count), (0, 0, 0));
        }
    }
}
