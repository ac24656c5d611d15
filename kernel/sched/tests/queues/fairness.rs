//! The fair class: shares by weight, bounded lag, nobody starved.

use crate::common::{Cpu, MS, fair, fifo, kind};
use proptest::prelude::*;
use sched::{FairKind, Params, base_slice};

const SECOND: u64 = 1000 * MS;

/// What tasks that never sleep should have had, by weight.
fn ideal(params: &[Params], time: u64) -> Vec<f64> {
    let total: u64 = params.iter().map(Params::weight).sum();
    params.iter().map(|p| time as f64 * p.weight() as f64 / total as f64).collect()
}

/// How far, in units of `allowed`, the worst task is from its ideal.
fn worst(ran: &[u64], ideal: &[f64], allowed: impl Fn(f64) -> f64) -> f64 {
    let off =
        ran.iter().zip(ideal).map(|(ran, ideal)| (*ran as f64 - ideal).abs() / allowed(*ideal));
    off.fold(0.0, f64::max)
}

#[test]
fn shares_are_within_one_percent_for_every_nice_value() {
    let mut cpu = Cpu::new();
    let params: Vec<_> = (-20..20).map(fair).collect();
    params.iter().for_each(|p| {
        cpu.spawn(*p);
    });
    // Long enough for the lightest task to have had 250 slices.
    let time = 250 * 3 * MS * params.iter().map(Params::weight).sum::<u64>() / 15;
    cpu.run_until(time);
    let ran = cpu.ran();
    assert_eq!(ran.iter().sum::<u64>(), time, "the CPU was never idle");
    let off = worst(&ran, &ideal(&params, time), |ideal| ideal * 0.01);
    assert!(off < 1.0, "{off}% of what is due");
}

#[test]
fn sched_idle_has_three_of_1024() {
    let mut cpu = Cpu::new();
    let params = [fair(0), kind(FairKind::Idle, 0)];
    for p in params {
        cpu.spawn(p);
    }
    let time = 1000 * SECOND;
    cpu.run_until(time);
    let off = worst(&cpu.ran(), &ideal(&params, time), |ideal| ideal * 0.01);
    assert!(off < 1.0, "{off}%");
}

#[test]
fn two_equal_tasks_switch_once_a_slice() {
    let mut cpu = Cpu::new();
    cpu.spawn(fair(0));
    cpu.spawn(fair(0));
    cpu.run_until(3 * SECOND);
    let expected = 3 * SECOND / (3 * MS);
    assert!(cpu.switches.abs_diff(expected as usize) < 5, "{}", cpu.switches);
}

#[test]
fn a_task_alone_needs_no_timer() {
    let mut cpu = Cpu::new();
    let id = cpu.spawn(fair(0));
    assert_eq!(cpu.queue.next_tick(cpu.now), None);
    cpu.spawn(fair(0));
    assert!(cpu.queue.next_tick(cpu.now).is_some_and(|ns| ns <= 3 * MS));
    // A year later nothing has overflowed.
    cpu.sleep();
    cpu.now += 365 * 86_400 * SECOND;
    assert!(!cpu.queue.tick(cpu.now) && cpu.current().is_some());
    let asleep = 1 - cpu.current().unwrap();
    cpu.wake(asleep);
    let before = cpu.ran();
    cpu.run_until(cpu.now + SECOND);
    let after = cpu.ran();
    for task in [id, 1 - id] {
        assert!((after[task] - before[task]).abs_diff(SECOND / 2) < 10 * MS);
    }
}

#[test]
fn slices_follow_the_number_of_cpus() {
    let expected = [(1, 750), (2, 1500), (3, 1500), (4, 2250), (8, 3000), (256, 3000)];
    for (cpus, microseconds) in expected {
        assert_eq!(base_slice(cpus), microseconds * 1000);
    }
}

#[test]
fn a_sleeper_preempts_a_hog_and_a_batch_task_does_not() {
    for (policy, preempts) in [(FairKind::Normal, true), (FairKind::Batch, false)] {
        let mut cpu = Cpu::new();
        let sleeper = cpu.spawn(kind(policy, 0));
        assert_eq!(cpu.current(), Some(sleeper));
        cpu.spawn(fair(0));
        cpu.run_until(20 * MS);
        // It sleeps with time owed to it: it has just waited for a slice.
        while cpu.current() != Some(sleeper) {
            cpu.run_until(cpu.now + MS / 4);
        }
        cpu.sleep();
        cpu.run_until(cpu.now + 10 * MS);
        assert_eq!(cpu.wake(sleeper), preempts, "{policy:?}");
    }
}

#[test]
fn any_fair_task_preempts_an_idle_one() {
    for policy in [FairKind::Normal, FairKind::Batch] {
        let mut cpu = Cpu::new();
        cpu.spawn(kind(FairKind::Idle, 0));
        let task = cpu.spawn(kind(policy, 19));
        assert_eq!(cpu.current(), Some(task));
    }
}

#[test]
fn a_shorter_slice_is_served_sooner() {
    let mut cpu = Cpu::new();
    (0..8).for_each(|_| {
        cpu.spawn(fair(0));
    });
    let mut quick = fair(0);
    quick.slice = 200_000;
    let quick = cpu.spawn(quick);
    cpu.run_until(SECOND);
    let mut waits = vec![];
    for _ in 0..200 {
        while cpu.current() != Some(quick) {
            cpu.run_until(cpu.now + MS / 10);
        }
        cpu.sleep();
        cpu.run_until(cpu.now + 7 * MS);
        let woken = cpu.now;
        cpu.wake(quick);
        while cpu.current() != Some(quick) {
            cpu.run_until(cpu.now + MS / 10);
        }
        waits.push(cpu.now - woken);
        cpu.run_until(cpu.now + MS / 10);
    }
    waits.sort_unstable();
    assert!(waits[waits.len() / 2] <= 3 * MS, "{waits:?}");
}

