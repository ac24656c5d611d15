//! Programs of known memory traffic, for proving that what is counted is what happens.
//!
//! `traffic KERNEL CPU NODE MIB ROUNDS`: a kernel over arrays bound to a node, on one CPU:
//!
//! | kernel | does, with 8-byte words | reads, writes a word |
//! |---|---|---|
//! | read, write | one array | 1, 0; 0, 1 |
//! | copy, scale | a to b | 1, 1 |
//! | add, triad | a and b to c | 2, 1 |
//! | chase | one load per line of one array, in a random cycle | an 8th, 0 |
//! | transpose | a square matrix to another, by columns | 1, 1 |
//!
//! MIB is each array's size; ROUNDS passes are made over it after one that writes everything.
//! `traffic pingpong CPU CPU true|false ROUNDS`: two threads increment words of one line in turns,
//! the same word or neighbours. `traffic bad|good CPUS MIB ROUNDS`: one thread per CPU sums its part
//! of an array that the first thread (bad) or each (good) has initialised.
//! `traffic work NAME CPUS CPU MIB ROUNDS`: see [`work`].

mod pingpong;
mod shared;
mod sys;
mod work;

use std::hint::black_box;

const MIB: usize = 1 << 20;
const LINE_WORDS: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| -> usize { text.parse().unwrap_or_else(|_| usage()) };
    match words[..] {
        ["pingpong", first, second, kind, rounds] => {
            pingpong::run(number(first), number(second), kind == "true", number(rounds));
        }
        ["work", name, cpus, first, mib, rounds] => {
            let cpus: Vec<usize> = cpus.split(',').map(number).collect();
            work::run(name, &cpus, number(first), number(mib) * MIB / 8, number(rounds));
        }
        [kind @ ("bad" | "good"), cpus, mib, rounds] => {
            shared::run(kind == "good", number(cpus), number(mib) * MIB / 8, number(rounds));
        }
        [kernel, cpu, node, mib, rounds] => {
            sys::pin(number(cpu));
            one(kernel, number(node), number(mib) * MIB / 8, number(rounds));
        }
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!(
        "usage: traffic KERNEL CPU NODE MIB ROUNDS, pingpong CPU CPU true|false ROUNDS, \
               or bad|good CPUS MIB ROUNDS"
    );
    std::process::exit(2)
}

fn one(kernel: &str, node: usize, words: usize, rounds: usize) {
    let a = sys::Words::on(node, words);
    match kernel {
        "read" => (0..rounds).for_each(|_| {
            a.each(|i| {
                let _ = a.get(i);
            })
        }),
        "write" => (0..rounds).for_each(|round| a.each(|i| a.set(i, round as u64))),
        "copy" | "scale" => {
            let b = sys::Words::on(node, words);
            let factor = if kernel == "copy" { 1 } else { 3 };
            (0..rounds).for_each(|_| a.each(|i| b.set(i, a.get(i).wrapping_mul(factor))));
        }
        "add" | "triad" => {
            let (b, c) = (sys::Words::on(node, words), sys::Words::on(node, words));
            let factor = if kernel == "add" { 1 } else { 3 };
            let sum = |i| a.get(i).wrapping_add(b.get(i).wrapping_mul(factor));
            (0..rounds).for_each(|_| a.each(|i| c.set(i, sum(i))));
        }
        "chase" => chase(&a, rounds),
        "transpose" => {
            let b = sys::Words::on(node, words);
            let side = words.isqrt();
            for _ in 0..rounds {
                for row in 0..side {
                    (0..side)
                        .for_each(|column| b.set(column * side + row, a.get(row * side + column)));
                }
            }
        }
        _ => usage(),
    }
}

/// Follows a random cycle through all lines, `rounds` times.
fn chase(a: &sys::Words, rounds: usize) {
    let lines = a.len() / LINE_WORDS;
    // Sattolo's: one cycle through all. The order itself lies outside of the array.
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for last in (1..lines).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(last, (random % last as u64) as usize);
    }
    for (line, next) in order.iter().enumerate() {
        a.set(line * LINE_WORDS, u64::from(*next));
    }
    drop(order);
    let mut at = 0;
    for _ in 0..rounds * lines {
        at = a.get(at * LINE_WORDS) as usize;
    }
    black_box(at);
}
