//! Small programs of the kinds that people run on NUMA machines, each with the same mistake: one
//! thread, on a CPU of its own, initialises everything. For holding advice against what comes of it.

use crate::sys::{self, Words};
use std::hint::black_box;
use std::sync::Barrier;

/// `cpus`: one worker on each. `first`: the CPU of whoever initialises.
pub fn run(name: &str, cpus: &[usize], first: usize, len: usize, rounds: usize) {
    sys::pin(first);
    let (a, b) = (Words::new(len), Words::new(len));
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    a.each(|i| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        a.set(i, random);
        b.set(i, i as u64);
    });
    let all = Barrier::new(cpus.len());
    std::thread::scope(|scope| {
        for (me, &cpu) in cpus.iter().enumerate() {
            let (a, b, all) = (&a, &b, &all);
            scope.spawn(move || {
                sys::pin(cpu);
                for round in 0..rounds {
                    all.wait();
                    turn(name, (a, b), (me, cpus.len()), round);
                }
            });
        }
    });
}

/// A worker's part of one round.
fn turn(name: &str, (a, b): (&Words, &Words), (me, workers): (usize, usize), round: usize) {
    let len = a.len();
    let mine = me * len / workers..(me + 1) * len / workers;
    match name {
        // Counting keys into buckets, as a sort by counting begins.
        "count" => {
            for i in mine {
                let bucket = (a.get(i) >> 48) as usize % (len / workers) + me * (len / workers);
                b.set(bucket, b.get(bucket) + 1);
            }
        }
        // A stencil of three points, from one array to the other and back.
        "stencil" => {
            let (from, to) = if round.is_multiple_of(2) { (a, b) } else { (b, a) };
            for i in mine {
                let (left, right) = (i.saturating_sub(1), (i + 1).min(len - 1));
                to.set(i, from.get(left).wrapping_add(from.get(i)).wrapping_add(from.get(right)));
            }
        }
        // Probing a hash table that one thread has built with the keys of one's own part.
        "join" => {
            let hits = mine.filter(|&i| b.get(a.get(i) as usize % len) % 3 == 0).count();
            black_box(hits);
        }
        // One hands blocks to the others in turns: written by the first, read by the rest.
        "queue" => {
            if me == round % workers {
                b.each(|i| b.set(i, round as u64));
            } else {
                black_box((0..len).fold(0u64, |sum, i| sum.wrapping_add(a.get(i))));
            }
        }
        // A sparse matrix times a vector: values in order, the vector by index.
        "sparse" => {
            let mut sum = 0u64;
            for i in mine {
                let index = a.get(i) as usize % (len / 8);
                sum = sum.wrapping_add(a.get(i).wrapping_mul(b.get(index)));
            }
            black_box(sum);
        }
        // A square's transpose, by rows of the target.
        "turn" => {
            let side = len.isqrt();
            for row in me * side / workers..(me + 1) * side / workers {
                (0..side).for_each(|column| b.set(row * side + column, a.get(column * side + row)));
            }
        }
        _ => crate::usage(),
    }
}
