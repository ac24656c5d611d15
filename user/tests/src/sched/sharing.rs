//! Who gets a CPU that several want: real time before fair, turns, weights.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

use libc::{SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR};

use super::{be_ordinary, set_class, sleep, spin_until, take_charge};
use crate::child::{Steps, affinity, join, pin, spawn};
use crate::harness::{Test, tests};
use crate::memory::{map_shared, word, word64};
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![
    a_fifo_task_preempts_a_fair_one_at_once_and_until_it_sleeps,
    a_higher_priority_preempts_a_lower_one,
    an_equal_priority_waits_under_fifo,
    equal_priorities_take_turns_under_round_robin,
    yielding_gives_way_to_equals_only,
    a_task_that_becomes_real_time_runs_at_once,
    nice_values_share_as_their_weights,
    batch_shares_like_any_other,
    the_idle_class_gets_what_others_leave,
    many_equals_get_equal_shares,
    a_sleeper_is_not_starved_by_spinners,
    a_runaway_real_time_task_leaves_room_for_others,
];

/// Waits until a new task of lower priority on the same CPU sleeps for the first time. The state alone
/// does not say it: who is preempted on its way to sleep has it already and is still on the run queue,
/// where it keeps the place that its first priority gave it.
fn until_it_rests(child: i32) {
    let gave_way = || super::counters::switches(child).0 > 0;
    while crate::child::state_of(child) != Some('S') || !gave_way() {
        sleep(200_000);
    }
}

/// Processes that spin on one CPU and count their CPU time, from one moment to another.
struct Race {
    at: usize,
    children: Vec<i32>,
}

impl Race {
    /// Each of `prepare` is run in a racer of its own before the start.
    fn new(prepare: &[&dyn Fn()]) -> Self {
        let at = map_shared(1);
        let cpu = affinity(0)[0];
        // Placed first, so that all of them begin where they shall stay.
        pin(cpu);
        let children = prepare
            .iter()
            .enumerate()
            .map(|(i, prepare)| {
                spawn(|| {
                    prepare();
                    word(at + 4).fetch_add(1, SeqCst);
                    while word(at).load(SeqCst) != 2 {
                        if word(at).load(SeqCst) == 1 {
                            word64(at + 64 + i * 8)
                                .store(sys::clock(libc::CLOCK_THREAD_CPUTIME_ID), SeqCst);
                        }
                    }
                })
            })
            .collect();
        Self { at, children }
    }

    /// CPU time of each within `span` of theirs altogether.
    fn run(self, span: u64) -> Vec<u64> {
        let racers = self.children.len();
        let times = || -> Vec<u64> {
            (0..racers).map(|i| word64(self.at + 64 + i * 8).load(SeqCst)).collect()
        };
        take_charge();
        while word(self.at + 4).load(SeqCst) < racers as u32 {
            sleep(1_000_000);
        }
        word(self.at).store(1, SeqCst);
        while times().contains(&0) {
            sleep(1_000_000);
        }
        let before = times();
        while times().iter().sum::<u64>() - before.iter().sum::<u64>() < span {
            sleep(2_000_000);
        }
        let after = times();
        word(self.at).store(2, SeqCst);
        for child in &self.children {
            assert_eq!(join(*child), 0);
        }
        be_ordinary();
        before.iter().zip(after).map(|(before, after)| after - before).collect()
    }
}

fn a_fifo_task_preempts_a_fair_one_at_once_and_until_it_sleeps() {
    let at = map_shared(1);
    let (count, phase, wrong) = (word64(at), word(at + 8), word(at + 12));
    let steps = Steps::new();
    pin(affinity(0)[0]);
    let spinner = spawn(|| {
        while phase.load(SeqCst) == 0 {
            count.fetch_add(1, SeqCst);
        }
    });
    let urgent = spawn(|| {
        set_class(0, SCHED_FIFO, 10).unwrap();
        for round in 1..=20 {
            steps.reach(2 * round - 1);
            steps.await_(2 * round);
            let before = count.load(SeqCst);
            let end = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) + 5_000_000;
            while sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) < end {}
            if count.load(SeqCst) != before {
                wrong.fetch_add(1, SeqCst);
            }
        }
    });
    set_class(0, SCHED_FIFO, 5).unwrap();
    for round in 1..=20 {
        steps.await_(2 * round - 1);
        crate::child::until_asleep(urgent);
        steps.reach(2 * round);
        // The urgent one has the CPU before the call that woke it comes back, and keeps it until
        // it sleeps again.
        let passed = steps.now() == 2 * round + 1;
        assert!(passed || round == 20, "round {round}: the waker went on first");
    }
    assert_eq!(join(urgent), 0);
    phase.store(1, SeqCst);
    assert_eq!(join(spinner), 0);
    assert_eq!(wrong.load(SeqCst), 0, "rounds in which the fair task ran beside the FIFO one");
}

