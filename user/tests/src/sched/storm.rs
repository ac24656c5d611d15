//! Everything at once: tasks that move each other between CPUs, change classes, interrupt other
//! CPUs, fork, end and are killed. Afterwards nobody is left, and no frame is lost.

use std::fs;
use std::sync::atomic::Ordering::SeqCst;

use libc::{SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RR};

use super::{set_class, sleep};
use crate::child::{affinity, getcpu, join, run, set_affinity, spawn};
use crate::frames::{room, uses};
use crate::harness::{Test, long, tests};
use crate::memory::{map, map_shared, munmap, touch, word};
use crate::random::Random;
use crate::sys::{self, sys};

pub const TESTS: &[Test] = tests![a_storm_leaves_no_task_and_no_frame_behind];

fn span() -> u64 {
    if long() { 60_000_000_000 } else { 2_500_000_000 }
}

/// Frames in use by kind, where the kernel tells. Over all nodes: what other processes of the guest
/// copy when they fork and wake lies where they happen to run. Kernel stacks are kept for the next
/// tasks and are not among them.
fn frames(text: &mut String) -> Option<[u64; 3]> {
    let counts = uses(text)?;
    Some([0, 1, 2].map(|kind| counts.iter().skip(kind).step_by(3).sum()))
}

fn tasks() -> usize {
    let text = fs::read_to_string("/proc/loadavg").expect("loadavg");
    let field = text.split_whitespace().nth(3).expect("running/all");
    field.split('/').nth(1).and_then(|n| n.parse().ok()).expect("a number of tasks")
}

/// What the workers share: [0] the end, [1] wrong samples, [2] samples, then their pids.
#[derive(Clone, Copy)]
struct Board(usize);

impl Board {
    fn over(self) -> bool {
        word(self.0).load(SeqCst) != 0
    }
    fn pid(self, i: usize) -> &'static std::sync::atomic::AtomicU32 {
        word(self.0 + 16 + i * 4)
    }
}

fn some(random: &mut Random, cpus: &[usize]) -> Vec<usize> {
    let mut some = vec![random.of(cpus), random.of(cpus)];
    some.sort();
    some.dedup();
    some
}

/// Moves, interrupts and frightens the others.
fn trouble(board: Board, me: usize, workers: usize, cpus: &[usize]) {
    let mut random = Random::new(me as u64);
    let other = |random: &mut Random| board.pid(random.below(workers)).load(SeqCst) as i32;
    while !board.over() {
        match random.below(8) {
            0 | 1 => {
                let target = other(&mut random);
                let _ = set_affinity(target, &crate::numa::mask(&some(&mut random, cpus)));
            }
            2 => {
                let _ = sys!(libc::SYS_membarrier, 1, 0, 0);
            }
            3 => {
                let at = map(8);
                touch(at, 8);
                munmap(at, 8).unwrap();
            }
            4 => {
                let (class, priority) = random.of(&[
                    (SCHED_OTHER, 0),
                    (SCHED_BATCH, 0),
                    (SCHED_IDLE, 0),
                    (SCHED_FIFO, 3),
                    (SCHED_RR, 3),
                ]);
                let _ = set_class(other(&mut random), class, priority);
            }
            5 => run(|| {
                let mine = some(&mut Random::new(me as u64), cpus);
                set_affinity(0, &crate::numa::mask(&mine)).unwrap();
                for _ in 0..20 {
                    word(board.0 + 8).fetch_add(1, SeqCst);
                    if !mine.contains(&getcpu().0) {
                        word(board.0 + 4).fetch_add(1, SeqCst);
                    }
                }
            }),
            6 => std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let at = map(4);
                        touch(at, 4);
                        munmap(at, 4).unwrap();
                    });
                }
            }),
            _ => {
                // One that is killed where it is, running or asleep.
                let victim = spawn(|| {
                    loop {
                        sleep(50_000);
                    }
                });
                if random.below(2) == 0 {
                    std::thread::yield_now();
                }
                sys::kill(victim, libc::SIGKILL).unwrap();
                assert_eq!(join(victim), 128 + libc::SIGKILL);
            }
        }
        // Real-time ones leave room for others of their CPU.
        if random.below(4) == 0 {
            sleep(100_000);
        }
    }
}

fn storm(span: u64, cpus: &[usize]) {
    set_affinity(0, &crate::numa::mask(cpus)).unwrap();
    let workers = 2 * cpus.len();
    let board = Board(map_shared(2));
    set_class(0, SCHED_FIFO, 50).unwrap();
    let pids: Vec<i32> = (0..workers)
        .map(|i| {
            let pid = spawn(|| {
                set_class(0, SCHED_OTHER, 0).unwrap();
                while board.pid(workers - 1).load(SeqCst) == 0 {
                    sleep(100_000);
                }
                trouble(board, i, workers, cpus);
            });
            board.pid(i).store(pid as u32, SeqCst);
            pid
        })
        .collect();
    let end = sys::monotonic() + span;
    while sys::monotonic() < end {
        sleep(10_000_000);
    }
    word(board.0).store(1, SeqCst);
    for pid in pids {
        assert_eq!(join(pid), 0);
    }
    let (wrong, samples) = (word(board.0 + 4).load(SeqCst), word(board.0 + 8).load(SeqCst));
    assert!(samples > 0);
    assert_eq!(wrong, 0, "of {samples} samples on a CPU that was forbidden");
}

fn a_storm_leaves_no_task_and_no_frame_behind() {
    let cpus = affinity(0);
    let before = tasks();
    let mut text = room();
    let mut left = frames(&mut text);
    // The first rounds make what stays, such as this program's own pages and tables, and these come
    // and go by a few; what a storm loses, it loses every time.
    for round in 0..6 {
        run(|| storm(if round == 0 { span() } else { span() / 5 }, &cpus));
        // Dead tasks' last references go when their CPUs idle.
        let patience = sys::monotonic() + 5_000_000_000;
        while tasks() > before && sys::monotonic() < patience {
            sleep(5_000_000);
        }
        assert!(tasks() <= before, "{} tasks, {before} before", tasks());
        let now = frames(&mut text);
        let grows = left.iter().flatten().zip(now.iter().flatten()).any(|(left, now)| now > left);
        if round > 0 && !grows {
            return;
        }
        left = now;
    }
    panic!("frames in use grow with every round: {left:?}");
}