#[test]
fn yielding_lets_the_others_run() {
    let mut cpu = Cpu::new();
    (0..4).for_each(|_| {
        cpu.spawn(fair(0));
    });
    let mut seen = [0; 4];
    for _ in 0..400 {
        cpu.now += MS / 100;
        let before = cpu.current().unwrap();
        seen[before] += 1;
        cpu.queue.yield_current(cpu.now);
        cpu.reschedule();
        assert_ne!(cpu.current(), Some(before));
    }
    assert!(seen.iter().all(|n| (90..=110).contains(n)), "{seen:?}");
}

#[test]
fn renicing_changes_shares_at_once() {
    let mut cpu = Cpu::new();
    let a = cpu.spawn(fair(0));
    let b = cpu.spawn(fair(0));
    cpu.run_until(SECOND);
    let task = cpu.tasks[a].clone();
    let resched = cpu.queue.set_params(&task, fair(10), cpu.now);
    assert!(resched.is_some());
    cpu.reschedule();
    let before = cpu.ran();
    cpu.run_until(cpu.now + 100 * SECOND);
    let after = cpu.ran();
    let params = [fair(10), fair(0)];
    let ran = [after[a] - before[a], after[b] - before[b]];
    let off = worst(&ran, &ideal(&params, 100 * SECOND), |ideal| ideal * 0.01);
    assert!(off < 1.0, "{off}%");
}

#[test]
fn a_runaway_real_time_task_leaves_a_twentieth() {
    let mut cpu = Cpu::new();
    let normal = cpu.spawn(fair(0));
    let hog = cpu.spawn(fifo(50));
    assert_eq!(cpu.current(), Some(hog));
    cpu.run_until(100 * SECOND);
    let ran = cpu.ran();
    assert!(ran[normal].abs_diff(5 * SECOND) < SECOND / 10, "{ran:?}");
    // Alone it may have everything.
    let mut cpu = Cpu::new();
    cpu.spawn(fifo(50));
    cpu.run_until(10 * SECOND);
    assert_eq!(cpu.queue.next_tick(cpu.now), None);
    assert_eq!(cpu.ran(), [10 * SECOND]);
}

fn some_params() -> impl Strategy<Value = Params> {
    let kinds = prop_oneof![Just(FairKind::Normal), Just(FairKind::Batch)];
    (kinds, -20i32..20, 1u64..100).prop_map(|(policy, nice, slice)| {
        let mut params = kind(policy, nice);
        params.slice = slice * 100_000;
        params
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// EEVDF's own bound: a task that never sleeps is never more than a slice (the longest of
    /// all) ahead of or behind its share.
    #[test]
    fn service_stays_within_a_slice_of_ideal(
        params in proptest::collection::vec(some_params(), 1..12),
        checks in 1usize..6,
    ) {
        let mut cpu = Cpu::new();
        for p in &params {
            cpu.spawn(*p);
        }
        let longest = params.iter().map(|p| p.slice).max().unwrap() as f64;
        for _ in 0..checks {
            cpu.run_until(cpu.now + 500 * MS);
            let ran = cpu.ran();
            prop_assert_eq!(ran.iter().sum::<u64>(), cpu.now);
            let off = worst(&ran, &ideal(&params, cpu.now), |_| longest + MS as f64);
            prop_assert!(off <= 1.0, "{} slices: {:?}", off, ran);
        }
    }

    /// With sleeping, waking, renicing and yielding mixed in, time adds up and whoever stays ready
    /// gets on within a bound that follows from the weights.
    #[test]
    fn nobody_starves(
        params in proptest::collection::vec(some_params(), 2..10),
        steps in proptest::collection::vec((0u8..6, any::<u16>(), 1u64..4000), 1..300),
    ) {
        let mut cpu = Cpu::new();
        for p in &params {
            cpu.spawn(*p);
        }
        let mut now: Vec<_> = params.clone();
        for (action, which, microseconds) in steps {
            let id = usize::from(which) % now.len();
            match action {
                0 if cpu.current().is_some() => {
                    cpu.sleep();
                }
                1 | 2 if cpu.asleep[id].is_some() => {
                    cpu.wake(id);
                }
                3 if cpu.current().is_some() => {
                    cpu.queue.yield_current(cpu.now);
                    cpu.reschedule();
                }
                4 if cpu.asleep[id].is_none() => {
                    now[id] = fair(i32::from(which % 40) - 20);
                    let task = cpu.tasks[id].clone();
                    let resched = cpu.queue.set_params(&task, now[id], cpu.now);
                    if resched.expect("it is on the queue") {
                        cpu.reschedule();
                    }
                }
                _ => cpu.run_until(cpu.now + microseconds * 1000),
            }
            let ready = cpu.asleep.iter().filter(|entity| entity.is_none()).count();
            prop_assert_eq!(cpu.queue.len(), ready);
            prop_assert_eq!(cpu.current().is_some(), ready > 0);
        }
        for id in 0..now.len() {
            if cpu.asleep[id].is_some() {
                cpu.wake(id);
            }
        }
        let total: u64 = now.iter().map(Params::weight).sum();
        let slices: u64 = now.iter().map(|p| p.slice).sum();
        let before = cpu.ran();
        let patience = |p: &Params| (3 * p.slice + 20 * MS) * total / p.weight() + 3 * slices;
        let bound = now.iter().map(patience).max().unwrap();
        cpu.run_until(cpu.now + bound);
        let after = cpu.ran();
        for id in 0..now.len() {
            prop_assert!(after[id] > before[id], "{id} of {now:?} had nothing in {bound} ns");
        }
    }
}