/// Children of these policies and priorities on this CPU, asleep until the steps reach 1; each runs
/// its own body then.
fn contenders(steps: Steps, classes: &[(i32, i32)], body: impl Fn(usize)) -> Vec<i32> {
    classes
        .iter()
        .enumerate()
        .map(|(i, (class, priority))| {
            let child = spawn(|| {
                set_class(0, *class, *priority).unwrap();
                steps.await_(1);
                body(i);
            });
            until_it_rests(child);
            child
        })
        .collect()
}

/// In which order tasks that become ready together run, each to its end.
fn order(classes: &[(i32, i32)]) -> Vec<u32> {
    let at = map_shared(1);
    pin(affinity(0)[0]);
    take_charge();
    let steps = Steps::new();
    let children = contenders(steps, classes, |i| {
        let turn = word(at).fetch_add(1, SeqCst) as usize;
        word(at + 4 + turn * 4).store(i as u32, SeqCst);
        let end = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) + 2_000_000;
        while sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) < end {}
    });
    steps.reach(1);
    assert_eq!(word(at).load(SeqCst), 0, "somebody ran before the highest priority slept");
    for child in &children {
        assert_eq!(join(*child), 0);
    }
    (0..children.len()).map(|i| word(at + 4 + i * 4).load(SeqCst)).collect()
}

fn a_higher_priority_preempts_a_lower_one() {
    let classes = [(SCHED_FIFO, 10), (SCHED_RR, 30), (SCHED_FIFO, 20), (SCHED_OTHER, 0)];
    assert_eq!(order(&classes), [1, 2, 0, 3]);
}

fn an_equal_priority_waits_under_fifo() {
    // First come, first served.
    assert_eq!(order(&[(SCHED_FIFO, 15); 4]), [0, 1, 2, 3]);
}

/// Two tasks of one priority on one CPU, for `span` of CPU time together: how often the CPU went
/// from one to the other.
fn changes(class: i32, span: u64) -> u32 {
    let at = map_shared(1);
    let (last, changes, used) = (word(at), word(at + 4), word64(at + 8));
    pin(affinity(0)[0]);
    take_charge();
    let steps = Steps::new();
    let children = contenders(steps, &[(class, 40); 2], |i| {
        let name = i as u32 + 1;
        let mut before = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID);
        while used.load(SeqCst) < span {
            if last.swap(name, SeqCst) != name {
                changes.fetch_add(1, SeqCst);
            }
            let now = sys::clock(libc::CLOCK_THREAD_CPUTIME_ID);
            used.fetch_add(now - before, SeqCst);
            before = now;
        }
    });
    steps.reach(1);
    for child in children {
        assert_eq!(join(child), 0);
    }
    changes.load(SeqCst)
}

fn equal_priorities_take_turns_under_round_robin() {
    // A turn is 100 ms.
    let turns = changes(SCHED_RR, 550_000_000);
    assert!((3..=12).contains(&turns), "{turns} turns in 550 ms");
    let turns = changes(SCHED_FIFO, 350_000_000);
    assert!(turns <= 2, "{turns} turns under FIFO");
}

fn yielding_gives_way_to_equals_only() {
    let at = map_shared(1);
    let (equal, lower, stop) = (word(at), word(at + 4), word(at + 8));
    pin(affinity(0)[0]);
    take_charge();
    let steps = Steps::new();
    let children = contenders(steps, &[(SCHED_FIFO, 50), (SCHED_FIFO, 49)], |i| {
        while stop.load(SeqCst) == 0 {
            [equal, lower][i].fetch_add(1, SeqCst);
            sys!(libc::SYS_sched_yield).unwrap();
        }
    });
    steps.reach(1);
    set_class(0, SCHED_FIFO, 50).unwrap();
    for _ in 0..100 {
        sys!(libc::SYS_sched_yield).unwrap();
    }
    let (equal_ran, lower_ran) = (equal.load(SeqCst), lower.load(SeqCst));
    stop.store(1, SeqCst);
    for child in children {
        assert_eq!(join(child), 0);
    }
    assert!((90..=110).contains(&equal_ran), "{equal_ran} turns for the equal in 100 yields");
    assert_eq!(lower_ran, 0);
}

