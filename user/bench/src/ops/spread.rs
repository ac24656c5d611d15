//! How long as many busy tasks as there are CPUs take until each has one of its own.
//!
//! From the first step that makes it possible to the first moment from which they stay apart. The
//! measuring process is one of them: nothing else runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{Op, op};
use crate::clock::{Clock, Samples, samples};
use crate::memory::shared_words;
use crate::place::{cpus, pin, release};
use crate::sys::{Result, call, exit, fork, wait};

pub const OPS: &[Op] = &[
    op("spread/forked", || measure(Start::Forked)),
    op("spread/cloned", cloned),
    op("spread/released", || measure(Start::Released)),
];

/// Rounds of a loop between two looks: some thousand instructions.
const WORK: usize = 1000;

/// Measurements, and a quarter as many before that do not count.
const ROUNDS: usize = 10;

/// Looks in a row at which all are apart.
const STEADY: usize = 3;

/// Words that all of them see: where each is (0: not known yet), and whether they are to end.
#[derive(Clone, Copy)]
struct Board<'a> {
    places: &'a [AtomicUsize],
    stop: &'a AtomicUsize,
}

impl<'a> Board<'a> {
    fn new(words: &'a [AtomicUsize], count: usize) -> Self {
        for word in &words[..=count] {
            word.store(0, SeqCst);
        }
        Self { places: &words[1..=count], stop: &words[0] }
    }

    fn say(&self, own: usize) {
        // SAFETY: asks for a number.
        let cpu = unsafe { libc::sched_getcpu() } as usize;
        self.places[own].store(cpu + 1, SeqCst);
        // Work. The turn of this CPU ends with it, which costs the emulator far more than a loop.
        for turn in 0..WORK {
            std::hint::black_box(turn);
        }
        std::hint::spin_loop();
    }

    fn spin(&self, own: usize) {
        while self.stop.load(SeqCst) == 0 {
            self.say(own);
        }
    }

    fn started(&self) -> bool {
        self.places[1..].iter().all(|place| place.load(SeqCst) > 0)
    }

    /// Spins as the first of them until all are apart; the clock is stopped when they came to be.
    fn until_apart(&self, clock: &mut Clock) {
        let mut steady = 0;
        while steady < STEADY {
            self.say(0);
            let mut seen = 0_u64;
            for place in self.places {
                seen |= (1 << place.load(SeqCst)) >> 1;
            }
            if seen.count_ones() as usize != self.places.len() {
                steady = 0;
                continue;
            }
            if steady == 0 {
                clock.stop();
            }
            steady += 1;
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// The children may run anywhere when they are made.
    Forked,
    /// All are bound to one CPU, then released.
    Released,
}

fn measure(start: Start) -> Result<Samples> {
    let all = cpus();
    let home = all[0];
    let words = shared_words()?;
    samples(ROUNDS, 1, |clock| {
        let board = Board::new(words, all.len());
        if start == Start::Forked {
            release(0, &all)?;
            clock.start();
        } else {
            pin(home)?;
        }
        let mut children = Vec::with_capacity(all.len());
        for own in 1..all.len() {
            match fork()? {
                0 => {
                    board.spin(own);
                    exit(0)
                }
                child => children.push(child),
            }
        }
        if start == Start::Released {
            while !board.started() {
                call("sched_yield", libc::SYS_sched_yield, [])?;
            }
            clock.start();
            for child in &children {
                release(*child, &all)?;
            }
            release(0, &all)?;
        }
        board.until_apart(clock);
        board.stop.store(1, SeqCst);
        children.into_iter().try_for_each(wait)
    })
}

fn cloned() -> Result<Samples> {
    let all = cpus();
    release(0, &all)?;
    samples(ROUNDS, 1, |clock| {
        let words: Arc<Vec<AtomicUsize>> =
            Arc::new((0..=all.len()).map(|_| AtomicUsize::new(0)).collect());
        let board = Board::new(&words, all.len());
        clock.start();
        let threads: Vec<_> = (1..all.len())
            .map(|own| {
                let words = words.clone();
                let count = all.len();
                std::thread::spawn(move || {
                    Board { places: &words[1..=count], stop: &words[0] }.spin(own);
                })
            })
            .collect();
        board.until_apart(clock);
        board.stop.store(1, SeqCst);
        for thread in threads {
            let _ = thread.join();
        }
        Ok(())
    })
}
