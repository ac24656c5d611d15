//! The mistake that everybody makes once: one thread initialises, all work.

use crate::sys::{self, Words};
use std::hint::black_box;
use std::sync::Barrier;

pub fn run(good: bool, cpus: usize, len: usize, rounds: usize) {
    let array = Words::new(len);
    let part = len / cpus;
    let initialise = |cpu: usize| {
        (cpu * part..(cpu + 1) * part).for_each(|i| array.set(i, i as u64));
    };
    if !good {
        (0..cpus).for_each(initialise);
    }
    let all = Barrier::new(cpus);
    std::thread::scope(|scope| {
        for cpu in 0..cpus {
            let (all, array, initialise) = (&all, &array, &initialise);
            scope.spawn(move || {
                sys::pin(cpu);
                if good {
                    initialise(cpu);
                }
                all.wait();
                for _ in 0..rounds {
                    let words = cpu * part..(cpu + 1) * part;
                    black_box(words.map(|i| array.get(i)).fold(0, u64::wrapping_add));
                }
            });
        }
    });
}
