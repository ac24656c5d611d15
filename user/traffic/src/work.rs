//! Small programs of the kinds that people run on NUMA machines, after the NAS benchmarks' kernels
//! and a data base's, each with the same mistake: one thread, on a CPU of its own, initialises
//! everything. For holding advice against what comes of it.

use crate::sys::{self, Words};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Barrier;

/// `cpus`: one worker on each. `first`: the CPU of whoever initialises. `len` words in each of three
/// arrays.
pub fn run(name: &str, cpus: &[usize], first: usize, len: usize, rounds: usize) {
    sys::pin(first);
    let arrays = Arrays { a: Words::new(len), b: Words::new(len), c: Words::new(len) };
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    arrays.a.each(|i| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        arrays.a.set(i, random);
        arrays.b.set(i, i as u64);
        arrays.c.set(i, 0);
    });
    let all = Barrier::new(cpus.len());
    std::thread::scope(|scope| {
        for (me, &cpu) in cpus.iter().enumerate() {
            let (arrays, all) = (&arrays, &all);
            let team = Team { me, workers: cpus.len(), all };
            scope.spawn(move || {
                sys::pin(cpu);
                (0..rounds).for_each(|round| turn(name, arrays, &team, round));
            });
        }
    });
}

struct Arrays {
    a: Words,
    b: Words,
    c: Words,
}

struct Team<'a> {
    me: usize,
    workers: usize,
    all: &'a Barrier,
}

impl Team<'_> {
    /// This worker's part of `len`.
    fn mine(&self, len: usize) -> Range<usize> {
        self.me * len / self.workers..(self.me + 1) * len / self.workers
    }
}

/// A worker's part of one round.
fn turn(name: &str, arrays: &Arrays, team: &Team, round: usize) {
    let Arrays { a, b, c } = arrays;
    team.all.wait();
    match name {
        "cg" => gradient(arrays, team),
        "is" => sort(arrays, team),
        "ft" => transform(arrays, team),
        // A hash join: the table was built by one thread, each probes it with its own part's keys,
        // and keeps what it found.
        "join" => {
            for i in team.mine(a.len()) {
                c.set(i, b.get(a.get(i) as usize % b.len()));
            }
        }
        // One hands blocks to the others: written by the first, read by the rest.
        "queue" => {
            if team.me == 0 {
                b.each(|i| b.set(i, round as u64));
            }
            team.all.wait();
            if team.me != 0 {
                black_box((0..b.len()).fold(0u64, |sum, i| sum.wrapping_add(b.get(i))));
            }
        }
        // A stencil of three points, from one array to the other and back.
        "stencil" => {
            let (from, to) = if round.is_multiple_of(2) { (a, b) } else { (b, a) };
            for i in team.mine(a.len()) {
                let (left, right) = (i.saturating_sub(1), (i + 1).min(a.len() - 1));
                to.set(i, from.get(left).wrapping_add(from.get(i)).wrapping_add(from.get(right)));
            }
        }
        _ => crate::usage(),
    }
}

/// Conjugate gradients, as NAS CG: a sparse matrix times a vector, two scalar products, and the
/// updates of the vectors. A row has eight values, whose places are in their low bits.
fn gradient(Arrays { a, b, c }: &Arrays, team: &Team) {
    const ROW: usize = 8;
    let rows = a.len() / ROW;
    let (x, product) = (|i| b.get(i), |i| c.get(i));
    for row in team.mine(rows) {
        let values = (row * ROW..(row + 1) * ROW).map(|at| a.get(at));
        let sum =
            values.fold(0u64, |sum, v| sum.wrapping_add(v.wrapping_mul(x(v as usize % rows))));
        c.set(row, sum);
    }
    team.all.wait();
    let dot = team.mine(rows).fold(0u64, |dot, i| dot.wrapping_add(x(i).wrapping_mul(product(i))));
    let step = black_box(dot) | 1;
    team.all.wait();
    team.mine(rows).for_each(|i| b.set(i, x(i).wrapping_add(step.wrapping_mul(product(i)))));
}

/// Sorting integers, as NAS IS: each counts the keys of its part into buckets of its own, and moves
/// the keys to their buckets' places.
fn sort(Arrays { a, b, c }: &Arrays, team: &Team) {
    let room = team.mine(c.len());
    let bucket = |key: u64| room.start + (key >> 40) as usize % room.len();
    team.mine(a.len()).for_each(|i| c.set(bucket(a.get(i)), c.get(bucket(a.get(i))) + 1));
    team.all.wait();
    let part = team.mine(b.len());
    for i in team.mine(a.len()) {
        let key = a.get(i);
        b.set(part.start + (bucket(key) - room.start) % part.len(), key);
    }
}

/// A Fourier transform of a square, as NAS FT: butterflies along the rows of one's own part, then
/// the square is turned, by rows of the target.
fn transform(Arrays { a, b, .. }: &Arrays, team: &Team) {
    let side = a.len().isqrt();
    for row in team.mine(side) {
        let at = |column: usize| row * side + column;
        let half = side / 2;
        for column in 0..half {
            let (low, high) = (a.get(at(column)), a.get(at(column + half)));
            a.set(at(column), low.wrapping_add(high));
            a.set(at(column + half), low.wrapping_sub(high));
        }
    }
    team.all.wait();
    for row in team.mine(side) {
        (0..side).for_each(|column| b.set(row * side + column, a.get(column * side + row)));
    }
}
