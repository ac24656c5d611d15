//! Two threads and one line.

use crate::sys::{self, Words};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// `rounds` turns each. A turn is one write to the line: to the same word, or each to its own.
pub fn run(first: usize, second: usize, same: bool, rounds: usize) {
    let line = Words::on(0, 512);
    // Whose turn it is stands on a line of its own.
    let turn = Box::new([const { AtomicUsize::new(0) }; 16]);
    let play = |me: usize, cpu: usize| {
        sys::pin(cpu);
        let word = if same { 0 } else { me };
        for round in 0..rounds {
            while turn[8].load(SeqCst) != 2 * round + me {
                std::thread::yield_now();
            }
            line.set(word, round as u64);
            turn[8].store(2 * round + me + 1, SeqCst);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play(0, first));
        play(1, second);
    });
}
