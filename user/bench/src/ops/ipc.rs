//! Two threads that wake each other by turns, per round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::{Op, op};
use crate::clock::{Samples, samples};
use crate::place::{machine, thread};
use crate::sys::{Result, at, call, close, pipe, read_byte, write_byte};

const ROUNDS: usize = 200;

pub const OPS: &[Op] = &[
    op("ipc/pipe_round_trip_one_cpu", || pipes(machine().home)),
    op("ipc/pipe_round_trip_two_cpus", || pipes(machine().away)),
    op("ipc/futex_round_trip_one_cpu", || futexes(machine().home)),
    op("ipc/futex_round_trip_two_cpus", || futexes(machine().away)),
];

fn pipes(cpu: usize) -> Result<Samples> {
    let (there, back) = (pipe()?, pipe()?);
    let peer = thread(cpu, move || {
        while read_byte(there[0])? {
            write_byte(back[1])?;
        }
        Ok(())
    })?;
    let result = samples(ROUNDS, 1, |clock| {
        clock.start();
        write_byte(there[1])?;
        read_byte(back[0])?;
        clock.stop();
        Ok(())
    });
    close(there[1])?;
    let _ = peer.join();
    result
}

/// The words two threads sleep on: 0 means wait, 1 go on, 2 stop.
#[derive(Default)]
struct Words {
    there: AtomicU32,
    back: AtomicU32,
}

fn futexes(cpu: usize) -> Result<Samples> {
    let words = Arc::new(Words::default());
    let theirs = words.clone();
    let peer = thread(cpu, move || {
        while await_word(&theirs.there)? != 2 {
            send(&theirs.back, 1)?;
        }
        Ok(())
    })?;
    let result = samples(ROUNDS, 1, |clock| {
        clock.start();
        send(&words.there, 1)?;
        await_word(&words.back)?;
        clock.stop();
        Ok(())
    });
    if result.is_ok() {
        send(&words.there, 2)?;
        let _ = peer.join();
    }
    result
}

fn futex(word: &AtomicU32, operation: i32, value: usize) -> Result<usize> {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    call("futex", libc::SYS_futex, [at(word.as_ptr()), operation, value, 0])
}

#[inline(always)]
fn send(word: &AtomicU32, value: u32) -> Result<()> {
    word.store(value, SeqCst);
    futex(word, libc::FUTEX_WAKE, 1).map(drop)
}

#[inline(always)]
fn await_word(word: &AtomicU32) -> Result<u32> {
    loop {
        match word.swap(0, SeqCst) {
            0 => match futex(word, libc::FUTEX_WAIT, 0) {
                Err(error) if error.errno != libc::EAGAIN && error.errno != libc::EINTR => {
                    return Err(error);
                }
                _ => {}
            },
            value => return Ok(value),
        }
    }
}
