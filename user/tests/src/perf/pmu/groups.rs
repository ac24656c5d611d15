//! Groups on counters that are too few: all or nothing, in turns, pinned, alone.

use libc::EINVAL;

use super::*;
use crate::harness::tests;
use crate::sys::fails;

pub const TESTS: &[Test] = tests![
    a_group_beyond_the_counters_is_refused,
    too_many_events_take_turns,
    a_group_is_on_as_a_whole,
    software_in_a_group_waits_with_it,
    pinned_events_have_their_counter_or_fail,
    an_exclusive_group_has_the_unit_to_itself,
    a_task_has_what_its_cpu_leaves,
];

const TIMES: u64 = F_ENABLED | F_RUNNING;

fn branches(flags: u64) -> Attr {
    hardware(BRANCHES).flags(flags).read_format(TIMES)
}

fn a_group_beyond_the_counters_is_refused() {
    let general = counters();
    let leader = branches(DISABLED).open();
    let _members: Vec<Event> = (1..general).map(|_| branches(0).open_in(&leader)).collect();
    fails(branches(0).try_open(0, -1, leader.0, 0), EINVAL);
    // What needs no counter still goes in.
    let _clock = Attr::software(TASK_CLOCK).open_in(&leader);
}

fn too_many_events_take_turns() {
    let general = counters();
    let many = general * 3;
    let events: Vec<Event> = (0..many).map(|_| branches(DISABLED).open()).collect();
    events.iter().for_each(|event| event.ioctl(ENABLE, 0).map(|_| ()).unwrap());
    burn(150_000_000);
    events.iter().for_each(|event| event.ioctl(DISABLE, 0).map(|_| ()).unwrap());
    let all: Vec<_> = events.iter().map(timed).collect();
    let shares: Vec<f64> = all.iter().map(|(_, on, ran)| *ran as f64 / *on as f64).collect();
    let sum: f64 = shares.iter().sum();
    // The counters are never idle while somebody waits, and never given twice.
    near(sum, general as f64, 5.0);
    let whole = all.iter().copied().map(scaled).sum::<f64>() / many as f64;
    for (share, one) in shares.iter().zip(&all) {
        assert!((0.15..0.6).contains(share), "a third each: {shares:?}");
        near(scaled(*one), whole, 10.0);
    }
}

fn a_group_is_on_as_a_whole() {
    let general = counters();
    let size = general / 2 + 1;
    let form = TIMES | F_GROUP;
    let group = || {
        let leader = hardware(BRANCHES).flags(DISABLED).read_format(form).open();
        let members: Vec<Event> = (1..size).map(|_| branches(0).open_in(&leader)).collect();
        (leader, members)
    };
    // Each fits, both do not.
    let groups = [group(), group()];
    groups.iter().for_each(|(leader, _)| leader.ioctl(ENABLE, 0).map(|_| ()).unwrap());
    burn(60_000_000);
    groups.iter().for_each(|(leader, _)| leader.ioctl(DISABLE, 0).map(|_| ()).unwrap());
    let share = |words: &[u64]| words[2] as f64 / words[1] as f64;
    let shares: Vec<f64> = groups.iter().map(|(leader, _)| share(&leader.words())).collect();
    near(shares.iter().sum(), 1.0, 5.0);
    assert!(shares.iter().all(|share| *share > 0.2), "{shares:?}");
    for (leader, members) in &groups {
        let words = leader.words();
        let running = words[2];
        for member in members {
            assert_eq!(timed(member).2, running, "a member's time is its group's");
        }
        for count in &words[4..] {
            near(*count as f64, words[3] as f64, 5.0);
        }
    }
}

fn software_in_a_group_waits_with_it() {
    let general = counters();
    let group = || {
        let leader = branches(0).open();
        let members: Vec<Event> = (1..general).map(|_| branches(0).open_in(&leader)).collect();
        let clock = Attr::software(TASK_CLOCK).read_format(TIMES).open_in(&leader);
        (leader, members, clock)
    };
    let groups = [group(), group()];
    burn(60_000_000);
    for (leader, _, clock) in &groups {
        leader.ioctl(DISABLE, 0).unwrap();
        let (counted, enabled, running) = timed(clock);
        assert!(running < enabled * 4 / 5, "it had no turn to wait for: {running} of {enabled}");
        near(counted as f64, running as f64, 1.0);
    }
}

fn pinned_events_have_their_counter_or_fail() {
    let general = counters();
    let flexible = branches(0).open();
    let pinned: Vec<Event> = (0..general).map(|_| branches(PINNED).open()).collect();
    burn(5_000_000);
    for event in &pinned {
        let (count, enabled, running) = timed(event);
        assert!(count > 0 && enabled == running, "{count} in {running} of {enabled} ns");
    }
    let before = timed(&flexible);
    burn(3_000_000);
    let after = timed(&flexible);
    assert_eq!((after.0, after.2), (before.0, before.2), "there is no counter left");
    assert!(after.1 > before.1);
    // One too many: it fails, and reads as the end of a file.
    let failed = branches(PINNED).open();
    burn(1_000_000);
    assert_eq!(failed.words(), []);
    // With room again, and enabled again, it counts.
    let mut pinned = pinned;
    pinned.pop();
    assert_eq!(failed.words(), []);
    failed.ioctl(ENABLE, 0).unwrap();
    burn(1_000_000);
    assert!(failed.count() > 0);
}

fn an_exclusive_group_has_the_unit_to_itself() {
    const EXCLUSIVE: u64 = 1 << 3;
    let _unit = hardware(CYCLES);
    let alone = branches(EXCLUSIVE).open();
    let other = branches(0).open();
    burn(60_000_000);
    alone.ioctl(DISABLE, 0).unwrap();
    other.ioctl(DISABLE, 0).unwrap();
    let (alone, other) = (timed(&alone), timed(&other));
    assert!(alone.0 > 0 && other.0 > 0, "{alone:?} {other:?}");
    // Never both at once.
    assert!(alone.2 + other.2 <= alone.1.max(other.1) + 1_000_000, "{alone:?} {other:?}");
}

fn a_task_has_what_its_cpu_leaves() {
    use crate::child::{getcpu, pin};
    let general = counters();
    let cpu = getcpu().0;
    pin(cpu);
    let form = TIMES;
    let on_cpu: Vec<Event> = (1..general)
        .map(|_| {
            Event(branches(0).read_format(form).try_open(-1, cpu as i32, -1, 0).unwrap() as i32)
        })
        .collect();
    let own: Vec<Event> = (0..2).map(|_| branches(0).open()).collect();
    burn(60_000_000);
    own.iter().for_each(|event| event.ioctl(DISABLE, 0).map(|_| ()).unwrap());
    for event in &on_cpu {
        let (count, enabled, running) = timed(event);
        assert!(count > 0 && enabled == running, "{count} in {running} of {enabled} ns");
    }
    let shares: Vec<f64> =
        own.iter().map(timed).map(|(_, on, ran)| ran as f64 / on as f64).collect();
    near(shares.iter().sum::<f64>(), 1.0, 10.0);
    assert!(shares.iter().all(|share| *share > 0.2), "two on the one that is left: {shares:?}");
}