fn a_task_that_becomes_real_time_runs_at_once() {
    let at = map_shared(1);
    pin(affinity(0)[0]);
    take_charge();
    let (ready, go) = (word(at), word(at + 4));
    let child = spawn(|| {
        be_ordinary();
        ready.store(1, SeqCst);
        spin_until(go, 1);
        go.store(2, SeqCst);
    });
    while ready.load(SeqCst) == 0 {
        sleep(1_000_000);
    }
    go.store(1, SeqCst);
    assert_eq!(go.load(SeqCst), 1, "a fair task ran beside a real-time one");
    set_class(child, SCHED_FIFO, 91).unwrap();
    assert_eq!(go.load(SeqCst), 2, "the higher one did not run at once");
    assert_eq!(join(child), 0);
}

/// Races until the shares are as they should be, a few times: where the emulator's threads wait for
/// the host's CPUs, whoever runs there is charged for it, and needs longer than a race to make up.
fn shares(prepare: &[&dyn Fn()], span: u64, right: impl Fn(&[u64]) -> bool) {
    let mut found = Vec::new();
    for _ in 0..6 {
        let times = Race::new(prepare).run(span);
        if right(&times) {
            return;
        }
        found.push(times);
    }
    panic!("CPU times of the racers: {found:?}");
}

fn ratio(times: &[u64]) -> f64 {
    times[0] as f64 / times[1] as f64
}

fn nice_values_share_as_their_weights() {
    let nice = |value: i32| {
        move || {
            sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value).unwrap();
        }
    };
    // Weights 1024 and 335 (factor 3.06), 3121 and 1024 (3.05).
    for (low, high) in [(0, 5), (-5, 0)] {
        let right = |times: &[u64]| (2.5..3.7).contains(&ratio(times));
        shares(&[&nice(low), &nice(high)], 600_000_000, right);
    }
}

fn batch_shares_like_any_other() {
    let batch = || {
        set_class(0, SCHED_BATCH, 0).unwrap();
    };
    shares(&[&batch, &|| ()], 400_000_000, |times| (0.75..1.35).contains(&ratio(times)));
}

fn the_idle_class_gets_what_others_leave() {
    let idle = || {
        set_class(0, SCHED_IDLE, 0).unwrap();
    };
    shares(&[&idle, &|| ()], 400_000_000, |times| times[0] * 20 < times[1]);
}

fn many_equals_get_equal_shares() {
    let plain: &dyn Fn() = &|| ();
    shares(&[plain; 8], 800_000_000, |times| {
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        *least * 10 > *most * 7
    });
}

fn a_sleeper_is_not_starved_by_spinners() {
    pin(affinity(0)[0]);
    let stop = AtomicBool::new(false);
    let rounds = AtomicU32::new(0);
    let spun = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    spun.fetch_add(1, SeqCst);
                }
            });
        }
        // The harness ends a test in which the sleeper never gets there.
        while rounds.load(SeqCst) < 100 {
            sleep(500_000);
            rounds.fetch_add(1, SeqCst);
        }
        stop.store(true, SeqCst);
    });
    assert!(spun.load(SeqCst) > 0);
}

fn a_runaway_real_time_task_leaves_room_for_others() {
    // Of each second at least 50 ms are left to fair tasks, one of which ends the runaway.
    pin(affinity(0)[0]);
    let at = map_shared(1);
    let runaway = spawn(|| {
        set_class(0, SCHED_FIFO, 99).unwrap();
        word(at).store(1, SeqCst);
        loop {
            std::hint::spin_loop();
        }
    });
    while word(at).load(SeqCst) == 0 {
        sleep(1_000_000);
    }
    assert_eq!(sys!(libc::SYS_sched_getscheduler, 0), Ok(SCHED_OTHER as usize));
    sys::kill(runaway, libc::SIGKILL).unwrap();
    assert_eq!(join(runaway), 128 + libc::SIGKILL);
}
